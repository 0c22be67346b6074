/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* remove: stops a microVM and removes what defines it, and its volumes only if that is asked for. */
#include "definition.h"
#include "jobs.h"
#include "term.h"

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

/* Every file that goes is named before anything happens. */
static int ask(Ctl *ctl, const VmRows *rows)
{
    bool purge = ctl->given & OPTION_PURGE, terminal = isatty(STDIN_FILENO);
    int code;

    if (ctl->given & OPTION_YES)
        return MICROVM_EXIT_OK;
    if (!terminal && purge)
        return fail(MICROVM_EXIT_USAGE,
                    "--purge removes volumes for good. Without a terminal to ask at, say --yes.");
    for (size_t i = 0; i < rows->count; i++) {
        _cleanup_json_ cJSON *paths = NULL;
        code = define_remove(ctl, rows->items[i].name, purge, true, &paths);
        if (code != MICROVM_EXIT_OK)
            return code;
        if (!terminal)
            continue;
        fprintf(stderr, "%s%s and these files go for good:\n", rows->items[i].name,
                is_idle(&rows->items[i]) ? "" : " is stopped,");
        print_paths(stderr, paths);
    }
    return !terminal || define_ask(purge ? "Remove them, volumes and all?" : "Remove them? (Volumes stay.)")
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
    return some.count > 0 ? jobs_run(ctl, "Stop", &some, &jobs) : MICROVM_EXIT_OK;
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
        _cleanup_json_ cJSON *paths = NULL;
        code = define_remove(ctl, rows.items[i].name, ctl->given & OPTION_PURGE, false, &paths);
        worst = code != MICROVM_EXIT_OK ? code : worst;
        if (code == MICROVM_EXIT_OK && json != JSON_OFF)
            json_print(json, paths);
        else if (code == MICROVM_EXIT_OK && !ctl->quiet) {
            printf("Removed %s:\n", rows.items[i].name);
            print_paths(stdout, paths);
        }
    }
    return worst;
}
