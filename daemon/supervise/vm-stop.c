/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stopping a run: the ladder is climbed until the driver says that nothing is left of it. */
#include "supervise/vm.h"

#include "base/log.h"

#include <inttypes.h>

/* Whether there is something that the driver could be told to stop: launched, and not over. */
static bool has_run(const MicroVM *vm)
{
    return !sd_id128_is_null(vm->record.generation) && !vm->settling;
}

/* Without a definition nobody knows whom to ask. */
static void make_ladder(MicroVM *vm, uint64_t budget_usec)
{
    const VmSpec *spec = vm->driver ? vm_current_spec(vm) : NULL;
    CapabilitySet can = spec ? vm->driver->ops->capabilities(spec) : 0;

    stop_ladder_make(spec, can, spec ? budget_usec : 0, &vm->record.stop);
}

static void try_rung(MicroVM *vm);

/* The rung is put on record before the driver hears of it. */
static void reach_rung(MicroVM *vm)
{
    if (stop_ladder_forces(&vm->record.stop) && vm->record.stop_asked == STOP_ASKED)
        vm->record.stop_asked = STOP_ASKED_TIMEOUT;
    vm_save(vm);
    try_rung(vm);
}

/* False: there is no further rung. */
static bool climb(MicroVM *vm)
{
    char *text;

    if (!stop_ladder_climb(&vm->record.stop, now_boottime_usec()))
        return false;
    text = stop_ladder_tell(&vm->record.stop);
    if (text) {
        free(vm->record.reason);
        vm->record.reason = text;
    }
    log_vm_info(vm->name, "%s.", text ? text : "The next step of its stop");
    reach_rung(vm);
    return true;
}

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    MicroVM *vm = userdata;
    const StopLadder *ladder = &vm->record.stop;
    const StopRung *rung = stop_ladder_rung(ladder);

    vm->stop_timer = sd_event_source_disable_unref(vm->stop_timer);
    if (rung->action == STOP_ACTION_KILL) {
        log_vm_error(vm->name,
                     "The hypervisor got SIGKILL %" PRIu64 " s ago and has not ended; sending it again.",
                     (now_boottime_usec() - rung->since_boot_usec) / 1000000);
        vm_finish_job(vm, MICROVM_JOB_TIMEOUT, "the hypervisor does not end; see the log of its driver");
        try_rung(vm);
    } else if (now_boottime_usec() < stop_ladder_due(ladder)) {
        try_rung(vm);
    } else {
        climb(vm);
    }
    return 0;
}

/*
 * When the rung is looked at again. A guest is asked again from time to time: one that is still booting does
 * not hear the first time, and one that is shutting down already does not mind.
 */
static void arm_stop_timer(MicroVM *vm)
{
    const StopLadder *ladder = &vm->record.stop;
    const StopRung *rung = stop_ladder_rung(ladder);
    uint64_t now = now_boottime_usec(), at = stop_ladder_due(ladder);
    int r;

    if (rung->action == STOP_ACTION_KILL)
        at = now + rung->timeout_usec;
    else if (!stop_ladder_forces(ladder))
        at = MIN(at, now + vm->host->ask_again_usec);
    vm->stop_timer = sd_event_source_disable_unref(vm->stop_timer);
    r = sd_event_add_time(vm->host->event, &vm->stop_timer, CLOCK_BOOTTIME, at, 0, on_stop_timer, vm);
    if (r < 0)
        log_full(LOG_ERR, vm->name, r, "Can't time its stop: %m");
}

/* Does what the rung says, for the first time or again. */
static void try_rung(MicroVM *vm)
{
    StopAction action = stop_ladder_rung(&vm->record.stop)->action;
    int r;

    arm_stop_timer(vm);
    if (!has_run(vm))
        return;
    r = vm->driver->ops->stop(vm->driver, vm->name, vm->record.generation, action);
    if (r >= 0 || r == -EHOSTDOWN) /* its return goes on with the stop */
        return;
    log_full(action == STOP_ACTION_KILL ? LOG_ERR : LOG_WARNING, vm->name, r,
             "It can't be stopped by \"%s\": %m", stop_action_to_string(action));
    climb(vm);
}

/* --- what the door asks for --- */

void vm_stop_ask(MicroVM *vm)
{
    if (!stop_ladder_rung(&vm->record.stop))
        make_ladder(vm, 0);
    stop_ladder_try(&vm->record.stop, now_boottime_usec());
    reach_rung(vm);
}

void vm_stop_force(MicroVM *vm)
{
    if (!stop_ladder_forces(&vm->record.stop))
        stop_ladder_force(&vm->record.stop);
    stop_ladder_try(&vm->record.stop, now_boottime_usec());
    vm_save(vm);
    try_rung(vm);
}

/* --- who asks for it, and who goes on with it --- */

void vm_stop_begin(MicroVM *vm, const StopOptions *options, const char *why)
{
    const VmSpec *spec = vm_current_spec(vm);
    uint64_t timeout = spec ? spec->stop_timeout_usec : 0, now = now_boottime_usec();
    bool stopping = vm->record.state == MICROVM_STOPPING, hurry = options->timeout_usec != UINT64_MAX;
    bool asked = stop_ladder_is_tried(&vm->record.stop); /* not of one that is being launched */
    bool forces = asked && stop_ladder_forces(&vm->record.stop);

    if (hurry)
        timeout = options->timeout_is_budget ? MIN(timeout, options->timeout_usec) : options->timeout_usec;
    if (!state_is_alive(vm->record.state) && vm->record.state != MICROVM_PREPARING) {
        vm_event(vm, VM_EVENT_STOP, "%s", why);
        return;
    }
    if (options->force) {
        vm->record.stop_asked = STOP_ASKED_FORCE;
        if (!forces)
            vm_event(vm, VM_EVENT_FORCE, "%s, by force", why);
        else if (!climb(vm)) /* who says it again wants more of it */
            vm_save(vm);
        return;
    }
    if (!stopping)
        vm->record.stop_asked = STOP_ASKED;
    if (!stopping || (hurry && !forces)) {
        vm->record.stop_deadline_boot_usec = now + MIN(timeout, UINT64_MAX - now);
        make_ladder(vm, timeout);
    }
    if (!stopping)
        vm_event(vm, VM_EVENT_STOP, "%s; the guest is asked to shut down", why);
    else if (!forces && asked)
        vm_stop_ask(vm); /* again; what is being launched is ended as soon as it is there */
    else
        vm_save(vm); /* what has been asked for beside */
}

void vm_stop_refused(MicroVM *vm, StopAction action)
{
    if (vm->record.state == MICROVM_STOPPING && stop_ladder_refuse(&vm->record.stop, action))
        climb(vm);
}

void vm_stop_continue(MicroVM *vm)
{
    uint64_t now = now_boottime_usec(), deadline = vm->record.stop_deadline_boot_usec;
    const StopLadder *ladder = &vm->record.stop;

    /* An earlier microvmd has no ladder on record, only how long it may take. */
    if (!stop_ladder_rung(ladder) && vm->record.stop_asked != STOP_ASKED_FORCE)
        make_ladder(vm, deadline > now ? deadline - now : 0);
    if (vm->record.stop_asked == STOP_ASKED_FORCE)
        vm_stop_force(vm);
    else if (stop_ladder_is_tried(ladder) && now >= stop_ladder_due(ladder) &&
             stop_ladder_rung(ladder)->action != STOP_ACTION_KILL)
        climb(vm);
    else
        vm_stop_ask(vm);
}
