/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The canary of an apply: it has to stay up, and to become ready where that is told; else it goes back. */
#include "manager-apply-steps.h"

#include "base/log.h"
#include "base/say.h"

static void unwatch(Apply *apply)
{
    apply->watch = sd_event_source_disable_unref(apply->watch);
}

void canary_fall_back(Apply *apply, ApplyStep *step, const char *why)
{
    MicroVM *vm = manager_find(apply->manager, step->name);
    _cleanup_free_ char *error = NULL;
    uint64_t job = 0;
    int r;

    unwatch(apply);
    if (!vm || !step->before) {
        apply_step_over(apply, step, MICROVM_APPLY_FAILED, why);
        return;
    }
    if (free_and_strdup(&step->why, why) < 0)
        log_oom();
    log_full(LOG_ERR, vm->name, 0,
             "With its new definition it did not stay up (%s); going back to the one that it ran with.", why);
    step->state = STEP_ASKED;
    step->falling_back = true;
    step->job = step->ended = 0;
    apply_tell(apply, step->name, MICROVM_STEP_ROLLBACK, MICROVM_APPLY_BEGUN, why);
    vm->host->caller = &apply->options.caller;
    r = vm_request_fallback(vm, step->before, &job, &error);
    vm->host->caller = NULL;
    if (r >= 0)
        apply_take_job(apply, step, job);
    else
        apply_step_over(apply, step, MICROVM_APPLY_FAILED, error ? error : strerror(-r));
}

void canary_fell_back(Apply *apply, ApplyStep *step)
{
    bool done = step->result == MICROVM_JOB_DONE;
    _cleanup_free_ char *text = NULL;
    size_t others = 0;

    for (size_t i = 0; i < apply->n_steps; i++)
        others += apply->steps[i].state == STEP_PENDING;
    apply_tell(apply, step->name, MICROVM_STEP_ROLLBACK, done ? MICROVM_APPLY_DONE : MICROVM_APPLY_FAILED,
               step->reason);
    say_why(&text, 0, "with its new definition it did not stay up (%s); %s%s%s", step->why ? step->why : "",
            done ? "it runs again with the one that it had" : "nor could it be brought back: ",
            done           ? ""
            : step->reason ? step->reason
                           : "",
            others > 0 ? "; nothing else was changed" : "");
    apply_step_over(apply, step, MICROVM_APPLY_FAILED, text);
}

/* Who stops it by hand has not shown that its definition is bad, and does not want it back. */
static bool stopped_by_hand(const MicroVM *vm)
{
    return (vm->record.state == MICROVM_STOPPING && !vm->record.condemned.text) ||
           vm->end_cause == END_DESTROYED || vm->end_cause == END_ASKED;
}

static void was_stopped(Apply *apply, ApplyStep *step)
{
    unwatch(apply);
    apply_step_over(apply, step, MICROVM_APPLY_FAILED,
                    "it was stopped while it was to show that it stays up");
}

static int on_watch(sd_event_source *source, uint64_t usec, void *userdata)
{
    Apply *apply = userdata;

    unwatch(apply);
    for (size_t i = 0; i < apply->n_steps; i++)
        if (apply->steps[i].state == STEP_WATCHED)
            apply->steps[i].stood = true;
    apply_wake(apply);
    return 0;
}

void canary_watch(Apply *apply, ApplyStep *step)
{
    const MicroVM *vm = manager_find(apply->manager, step->name);
    int r;

    if (!vm || !state_is_up(vm->record.state)) {
        if (vm && stopped_by_hand(vm))
            was_stopped(apply, step);
        else
            canary_fall_back(apply, step, vm ? vm->record.reason : "it is gone");
        return;
    }
    step->state = STEP_WATCHED;
    step->generation = vm->record.generation;
    r = sd_event_add_time_relative(apply->manager->event, &apply->watch, CLOCK_MONOTONIC,
                                   apply->options.canary_usec, 0, on_watch, apply);
    if (r < 0)
        apply_step_over(apply, step, MICROVM_APPLY_FAILED, strerror(-r));
}

void canary_judge(Apply *apply, ApplyStep *step)
{
    const MicroVM *vm = manager_find(apply->manager, step->name);

    if (step->down && step->by_hand)
        was_stopped(apply, step);
    else if (step->down)
        canary_fall_back(apply, step, step->reason ? step->reason : "it is not running");
    else if (vm && (vm->record.readiness.state == MICROVM_READINESS_TIMED_OUT ||
                    vm->record.readiness.state == MICROVM_READINESS_LOST))
        canary_fall_back(apply, step, "it did not become ready, or not for long");
    /* What is settling is over; how it ended is being found out. */
    else if (vm && step->stood && !vm->settling && vm->record.readiness.state != MICROVM_READINESS_WAITING)
        apply_step_over(apply, step, MICROVM_APPLY_DONE, "it stays up");
}

void apply_vm_changed(Apply *apply, const MicroVM *vm)
{
    for (size_t i = 0; i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        if (apply_step_is(step, STEP_PURGED, vm->name))
            apply_wake(apply);
        if (!apply_step_is(step, STEP_WATCHED, vm->name) || step->down)
            continue;
        apply_wake(apply);
        if (state_is_up(vm->record.state) && sd_id128_equal(vm->record.generation, step->generation))
            continue;
        step->down = true;
        step->by_hand = stopped_by_hand(vm);
        if (free_and_strdup(&step->reason, vm->record.reason) < 0)
            log_oom();
    }
}
