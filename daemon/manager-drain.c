/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host that is emptied for maintenance. It stays so over restarts of the daemon, by a file in the runtime
 * directory that names those that were stopped, one a line; a reboot, which the maintenance may have been
 * about, ends it.
 */
#include "manager.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/strv.h"

enum {
    DRAIN_SIZE_MAX = 16 * 1024 * 1024,
};
#define DRAIN_FILE "drained"

static void tell_changed(Manager *manager)
{
    if (manager->observer.changed)
        manager->observer.changed(manager, manager->observer.userdata);
    manager_run_later(manager);
}

/* Runs, is about to, or would. */
static bool is_wanted(const MicroVM *vm)
{
    MicrovmState state = vm->record.state;

    return (state_is_up(state) && !vm->record.stop_held) || vm_is_coming(vm) || state == MICROVM_BACKOFF;
}

/* --- the file --- */

static int write_drain(Manager *manager, char *const *names)
{
    _cleanup_free_ char *path = NULL, *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    int r;

    if (!stream)
        return -ENOMEM;
    for (; *names; names++)
        fprintf(stream, "%s\n", *names);
    if (fclose(stream) != 0)
        return -ENOMEM;
    r = manager_file(manager, DRAIN_FILE, &path);
    return r < 0 ? r : write_file_atomic(path, text, size, 0600);
}

static int forget_drain(Manager *manager)
{
    _cleanup_free_ char *path = NULL;
    int r = manager_file(manager, DRAIN_FILE, &path);

    if (r >= 0 && unlink(path) < 0 && errno != ENOENT)
        r = -errno;
    return r;
}

/* Lines; the list is the caller's. */
static int split(char *text, char ***ret_names)
{
    _cleanup_strv_ char **names = NULL;
    size_t n = 1, i = 0;

    for (const char *at = text; (at = strchr(at, '\n')); at++)
        n++;
    names = calloc(n + 1, sizeof(*names));
    if (!names)
        return -ENOMEM;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (!(names[i++] = strdup(line)))
            return -ENOMEM;
    *ret_names = TAKE_PTR(names);
    return 0;
}

int manager_load_drain(Manager *manager)
{
    _cleanup_free_ char *path = NULL, *text = NULL;
    size_t size;
    int r = manager_file(manager, DRAIN_FILE, &path);

    if (r < 0)
        return r;
    r = read_file(path, DRAIN_SIZE_MAX, &text, &size);
    if (r == -ENOENT)
        return 0;
    if (r < 0) /* that it is there is what counts */
        log_warning_errno(r, "Can't read %s: %m; undrain will not know what was stopped.", path);
    manager->drain.on = true;
    log_notice("This host is drained for maintenance: nothing starts until: microvmctl undrain");
    return r < 0 ? 0 : split(text, &manager->drain.names);
}

/* --- the drain --- */

static int note_wanted(const Manager *manager, char ***ret_names)
{
    _cleanup_strv_ char **names = calloc(manager->n_vms + 1, sizeof(*names));
    size_t n = 0;

    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < manager->n_vms; i++)
        if (is_wanted(manager->vms[i]) && !(names[n++] = strdup(manager->vms[i]->name)))
            return -ENOMEM;
    *ret_names = TAKE_PTR(names);
    return 0;
}

static int stop_all(Manager *manager, uint64_t budget_usec, StopJobs *ret_jobs, char **ret_error)
{
    _cleanup_free_ MicroVM **vms = calloc(manager->n_vms + 1, sizeof(*vms));
    StopOptions options = {.timeout_usec = budget_usec, .timeout_is_budget = true};
    size_t n = 0;

    if (!vms)
        return -ENOMEM;
    for (size_t i = 0; i < manager->n_vms; i++)
        if (is_wanted(manager->vms[i]) || state_is_alive(manager->vms[i]->record.state))
            vms[n++] = manager->vms[i];
    return manager_stop(manager, vms, n, &options, MICROVM_DEPENDENTS_IGNORE, ret_jobs, ret_error);
}

int manager_drain(Manager *manager, uint64_t budget_usec, StopJobs *ret_jobs, char **ret_error)
{
    int r = 0;

    if (!manager->drain.on) {
        _cleanup_strv_ char **names = NULL;
        r = note_wanted(manager, &names);
        if (r >= 0)
            r = write_drain(manager, names);
        if (r < 0)
            return r;
        fault_point("after the drain is on record");
        manager->drain.names = TAKE_PTR(names);
        manager->drain.on = true;
        log_notice("Drained for maintenance, as asked: nothing starts until: microvmctl undrain");
        tell_changed(manager);
    }
    return stop_all(manager, budget_usec, ret_jobs, ret_error);
}

void manager_continue_drain(Manager *manager)
{
    for (size_t i = 0; manager->drain.on && i < manager->n_vms; i++) {
        MicroVM *vm = manager->vms[i];
        StopOptions options = {.held = true, .timeout_usec = UINT64_MAX};
        _cleanup_free_ char *error = NULL;
        uint64_t job;
        if (!state_is_up(vm->record.state) || vm->record.stop_held || vm->settling || !vm->driver_online)
            continue;
        if (vm_request_stop(vm, &options, &job, &error) < 0)
            log_vm_warning(vm->name, "It runs though this host is drained: %s", error ? error : "");
    }
}

static int start_again(Manager *manager, const char *name, StopJobs *jobs)
{
    MicroVM *vm = manager_find(manager, name);
    StopJob *job = &jobs->items[jobs->count];
    int r;

    if (!vm) {
        log_info("%s was stopped by the drain, and has no definition any more.", name);
        return 0;
    }
    *job = (StopJob){.vm = vm, .before = vm->record.state};
    r = vm_request_autostart(vm, &job->job, &job->error);
    if (r < 0 && !job->error && !(job->error = strdup(strerror(-r))))
        return -ENOMEM;
    jobs->count++;
    return 0;
}

int manager_undrain(Manager *manager, bool start, StopJobs *ret_jobs)
{
    _cleanup_(stop_jobs_clear)
    StopJobs jobs = {0};
    size_t n = 0;
    int r = 0;

    while (manager->drain.names && manager->drain.names[n])
        n++;
    jobs.items = calloc(n + 1, sizeof(*jobs.items));
    if (!jobs.items)
        return -ENOMEM;
    /* Accepted and on record, but held, until the file is gone: at no moment would a death lose a start. */
    for (size_t i = 0; start && r >= 0 && i < n; i++)
        r = start_again(manager, manager->drain.names[i], &jobs);
    fault_point("before the drain is forgotten");
    if (r >= 0)
        r = forget_drain(manager);
    if (r < 0)
        return r;
    if (manager->drain.on)
        log_notice("No longer drained: starts are possible again.");
    manager->drain.on = false;
    manager->drain.names = strv_free(manager->drain.names);
    tell_changed(manager);
    *ret_jobs = jobs;
    jobs = (StopJobs){0};
    return 0;
}
