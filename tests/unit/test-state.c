/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state table, over all pairs of state and event. */
#include "supervise/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define FOR_ALL(state, event)                                                                                \
    for (MicrovmState state = 0; state < MICROVM_STATE_MAX; state++)                                         \
        for (VmEvent event = 0; event < VM_EVENT_MAX; event++)

/* One letter a pair: the first of the next state, '.' where the event means nothing. */
static const char letters[MICROVM_STATE_MAX] = {
    [MICROVM_INACTIVE] = 'i', [MICROVM_WAITING] = 'w', [MICROVM_PREPARING] = 'p',
    [MICROVM_STARTING] = 's', [MICROVM_RUNNING] = 'R', [MICROVM_PAUSED] = 'P',
    [MICROVM_STOPPING] = 'S', [MICROVM_BACKOFF] = 'b', [MICROVM_FAILED] = 'f',
};

static void test_whole_table(void **context)
{
    /* events: start go give-up prepared launched paused resumed stop force
               off failed retry again due reset-failed interrupted adopted broken */
    static const char *const expected[MICROVM_STATE_MAX] = {
        [MICROVM_INACTIVE] = "w...............Rf",  [MICROVM_WAITING] = ".pf....ii.......R.",
        [MICROVM_PREPARING] = "..fs...SS......w..", [MICROVM_STARTING] = "....RP.SSifbw.....",
        [MICROVM_RUNNING] = ".....P.SSifbw.....",   [MICROVM_PAUSED] = "......RSSifbw.....",
        [MICROVM_STOPPING] = "....S...Sifbw.....",  [MICROVM_BACKOFF] = "w......ii....wi.R.",
        [MICROVM_FAILED] = "w.............i.Rf",
    };

    FOR_ALL(state, event)
    {
        VmTransition transition = vm_transition(state, event);
        char letter = transition.accepted ? letters[transition.next] : '.';
        if (letter != expected[state][event])
            fail_msg("%s × %s: '%c' instead of '%c'", microvm_state_to_string(state),
                     vm_event_to_string(event), letter, expected[state][event]);
    }
}

static void test_what_is_not_accepted_changes_nothing(void **context)
{
    FOR_ALL(state, event)
    {
        VmTransition transition = vm_transition(state, event);
        if (!transition.accepted) {
            assert_int_equal(transition.next, state);
            assert_int_equal(transition.actions, 0);
        }
    }
}

/* Only a launch makes a hypervisor, and nothing is launched unprepared. */
static void test_launch_only_after_preparation(void **context)
{
    FOR_ALL(state, event)
    {
        unsigned actions = vm_transition(state, event).actions;
        assert_int_equal(!!(actions & VM_ACTION_LAUNCH),
                         state == MICROVM_PREPARING && event == VM_EVENT_PREPARED);
        assert_int_equal(!!(actions & VM_ACTION_PREPARE), state == MICROVM_WAITING && event == VM_EVENT_GO);
    }
}

/* Every way into waiting asks for admission; the restart timer runs in backoff and nowhere else. */
static void test_entries_do_what_the_state_needs(void **context)
{
    FOR_ALL(state, event)
    {
        VmTransition transition = vm_transition(state, event);
        if (!transition.accepted)
            continue;
        assert_int_equal(!!(transition.actions & VM_ACTION_ADMIT), transition.next == MICROVM_WAITING);
        assert_int_equal(!!(transition.actions & VM_ACTION_DELAY), transition.next == MICROVM_BACKOFF);
    }
}

/* A run that ends is cleaned up after, whatever comes next. */
static void test_every_end_cleans(void **context)
{
    static const VmEvent ends[] = {VM_EVENT_ENDED_OFF, VM_EVENT_ENDED_FAILED, VM_EVENT_ENDED_RETRY,
                                   VM_EVENT_ENDED_AGAIN};

    for (MicrovmState state = 0; state < MICROVM_STATE_MAX; state++)
        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
            VmTransition transition = vm_transition(state, ends[i]);
            assert_int_equal(transition.accepted, state_is_alive(state));
            if (transition.accepted)
                assert_true(transition.actions & VM_ACTION_CLEAN);
        }
}

static bool holds_files(MicrovmState state)
{
    return state == MICROVM_PREPARING || state_is_alive(state);
}

/* What was prepared is undone on every way out of the states that have it. */
static void test_every_way_out_cleans(void **context)
{
    FOR_ALL(state, event)
    {
        VmTransition transition = vm_transition(state, event);
        if (transition.accepted && holds_files(state) && !holds_files(transition.next))
            assert_true(transition.actions & VM_ACTION_CLEAN);
        if (transition.actions & VM_ACTION_CLEAN)
            assert_true(holds_files(state));
    }
}

/* A manual stop stays: from stopping, nothing but the end of the run leads on to a start. (That of a manual
 * stop is never retried: see test-restart.c.) */
static void test_stopping_never_starts(void **context)
{
    assert_false(vm_transition(MICROVM_STOPPING, VM_EVENT_DUE).accepted);
    assert_false(vm_transition(MICROVM_STOPPING, VM_EVENT_START).accepted);
    assert_false(vm_transition(MICROVM_INACTIVE, VM_EVENT_DUE).accepted);
}

/* A stop is heard in every state in which something runs, comes or is due. */
static void test_stop_is_always_heard(void **context)
{
    for (MicrovmState state = 0; state < MICROVM_STATE_MAX; state++) {
        bool idle = state == MICROVM_INACTIVE || state == MICROVM_FAILED;
        assert_int_equal(vm_transition(state, VM_EVENT_FORCE).accepted, !idle);
        assert_int_equal(vm_transition(state, VM_EVENT_STOP).accepted, !idle && state != MICROVM_STOPPING);
    }
}

static void test_pause_is_undone_before_a_graceful_stop(void **context)
{
    unsigned actions = vm_transition(MICROVM_PAUSED, VM_EVENT_STOP).actions;

    assert_int_equal(actions, VM_ACTION_RESUME | VM_ACTION_ASK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_table),
        cmocka_unit_test(test_what_is_not_accepted_changes_nothing),
        cmocka_unit_test(test_launch_only_after_preparation),
        cmocka_unit_test(test_entries_do_what_the_state_needs),
        cmocka_unit_test(test_every_end_cleans),
        cmocka_unit_test(test_every_way_out_cleans),
        cmocka_unit_test(test_stopping_never_starts),
        cmocka_unit_test(test_stop_is_always_heard),
        cmocka_unit_test(test_pause_is_undone_before_a_graceful_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
