/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* enable, disable, mask, unmask, is-enabled. */
#include "definition.h"
#include "jobs.h"

#include <stdio.h>
#include <string.h>

#define AUTOSTART_FILE "50-autostart.json"

static const char *const autostart_contents[] = {"{ \"autostart\": false }\n", "{ \"autostart\": true }\n"};

/* The drop-in's content, "" where there is none. What is not ours is not ours to change. */
static int read_autostart(Ctl *ctl, const VmRow *row, const char *directory, char **ret_content)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_free_ char *wanted = NULL;
    const char *path, *content, *found = "";
    int code, r;

    if (asprintf(&wanted, "%s/%s.json.d/" AUTOSTART_FILE, directory, row->name) < 0)
        return fail_oom();
    code = ctl_call(ctl, row->path, row->name, "Cat", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_enter_container(reply, 'a', "(ss)");
    while (r >= 0 && (r = sd_bus_message_read(reply, "(ss)", &path, &content)) > 0)
        if (strcmp(path, wanted) == 0)
            found = content;
    if (r < 0)
        return ctl_bad_answer(r);
    if (*found && strcmp(found, autostart_contents[0]) != 0 && strcmp(found, autostart_contents[1]) != 0)
        return fail(MICROVM_EXIT_FAILURE,
                    "%s was not written by enable or disable; it stays. Edit \"autostart\" in it, then: "
                    "microvmctl reload",
                    wanted);
    *ret_content = strdup(found);
    return *ret_content ? MICROVM_EXIT_OK : fail_oom();
}

static int check_lasting(Ctl *ctl, const char *name)
{
    _cleanup_free_ char *state = NULL;
    int code = define_state(ctl, name, &state);

    if (code == MICROVM_EXIT_OK && state && strcmp(state, "transient") == 0)
        return fail(
            MICROVM_EXIT_FAILURE,
            "%s is transient: it is gone with a reboot, so that there is no boot at which it could start.\n"
            "To have it for good: microvmctl edit --full %s",
            name, name);
    return code;
}

static int set_autostart_of(Ctl *ctl, const VmRow *row, const char *directory, bool autostart)
{
    _cleanup_free_ char *before = NULL;
    DefineCall call = {.name = row->name,
                       .content = autostart_contents[autostart],
                       .file = AUTOSTART_FILE,
                       .drop_in = AUTOSTART_FILE,
                       .prune = true};
    int code;

    code = check_lasting(ctl, row->name);
    if (code == MICROVM_EXIT_OK)
        code = read_autostart(ctl, row, directory, &before);
    if (code != MICROVM_EXIT_OK)
        return code;
    call.expected = before;
    return define_call(ctl, &call);
}

/* systemctl has a switch of its own, which is not ours to turn. */
static void tell_enabled_unit(Ctl *ctl, const VmRow *row)
{
    _cleanup_json_ cJSON *properties = NULL;
    const cJSON *source;

    if (ctl_get_all(ctl, row->path, row->name, &properties) != MICROVM_EXIT_OK)
        return;
    cJSON_ArrayForEach (source, cJSON_GetObjectItemCaseSensitive(properties, "AutostartSources"))
        if (strcmp(cJSON_GetStringValue(source), "systemd") == 0)
            fprintf(stderr,
                    "systemd starts %s with the host all the same. To undo that: systemctl disable %s%s\n",
                    row->name, MICROVM_HANDLE_PREFIX, row->name);
}

static int set_autostart(Ctl *ctl, bool autostart)
{
    _cleanup_(jobs_clear)
    Jobs jobs = {0};
    _cleanup_rows_ VmRows rows = {0};
    _cleanup_free_ char *directory = NULL;
    int code;

    code = ctl_targets(ctl, false, &rows);
    if (code == MICROVM_EXIT_OK)
        code = define_directory(ctl, &directory);
    for (size_t i = 0; i < rows.count && code == MICROVM_EXIT_OK; i++)
        code = set_autostart_of(ctl, &rows.items[i], directory, autostart);
    for (size_t i = 0; i < rows.count && code == MICROVM_EXIT_OK && !autostart && !ctl->quiet; i++)
        tell_enabled_unit(ctl, &rows.items[i]);
    if (code == MICROVM_EXIT_OK && (ctl->given & OPTION_NOW))
        code = autostart ? jobs_run(ctl, "Start", &rows, &jobs) : jobs_stop(ctl, &rows, &jobs);
    return code;
}

int verb_enable(Ctl *ctl)
{
    return set_autostart(ctl, true);
}

int verb_disable(Ctl *ctl)
{
    return set_autostart(ctl, false);
}

/* Of a masked one nothing is known but its name. */
static int check_names(Ctl *ctl)
{
    if (ctl->n_names == 0)
        return fail(MICROVM_EXIT_USAGE, "The name of a microVM is missing. See: microvmctl list");
    return ctl_connect(ctl);
}

static int set_mask(Ctl *ctl, const char *member)
{
    int worst = check_names(ctl), code;

    if (worst != MICROVM_EXIT_OK)
        return worst;
    ctl_ask_password(ctl);
    for (size_t i = 0; i < ctl->n_names; i++) {
        code = ctl_call(ctl, NULL, ctl->names[i], member, NULL, "s", ctl->names[i]);
        worst = code != MICROVM_EXIT_OK ? code : worst;
        if (code == MICROVM_EXIT_UNREACHABLE)
            break;
    }
    return worst;
}

int verb_mask(Ctl *ctl)
{
    return set_mask(ctl, "Mask");
}

int verb_unmask(Ctl *ctl)
{
    return set_mask(ctl, "Unmask");
}

int verb_is_enabled(Ctl *ctl)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    int worst = check_names(ctl), code;

    if (worst != MICROVM_EXIT_OK)
        return worst;
    for (size_t i = 0; i < ctl->n_names; i++) {
        _cleanup_free_ char *state = NULL;
        cJSON *object = cJSON_CreateObject();
        code = define_state(ctl, ctl->names[i], &state);
        if (code == MICROVM_EXIT_OK && !state)
            code = MICROVM_EXIT_NO_SUCH_VM;
        else if (code == MICROVM_EXIT_OK && strcmp(state, "enabled") != 0)
            code = MICROVM_EXIT_FAILURE;
        cJSON_AddItemToArray(list, object);
        cJSON_AddStringToObject(object, "Name", ctl->names[i]);
        cJSON_AddStringToObject(object, "State", state ? state : "not-found");
        worst = code > worst ? code : worst;
        if (code == MICROVM_EXIT_UNREACHABLE)
            return code;
        if (ctl->json == JSON_OFF && !ctl->quiet)
            puts(state ? state : "not-found");
    }
    if (ctl->json != JSON_OFF)
        json_print(ctl->json, list);
    return worst;
}
