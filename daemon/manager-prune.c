/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may go with an apply, and what goes with a microVM. */
#include "manager-apply-steps.h"
#include "manager-leaks.h"

#include "base/log.h"
#include "base/say.h"
#include "base/strv.h"
#include "resource/files.h"

#include <dirent.h>

static int is_definition(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');

    return entry->d_name[0] != '.' && dot && streq(dot, ".json");
}

/* Whether there are any definitions where that of `vm` was: an unmounted file system has none. */
static bool has_neighbours(const Manager *manager, const MicroVM *vm)
{
    _cleanup_free_ char *directory = strdup(vm->former_path ? vm->former_path : "");
    char *slash = directory ? strrchr(directory, '/') : NULL;
    struct dirent **entries;
    int n;

    if (slash)
        *slash = '\0';
    n = scandir(slash ? directory : manager->settings.directories[0], &entries, is_definition, NULL);
    for (int i = 0; i < n; i++)
        free(entries[i]);
    if (n >= 0)
        free(entries);
    return n > 0;
}

/* Definitions that can't be found are no wish that their microVMs go. */
int apply_check_prune(Manager *manager, const HostPlan *plan, ApplyPrune prune, char **ret_error)
{
    size_t declared = 0, going = 0;

    for (size_t i = 0; i < plan->count; i++)
        going += plan->items[i].action == MICROVM_PLAN_UNDECLARED;
    for (size_t i = 0; i < manager->n_vms; i++)
        declared += !vm_is_undeclared(manager->vms[i]);
    if (prune == PRUNE_NO || going == 0)
        return 0;
    for (size_t i = 0; i < manager->settings.n_directories; i++)
        if (access(manager->settings.directories[i], R_OK | X_OK) < 0 && errno != ENOENT)
            return say_why(ret_error, -EDOM, "nothing is pruned: %s can't be read: %s",
                           manager->settings.directories[i], strerror(errno));
    if (declared == 0)
        return say_why(
            ret_error, -EDOM,
            "nothing is pruned: there is no definition at all (%s...), which looks like a mistake; "
            "stop them by "
            "name: microvmctl stop",
            manager->settings.n_directories > 0 ? manager->settings.directories[0] : "");
    for (size_t i = 0; i < plan->count; i++) {
        const MicroVM *vm = manager_find(manager, plan->items[i].name);
        if (plan->items[i].action != MICROVM_PLAN_UNDECLARED || !vm || has_neighbours(manager, vm))
            continue;
        return say_why(
            ret_error, -EDOM,
            "nothing is pruned: the directory that had the definition of %s is missing or empty (%s), which "
            "looks like a mistake; stop it by name: microvmctl stop %s",
            vm->name, vm->former_path ? vm->former_path : manager->settings.directories[0], vm->name);
    }
    if (prune != PRUNE_ALL && going * 3 > manager->n_vms)
        return say_why(
            ret_error, -EDOM,
            "nothing is pruned: %zu of %zu microVMs would go, more than a third; if that is meant: "
            "--prune=all",
            going, manager->n_vms);
    return 0;
}

/* Each must be of a microVM that goes, by a path that leads nowhere else. */
int apply_check_purge(Manager *manager, const HostPlan *plan, char **purge, char **ret_error)
{
    for (char **file = purge; file && *file; file++) {
        bool found = false;
        for (size_t i = 0; i < plan->count && !found; i++) {
            const MicroVM *vm = manager_find(manager, plan->items[i].name);
            size_t length = strlen(vm->state_dir);
            found = plan->items[i].action == MICROVM_PLAN_UNDECLARED &&
                    strncmp(*file, vm->state_dir, length) == 0 && (*file)[length] == '/' &&
                    (*file)[length + 1];
        }
        if (!found || strstr(*file, "/../") || strstr(*file, "/./") || strstr(*file, "//"))
            return say_why(ret_error, -EINVAL, "%s is no file of a microVM that is to go", *file);
    }
    return 0;
}

/* --- the files of what is gone --- */

typedef struct Purge {
    Manager *manager;
    char *name, *state_dir;
    char **files;
    int error;
    char *text;
} Purge;

static void purge_free(void *argument)
{
    Purge *purge = argument;

    free(purge->name);
    free(purge->state_dir);
    free(purge->text);
    strv_free(purge->files);
    free(purge);
}

static void purge_run(void *argument)
{
    Purge *purge = argument;

    purge->error = files_remove(purge->state_dir, purge->files, &purge->text);
    if (purge->error >= 0)
        purge->error = manager_release_user(purge->manager->settings.state_dir, purge->name);
}

static void purge_done(void *argument)
{
    Purge *purge = argument;

    if (purge->error >= 0)
        log_full(LOG_NOTICE, purge->name, 0, "Its files in %s are removed, as asked.", purge->state_dir);
    if (purge->manager->apply)
        apply_purged(purge->manager->apply, purge->name, purge->error, purge->text);
    purge_free(purge);
}

int apply_purge(Apply *apply, ApplyStep *step)
{
    Purge *purge = calloc(1, sizeof(*purge));
    int r = -ENOMEM;

    if (!purge)
        return -ENOMEM;
    purge->manager = apply->manager;
    purge->name = strdup(step->name);
    purge->state_dir = strdup(step->state_dir);
    purge->files = strv_copy(step->files);
    if (purge->name && purge->state_dir && purge->files)
        r = workers_submit(apply->manager->host.files, &(Work){purge_run, purge_done, purge_free, purge});
    if (r < 0)
        purge_free(purge);
    return r;
}
