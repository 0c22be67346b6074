/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* create: a new definition, from a file or from the command line. */
#include "definition.h"

#include <string.h>

/* JSON where it is some, else the text itself. */
static cJSON *value_of(const char *text)
{
    const char *end = NULL;
    bool digits = *text && !text[strspn(text, "0123456789")];

    if (digits && (text[0] != '0' || !text[1])) /* a double would lose some */
        return cJSON_CreateRaw(text);
    if (!digits) {
        cJSON *value = cJSON_ParseWithOpts(text, &end, true);
        if (value)
            return value;
    }
    return cJSON_CreateString(text);
}

static int put(cJSON *object, const char *key, cJSON *value)
{
    if (value && cJSON_GetObjectItemCaseSensitive(object, key))
        cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    if (value && cJSON_AddItemToObject(object, key, value))
        return MICROVM_EXIT_OK;
    cJSON_Delete(value);
    return fail_oom();
}

/* "restart.policy": dots lead into objects. */
static int put_at(cJSON *object, const char *key, cJSON *value)
{
    const char *dot;

    for (; (dot = strchr(key, '.')); key = dot + 1) {
        _cleanup_free_ char *name = strndup(key, (size_t)(dot - key));
        cJSON *inner = name ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
        if (inner && !cJSON_IsObject(inner)) {
            cJSON_Delete(value);
            return fail(MICROVM_EXIT_USAGE, "\"%s\" is set as a whole, and in parts.", name);
        }
        if (name && !inner)
            inner = cJSON_AddObjectToObject(object, name);
        if (!inner) {
            cJSON_Delete(value);
            return fail_oom();
        }
        object = inner;
    }
    return put(object, key, value);
}

static int append(cJSON *object, const char *key, cJSON *value)
{
    cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key);

    if (!list)
        list = cJSON_AddArrayToObject(object, key);
    if (list && value && cJSON_IsArray(list) && cJSON_AddItemToArray(list, value))
        return MICROVM_EXIT_OK;
    cJSON_Delete(value);
    return list && !cJSON_IsArray(list)
               ? fail(MICROVM_EXIT_USAGE, "\"%s\" is set as a whole, and in parts.", key)
               : fail_oom();
}

/* IMAGE, or IMAGE:SIZE. */
static cJSON *volume_of(const char *text)
{
    const char *colon = strrchr(text, ':');
    _cleanup_free_ char *image = colon ? strndup(text, (size_t)(colon - text)) : NULL;
    cJSON *volume;

    if (!colon)
        return cJSON_CreateString(text);
    volume = cJSON_CreateObject();
    if (!image || !cJSON_AddStringToObject(volume, "image", image) ||
        put(volume, "size", value_of(colon + 1)) != MICROVM_EXIT_OK) {
        cJSON_Delete(volume);
        return NULL;
    }
    return volume;
}

static int compose(const Ctl *ctl, char **ret_content)
{
    _cleanup_json_ cJSON *definition = cJSON_CreateObject();
    _cleanup_free_ char *text = NULL;
    int code = definition ? MICROVM_EXIT_OK : fail_oom();

    for (size_t i = 0; i < ctl->n_settings && code == MICROVM_EXIT_OK; i++) {
        const Setting *setting = &ctl->settings[i];
        if (setting->how == SETTING_VOLUME)
            code = append(definition, "volumes", volume_of(setting->value));
        else if (setting->how == SETTING_INTERFACE)
            code = append(definition, "interfaces", cJSON_CreateString(setting->value));
        else
            code = put_at(definition, setting->key, value_of(setting->value));
    }
    if (code != MICROVM_EXIT_OK)
        return code;
    text = json_pretty(definition);
    return text && asprintf(ret_content, "%s\n", text) >= 0 ? MICROVM_EXIT_OK : fail_oom();
}

static int read_content(const Ctl *ctl, char **ret_content)
{
    size_t size;
    int r;

    if (!ctl->from)
        return compose(ctl, ret_content);
    r = definition_read(ctl->from, ret_content, &size);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "%s can't be read: %s", ctl->from, strerror(-r));
    if (strlen(*ret_content) != size)
        return fail_nul(ctl->from);
    return MICROVM_EXIT_OK;
}

static int check_command_line(const Ctl *ctl)
{
    if (ctl->n_names != 1)
        return fail(MICROVM_EXIT_USAGE,
                    "create takes the name of one microVM: microvmctl create NAME --from FILE");
    if (ctl->from && ctl->n_settings > 0)
        return fail(MICROVM_EXIT_USAGE, "--from has all of the definition; change it there.");
    if (!ctl->from && ctl->n_settings == 0)
        return fail(MICROVM_EXIT_USAGE,
                    "What is it to be? --from FILE, or --kernel PATH, --mem SIZE and so on.");
    return MICROVM_EXIT_OK;
}

int verb_create(Ctl *ctl)
{
    _cleanup_free_ char *content = NULL, *state = NULL;
    const char *name = ctl->names[0];
    DefineCall call = {.name = name,
                       .file = ctl->from && strcmp(ctl->from, "-") != 0 ? ctl->from
                               : ctl->from                              ? "standard input"
                                                                        : name,
                       .expected = "",
                       .no_autostart = true};
    int code;

    code = check_command_line(ctl);
    if (code == MICROVM_EXIT_OK)
        code = read_content(ctl, &content);
    if (code == MICROVM_EXIT_OK)
        code = ctl_connect(ctl);
    if (code == MICROVM_EXIT_OK)
        code = define_state(ctl, name, &state);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (state && strcmp(state, "undeclared") != 0)
        return fail(MICROVM_EXIT_FAILURE, "There is %s already (%s). To change it: microvmctl edit %s", name,
                    state, name);
    call.content = content;
    if (ctl->given & OPTION_TRANSIENT)
        call = (DefineCall){.name = name, .content = content, .file = call.file, .transient = true};
    code = define_call(ctl, &call);
    if (code == MICROVM_EXIT_OK && !ctl->quiet && name[strlen(name) - 1] == '@')
        printf("Created the template %s. An instance of it is a link beside it: ln -s %s.json %sNAME.json\n",
               name, name, name);
    else if (code == MICROVM_EXIT_OK && !ctl->quiet)
        printf("Created %s. Start it: microvmctl start %s%s%s\n", name, name,
               ctl->given & OPTION_TRANSIENT ? "" : "; at each boot: microvmctl enable ",
               ctl->given & OPTION_TRANSIENT ? "" : name);
    return code;
}
