/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* remove: stops a microVM and removes what defines it, and its volumes only if that is asked for. */
#include "definition.h"
#include "jobs.h"

#include <string.h>

static bool is_idle(const VmRow *row)
{
    return strcmp(row->state, "inactive") == 0 || strcmp(row->state, "failed") == 0;
}

static void print_paths(FILE *to, const cJSON *paths)
{
    const cJSON *path;

    cJSON_ArrayForEach (path, paths) {
        _cleanup_free_ char *shown = escape(cJSON_GetStringValue(path), ESCAPE_LINE);
        fprintf(to, "  %s\n", shown ? shown : "?");
    }
}

/* Nothing defines it: with its stop it is gone. */
static int is_undeclared(Ctl *ctl, const char *name, bool *ret_undeclared)
{
    _cleanup_free_ char *state = NULL;
    int code = define_state(ctl, name, &state);

    *ret_undeclared = !state || strcmp(state, "undeclared") == 0;
    return code;
}

/* *ret_paths: what would go. microvmd refuses now what it would refuse later. */
static int try_remove(Ctl *ctl, const char *name, cJSON **ret_paths)
{
    bool undeclared;
    int code = is_undeclared(ctl, name, &undeclared);

    if (code != MICROVM_EXIT_OK)
        return code;
    if (!undeclared)
        return define_remove(ctl, name, ctl->given & OPTION_PURGE, true, ret_paths);
    if (ctl->given & OPTION_PURGE)
        return fail(MICROVM_EXIT_FAILURE,
                    "%s has no definition any more; this stops it and removes its volumes: microvmctl apply "
                    "--prune --purge %s",
                    name, name);
    *ret_paths = cJSON_CreateArray();
    return *ret_paths ? MICROVM_EXIT_OK : fail_oom();
}

/* Every file that goes is named before anything happens. */
static int ask(Ctl *ctl, const VmRows *rows)
{
    bool purge = ctl->given & OPTION_PURGE, yes = ctl->given & OPTION_YES, terminal = isatty(STDIN_FILENO);
    int code;

    if (!yes && !terminal && purge)
        return fail(MICROVM_EXIT_USAGE,
                    "--purge removes volumes for good. Without a terminal to ask at, say --yes.");
    for (size_t i = 0; i < rows->count; i++) {
        _cleanup_json_ cJSON *paths = NULL;
        code = try_remove(ctl, rows->items[i].name, &paths);
        if (code != MICROVM_EXIT_OK)
            return code;
        if (yes || !terminal)
            continue;
        fprintf(stderr, "%s%s and these files go for good:\n", rows->items[i].name,
                is_idle(&rows->items[i]) ? "" : " is stopped,");
        print_paths(stderr, paths);
    }
    return yes || !terminal ||
                   define_ask(purge ? "Remove them, volumes and all?" : "Remove them? (Volumes stay.)")
               ? MICROVM_EXIT_OK
               : fail(MICROVM_EXIT_FAILURE, "Nothing was removed.");
}

/* Those that run; the rows stay the caller's. */
static int stop(Ctl *ctl, const VmRows *rows)
{
    _cleanup_(jobs_clear)
    Jobs jobs = {0};
    _cleanup_free_ VmRow *running = calloc(rows->count + 1, sizeof(*running));
    VmRows some = {running, 0};

    if (!running)
        return fail_oom();
    for (size_t i = 0; i < rows->count; i++)
        if (!is_idle(&rows->items[i]))
            running[some.count++] = rows->items[i];
    ctl->no_block = false; /* what runs can't be removed */
    return some.count > 0 ? jobs_stop(ctl, &some, &jobs) : MICROVM_EXIT_OK;
}

/* A file of a lower directory, which the removed one hid, counts from now on. */
static void tell_what_counts(Ctl *ctl, const VmRow *row)
{
    _cleanup_json_ cJSON *vm = NULL;
    _cleanup_free_ char *shown = NULL;
    bool gone;

    if (ctl->quiet || is_undeclared(ctl, row->name, &gone) != MICROVM_EXIT_OK || gone ||
        ctl_get_all(ctl, row->path, row->name, &vm) != MICROVM_EXIT_OK)
        return;
    shown = escape(json_text(vm, "DefinitionPath"), ESCAPE_LINE);
    fprintf(stderr, "%s is there still: %s counts now. To hide that: microvmctl mask %s\n", row->name,
            shown ? shown : "?", row->name);
}

static int remove_one(Ctl *ctl, const VmRow *row)
{
    _cleanup_json_ cJSON *paths = NULL;
    bool gone;
    int code = is_undeclared(ctl, row->name, &gone);

    if (code == MICROVM_EXIT_OK && gone)
        paths = cJSON_CreateArray();
    else if (code == MICROVM_EXIT_OK)
        code = define_remove(ctl, row->name, ctl->given & OPTION_PURGE, false, &paths);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (ctl->json != JSON_OFF) {
        json_print(ctl->json, paths);
    } else if (!ctl->quiet) {
        printf("Removed %s%s\n", row->name, gone ? "; it had no definition any more." : ":");
        print_paths(stdout, paths);
    }
    if (!gone)
        tell_what_counts(ctl, row);
    return code;
}

int verb_remove(Ctl *ctl)
{
    _cleanup_rows_ VmRows rows = {0};
    JsonMode json = ctl->json;
    int code, worst;

    worst = ctl_targets(ctl, false, &rows);
    if (worst == MICROVM_EXIT_OK)
        worst = ask(ctl, &rows);
    ctl->json = JSON_OFF; /* what is told is what was removed, not the jobs before it */
    if (worst == MICROVM_EXIT_OK)
        worst = stop(ctl, &rows);
    ctl->json = json;
    if (worst != MICROVM_EXIT_OK)
        return worst;
    for (size_t i = 0; i < rows.count; i++) {
        code = remove_one(ctl, &rows.items[i]);
        worst = code != MICROVM_EXIT_OK ? code : worst;
    }
    return worst;
}
