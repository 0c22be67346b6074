/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The order of stops, which is that of starts in reverse: who is "after" another one stops before it, if both
 * do, and of those that could stop the one with the lowest priority is asked first. A stop that waits for
 * others is on record; the microVM runs on meanwhile.
 */
#include "manager.h"

#include "base/log.h"
#include "base/say.h"

void stop_jobs_clear(StopJobs *jobs)
{
    for (size_t i = 0; i < jobs->count; i++)
        free(jobs->items[i].error);
    free(jobs->items);
    *jobs = (StopJobs){0};
}

/* --- who requires them --- */

/* Something of it runs, or is about to, and nobody has asked for its end. */
static bool is_on(const MicroVM *vm)
{
    MicrovmState state = vm->record.state;

    return !vm->record.stop_held && (state_is_up(state) || vm_is_coming(vm) || state == MICROVM_BACKOFF);
}

/* Which of all microVMs are to be stopped; the caller's. */
static bool *choose(const Manager *manager, MicroVM *const *vms, size_t n)
{
    bool *chosen = calloc(manager->n_vms + 1, sizeof(*chosen));

    for (size_t i = 0; chosen && i < manager->n_vms; i++)
        for (size_t k = 0; k < n && !chosen[i]; k++)
            chosen[i] = manager->vms[i] == vms[k];
    return chosen;
}

/* Whether it is left out and requires one of those that are chosen. */
static bool is_missing(const Manager *manager, const bool *chosen, size_t index)
{
    const MicroVM *vm = manager->vms[index];

    if (chosen[index] || !is_on(vm))
        return false;
    for (size_t i = 0; i < manager->n_vms; i++)
        if (chosen[i] && is_on(manager->vms[i]) &&
            manager_requires(vm_current_spec(vm), manager->vms[i]->name))
            return true;
    return false;
}

/* Adds those that are missing, and those that are missing then. */
static void choose_dependents(const Manager *manager, bool *chosen)
{
    bool added = true;

    while (added) {
        added = false;
        for (size_t i = 0; i < manager->n_vms; i++)
            if (is_missing(manager, chosen, i))
                added = chosen[i] = true;
    }
}

bool manager_needs(const MicroVM *vm, const char *name)
{
    return is_on(vm) && manager_requires(vm_current_spec(vm), name) &&
           (!vm->spec || manager_requires(vm->spec, name));
}

/* "web requires db", "web and api require db"... */
static int refuse_required(const Manager *manager, const bool *chosen, char **ret_error)
{
    _cleanup_free_ char *who = NULL, *whom = NULL;
    size_t n_who = 0;

    for (size_t i = 0; i < manager->n_vms; i++) {
        const MicroVM *vm = manager->vms[i];
        char **list = is_missing(manager, chosen, i) ? &who : NULL;
        char *longer;
        for (size_t k = 0; !list && chosen[i] && k < manager->n_vms; k++)
            if (!chosen[k] && is_on(vm) && is_on(manager->vms[k]) &&
                manager_requires(vm_current_spec(manager->vms[k]), vm->name))
                list = &whom;
        if (!list)
            continue;
        n_who += list == &who;
        longer = say("%s%s%s", *list ? *list : "", *list ? ", " : "", vm->name);
        if (!longer)
            return -ENOMEM;
        free(*list);
        *list = longer;
    }
    if (n_who == 0)
        return 0;
    return say_why(ret_error, -EMLINK, "%s %s %s and %s not to be stopped", who,
                   n_who > 1 ? "require" : "requires", whom, n_who > 1 ? "are" : "is");
}

/* --- the order --- */

static bool is_going(const MicroVM *vm)
{
    return vm->driver_online && (vm->record.stop_held || vm->record.state == MICROVM_STOPPING);
}

static bool is_after(const MicroVM *vm, const MicroVM *other)
{
    const VmSpec *spec = vm_current_spec(vm);
    size_t length = strlen(other->name);

    for (size_t i = 0; spec && i < spec->n_after; i++)
        if (strncmp(spec->after[i], other->name, length) == 0 &&
            (spec->after[i][length] == '\0' || spec->after[i][length] == ':'))
            return true;
    return false;
}

/* Who has to stop first; NULL: nobody. */
static const MicroVM *who_goes_before(const Manager *manager, const MicroVM *vm)
{
    for (size_t i = 0; i < manager->n_vms; i++)
        if (manager->vms[i] != vm && is_going(manager->vms[i]) && is_after(manager->vms[i], vm))
            return manager->vms[i];
    return NULL;
}

static void tell_held(MicroVM *vm, const MicroVM *before)
{
    _cleanup_free_ char *reason = say("running; its stop waits for %s to stop", before->name);

    if (reason)
        vm_set_reason(vm, reason);
}

/* Its driver knows it: not so in the moment after it came back. */
static bool can_be_asked(const Manager *manager, const MicroVM *vm)
{
    return vm->driver && vm->driver_online && manager->drivers[vm->driver->kind].synced && !vm->settling;
}

void manager_release_stops(Manager *manager)
{
    _cleanup_free_ MicroVM **held = malloc((manager->n_vms + 1) * sizeof(MicroVM *));
    bool goes_on = false;
    size_t n = 0;

    if (!held) {
        log_oom();
        return;
    }
    for (size_t i = 0; i < manager->n_vms; i++)
        if (manager->vms[i]->record.stop_held && can_be_asked(manager, manager->vms[i]))
            held[n++] = manager->vms[i];
    qsort(held, n, sizeof(MicroVM *), manager_by_priority);
    for (size_t i = n; i-- > 0;) {
        const MicroVM *before = who_goes_before(manager, held[i]);
        if (before)
            tell_held(held[i], before);
        else
            vm_release_stop(held[i]);
        goes_on |= !before || before->record.state == MICROVM_STOPPING || before->settling;
    }
    /* Definitions are no circle, but what runs may be older than they are. */
    if (n > 0 && !goes_on)
        vm_release_stop(held[n - 1]);
}

/* --- the stop --- */

static int stop_one(MicroVM *vm, const StopOptions *options, StopJobs *jobs)
{
    StopJob *job = &jobs->items[jobs->count];
    int r;

    *job = (StopJob){.vm = vm, .before = vm->record.state};
    r = vm_request_stop(vm, options, &job->job, &job->error);
    if (r < 0 && !job->error && !(job->error = strdup(strerror(-r))))
        return -ENOMEM;
    jobs->count++;
    return r;
}

int manager_stop(Manager *manager, MicroVM *const *vms, size_t n, const StopOptions *options,
                 MicrovmDependents dependents, StopJobs *ret_jobs, char **ret_error)
{
    _cleanup_(stop_jobs_clear)
    StopJobs jobs = {0};
    _cleanup_free_ bool *chosen = choose(manager, vms, n);
    StopOptions held = *options;
    int r = 0;

    jobs.items = calloc(manager->n_vms + n + 1, sizeof(*jobs.items));
    if (!chosen || !jobs.items)
        return -ENOMEM;
    if (dependents == MICROVM_DEPENDENTS_STOP)
        choose_dependents(manager, chosen);
    else if (dependents == MICROVM_DEPENDENTS_REFUSE && !options->force)
        r = refuse_required(manager, chosen, ret_error);
    if (r < 0)
        return r;
    held.held = !options->force;
    for (size_t i = 0; i < n; i++)
        if (stop_one(vms[i], &held, &jobs) == -ENOMEM)
            return -ENOMEM;
    for (size_t i = 0; i < manager->n_vms; i++) {
        bool named = false;
        for (size_t k = 0; k < n && !named; k++)
            named = manager->vms[i] == vms[k];
        if (chosen[i] && !named && stop_one(manager->vms[i], &held, &jobs) == -ENOMEM)
            return -ENOMEM;
    }
    manager_release_stops(manager);
    *ret_jobs = jobs;
    jobs = (StopJobs){0};
    return 0;
}
