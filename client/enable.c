/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* enable, disable, mask, unmask, is-enabled. */
#include "definition.h"
#include "jobs.h"

#include <string.h>

#define AUTOSTART_FILE "50-autostart.json"

static int set_autostart(Ctl *ctl, bool autostart)
{
    _cleanup_(jobs_clear)
    Jobs jobs = {0};
    _cleanup_rows_ VmRows rows = {0};
    int code;

    code = ctl_targets(ctl, false, &rows);
    for (size_t i = 0; i < rows.count && code == MICROVM_EXIT_OK; i++) {
        const DefineCall call = {.name = rows.items[i].name,
                                 .content =
                                     autostart ? "{ \"autostart\": true }\n" : "{ \"autostart\": false }\n",
                                 .file = AUTOSTART_FILE,
                                 .drop_in = AUTOSTART_FILE,
                                 .prune = true};
        code = define_call(ctl, &call);
    }
    if (code == MICROVM_EXIT_OK && (ctl->given & OPTION_NOW))
        code = jobs_run(ctl, autostart ? "Start" : "Stop", &rows, &jobs);
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
