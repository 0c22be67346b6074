/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the daemon does with one microVM, in few words. */
#include "model.h"

const Rules *model_rules;
const char *model_violation;

void model_must(bool holds, const char *what)
{
    if (!holds && !model_violation)
        model_violation = what;
}

unsigned model_count_processes(const World *w)
{
    unsigned n = 0;

    for (size_t i = 0; i < HYPERVISORS; i++)
        n += w->processes[i].phase != NOWHERE;
    return n;
}

/* The record has another generation from now on, or none. */
static void change_generation(World *w, uint8_t generation)
{
    for (size_t i = 0; i < HYPERVISORS; i++)
        if (w->processes[i].phase != NOWHERE)
            w->processes[i].generation = FORMER;
    for (size_t i = 0; i < w->n_events; i++)
        w->events[i].generation = FORMER;
    w->generation = generation;
}

Process *model_current_process(World *w)
{
    for (size_t i = 0; i < HYPERVISORS; i++)
        if (w->processes[i].phase != NOWHERE && w->processes[i].generation == CURRENT &&
            w->generation == CURRENT)
            return &w->processes[i];
    return NULL;
}

static void launch(World *w)
{
    model_must(!w->off, "what a person stopped is launched");
    change_generation(w, model_rules->launches_unrecorded ? 0 : CURRENT);
    if (!w->online)
        return;
    model_must(model_count_processes(w) == 0, "there are two hypervisors");
    for (size_t i = 0; i < HYPERVISORS; i++)
        if (w->processes[i].phase == NOWHERE) {
            w->processes[i] = (Process){LAUNCHING, CURRENT, STOP_NOT_ASKED};
            return;
        }
}

void model_tell(World *w, StopAsked how)
{
    Process *process = w->settling || !w->online ? NULL : model_current_process(w);

    if (process && process->told < how)
        process->told = (uint8_t)how;
}

/* vm_event() and vm_act() */
bool model_door(World *w, VmEvent event)
{
    VmTransition transition = model_rules->transition((MicrovmState)w->state, event);

    if (!transition.accepted)
        return false;
    w->state = (uint8_t)transition.next;
    if (w->state != MICROVM_STOPPING)
        w->asked = STOP_NOT_ASKED;
    if (!state_is_up(transition.next))
        w->held = false;
    if (!state_is_alive(transition.next)) {
        w->again = w->condemned = false;
        w->settling = w->cause = 0;
        change_generation(w, 0);
    }
    if (transition.actions & VM_ACTION_CLEAN)
        w->chores = true;
    if (transition.actions & VM_ACTION_ASK)
        model_tell(w, STOP_ASKED);
    if (transition.actions & VM_ACTION_FORCE)
        model_tell(w, STOP_ASKED_FORCE);
    if (transition.actions & VM_ACTION_PREPARE)
        w->preparing = w->files = true;
    if (transition.actions & VM_ACTION_LAUNCH)
        launch(w);
    return true;
}

/* decide() */
static void decide(World *w, const Ending *ending)
{
    static const VmEvent events[] = {
        [RESTART_VERDICT_OFF] = VM_EVENT_ENDED_OFF,
        [RESTART_VERDICT_FAILED] = VM_EVENT_ENDED_FAILED,
        [RESTART_VERDICT_RETRY] = VM_EVENT_ENDED_RETRY,
        [RESTART_VERDICT_AGAIN] = VM_EVENT_ENDED_AGAIN,
    };
    RestartRules restart = {.policy = model_rules->policy,
                            .on_reboot = GUEST_END_RESTART,
                            .on_poweroff =
                                model_rules->policy == RESTART_ALWAYS ? GUEST_END_RESTART : GUEST_END_STOP,
                            .start_limit = LIMIT,
                            .limit_interval_usec = UINT64_MAX / 2};
    RestartHistory history = {.n_starts = w->n_starts, .starts_usec = {1, 1}};
    RestartVerdict verdict = restart_decide(ending, &restart, w->again, 0, 1, 0, &history);

    w->n_starts = (uint8_t)history.n_starts;
    w->start_limit_hit = verdict.result == MICROVM_RESULT_START_LIMIT;
    model_door(w, events[verdict.kind]);
    free(verdict.text);
}

/* on_settled() */
void model_settled(World *w)
{
    Ending ending = ending_classify(
        &(EndingFacts){.cause = (EndCause)w->cause, .asked = w->held ? STOP_ASKED : (StopAsked)w->asked});

    w->settling = false;
    if (w->condemned)
        ending.kind = ENDING_FAILURE;
    decide(w, &ending);
    free(ending.text);
}

/* vm_ended(): it settles at once, or later */
void model_ended(World *w, EndCause cause)
{
    if (w->settling)
        return;
    w->settling = true;
    w->cause = (uint8_t)cause;
}

static void start_failed(World *w)
{
    Ending ending = {.kind = w->state == MICROVM_STOPPING ? ENDING_STOPPED : ENDING_FAILURE,
                     .result = MICROVM_RESULT_RESOURCES};

    decide(w, &ending);
}

/* vm_driver_event() */
void model_take_event(World *w, Event event)
{
    if (event.generation != w->generation && !model_rules->believes_strangers)
        return;
    if (event.type == DRIVER_STARTED)
        model_door(w, VM_EVENT_LAUNCHED);
    else if (event.type == DRIVER_START_FAILED)
        start_failed(w);
    else
        model_ended(w, (EndCause)event.cause);
}

/* vm_never_launched() */
void model_never_launched(World *w)
{
    model_door(w, w->state == MICROVM_STARTING || w->again ? VM_EVENT_ENDED_AGAIN : VM_EVENT_ENDED_OFF);
}

/* vm_stop_continue() */
static void go_on_with_stop(World *w)
{
    model_tell(w, w->asked == STOP_ASKED ? STOP_ASKED : STOP_ASKED_FORCE);
}

/* vm_driver_found() */
void model_found(World *w, Process *process)
{
    if (process->generation != w->generation) {
        model_door(w, VM_EVENT_ADOPTED);
        change_generation(w, CURRENT);
        process->generation = CURRENT;
    }
    if (w->state == MICROVM_STARTING)
        model_door(w, VM_EVENT_LAUNCHED);
    else if (w->state == MICROVM_STOPPING)
        go_on_with_stop(w);
    else
        model_door(w, VM_EVENT_RESUMED);
}
