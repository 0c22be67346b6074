/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One step of an apply, from its beginning to its end. */
#include "manager-apply-steps.h"

#include "base/log.h"
#include "base/say.h"

/* --- jobs --- */

void apply_take_job(Apply *apply, ApplyStep *step, uint64_t job)
{
    step->job = job;
    if (step->ended == job)
        apply_wake(apply);
}

void apply_job_removed(Apply *apply, const MicroVM *vm, const Job *job, MicrovmJobResult result,
                       const char *reason)
{
    for (size_t i = 0; i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        if (!apply_step_is(step, STEP_ASKED, vm->name) || (step->job != 0 && step->job != job->id))
            continue;
        step->ended = job->id;
        step->result = result;
        if (free_and_strdup(&step->reason, reason) < 0)
            log_oom();
        if (step->job != 0)
            apply_wake(apply);
    }
}

static int request(Apply *apply, ApplyStep *step, MicroVM *vm, char **ret_error)
{
    StopOptions stop = {.timeout_usec = UINT64_MAX, .held = step->kind == MICROVM_STEP_STOP};
    uint64_t job = 0;
    int r;

    vm->host->caller = &apply->options.caller;
    if (step->kind == MICROVM_STEP_STOP) {
        vm->unlearns = true; /* what is pruned is new when its definition is back */
        r = vm_request_stop(vm, &stop, &job, ret_error);
    } else {
        r = manager_may_start(apply->manager, vm, ret_error);
        if (r >= 0 && step->kind == MICROVM_STEP_START)
            r = vm_request_autostart(vm, &job, ret_error);
        else if (r >= 0)
            r = vm_request_restart(vm, &stop, &job, ret_error);
    }
    vm->host->caller = NULL;
    if (r >= 0)
        apply_take_job(apply, step, job);
    return r;
}

static void ask(Apply *apply, ApplyStep *step, MicroVM *vm)
{
    _cleanup_free_ char *error = NULL;
    int r;

    step->state = STEP_ASKED;
    r = request(apply, step, vm, &error);
    if (r < 0)
        apply_step_over(apply, step, MICROVM_APPLY_FAILED, error ? error : strerror(-r));
}

/* Why a step has nothing to do any more, or NULL: others act, too, while an apply goes on. */
static const char *is_moot(const ApplyStep *step, const MicroVM *vm)
{
    if (!vm)
        return "it is gone";
    if (step->kind == MICROVM_STEP_STOP)
        return vm_is_undeclared(vm) ? NULL : "it has a definition again";
    if (!vm->spec)
        return "its definition can't be used any more";
    if (step->kind == MICROVM_STEP_START)
        return plan_start(vm) == MICROVM_PLAN_NONE ? "somebody else has started or stopped it" : NULL;
    return (state_is_up(vm->record.state) || vm->record.state == MICROVM_STARTING) && vm->booted
               ? NULL
               : "it does not run any more";
}

/* --- what is not to stop --- */

static bool is_to_stop(const Apply *apply, const MicroVM *vm)
{
    for (size_t i = 0; i < apply->n_steps; i++)
        if (apply->steps[i].kind == MICROVM_STEP_STOP &&
            apply_step_is(&apply->steps[i], STEP_PENDING, vm->name))
            return vm_is_undeclared(vm);
    return false;
}

/* Who needs it and goes on; NULL: nobody. */
static const MicroVM *who_keeps(const Apply *apply, const char *name)
{
    const Manager *manager = apply->manager;

    for (size_t i = 0; i < manager->n_vms; i++)
        if (manager_needs(manager->vms[i], name) && !is_to_stop(apply, manager->vms[i]))
            return manager->vms[i];
    return NULL;
}

/* One that is kept may itself need others. */
void steps_keep_required(Apply *apply)
{
    for (size_t i = 0; i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        const MicroVM *keeper = step->kind == MICROVM_STEP_STOP && step->state == STEP_PENDING
                                    ? who_keeps(apply, step->name)
                                    : NULL;
        _cleanup_free_ char *why = keeper ? say("%s requires it, and goes on", keeper->name) : NULL;
        if (!keeper)
            continue;
        apply_step_over(apply, step, MICROVM_APPLY_FAILED, why);
        i = (size_t)-1; /* from the beginning */
    }
}

/* --- beginnings --- */

/* Whoever is next is tried first, where the one that was meant for it needs no restart any more. */
static void hand_on_canary(Apply *apply, ApplyStep *step)
{
    step->canary = false;
    for (ApplyStep *next = step + 1; next < apply->steps + apply->n_steps; next++)
        if (next->kind == step->kind && next->state == STEP_PENDING) {
            next->canary = true;
            return;
        }
}

void step_skip(Apply *apply, ApplyStep *step, const char *why)
{
    if (apply->canceled && apply->halt == why)
        apply->left++;
    apply_step_over(apply, step, MICROVM_APPLY_SKIPPED, why);
}

/* It could not start again: it is not stopped. */
static void refuse(Apply *apply, ApplyStep *step, int error, const char *text)
{
    _cleanup_free_ char *why =
        say("%s; it was not stopped, and goes on as it was", text ? text : strerror(-error));

    apply_step_over(apply, step, MICROVM_APPLY_FAILED, why);
}

static void skip_moot(Apply *apply, ApplyStep *step, const char *moot)
{
    if (step->canary)
        hand_on_canary(apply, step);
    apply_step_over(apply, step, MICROVM_APPLY_SKIPPED, moot);
}

/* What it needs is there, or not: it is stopped only in the first case. */
static void on_checked(MicroVM *vm, int error, const char *text, void *userdata)
{
    Apply *apply = ((Manager *)userdata)->apply;

    for (size_t i = 0; apply && i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        const char *moot;
        if (!apply_step_is(step, STEP_CHECKED, vm->name))
            continue;
        moot = is_moot(step, vm);
        if (apply->halt) {
            step_skip(apply, step, apply->halt);
        } else if (moot) {
            skip_moot(apply, step, moot);
        } else if (error < 0) {
            refuse(apply, step, error, text);
        } else {
            ask(apply, step, vm);
        }
        apply_wake(apply);
    }
}

static void begin_restart(Apply *apply, ApplyStep *step, MicroVM *vm)
{
    _cleanup_free_ char *error = NULL;
    int r;

    step->before = vm_spec_ref(vm->booted);
    step->state = STEP_CHECKED;
    r = manager_may_require(apply->manager, vm, &error);
    if (r >= 0)
        r = vm_check_start(vm, on_checked, apply->manager);
    if (r < 0)
        refuse(apply, step, r, error);
}

void step_begin(Apply *apply, ApplyStep *step)
{
    MicroVM *vm = manager_find(apply->manager, step->name);
    const char *moot = step->kind == MICROVM_STEP_CHECK ? NULL : is_moot(step, vm);
    int r;

    if (moot) {
        skip_moot(apply, step, moot);
        return;
    }
    if (step->kind == MICROVM_STEP_CHECK) {
        apply_step_over(apply, step, MICROVM_APPLY_FAILED, step->reason);
        return;
    }
    if (step->kind == MICROVM_STEP_LIVE) {
        r = vm_apply_live(vm);
        apply_step_over(apply, step, r < 0 ? MICROVM_APPLY_FAILED : MICROVM_APPLY_DONE,
                        r < 0 ? strerror(-r) : NULL);
        return;
    }
    apply_tell(apply, step->name, step->kind, MICROVM_APPLY_BEGUN, NULL);
    if (step->kind == MICROVM_STEP_RESTART)
        begin_restart(apply, step, vm);
    else
        ask(apply, step, vm);
}

/* --- files --- */

static void purge_when_gone(Apply *apply, ApplyStep *step)
{
    const MicroVM *vm = manager_find(apply->manager, step->name);
    int r;

    if (step->purging || (vm && vm_is_undeclared(vm)))
        return;
    if (vm) {
        apply_step_over(apply, step, MICROVM_APPLY_FAILED, "it has a definition again, and keeps them");
        return;
    }
    step->purging = true;
    r = apply_purge(apply, step);
    if (r < 0)
        apply_step_over(apply, step, MICROVM_APPLY_FAILED, strerror(-r));
}

void apply_purged(Apply *apply, const char *name, int error, const char *text)
{
    for (size_t i = 0; i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        if (!apply_step_is(step, STEP_PURGED, name) || !step->purging)
            continue;
        apply_step_over(apply, step, error < 0 ? MICROVM_APPLY_FAILED : MICROVM_APPLY_DONE,
                        error < 0 && !text ? strerror(-error) : text);
        apply_wake(apply);
    }
}

static void stopped(Apply *apply, ApplyStep *step)
{
    if (!step->files) {
        apply_step_over(apply, step, MICROVM_APPLY_DONE, step->reason);
        return;
    }
    apply_tell(apply, step->name, step->kind, MICROVM_APPLY_DONE, step->reason);
    step->kind = MICROVM_STEP_PURGE;
    step->state = STEP_PURGED;
    apply_tell(apply, step->name, step->kind, MICROVM_APPLY_BEGUN, NULL);
    purge_when_gone(apply, step);
}

/* --- ends --- */

/* Its job is over. */
static void take_end(Apply *apply, ApplyStep *step)
{
    bool done = step->result == MICROVM_JOB_DONE;

    if (step->falling_back)
        canary_fell_back(apply, step);
    else if (step->canary && done)
        canary_watch(apply, step);
    else if (step->canary && (step->result == MICROVM_JOB_FAILED || step->result == MICROVM_JOB_TIMEOUT))
        canary_fall_back(apply, step, step->reason ? step->reason : "it is not running");
    else if (step->kind == MICROVM_STEP_STOP && done)
        stopped(apply, step);
    else
        apply_step_over(apply, step, done ? MICROVM_APPLY_DONE : MICROVM_APPLY_FAILED, step->reason);
}

void step_take_news(Apply *apply, ApplyStep *step)
{
    if (step->state == STEP_ASKED && step->job != 0 && step->ended == step->job)
        take_end(apply, step);
    else if (step->state == STEP_WATCHED)
        canary_judge(apply, step);
    else if (step->state == STEP_PURGED)
        purge_when_gone(apply, step);
}
