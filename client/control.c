/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The short verbs: one call for each microVM, or for the manager. */
#include "bus.h"

#include <stdio.h>
#include <string.h>

typedef int (*each_fn)(Ctl *ctl, const VmRow *row);

static int for_each(Ctl *ctl, each_fn each)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    _cleanup_rows_ VmRows rows = {0};
    int code, worst;

    worst = ctl_targets(ctl, false, &rows);
    if (worst != MICROVM_EXIT_OK)
        return worst;
    if (rows.count > 0)
        ctl_ask_password(ctl);
    for (size_t i = 0; i < rows.count && worst != MICROVM_EXIT_UNREACHABLE; i++) {
        cJSON *object = cJSON_CreateObject();
        code = each(ctl, &rows.items[i]);
        worst = code != MICROVM_EXIT_OK ? code : worst;
        cJSON_AddStringToObject(object, "Name", rows.items[i].name);
        cJSON_AddStringToObject(object, "Result", code == MICROVM_EXIT_OK ? "done" : "failed");
        cJSON_AddItemToArray(list, object);
    }
    if (ctl->json != JSON_OFF)
        json_print(ctl->json, list);
    return worst;
}

static int kill_one(Ctl *ctl, const VmRow *row)
{
    return ctl_call(ctl, row->path, row->name, "Kill", NULL, "i", (int32_t)ctl->signal);
}

int verb_kill(Ctl *ctl)
{
    return for_each(ctl, kill_one);
}

static int pause_one(Ctl *ctl, const VmRow *row)
{
    return ctl_call(ctl, row->path, row->name, "Pause", NULL, "a{sv}", 0);
}

int verb_pause(Ctl *ctl)
{
    return for_each(ctl, pause_one);
}

static int resume_one(Ctl *ctl, const VmRow *row)
{
    return ctl_call(ctl, row->path, row->name, "Resume", NULL, "a{sv}", 0);
}

int verb_resume(Ctl *ctl)
{
    return for_each(ctl, resume_one);
}

static int reset_one(Ctl *ctl, const VmRow *row)
{
    return ctl_call(ctl, row->path, row->name, "ResetFailed", NULL, NULL);
}

int verb_reset_failed(Ctl *ctl)
{
    return for_each(ctl, reset_one);
}

int verb_forget_volume(Ctl *ctl)
{
    _cleanup_free_ char *path = NULL, *shown = NULL;
    int code;

    if (ctl->n_names != 2)
        return fail(MICROVM_EXIT_USAGE,
                    "forget-volume takes a microVM and the image as its definition names it: microvmctl "
                    "forget-volume NAME IMAGE");
    code = ctl_connect(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (sd_bus_path_encode(MICROVM_VM_PATH, ctl->names[0], &path) < 0)
        return fail_oom();
    ctl_ask_password(ctl);
    code = ctl_call(ctl, path, ctl->names[0], "ForgetVolume", NULL, "s", ctl->names[1]);
    shown = escape(ctl->names[1], ESCAPE_LINE);
    if (code == MICROVM_EXIT_OK && !ctl->quiet)
        printf("%s is forgotten: where it is missing at the next start, it counts as new.\n",
               shown ? shown : "?");
    return code;
}

/* --- reload --- */

static void print_change(const char *change, const char *name)
{
    printf("%-10s  %s", change, name);
    if (strcmp(change, "invalid") == 0)
        printf("  (why: microvmctl why %s)", name);
    else if (strcmp(change, "undeclared") == 0)
        fputs("  (its file is gone; it goes on until it is stopped)", stdout);
    putchar('\n');
}

int verb_reload(Ctl *ctl)
{
    static const char *const keys[] = {"Name", "Change", NULL};
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_json_ cJSON *changes = NULL;
    const cJSON *change;
    int code, r;

    code = ctl_connect(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_ask_password(ctl);
    code = ctl_call(ctl, NULL, NULL, "Reload", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = json_rows_from_message(reply, keys, &changes);
    if (r < 0)
        return ctl_bad_answer(r);
    if (ctl->json != JSON_OFF)
        return json_print(ctl->json, changes);
    if (cJSON_GetArraySize(changes) == 0 && !ctl->quiet)
        puts("Nothing changed.");
    cJSON_ArrayForEach (change, changes) {
        _cleanup_free_ char *name = escape(json_text(change, "Name"), ESCAPE_LINE);
        if (!ctl->quiet)
            print_change(json_text(change, "Change"), name ? name : "?");
    }
    return MICROVM_EXIT_OK;
}

/* Works without a daemon, too: then its version is not known. */
int verb_version(Ctl *ctl)
{
    _cleanup_json_ cJSON *json = cJSON_CreateObject();
    _cleanup_free_ char *daemon = NULL, *shown = NULL;

    if (ctl_try_connect(ctl) >= 0 && sd_bus_get_name_creds(ctl->bus, MICROVM_BUS_NAME, 0, NULL) >= 0)
        (void)sd_bus_get_property_string(ctl->bus, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH,
                                         MICROVM_MANAGER_INTERFACE, "Version", NULL, &daemon);
    if (ctl->json != JSON_OFF) {
        cJSON_AddStringToObject(json, "Client", MICROVMD_VERSION);
        cJSON_AddStringToObject(json, "Daemon", daemon ? daemon : "");
        return json_print(ctl->json, json);
    }
    shown = daemon ? escape(daemon, ESCAPE_LINE) : NULL;
    printf("microvmctl %s\n", MICROVMD_VERSION);
    printf("microvmd %s\n", shown ? shown : "does not answer");
    return MICROVM_EXIT_OK;
}
