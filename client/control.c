/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The short verbs: one call for each microVM. */
#include "ctl.h"

#include <signal.h>

typedef int (*each_fn)(Ctl *ctl, const VmRow *row);

static int for_each(Ctl *ctl, each_fn each)
{
    _cleanup_(vm_rows_clear) VmRows rows = {0};
    int code, result;

    result = ctl_targets(ctl, false, &rows);
    for (size_t i = 0; i < rows.count; i++) {
        code = each(ctl, &rows.items[i]);
        result = code != MICROVM_EXIT_OK ? code : result;
    }
    return result;
}

static int kill_one(Ctl *ctl, const VmRow *row)
{
    return ctl_call(ctl, row->path, "Kill", NULL, "i", ctl->signal);
}

int verb_kill(Ctl *ctl)
{
    return for_each(ctl, kill_one);
}

static int pause_one(Ctl *ctl, const VmRow *row)
{
    return ctl_call(ctl, row->path, "Pause", NULL, "a{sv}", 0);
}

int verb_pause(Ctl *ctl)
{
    return for_each(ctl, pause_one);
}

static int resume_one(Ctl *ctl, const VmRow *row)
{
    return ctl_call(ctl, row->path, "Resume", NULL, "a{sv}", 0);
}

int verb_resume(Ctl *ctl)
{
    return for_each(ctl, resume_one);
}

static int reset_one(Ctl *ctl, const VmRow *row)
{
    return ctl_call(ctl, row->path, "ResetFailed", NULL, "", 0);
}

int verb_reset_failed(Ctl *ctl)
{
    return for_each(ctl, reset_one);
}

int verb_is_active(Ctl *ctl)
{
    _cleanup_(vm_rows_clear) VmRows rows = {0};
    _cleanup_json_ cJSON *json = cJSON_CreateObject();
    int code, result = MICROVM_EXIT_OK;

    if (ctl->n_names == 0 && !ctl->all)
        return fail(MICROVM_EXIT_USAGE, "the name of a microVM is missing (or --all)");
    code = ctl_list(ctl, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    for (size_t i = 0; i < (ctl->all ? rows.count : (size_t)ctl->n_names); i++) {
        const char *name = ctl->all ? rows.items[i].name : ctl->names[i], *state = NULL;
        for (size_t k = 0; k < rows.count; k++)
            if (strcmp(rows.items[k].name, name) == 0)
                state = rows.items[k].state;
        if (!state)
            result = MICROVM_EXIT_NO_SUCH_VM;
        else if (strcmp(state, "running") != 0 && strcmp(state, "paused") != 0 && result == MICROVM_EXIT_OK)
            result = MICROVM_EXIT_NOT_RUNNING;
        if (ctl->json != JSON_OFF)
            cJSON_AddStringToObject(json, name, state ? state : "unknown");
        else if (!ctl->quiet)
            puts(state ? state : "unknown");
    }
    if (ctl->json != JSON_OFF)
        print_json(ctl, json);
    return result;
}

int verb_reload(Ctl *ctl)
{
    _cleanup_msg_ sd_bus_message *reply = NULL;
    _cleanup_json_ cJSON *changes = NULL;
    const cJSON *change;
    int code;

    code = ctl_connect(ctl);
    if (code == MICROVM_EXIT_OK)
        code = ctl_call(ctl, NULL, "Reload", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    changes = ctl_variant(reply);
    if (!changes)
        return fail(MICROVM_EXIT_FAILURE, "microvmd's answer can't be read");
    if (ctl->json != JSON_OFF)
        return print_json(ctl, changes);
    if (ctl->quiet)
        return MICROVM_EXIT_OK;
    if (cJSON_GetArraySize(changes) == 0)
        puts("Nothing changed.");
    cJSON_ArrayForEach(change, changes)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetArrayItem(change, 0));
        const char *what = cJSON_GetStringValue(cJSON_GetArrayItem(change, 1));
        printf("%-10s  %s%s%s\n", what ? what : "?", name ? name : "?", what && strcmp(what, "invalid") == 0 ? "  see: microvmctl status " : "",
               what && strcmp(what, "invalid") == 0 && name ? name : "");
    }
    return MICROVM_EXIT_OK;
}

/* Works without a daemon, too: then its version is not known. */
int verb_version(Ctl *ctl)
{
    _cleanup_err_ sd_bus_error error = SD_BUS_ERROR_NULL;
    _cleanup_json_ cJSON *json = cJSON_CreateObject();
    _cleanup_free_ char *daemon = NULL;

    if (ctl_connect_quietly(ctl) && sd_bus_get_name_creds(ctl->bus, MICROVM_BUS_NAME, 0, NULL) >= 0)
        (void)sd_bus_get_property_string(ctl->bus, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE,
                                         "Version", &error, &daemon);
    if (ctl->json != JSON_OFF) {
        cJSON_AddStringToObject(json, "Client", MICROVMD_VERSION);
        cJSON_AddStringToObject(json, "Daemon", daemon ? daemon : "");
        return print_json(ctl, json);
    }
    printf("microvmctl %s\n", MICROVMD_VERSION);
    if (daemon)
        printf("microvmd %s\n", daemon);
    else
        puts("microvmd does not answer");
    return MICROVM_EXIT_OK;
}
