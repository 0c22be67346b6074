/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A model check of one microVM's life: all that can happen, in every order, to the real state table, the real
 * classification of ends and the real restart policy, in a small world of which nothing is promised: people
 * ask for things at any time, hypervisors die, launches fail, drivers go away, events of former runs arrive
 * late, and the daemon is killed at any instant. It is searched until there is no new state. What must hold:
 *   - there are never two hypervisors of one microVM;
 *   - what a person stopped is not launched again until a person says so;
 *   - what rests holds nothing, and from everywhere a stop leads to rest, whatever else goes on.
 * What is not a pure function in the daemon (vm.c, vm-run.c, vm-request.c, vm-adopt.c) is written down here
 * anew, in few words. That the search would find something is shown by breaking what it looks at.
 */
#include "supervise/restart.h"
#include "supervise/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    LIMIT = 2, /* starts by itself */
    HYPERVISORS = 2,
    EVENTS = 2,  /* of the driver that are on their way */
    CURRENT = 1, /* a generation: that of the record */
    FORMER = 2,  /* any other */
    STATES_MAX = 1 << 20,
};

typedef enum Phase {
    NOWHERE,
    LAUNCHING,
    ALIVE,
} Phase;

typedef struct Process {
    uint8_t phase, generation;
    uint8_t told; /* STOP_NOT_ASKED, STOP_ASKED, STOP_ASKED_FORCE */
} Process;

typedef struct Event {
    uint8_t type, generation, cause;
} Event;

/* One state of everything; all of its bytes count. */
typedef struct World {
    /* on record: outlives the daemon */
    uint8_t state, asked, again, generation, n_starts, start_limit_hit;
    uint8_t held, condemned; /* a stop waits for its turn; microvmd itself has found that the run is to end */
    /* in the daemon's memory */
    uint8_t online, settling, cause, preparing, chores;
    Event events[EVENTS];
    uint8_t n_events;
    /* on the host */
    Process processes[HYPERVISORS];
    uint8_t files; /* that a start made */
    /* what a person said last: off */
    uint8_t off;
} World;

/* What is looked at, and how it may be broken. */
typedef struct Rules {
    VmTransition (*transition)(MicrovmState state, VmEvent event);
    RestartPolicy policy;
    bool believes_strangers;   /* events of former runs are taken for those of the present one */
    bool forgets_the_asked;    /* how a stop was asked for is not on record */
    bool condemns_the_stopped; /* what microvmd finds of a run outweighs a stop that waits for its turn */
    bool launches_unrecorded;  /* the generation is put on record after the launch, not before */
} Rules;

static const Rules *rules;
static const char *violation; /* the first one */

static void must(bool holds, const char *what)
{
    if (!holds && !violation)
        violation = what;
}

/* --- the daemon --- */

static unsigned count_processes(const World *w)
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

static Process *current_process(World *w)
{
    for (size_t i = 0; i < HYPERVISORS; i++)
        if (w->processes[i].phase != NOWHERE && w->processes[i].generation == CURRENT &&
            w->generation == CURRENT)
            return &w->processes[i];
    return NULL;
}

static void launch(World *w)
{
    must(!w->off, "what a person stopped is launched");
    change_generation(w, rules->launches_unrecorded ? 0 : CURRENT);
    if (!w->online)
        return;
    must(count_processes(w) == 0, "there are two hypervisors");
    for (size_t i = 0; i < HYPERVISORS; i++)
        if (w->processes[i].phase == NOWHERE) {
            w->processes[i] = (Process){LAUNCHING, CURRENT, STOP_NOT_ASKED};
            return;
        }
}

static void tell(World *w, StopAsked how)
{
    Process *process = w->settling || !w->online ? NULL : current_process(w);

    if (process && process->told < how)
        process->told = (uint8_t)how;
}

/* vm_event() and vm_act() */
static bool door(World *w, VmEvent event)
{
    VmTransition transition = rules->transition((MicrovmState)w->state, event);

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
        tell(w, STOP_ASKED);
    if (transition.actions & VM_ACTION_FORCE)
        tell(w, STOP_ASKED_FORCE);
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
    RestartRules restart = {.policy = rules->policy,
                            .on_reboot = GUEST_END_RESTART,
                            .on_poweroff =
                                rules->policy == RESTART_ALWAYS ? GUEST_END_RESTART : GUEST_END_STOP,
                            .start_limit = LIMIT,
                            .limit_interval_usec = UINT64_MAX / 2};
    RestartHistory history = {.n_starts = w->n_starts, .starts_usec = {1, 1}};
    RestartVerdict verdict = restart_decide(ending, &restart, w->again, 0, 1, 0, &history);

    w->n_starts = (uint8_t)history.n_starts;
    w->start_limit_hit = verdict.result == MICROVM_RESULT_START_LIMIT;
    door(w, events[verdict.kind]);
    free(verdict.text);
}

/* on_settled() */
static void settled(World *w)
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
static void ended(World *w, EndCause cause)
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
static void take_event(World *w, Event event)
{
    if (event.generation != w->generation && !rules->believes_strangers)
        return;
    if (event.type == DRIVER_STARTED)
        door(w, VM_EVENT_LAUNCHED);
    else if (event.type == DRIVER_START_FAILED)
        start_failed(w);
    else
        ended(w, (EndCause)event.cause);
}

/* vm_never_launched() */
static void never_launched(World *w)
{
    door(w, w->state == MICROVM_STARTING || w->again ? VM_EVENT_ENDED_AGAIN : VM_EVENT_ENDED_OFF);
}

/* vm_stop_continue() */
static void go_on_with_stop(World *w)
{
    tell(w, w->asked == STOP_ASKED ? STOP_ASKED : STOP_ASKED_FORCE);
}

/* vm_driver_found() */
static void found(World *w, Process *process)
{
    if (process->generation != w->generation) {
        door(w, VM_EVENT_ADOPTED);
        change_generation(w, CURRENT);
        process->generation = CURRENT;
    }
    if (w->state == MICROVM_STARTING)
        door(w, VM_EVENT_LAUNCHED);
    else if (w->state == MICROVM_STOPPING)
        go_on_with_stop(w);
    else
        door(w, VM_EVENT_RESUMED);
}

/* --- what can happen: each is one step, which is not taken (false) where it can't be --- */

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
        door(w, VM_EVENT_START);
    return true;
}

static bool may_stop(const World *w)
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
        if (rules->forgets_the_asked)
            w->asked = STOP_NOT_ASKED;
    }
    door(w, force ? VM_EVENT_FORCE : VM_EVENT_STOP);
}

static bool stop(World *w, bool force)
{
    if (!may_stop(w))
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
    w->condemned = !w->held || rules->condemns_the_stopped;
    begin_stop(w, true);
    return true;
}

static bool request_restart(World *w)
{
    if (!state_is_alive((MicrovmState)w->state) && w->state != MICROVM_PREPARING)
        return request_start(w);
    if (!may_stop(w))
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
    return door(w, VM_EVENT_RESET_FAILED);
}

static bool admitted(World *w)
{
    return w->state == MICROVM_WAITING && w->online && !w->chores && door(w, VM_EVENT_GO);
}

static bool not_admitted(World *w)
{
    return w->state == MICROVM_WAITING && !w->chores && door(w, VM_EVENT_GIVE_UP);
}

static bool prepare(World *w, VmEvent event)
{
    if (!w->preparing)
        return false;
    w->preparing = false;
    if (w->state == MICROVM_STOPPING)
        never_launched(w);
    else
        door(w, event);
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
    take_event(w, event);
    return true;
}

/* Of a run that everybody has forgotten. */
static bool stale_end_arrives(World *w)
{
    take_event(w, (Event){DRIVER_ENDED, FORMER, END_CRASHED});
    return true;
}

static bool stale_start_arrives(World *w)
{
    take_event(w, (Event){DRIVER_STARTED, FORMER, 0});
    return true;
}

static bool settles(World *w)
{
    if (!w->settling)
        return false;
    settled(w);
    return true;
}

/* The ladder has come to its end. */
static bool stop_takes_too_long(World *w)
{
    if (w->state != MICROVM_STOPPING || w->asked != STOP_ASKED || !current_process(w))
        return false;
    w->asked = STOP_ASKED_TIMEOUT;
    tell(w, STOP_ASKED_FORCE);
    return true;
}

static bool restart_is_due(World *w)
{
    return w->state == MICROVM_BACKOFF && door(w, VM_EVENT_DUE);
}

static bool pauses(World *w)
{
    Process *process = current_process(w);

    return process && process->phase == ALIVE && w->online && door(w, VM_EVENT_PAUSED);
}

static bool resumes(World *w)
{
    Process *process = current_process(w);

    return process && process->phase == ALIVE && w->online && door(w, VM_EVENT_RESUMED);
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
            found(w, &w->processes[i]);
        }
    if (state_is_alive((MicrovmState)w->state) && !any && w->generation && !w->settling)
        ended(w, END_LOST);
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
        door(w, VM_EVENT_INTERRUPTED);
    else if ((w->state == MICROVM_STARTING || w->state == MICROVM_STOPPING) && w->generation == 0)
        never_launched(w);
    return true;
}

typedef struct Step {
    const char *what;
    bool (*take)(World *w);
    bool progress; /* it happens sooner or later, without anybody's help */
} Step;

static const Step steps[] = {
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

/* --- the search --- */

typedef struct Found {
    World world;
    uint32_t from; /* where it was reached from first, and by which step */
    uint8_t step;
    uint8_t fate; /* for leads_to_rest() */
} Found;

enum {
    UNKNOWN,
    LOOKING,
    RESTS,
};

static Found *states;
static uint32_t n_states;
static uint32_t *slots; /* a hash table of numbers + 1 */

static uint32_t *slot_of(const World *w)
{
    const uint8_t *bytes = (const uint8_t *)w;
    uint64_t hash = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < sizeof(*w); i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    for (uint64_t at = hash;; at++) {
        uint32_t *slot = &slots[at % (2 * STATES_MAX)];
        if (*slot == 0 || memcmp(&states[*slot - 1].world, w, sizeof(*w)) == 0)
            return slot;
    }
}

static void add(const World *w, uint32_t from, uint8_t step)
{
    uint32_t *slot = slot_of(w);

    if (*slot)
        return;
    assert_true(n_states < STATES_MAX);
    states[n_states] = (Found){.world = *w, .from = from, .step = step};
    *slot = ++n_states;
}

static bool is_at_rest(const World *w)
{
    return (w->state == MICROVM_INACTIVE || w->state == MICROVM_FAILED) && !w->chores;
}

static void look_at(const World *w)
{
    if (is_at_rest(w)) {
        must(count_processes(w) == 0, "what rests has a hypervisor");
        must(!w->files, "what rests holds files");
    }
    must(count_processes(w) <= 1, "there are two hypervisors");
    must(!w->online || may_stop(w), "it can't be stopped");
}

/* Whatever goes on by itself from a stop comes to rest; nothing goes on for ever. */
static bool leads_to_rest(uint32_t number)
{
    bool moves = false;

    if (states[number].fate == LOOKING)
        return false; /* in a circle */
    if (states[number].fate == RESTS)
        return true;
    states[number].fate = LOOKING;
    for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
        World next = states[number].world;
        uint32_t slot;
        if (!steps[i].progress || !steps[i].take(&next) ||
            memcmp(&next, &states[number].world, sizeof(next)) == 0)
            continue;
        slot = *slot_of(&next);
        moves = true;
        if (slot == 0 || !leads_to_rest(slot - 1))
            return false;
    }
    if (!moves && !is_at_rest(&states[number].world))
        return false;
    states[number].fate = RESTS;
    return true;
}

/* Searches everything, until something is wrong. The number of the state that it was found in. */
static uint32_t search(const Rules *searched)
{
    World first = {.state = MICROVM_INACTIVE};
    uint32_t at;

    rules = searched;
    violation = NULL;
    n_states = 0;
    memset(slots, 0, 2 * STATES_MAX * sizeof(*slots));
    add(&first, 0, 0);
    for (at = 0; at < n_states && !violation; at++) {
        look_at(&states[at].world);
        for (uint8_t i = 0; i < ELEMENTSOF(steps) && !violation; i++) {
            World next = states[at].world;
            if (steps[i].take(&next))
                add(&next, at, i);
        }
    }
    if (violation)
        return at - 1;
    for (at = 0; at < n_states && !violation; at++)
        if (states[at].world.off)
            must(leads_to_rest(at), "a stop does not lead to rest");
    return at - (violation != NULL);
}

static void tell_how(uint32_t number)
{
    if (number == 0)
        return;
    tell_how(states[number].from);
    print_message("  %s: %s\n", steps[states[number].step].what,
                  microvm_state_to_string((MicrovmState)states[number].world.state));
}

static int setup(void **context)
{
    states = calloc(STATES_MAX, sizeof(*states));
    slots = calloc(2 * STATES_MAX, sizeof(*slots));
    return states && slots ? 0 : -1;
}

static int teardown(void **context)
{
    free(states);
    free(slots);
    return 0;
}

static void test_everything(void **context)
{
    for (RestartPolicy policy = 0; policy < RESTART_POLICY_MAX; policy++) {
        uint32_t number = search(&(Rules){.transition = vm_transition, .policy = policy});
        if (violation) {
            tell_how(number);
            fail_msg("policy %s: %s", restart_policy_to_string(policy), violation);
        }
        print_message("policy %s: %u states\n", restart_policy_to_string(policy), (unsigned)n_states);
        assert_true(n_states > 500);
    }
}

/* --- that it would find something --- */

static VmTransition stop_is_retried(MicrovmState state, VmEvent event)
{
    if (state == MICROVM_STOPPING && event == VM_EVENT_ENDED_OFF)
        return (VmTransition){MICROVM_BACKOFF, VM_ACTION_CLEAN | VM_ACTION_DELAY, true};
    return vm_transition(state, event);
}

static VmTransition backoff_does_not_hear(MicrovmState state, VmEvent event)
{
    if (state == MICROVM_BACKOFF && event == VM_EVENT_STOP)
        return (VmTransition){.next = state};
    return vm_transition(state, event);
}

static VmTransition preparation_is_let_run(MicrovmState state, VmEvent event)
{
    if (state == MICROVM_PREPARING && event == VM_EVENT_STOP)
        return (VmTransition){MICROVM_INACTIVE, 0, true};
    return vm_transition(state, event);
}

static VmTransition launched_while_stopping(MicrovmState state, VmEvent event)
{
    if (state == MICROVM_STOPPING && event == VM_EVENT_LAUNCHED)
        return (VmTransition){MICROVM_STOPPING, 0, true};
    return vm_transition(state, event);
}

static VmTransition start_while_it_runs(MicrovmState state, VmEvent event)
{
    if (state == MICROVM_STARTING && event == VM_EVENT_START)
        return (VmTransition){MICROVM_WAITING, VM_ACTION_ADMIT, true};
    return vm_transition(state, event);
}

static VmTransition end_is_not_cleaned(MicrovmState state, VmEvent event)
{
    VmTransition transition = vm_transition(state, event);

    if (state == MICROVM_RUNNING && event == VM_EVENT_ENDED_FAILED)
        transition.actions = 0;
    return transition;
}

static VmTransition given_up_is_left(MicrovmState state, VmEvent event)
{
    VmTransition transition = vm_transition(state, event);

    if (state == MICROVM_PREPARING && event == VM_EVENT_GIVE_UP)
        transition.actions = 0;
    return transition;
}

static void test_what_is_broken_is_found(void **context)
{
    static const struct {
        const char *what;
        Rules rules;
    } broken[] = {
        {"a stopped one is retried", {.transition = stop_is_retried}},
        {"a stop is not heard in backoff", {.transition = backoff_does_not_hear}},
        {"a stop does not wait for the preparation", {.transition = preparation_is_let_run}},
        {"what comes up while it is stopping goes on", {.transition = launched_while_stopping}},
        {"a start is taken while it starts", {.transition = start_while_it_runs}},
        {"an end is not cleaned up after", {.transition = end_is_not_cleaned}},
        {"what could not be prepared is left", {.transition = given_up_is_left}},
        {"an event of a former run is believed", {.transition = vm_transition, .believes_strangers = true}},
        {"it is forgotten who asked for a stop", {.transition = vm_transition, .forgets_the_asked = true}},
        {"a hang outweighs a stop", {.transition = vm_transition, .condemns_the_stopped = true}},
        {"the generation is on record too late", {.transition = vm_transition, .launches_unrecorded = true}},
    };

    for (size_t i = 0; i < ELEMENTSOF(broken); i++) {
        Rules searched = broken[i].rules;
        searched.policy = RESTART_ALWAYS;
        uint32_t number = search(&searched);
        if (!violation)
            fail_msg("it is not found that %s", broken[i].what);
        print_message("%s: %s\n", broken[i].what, violation);
        assert_true(number < n_states);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_what_is_broken_is_found),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
