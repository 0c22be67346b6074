/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the verbs that write definitions have in common. */
#include "definition.h"

#include <string.h>

static int append_options(sd_bus_message *message, const DefineCall *call)
{
    int r;

    r = sd_bus_message_open_container(message, 'a', "{sv}");
    if (r >= 0 && call->drop_in)
        r = sd_bus_message_append(message, "{sv}", "drop-in", "s", call->drop_in);
    if (r >= 0 && call->expected)
        r = sd_bus_message_append(message, "{sv}", "expected", "s", call->expected);
    if (r >= 0 && call->no_autostart)
        r = sd_bus_message_append(message, "{sv}", "no-autostart", "b", 1);
    if (r >= 0 && call->prune)
        r = sd_bus_message_append(message, "{sv}", "prune", "b", 1);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

static int send_definition(Ctl *ctl, const DefineCall *call, Tally *tally)
{
    _cleanup_message_ sd_bus_message *message = NULL, *reply = NULL;
    int code, r;

    code = ctl_new_call(ctl, NULL, call->transient ? "CreateTransient" : "Define", &message);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_append(message, "ss", call->name, call->content);
    if (r >= 0)
        r = append_options(message, call);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r));
    ctl_ask_password(ctl);
    code = ctl_send(ctl, message, call->name, &reply);
    if (code != MICROVM_EXIT_OK || call->transient)
        return code;
    return problems_tell(ctl, tally, call->file, reply);
}

int define_call(Ctl *ctl, const DefineCall *call)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    Tally tally = {.list = list, .to = stderr};
    int code = MICROVM_EXIT_OK;

    if (!problem_tell_no_text(ctl, &tally, call->file, call->content, strlen(call->content)))
        code = send_definition(ctl, call, &tally);
    if (ctl->json != JSON_OFF && cJSON_GetArraySize(list) > 0)
        json_print(ctl->json, list);
    return code == MICROVM_EXIT_OK && tally.errors > 0 ? MICROVM_EXIT_FAILURE : code;
}

static int get_directories(Ctl *ctl, cJSON **ret_directories)
{
    _cleanup_json_ cJSON *manager = NULL;
    int code;

    code = ctl_get_all(ctl, NULL, NULL, &manager);
    if (code != MICROVM_EXIT_OK)
        return code;
    *ret_directories = cJSON_DetachItemFromObjectCaseSensitive(manager, "DefinitionDirectories");
    return MICROVM_EXIT_OK;
}

int define_directory(Ctl *ctl, char **ret_directory)
{
    _cleanup_json_ cJSON *directories = NULL;
    const char *directory;
    int code;

    code = get_directories(ctl, &directories);
    if (code != MICROVM_EXIT_OK)
        return code;
    directory = cJSON_GetStringValue(cJSON_GetArrayItem(directories, 0));
    if (!directory)
        return fail(MICROVM_EXIT_FAILURE, "microvmd was started without a directory for definitions.");
    *ret_directory = strdup(directory);
    return *ret_directory ? MICROVM_EXIT_OK : fail_oom();
}

int define_template_path(Ctl *ctl, const char *name, char **ret_path)
{
    _cleanup_json_ cJSON *directories = NULL;
    const cJSON *directory;
    int code;

    code = get_directories(ctl, &directories);
    if (code != MICROVM_EXIT_OK)
        return code;
    cJSON_ArrayForEach (directory, directories) {
        _cleanup_free_ char *path = NULL;
        if (asprintf(&path, "%s/%s.json", cJSON_GetStringValue(directory), name) < 0)
            return fail_oom();
        if (access(path, F_OK) != 0)
            continue;
        *ret_path = path;
        path = NULL;
        return MICROVM_EXIT_OK;
    }
    return fail(MICROVM_EXIT_NO_SUCH_VM, "There is no template %s.json in any definition directory.", name);
}

int define_state(Ctl *ctl, const char *name, char **ret_state)
{
    _cleanup_message_ sd_bus_message *message = NULL, *reply = NULL;
    _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
    const char *state;
    int code, r;

    *ret_state = NULL;
    code = ctl_new_call(ctl, NULL, "GetDefinitionState", &message);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_append(message, "s", name);
    if (r >= 0)
        r = sd_bus_call(ctl->bus, message, UINT64_MAX, &error, &reply);
    if (r < 0 && sd_bus_error_has_name(&error, MICROVM_ERROR_NO_SUCH_MICROVM))
        return MICROVM_EXIT_OK;
    if (r < 0)
        return ctl_explain(ctl, &error, r, "GetDefinitionState", name);
    r = sd_bus_message_read(reply, "s", &state);
    if (r < 0)
        return ctl_bad_answer(r);
    *ret_state = strdup(state);
    return *ret_state ? MICROVM_EXIT_OK : fail_oom();
}

int define_remove_drop_in(Ctl *ctl, const DefineCall *call)
{
    _cleanup_message_ sd_bus_message *message = NULL;
    int code, r;

    code = ctl_new_call(ctl, NULL, "Undefine", &message);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_append(message, "s", call->name);
    if (r >= 0)
        r = append_options(message, call);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r));
    ctl_ask_password(ctl);
    return ctl_send(ctl, message, call->name, NULL);
}

int define_remove(Ctl *ctl, const char *name, bool purge, bool dry_run, cJSON **ret_paths)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    int code, r;

    ctl_ask_password(ctl);
    code = ctl_call(ctl, NULL, name, "Undefine", &reply, "sa{sv}", name, 2, "purge", "b", purge, "dry-run",
                    "b", dry_run);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = json_from_message(reply, ret_paths);
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

bool define_ask(const char *question)
{
    char answer[16];

    fprintf(stderr, "%s [y/N] ", question);
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}
