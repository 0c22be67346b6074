/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A model check of one microVM's life: all that can happen, in every order, to the real state table, the real
 * classification of ends and the real restart policy, in a small world of which nothing is promised: people
 * ask for things at any time, hypervisors die, launches fail, drivers go away, events of former runs arrive
 * late, and the daemon is killed at any instant. It is searched until there is no new state. What must hold:
 *   - there are never two hypervisors of one microVM;
 *   - what a person stopped is not launched again until a person says so;
 *   - what rests holds nothing, and from everywhere a stop leads to rest, whatever else goes on.
 * The world is in model.h. That the search would find something is shown by breaking what it looks at.
 */
#include "model.h"

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

enum {
    STATES_MAX = 1 << 20,
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
        model_must(model_count_processes(w) == 0, "what rests has a hypervisor");
        model_must(!w->files, "what rests holds files");
    }
    model_must(model_count_processes(w) <= 1, "there are two hypervisors");
    model_must(!w->online || model_may_stop(w), "it can't be stopped");
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
    for (size_t i = 0; i < model_n_steps; i++) {
        World next = states[number].world;
        uint32_t slot;
        if (!model_steps[i].progress || !model_steps[i].take(&next) ||
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

    model_rules = searched;
    model_violation = NULL;
    n_states = 0;
    memset(slots, 0, 2 * STATES_MAX * sizeof(*slots));
    add(&first, 0, 0);
    for (at = 0; at < n_states && !model_violation; at++) {
        look_at(&states[at].world);
        for (uint8_t i = 0; i < model_n_steps && !model_violation; i++) {
            World next = states[at].world;
            if (model_steps[i].take(&next))
                add(&next, at, i);
        }
    }
    if (model_violation)
        return at - 1;
    for (at = 0; at < n_states && !model_violation; at++)
        if (states[at].world.off)
            model_must(leads_to_rest(at), "a stop does not lead to rest");
    return at - (model_violation != NULL);
}

static void tell_how(uint32_t number)
{
    if (number == 0)
        return;
    tell_how(states[number].from);
    print_message("  %s: %s\n", model_steps[states[number].step].what,
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
        if (model_violation) {
            tell_how(number);
            fail_msg("policy %s: %s", restart_policy_to_string(policy), model_violation);
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
    VmTransition transition = vm_transition(state, event);

    /* Force does not wait for that: each makes up for the want of the other. */
    if ((state == MICROVM_STOPPING && event == VM_EVENT_LAUNCHED) ||
        (state == MICROVM_STARTING && event == VM_EVENT_FORCE))
        transition.actions = 0;
    return transition;
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
        if (!model_violation)
            fail_msg("it is not found that %s", broken[i].what);
        print_message("%s: %s\n", broken[i].what, model_violation);
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
