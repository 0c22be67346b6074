/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An apply is a list of steps in stages. A canary comes first, so that nothing else is touched if it fails;
 * then what takes effect without a restart; then undeclared microVMs are stopped (so that what they hold is
 * free), new ones started, changed ones restarted. Most steps are a job of their microVM; between two events
 * of the loop the next ones are begun.
 */
#include "manager-apply-steps.h"

#include "base/log.h"
#include "base/say.h"
#include "base/strv.h"

#include <inttypes.h>

Apply *apply_free(Apply *apply)
{
    if (!apply)
        return NULL;
    sd_event_source_disable_unref(apply->wake);
    sd_event_source_disable_unref(apply->watch);
    for (size_t i = 0; i < apply->n_steps; i++) {
        free(apply->steps[i].name);
        free(apply->steps[i].reason);
        free(apply->steps[i].why);
        free(apply->steps[i].state_dir);
        strv_free(apply->steps[i].files);
        vm_spec_unref(apply->steps[i].before);
    }
    free(apply->steps);
    free(apply->failure);
    free(apply);
    return NULL;
}
DEFINE_CLEANUP(Apply *, apply_free)

void apply_wake(Apply *apply)
{
    sd_event_source_set_enabled(apply->wake, SD_EVENT_ONESHOT);
}

bool apply_step_is(const ApplyStep *step, StepState state, const char *name)
{
    return step->state == state && streq(step->name, name);
}

/* --- telling --- */

void apply_tell(Apply *apply, const char *name, MicrovmStep kind, MicrovmApply how, const char *text)
{
    ManagerObserver *observer = &apply->manager->observer;

    if (observer->apply_progress)
        observer->apply_progress(apply->id, name, kind, how, text ? text : "", observer->userdata);
}

static char *say_failure(const ApplyStep *step, const char *text)
{
    switch (step->kind) {
    case MICROVM_STEP_CHECK:
        return say("%s: %s", step->name, text);
    case MICROVM_STEP_LIVE:
        return say("what changed of %s could not take effect: %s", step->name, text);
    case MICROVM_STEP_PURGE:
        return say("%s was stopped, but its files are not removed: %s", step->name, text);
    default:
        return say("%s of %s failed: %s", microvm_step_to_string(step->kind), step->name, text);
    }
}

void apply_step_over(Apply *apply, ApplyStep *step, MicrovmApply outcome, const char *text)
{
    MicroVM *vm = manager_find(apply->manager, step->name);

    step->state = STEP_OVER;
    if (outcome == MICROVM_APPLY_FAILED) {
        apply->failures++;
        if (!apply->failure)
            apply->failure = say_failure(step, text ? text : "no reason given");
        if (step->kind == MICROVM_STEP_STOP && vm)
            vm->unlearns = false;
        if (step->kind == MICROVM_STEP_RESTART && !apply->halt)
            apply->halt = step->canary ? "the canary failed" : "another restart failed before";
    }
    apply_tell(apply, step->name, step->kind, outcome, text);
}

/* *ret_text: what went wrong, or NULL. */
static MicrovmJobResult sum_up(const Apply *apply, char **ret_text)
{
    _cleanup_free_ char *left = NULL;

    *ret_text = NULL;
    if (apply->left > 0)
        left = say("canceled: %zu of %zu steps %s not begun", apply->left, apply->n_steps,
                   apply->left == 1 ? "was" : "were");
    if (apply->failures > 1)
        *ret_text = say("%zu steps failed; the first: %s%s%s", apply->failures,
                        apply->failure ? apply->failure : "", left ? "; " : "", left ? left : "");
    else if (apply->failures > 0)
        *ret_text = say("%s%s%s", apply->failure ? apply->failure : "", left ? "; " : "", left ? left : "");
    else
        *ret_text = TAKE_PTR(left);
    return apply->failures > 0 ? MICROVM_JOB_FAILED
           : apply->left > 0   ? MICROVM_JOB_CANCELED
                               : MICROVM_JOB_DONE;
}

static void finish(Apply *apply)
{
    ManagerObserver *observer = &apply->manager->observer;
    _cleanup_free_ char *text = NULL;
    MicrovmJobResult result = sum_up(apply, &text);

    log_full(apply->failures > 0 ? LOG_ERR : LOG_INFO, NULL, 0, "Apply %" PRIu64 " is %s%s%s", apply->id,
             microvm_job_result_to_string(result), text ? ": " : ".", text ? text : "");
    apply->manager->apply = NULL;
    if (observer->apply_removed)
        observer->apply_removed(apply->id, result, text ? text : "", observer->userdata);
    apply_free(apply);
}

/* --- stages --- */

static bool is_busy(const ApplyStep *step)
{
    return step->state != STEP_PENDING && step->state != STEP_OVER;
}

/* Whether all steps of the stage are over; begins what may begin, `at_once` at the same time. */
static bool stage_over(Apply *apply, MicrovmStep kind, bool canary, uint64_t at_once)
{
    uint64_t busy = 0;

    for (size_t i = 0; i < apply->n_steps; i++)
        busy += apply->steps[i].kind == kind && is_busy(&apply->steps[i]);
    if (kind == MICROVM_STEP_STOP && !apply->halt)
        steps_keep_required(apply);
    for (size_t i = 0; i < apply->n_steps && busy < at_once; i++) {
        ApplyStep *step = &apply->steps[i];
        if (step->kind != kind || step->canary != canary || step->state != STEP_PENDING)
            continue;
        if (apply->halt && kind != MICROVM_STEP_CHECK)
            step_skip(apply, step, apply->halt);
        else
            step_begin(apply, step);
        busy += is_busy(step);
    }
    if (kind == MICROVM_STEP_STOP)
        manager_release_stops(apply->manager); /* in their order, now that all are known */
    return busy == 0;
}

static int on_wake(sd_event_source *source, void *userdata)
{
    Apply *apply = userdata;

    for (size_t i = 0; i < apply->n_steps; i++)
        step_take_news(apply, &apply->steps[i]);
    manager_judge_definitions(apply->manager); /* what was stopped has made room */
    if (stage_over(apply, MICROVM_STEP_CHECK, false, UINT64_MAX) &&
        stage_over(apply, MICROVM_STEP_RESTART, true, 1) &&
        stage_over(apply, MICROVM_STEP_LIVE, false, UINT64_MAX) &&
        stage_over(apply, MICROVM_STEP_STOP, false, UINT64_MAX) &&
        stage_over(apply, MICROVM_STEP_PURGE, false, UINT64_MAX) &&
        stage_over(apply, MICROVM_STEP_START, false, UINT64_MAX) &&
        stage_over(apply, MICROVM_STEP_RESTART, false, MAX(apply->options.max_parallel, UINT64_C(1))))
        finish(apply);
    return 0;
}

/* --- what is to be done --- */

/* Whether it lacks only what somebody who is pruned runs with, and would be started. */
static bool takes_over(Manager *manager, const char *name)
{
    const Definition *definition = definitions_find(&manager->definitions, name);
    const MicroVM *vm = manager_find(manager, name), *rival;

    if (!definition || !definition->rival || !definition->read->autostart || !vm || vm->record.decided)
        return false;
    rival = manager_find(manager, definition->rival->name);
    return rival && vm_is_undeclared(rival);
}

/* What to do about it; false: nothing. */
static bool choose_step(Manager *manager, const HostPlanItem *item, const MicroVM *vm,
                        const ApplyOptions *options, MicrovmStep *ret_kind)
{
    switch (item->action) {
    case MICROVM_PLAN_INVALID:
        *ret_kind = options->prune != PRUNE_NO && takes_over(manager, item->name) ? MICROVM_STEP_START
                                                                                  : MICROVM_STEP_CHECK;
        return true;
    case MICROVM_PLAN_START:
    case MICROVM_PLAN_RETRY:
    case MICROVM_PLAN_FAILED: /* whose refusal says what helps */
        *ret_kind = MICROVM_STEP_START;
        return true;
    case MICROVM_PLAN_UNDECLARED:
        *ret_kind = MICROVM_STEP_STOP;
        return options->prune != PRUNE_NO;
    default:
        break;
    }
    /* A restart brings all that changed. What was rolled back runs as it did, in everything. */
    *ret_kind = MICROVM_STEP_RESTART;
    if (options->restart && (item->action == MICROVM_PLAN_RESTART ||
                             (item->action == MICROVM_PLAN_OUTDATED && options->outdated)))
        return true;
    *ret_kind = MICROVM_STEP_LIVE;
    return !vm->fallback && spec_changes_have(&item->changes, CHANGE_LIVE);
}

/* Those of `files` that are its own. */
static int take_files(ApplyStep *step, const MicroVM *vm, char **files)
{
    size_t length = strlen(vm->state_dir), n = 0;

    for (char **file = files; file && *file; file++) {
        char **grown;
        if (strncmp(*file, vm->state_dir, length) != 0 || (*file)[length] != '/')
            continue;
        grown = reallocarray(step->files, n + 2, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        step->files = grown;
        grown[n] = strdup(*file);
        grown[n + 1] = NULL;
        if (!grown[n++])
            return -ENOMEM;
    }
    return free_and_strdup(&step->state_dir, vm->state_dir);
}

static int add_steps(Apply *apply, const HostPlan *plan)
{
    bool canary = apply->options.canary;
    int r = 0;

    apply->steps = calloc(plan->count + 1, sizeof(*apply->steps));
    if (!apply->steps)
        return -ENOMEM;
    for (size_t i = 0; i < plan->count && r >= 0; i++) {
        const MicroVM *vm = manager_find(apply->manager, plan->items[i].name);
        ApplyStep *step = &apply->steps[apply->n_steps];
        if (!choose_step(apply->manager, &plan->items[i], vm, &apply->options, &step->kind))
            continue;
        apply->n_steps++;
        r = free_and_strdup(&step->name, vm->name);
        if (r >= 0 && step->kind == MICROVM_STEP_CHECK)
            r = free_and_strdup(&step->reason, plan->items[i].reason);
        if (r >= 0 && step->kind == MICROVM_STEP_STOP)
            r = take_files(step, vm, apply->options.purge);
        step->canary = canary && step->kind == MICROVM_STEP_RESTART;
        canary &= !step->canary;
    }
    return r;
}

static int say_busy(const Apply *apply, char **ret_error)
{
    for (size_t i = 0; i < apply->n_steps; i++)
        if (is_busy(&apply->steps[i]))
            return say_why(ret_error, -EBUSY, "another apply is going on, now with the %s of %s",
                           microvm_step_to_string(apply->steps[i].kind), apply->steps[i].name);
    return say_why(ret_error, -EBUSY, "another apply is going on");
}

int manager_apply(Manager *manager, const Selection *selection, const ApplyOptions *options, uint64_t *ret_id,
                  char **ret_error)
{
    _cleanup_(host_plan_clear)
    HostPlan plan = {0};
    _cleanup_(apply_freep)
    Apply *apply = NULL;
    int r;

    if (manager->apply)
        return say_busy(manager->apply, ret_error);
    r = manager_plan(manager, selection, &plan, ret_error);
    if (r >= 0)
        r = apply_check_prune(manager, &plan, options->prune, ret_error);
    if (r >= 0)
        r = apply_check_purge(manager, &plan, options->purge, ret_error);
    if (r < 0)
        return r;
    apply = calloc(1, sizeof(*apply));
    if (!apply)
        return -ENOMEM;
    apply->manager = manager;
    apply->options = *options;
    apply->options.caller.apply = true;
    apply->id = ++manager->last_apply_id;
    r = add_steps(apply, &plan);
    apply->options.purge = NULL; /* the caller's; the steps have theirs */
    if (r >= 0)
        r = sd_event_add_defer(manager->event, &apply->wake, on_wake, apply);
    if (r < 0)
        return r;
    log_info("Apply %" PRIu64 " begins: %zu step%s.", apply->id, apply->n_steps,
             apply->n_steps == 1 ? "" : "s");
    *ret_id = apply->id;
    manager->apply = TAKE_PTR(apply);
    return 0;
}

int manager_cancel_apply(Manager *manager, uint64_t id, char **ret_error)
{
    Apply *apply = manager->apply;

    if (!apply || apply->id != id)
        return say_why(ret_error, -ESRCH, "apply %" PRIu64 " does not go on any more", id);
    if (apply->halt)
        return 0;
    log_notice("Apply %" PRIu64 " is canceled: what has begun is finished, nothing else begins.", id);
    apply->halt = "the apply was canceled";
    apply->canceled = true;
    apply_wake(apply);
    return 0;
}
