/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An apply is a list of steps in three stages: undeclared microVMs are stopped (so that what they hold is
 * free), new ones are started, changed ones are restarted, a canary before the others. Each step is a job of
 * its microVM; between two events of the loop the next steps are begun. What takes effect without a restart
 * was done before all that.
 */
#include "manager-apply.h"

#include "base/log.h"
#include "base/say.h"
#include "base/strv.h"

#include <inttypes.h>

typedef enum StepState {
    STEP_PENDING,
    STEP_ASKED,
    STEP_WATCHED, /* the canary is up, and must stay so */
    STEP_OVER,
} StepState;

typedef struct ApplyStep {
    char *name;
    MicrovmJobVerb verb;
    StepState state;
    bool canary, falling_back;
    bool down, by_hand; /* of what is watched: it is not up any more; because somebody stopped it */
    uint64_t job;       /* 0: not accepted yet */
    uint64_t ended;     /* the job of its microVM that ended last, and how */
    MicrovmJobResult result;
    char *reason;
    char *why;             /* a canary falls back */
    VmSpec *before;        /* that a canary ran with */
    sd_id128_t generation; /* of the run that is watched */
} ApplyStep;

struct Apply {
    Manager *manager;
    uint64_t id;
    ApplyOptions options;
    HostPlan plan; /* until what takes effect without a restart is done */
    char **purge;
    ApplyStep *steps;
    size_t n_steps, failures;
    bool halted;   /* no restart is begun any more */
    char *failure; /* the first, in one sentence */
    sd_event_source *wake, *watch;
};

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
        vm_spec_unref(apply->steps[i].before);
    }
    free(apply->steps);
    strv_free(apply->purge);
    host_plan_clear(&apply->plan);
    free(apply->failure);
    free(apply);
    return NULL;
}
DEFINE_CLEANUP(Apply *, apply_free)

/* --- telling --- */

static void tell(Apply *apply, const char *name, const char *action, MicrovmApply how, const char *text)
{
    ManagerObserver *observer = &apply->manager->observer;

    if (observer->apply_progress)
        observer->apply_progress(apply->id, name, action, how, text ? text : "", observer->userdata);
}

static void step_over(Apply *apply, ApplyStep *step, MicrovmApply outcome, const char *text)
{
    MicroVM *vm = manager_find(apply->manager, step->name);

    step->state = STEP_OVER;
    if (outcome == MICROVM_APPLY_FAILED) {
        apply->failures++;
        if (!apply->failure)
            say_why(&apply->failure, 0, "%s of %s failed: %s", microvm_job_verb_to_string(step->verb),
                    step->name, text ? text : "no reason given");
        if (step->verb == MICROVM_JOB_RESTART)
            apply->halted = true;
        if (step->verb == MICROVM_JOB_STOP && vm)
            vm_drop_purge(vm);
    }
    tell(apply, step->name, microvm_job_verb_to_string(step->verb), outcome, text);
}

static void finish(Apply *apply)
{
    ManagerObserver *observer = &apply->manager->observer;
    MicrovmJobResult result = apply->failures > 0 ? MICROVM_JOB_FAILED : MICROVM_JOB_DONE;
    _cleanup_free_ char *text = NULL;

    if (apply->failures > 1)
        say_why(&text, 0, "%zu steps failed; the first: %s", apply->failures,
                apply->failure ? apply->failure : "");
    else if (apply->failures > 0)
        text = TAKE_PTR(apply->failure);
    log_full(apply->failures > 0 ? LOG_ERR : LOG_INFO, NULL, 0, "Apply %" PRIu64 " is %s%s%s", apply->id,
             microvm_job_result_to_string(result), text ? ": " : ".", text ? text : "");
    apply->manager->apply = NULL;
    if (observer->apply_removed)
        observer->apply_removed(apply->id, result, text ? text : "", observer->userdata);
    apply_free(apply);
}

/* --- one step --- */

static void wake(Apply *apply)
{
    sd_event_source_set_enabled(apply->wake, SD_EVENT_ONESHOT);
}

/* The job may be over before its number is known here. */
static void take_job(Apply *apply, ApplyStep *step, uint64_t job)
{
    step->job = job;
    if (step->ended == job)
        wake(apply);
}

void apply_job_removed(Apply *apply, const MicroVM *vm, const Job *job, MicrovmJobResult result,
                       const char *reason)
{
    for (size_t i = 0; i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        if (step->state != STEP_ASKED || !streq(step->name, vm->name) ||
            (step->job != 0 && step->job != job->id))
            continue;
        step->ended = job->id;
        step->result = result;
        if (free_and_strdup(&step->reason, reason) < 0)
            log_oom();
        if (step->job != 0)
            wake(apply);
    }
}

/* When it is gone, the files that were named go with it; what is pruned is new when its definition is back.
 */
static int mark_purge(Apply *apply, MicroVM *vm)
{
    size_t length = strlen(vm->state_dir), n = 0;

    vm_drop_purge(vm);
    vm->unlearns = true;
    for (char **file = apply->purge; file && *file; file++)
        n += strncmp(*file, vm->state_dir, length) == 0 && (*file)[length] == '/';
    if (n == 0)
        return 0;
    vm->purge = calloc(n + 1, sizeof(*vm->purge));
    n = 0;
    for (char **file = apply->purge; vm->purge && *file; file++)
        if (strncmp(*file, vm->state_dir, length) == 0 && (*file)[length] == '/')
            if (!(vm->purge[n++] = strdup(*file)))
                return -ENOMEM;
    return vm->purge ? 0 : -ENOMEM;
}

static int ask(Apply *apply, ApplyStep *step, MicroVM *vm, char **ret_error)
{
    StopOptions stop = {.timeout_usec = UINT64_MAX};
    uint64_t job = 0;
    int r;

    if (step->verb == MICROVM_JOB_STOP) {
        r = mark_purge(apply, vm);
        if (r >= 0)
            r = vm_request_stop(vm, &stop, &job, ret_error);
    } else {
        r = manager_may_start(apply->manager, vm, ret_error);
        if (r >= 0 && step->verb == MICROVM_JOB_START)
            r = vm_request_start(vm, &job, ret_error);
        else if (r >= 0)
            r = vm_request_restart(vm, &stop, &job, ret_error);
    }
    if (r >= 0)
        take_job(apply, step, job);
    return r;
}

/* Why a step has nothing to do any more, or NULL: others act, too, while an apply goes on. */
static const char *is_moot(const ApplyStep *step, const MicroVM *vm)
{
    if (!vm)
        return "it is gone";
    if (step->verb == MICROVM_JOB_STOP)
        return vm_is_undeclared(vm) ? NULL : "it has a definition again";
    if (!vm->spec)
        return "its definition can't be used any more";
    if (step->verb == MICROVM_JOB_START)
        return vm->record.decided ? "somebody else has started or stopped it" : NULL;
    return state_is_up(vm->record.state) || vm->record.state == MICROVM_STARTING ? NULL
                                                                                 : "it does not run any more";
}

/* Whoever is next is tried first, where the one that was meant for it needs no restart any more. */
static void hand_on_canary(Apply *apply, ApplyStep *step)
{
    step->canary = false;
    for (ApplyStep *next = step + 1; next < apply->steps + apply->n_steps; next++)
        if (next->verb == step->verb && next->state == STEP_PENDING) {
            next->canary = true;
            return;
        }
}

static void begin(Apply *apply, ApplyStep *step)
{
    MicroVM *vm = manager_find(apply->manager, step->name);
    const char *moot = is_moot(step, vm);
    _cleanup_free_ char *error = NULL;
    int r;

    if (moot) {
        if (step->canary)
            hand_on_canary(apply, step);
        step_over(apply, step, MICROVM_APPLY_SKIPPED, moot);
        return;
    }
    step->state = STEP_ASKED;
    step->before = vm_spec_ref(vm->booted);
    tell(apply, step->name, microvm_job_verb_to_string(step->verb), MICROVM_APPLY_BEGUN, NULL);
    r = ask(apply, step, vm, &error);
    if (r < 0)
        step_over(apply, step, MICROVM_APPLY_FAILED, error ? error : strerror(-r));
}

/* --- the canary --- */

static void fall_back(Apply *apply, ApplyStep *step, const char *why)
{
    MicroVM *vm = manager_find(apply->manager, step->name);
    _cleanup_free_ char *error = NULL;
    uint64_t job = 0;
    int r;

    apply->watch = sd_event_source_disable_unref(apply->watch);
    if (!vm || !step->before) {
        step_over(apply, step, MICROVM_APPLY_FAILED, why);
        return;
    }
    if (free_and_strdup(&step->why, why) < 0)
        log_oom();
    log_full(LOG_ERR, vm->name, 0,
             "With its new definition it did not stay up (%s); going back to the one that it ran with.", why);
    step->state = STEP_ASKED;
    step->falling_back = true;
    step->job = step->ended = 0;
    tell(apply, step->name, "rollback", MICROVM_APPLY_BEGUN, why);
    r = vm_request_fallback(vm, step->before, &job, &error);
    if (r >= 0)
        take_job(apply, step, job);
    else
        step_over(apply, step, MICROVM_APPLY_FAILED, error ? error : strerror(-r));
}

static void fell_back(Apply *apply, ApplyStep *step)
{
    bool done = step->result == MICROVM_JOB_DONE;
    _cleanup_free_ char *text = NULL;
    size_t restarts = 0;

    for (size_t i = 0; i < apply->n_steps; i++)
        restarts += apply->steps[i].verb == MICROVM_JOB_RESTART;
    tell(apply, step->name, "rollback", done ? MICROVM_APPLY_DONE : MICROVM_APPLY_FAILED, step->reason);
    say_why(&text, 0, "with its new definition it did not stay up (%s); %s%s%s", step->why ? step->why : "",
            done ? "it runs again with the one that it had" : "nor could it be brought back: ",
            done           ? ""
            : step->reason ? step->reason
                           : "",
            restarts > 1 ? "; nothing else was restarted" : "");
    step_over(apply, step, MICROVM_APPLY_FAILED, text);
}

/* Who stops it by hand has not shown that its definition is bad, and does not want it back. */
static bool stopped_by_hand(const MicroVM *vm)
{
    return vm->record.state == MICROVM_STOPPING || vm->end_cause == END_DESTROYED ||
           vm->end_cause == END_ASKED;
}

static void was_stopped(Apply *apply, ApplyStep *step)
{
    apply->watch = sd_event_source_disable_unref(apply->watch);
    step_over(apply, step, MICROVM_APPLY_FAILED, "it was stopped while it was to show that it stays up");
}

static int on_watch(sd_event_source *source, uint64_t usec, void *userdata)
{
    Apply *apply = userdata;

    for (size_t i = 0; i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        const MicroVM *vm = step->state == STEP_WATCHED ? manager_find(apply->manager, step->name) : NULL;
        if (!vm)
            continue;
        if (vm->settling) /* it is over; how it ended is being found out */
            return sd_event_source_set_enabled(source, SD_EVENT_OFF);
        step_over(apply, step, MICROVM_APPLY_DONE, "it stays up");
    }
    apply->watch = sd_event_source_disable_unref(apply->watch);
    wake(apply);
    return 0;
}

static void watch(Apply *apply, ApplyStep *step)
{
    const MicroVM *vm = manager_find(apply->manager, step->name);
    int r;

    if (!vm || !state_is_up(vm->record.state)) {
        if (vm && stopped_by_hand(vm))
            was_stopped(apply, step);
        else
            fall_back(apply, step, vm ? vm->record.reason : "it is gone");
        return;
    }
    step->state = STEP_WATCHED;
    step->generation = vm->record.generation;
    r = sd_event_add_time_relative(apply->manager->event, &apply->watch, CLOCK_MONOTONIC,
                                   apply->options.canary_usec, 0, on_watch, apply);
    if (r < 0)
        step_over(apply, step, MICROVM_APPLY_FAILED, strerror(-r));
}

void apply_vm_changed(Apply *apply, const MicroVM *vm)
{
    for (size_t i = 0; i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        if (step->state != STEP_WATCHED || step->down || !streq(step->name, vm->name))
            continue;
        if (state_is_up(vm->record.state) && sd_id128_equal(vm->record.generation, step->generation))
            continue;
        step->down = true;
        step->by_hand = stopped_by_hand(vm);
        if (free_and_strdup(&step->reason, vm->record.reason) < 0)
            log_oom();
        wake(apply);
    }
}

/* --- all steps --- */

/* A job is over, or the run that was watched. */
static void take_end(Apply *apply, ApplyStep *step)
{
    const char *why = step->reason ? step->reason : "it is not running";

    if (step->state == STEP_WATCHED && step->by_hand) {
        was_stopped(apply, step);
        return;
    }
    if (step->state == STEP_WATCHED) {
        fall_back(apply, step, why);
        return;
    }
    if (step->falling_back)
        fell_back(apply, step);
    else if (step->canary && step->result == MICROVM_JOB_DONE)
        watch(apply, step);
    else if (step->canary && (step->result == MICROVM_JOB_FAILED || step->result == MICROVM_JOB_TIMEOUT))
        fall_back(apply, step, why);
    else
        step_over(apply, step, step->result == MICROVM_JOB_DONE ? MICROVM_APPLY_DONE : MICROVM_APPLY_FAILED,
                  step->reason);
}

static void take_ends(Apply *apply)
{
    for (size_t i = 0; i < apply->n_steps; i++) {
        ApplyStep *step = &apply->steps[i];
        if (step->state == STEP_ASKED ? step->job == 0 || step->ended != step->job
                                      : step->state != STEP_WATCHED || !step->down)
            continue;
        take_end(apply, step);
    }
}

/* Whether all steps of `verb` are over; begins what may begin, `at_once` at the same time. */
static bool stage_over(Apply *apply, MicrovmJobVerb verb, bool canary, uint64_t at_once)
{
    uint64_t busy = 0;

    for (size_t i = 0; i < apply->n_steps; i++)
        busy += apply->steps[i].verb == verb &&
                (apply->steps[i].state == STEP_ASKED || apply->steps[i].state == STEP_WATCHED);
    for (size_t i = 0; i < apply->n_steps && busy < at_once; i++) {
        ApplyStep *step = &apply->steps[i];
        if (step->verb != verb || step->canary != canary || step->state != STEP_PENDING)
            continue;
        if (verb == MICROVM_JOB_RESTART && apply->halted) {
            step_over(apply, step, MICROVM_APPLY_SKIPPED, "another restart failed before");
            continue;
        }
        begin(apply, step);
        busy += step->state == STEP_ASKED;
    }
    return busy == 0;
}

static void apply_live(Apply *apply)
{
    HostPlan *plan = &apply->plan;

    for (size_t i = 0; i < plan->count; i++) {
        MicroVM *vm;
        int r;
        if (!spec_changes_have(&plan->items[i].changes, CHANGE_LIVE))
            continue;
        vm = manager_find(apply->manager, plan->items[i].name);
        if (!vm || !vm->spec || !vm->booted)
            continue;
        r = vm_apply_live(vm);
        if (r < 0) {
            apply->failures++;
            if (!apply->failure)
                say_why(&apply->failure, 0, "%s: %s", vm->name, strerror(-r));
        }
        tell(apply, vm->name, "live", r < 0 ? MICROVM_APPLY_FAILED : MICROVM_APPLY_DONE,
             r < 0 ? strerror(-r) : NULL);
    }
    host_plan_clear(plan);
}

static int on_wake(sd_event_source *source, void *userdata)
{
    Apply *apply = userdata;

    apply_live(apply);
    take_ends(apply);
    manager_judge_definitions(apply->manager); /* what was stopped has made room */
    if (stage_over(apply, MICROVM_JOB_STOP, false, UINT64_MAX) &&
        stage_over(apply, MICROVM_JOB_START, false, UINT64_MAX) &&
        stage_over(apply, MICROVM_JOB_RESTART, true, 1) &&
        stage_over(apply, MICROVM_JOB_RESTART, false, MAX(apply->options.max_parallel, UINT64_C(1))))
        finish(apply);
    return 0;
}

/* --- what is to be done --- */

static int add_step(Apply *apply, const char *name, MicrovmJobVerb verb)
{
    ApplyStep *step = &apply->steps[apply->n_steps];

    step->name = strdup(name);
    step->verb = verb;
    apply->n_steps++;
    return step->name ? 0 : -ENOMEM;
}

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

static int add_steps(Apply *apply, const HostPlan *plan)
{
    bool canary = apply->options.canary;
    int r = 0;

    apply->steps = calloc(plan->count + 1, sizeof(*apply->steps));
    if (!apply->steps)
        return -ENOMEM;
    for (size_t i = 0; i < plan->count && r >= 0; i++) {
        const HostPlanItem *item = &plan->items[i];
        if (item->action == MICROVM_PLAN_UNDECLARED && apply->options.prune != PRUNE_NO)
            r = add_step(apply, item->name, MICROVM_JOB_STOP);
        else if (item->action == MICROVM_PLAN_START ||
                 (item->action == MICROVM_PLAN_INVALID && apply->options.prune != PRUNE_NO &&
                  takes_over(apply->manager, item->name)))
            r = add_step(apply, item->name, MICROVM_JOB_START);
        else if (apply->options.restart &&
                 (item->action == MICROVM_PLAN_RESTART ||
                  (item->action == MICROVM_PLAN_OUTDATED && apply->options.outdated))) {
            r = add_step(apply, item->name, MICROVM_JOB_RESTART);
            if (r >= 0)
                apply->steps[apply->n_steps - 1].canary = canary;
            canary = false;
        }
    }
    return r;
}

static int say_busy(const Apply *apply, char **ret_error)
{
    for (size_t i = 0; i < apply->n_steps; i++)
        if (apply->steps[i].state != STEP_PENDING && apply->steps[i].state != STEP_OVER)
            return say_why(ret_error, -EBUSY, "another apply is going on, now with the %s of %s",
                           microvm_job_verb_to_string(apply->steps[i].verb), apply->steps[i].name);
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
    apply->options.purge = NULL;
    apply->id = ++manager->last_apply_id;
    apply->purge = strv_copy(options->purge);
    r = apply->purge ? add_steps(apply, &plan) : -ENOMEM;
    if (r >= 0)
        r = sd_event_add_defer(manager->event, &apply->wake, on_wake, apply);
    if (r < 0)
        return r;
    log_info("Apply %" PRIu64 " begins: %zu microVMs to start, stop or restart.", apply->id, apply->n_steps);
    *ret_id = apply->id;
    apply->plan = plan;
    plan = (HostPlan){0};
    manager->apply = TAKE_PTR(apply);
    return 0;
}
