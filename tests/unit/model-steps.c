/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can happen: each is one step, which is not taken (false) where it can't be. */
#include "model.h"

static bool request_start(World *w)
{
    bool up = state_is_up((MicrovmState)w->state) && !w->settling;

    if (w->state == MICROVM_FAILED && w->start_limit_hit)
        return false;
    w->off = false;
    if (up)
        w->held = false;
    if (!up && (w->state == MICROVM_STOPPING || w->settling))
        w->again = true;
    else if (!up)
        model_door(w, VM_EVENT_START);
    return true;
}

bool model_may_stop(const World *w)
{
    return !state_is_alive((MicrovmState)w->state) || w->online;
}

static void begin_stop(World *w, bool force)
{
    if (state_is_alive((MicrovmState)w->state) || w->state == MICROVM_PREPARING) {
        if (force)
            w->asked = STOP_ASKED_FORCE;
        else if (w->state != MICROVM_STOPPING)
            w->asked = STOP_ASKED;
        if (model_rules->forgets_the_asked)
            w->asked = STOP_NOT_ASKED;
    }
    model_door(w, force ? VM_EVENT_FORCE : VM_EVENT_STOP);
}

static bool stop(World *w, bool force)
{
    if (!model_may_stop(w))
        return false;
    w->again = w->condemned = false;
    w->off = true;
    if (w->state != MICROVM_INACTIVE && w->state != MICROVM_FAILED)
        begin_stop(w, force);
    return true;
}

static bool request_stop(World *w)
{
    return stop(w, false);
}

static bool request_force(World *w)
{
    return stop(w, true);
}

/* Others stop first. */
static bool request_stop_in_order(World *w)
{
    if (!state_is_up((MicrovmState)w->state) || w->settling || !w->online)
        return false;
    w->again = w->condemned = false;
    w->off = w->held = true;
    return true;
}

/* manager_release_stops() */
static bool held_stop_goes_on(World *w)
{
    if (!w->held || w->settling || !w->online)
        return false;
    begin_stop(w, false);
    return true;
}

/* vm_condemn(): it hangs, is late, is in an emergency shell */
static bool condemn(World *w)
{
    if (!state_is_up((MicrovmState)w->state) || w->settling)
        return false;
    w->condemned = !w->held || model_rules->condemns_the_stopped;
    begin_stop(w, true);
    return true;
}

static bool request_restart(World *w)
{
    if (!state_is_alive((MicrovmState)w->state) && w->state != MICROVM_PREPARING)
        return request_start(w);
    if (!model_may_stop(w))
        return false;
    w->off = false;
    w->again = true;
    begin_stop(w, false);
    return true;
}

static bool reset_failed(World *w)
{
    w->n_starts = 0;
    w->start_limit_hit = false;
    return model_door(w, VM_EVENT_RESET_FAILED);
}

static bool admitted(World *w)
{
    return w->state == MICROVM_WAITING && w->online && !w->chores && model_door(w, VM_EVENT_GO);
}

static bool not_admitted(World *w)
{
    return w->state == MICROVM_WAITING && !w->chores && model_door(w, VM_EVENT_GIVE_UP);
}

static bool prepare(World *w, VmEvent event)
{
    if (!w->preparing)
        return false;
    w->preparing = false;
    if (w->state == MICROVM_STOPPING)
        model_never_launched(w);
    else
        model_door(w, event);
    return true;
}

static bool prepared(World *w)
{
    return prepare(w, VM_EVENT_PREPARED);
}

static bool not_prepared(World *w)
{
    return prepare(w, VM_EVENT_GIVE_UP);
}

static bool cleaned(World *w)
{
    if (!w->chores)
        return false;
    w->chores = w->files = false;
    return true;
}

/* What the driver sees, it tells; nobody hears it where it is away. */
static bool can_tell(const World *w)
{
    return !w->online || w->n_events < EVENTS;
}

static void push(World *w, DriverEventType type, uint8_t generation, EndCause cause)
{
    if (w->online)
        w->events[w->n_events++] = (Event){(uint8_t)type, generation, (uint8_t)cause};
}

static bool launch_answers(World *w, Phase phase)
{
    for (size_t i = 0; i < HYPERVISORS; i++) {
        Process *process = &w->processes[i];
        if (process->phase != LAUNCHING || !can_tell(w))
            continue;
        push(w, phase == ALIVE ? DRIVER_STARTED : DRIVER_START_FAILED, process->generation, 0);
        if (phase == ALIVE)
            process->phase = ALIVE;
        else
            *process = (Process){0};
        return true;
    }
    return false;
}

static bool launch_succeeds(World *w)
{
    return launch_answers(w, ALIVE);
}

static bool launch_fails(World *w)
{
    return launch_answers(w, NOWHERE);
}

static bool die(World *w, bool told, EndCause cause)
{
    for (size_t i = 0; i < HYPERVISORS; i++) {
        Process *process = &w->processes[i];
        if (process->phase != ALIVE || (process->told != STOP_NOT_ASKED) < told || !can_tell(w))
            continue;
        push(w, DRIVER_ENDED, process->generation, cause);
        *process = (Process){0};
        return true;
    }
    return false;
}

static bool heeds_stop(World *w)
{
    return die(w, true, END_POWEROFF);
}

static bool is_destroyed_as_told(World *w)
{
    for (size_t i = 0; i < HYPERVISORS; i++)
        if (w->processes[i].phase == ALIVE && w->processes[i].told == STOP_ASKED_FORCE)
            return die(w, true, END_DESTROYED);
    return false;
}

static bool crashes(World *w)
{
    return die(w, false, END_CRASHED);
}

static bool powers_off(World *w)
{
    return die(w, false, END_POWEROFF);
}

static bool reboots(World *w)
{
    return die(w, false, END_REBOOT);
}

static bool is_destroyed_by_another(World *w)
{
    return die(w, false, END_DESTROYED);
}

static bool event_arrives(World *w)
{
    Event event = w->events[0];

    if (w->n_events == 0)
        return false;
    w->n_events--;
    memmove(&w->events[0], &w->events[1], (EVENTS - 1) * sizeof(Event));
    w->events[EVENTS - 1] = (Event){0};
    model_take_event(w, event);
    return true;
}

/* Of a run that everybody has forgotten. */
static bool stale_end_arrives(World *w)
{
    model_take_event(w, (Event){DRIVER_ENDED, FORMER, END_CRASHED});
    return true;
}

static bool stale_start_arrives(World *w)
{
    model_take_event(w, (Event){DRIVER_STARTED, FORMER, 0});
    return true;
}

static bool settles(World *w)
{
    if (!w->settling)
        return false;
    model_settled(w);
    return true;
}

/* The ladder has come to its end. */
static bool stop_takes_too_long(World *w)
{
    if (w->state != MICROVM_STOPPING || w->asked != STOP_ASKED || !model_current_process(w))
        return false;
    w->asked = STOP_ASKED_TIMEOUT;
    model_tell(w, STOP_ASKED_FORCE);
    return true;
}

static bool restart_is_due(World *w)
{
    return w->state == MICROVM_BACKOFF && model_door(w, VM_EVENT_DUE);
}

static bool pauses(World *w)
{
    Process *process = model_current_process(w);

    return process && process->phase == ALIVE && w->online && model_door(w, VM_EVENT_PAUSED);
}

static bool resumes(World *w)
{
    Process *process = model_current_process(w);

    return process && process->phase == ALIVE && w->online && model_door(w, VM_EVENT_RESUMED);
}

static bool driver_goes(World *w)
{
    if (!w->online)
        return false;
    w->online = false;
    w->n_events = 0;
    memset(w->events, 0, sizeof(w->events));
    return true;
}

/* Calls of an earlier connection have come to their end before it lists. */
static bool driver_comes(World *w)
{
    bool any = false;

    for (size_t i = 0; i < HYPERVISORS; i++)
        if (w->processes[i].phase == LAUNCHING)
            return false;
    if (w->online)
        return false;
    w->online = true;
    for (size_t i = 0; i < HYPERVISORS; i++)
        if (w->processes[i].phase == ALIVE) {
            any = true;
            model_found(w, &w->processes[i]);
        }
    if (state_is_alive((MicrovmState)w->state) && !any && w->generation && !w->settling)
        model_ended(w, END_LOST);
    return true;
}

/* kill -9, and the next one: vm_restore() */
static bool daemon_dies(World *w)
{
    driver_goes(w);
    for (size_t i = 0; i < HYPERVISORS; i++)
        w->processes[i].told = STOP_NOT_ASKED;
    w->settling = w->cause = w->preparing = 0;
    w->chores = w->files && !state_is_alive((MicrovmState)w->state) && w->state != MICROVM_PREPARING;
    if (w->state == MICROVM_PREPARING)
        model_door(w, VM_EVENT_INTERRUPTED);
    else if ((w->state == MICROVM_STARTING || w->state == MICROVM_STOPPING) && w->generation == 0)
        model_never_launched(w);
    return true;
}

const Step model_steps[] = {
    {"a start is asked for", request_start, false},
    {"a stop is asked for", request_stop, false},
    {"a stop by force is asked for", request_force, false},
    {"a stop in its turn is asked for", request_stop_in_order, false},
    {"its turn has come", held_stop_goes_on, true},
    {"it is condemned", condemn, false},
    {"a restart is asked for", request_restart, false},
    {"its failure is reset", reset_failed, false},
    {"it is admitted", admitted, true},
    {"it is not admitted", not_admitted, false},
    {"it is prepared", prepared, true},
    {"it can't be prepared", not_prepared, false},
    {"it is cleaned", cleaned, true},
    {"the launch succeeds", launch_succeeds, true},
    {"the launch fails", launch_fails, true},
    {"the guest heeds the stop", heeds_stop, true},
    {"it is destroyed as told", is_destroyed_as_told, true},
    {"the hypervisor crashes", crashes, false},
    {"the guest powers itself off", powers_off, false},
    {"the guest reboots", reboots, false},
    {"somebody else destroys it", is_destroyed_by_another, false},
    {"an event arrives", event_arrives, true},
    {"the end of a former run arrives", stale_end_arrives, false},
    {"the start of a former run arrives", stale_start_arrives, false},
    {"the console has settled", settles, true},
    {"the stop takes too long", stop_takes_too_long, true},
    {"the restart is due", restart_is_due, true},
    {"it is paused", pauses, false},
    {"it is resumed", resumes, false},
    {"the driver goes", driver_goes, false},
    {"the driver comes", driver_comes, true},
    {"the daemon dies", daemon_dies, false},
};

const size_t model_n_steps = ELEMENTSOF(model_steps);
