/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a stop climbs. */
#include "supervise/stop-ladder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define SEC UINT64_C(1000000)

#define BUTTON CAPABILITY(CAP_STOP_BUTTON)
#define KEYS   CAPABILITY(CAP_STOP_KEYS)
#define OWN    CAPABILITY(CAP_STOP_COMMAND)

/* "acpi 45, term 5!, kill 30!": "!" is what ends it instead of asking. */
static char *show(const StopLadder *ladder)
{
    static char text[512];
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < ladder->n; i++)
        used +=
            (size_t)snprintf(text + used, sizeof(text) - used, "%s%s %g%s", i > 0 ? ", " : "",
                             stop_action_to_string(ladder->rungs[i].action),
                             (double)ladder->rungs[i].timeout_usec / SEC, ladder->rungs[i].asks ? "" : "!");
    return text;
}

static void test_defaults(void **context)
{
    static const struct {
        CapabilitySet can;
        QemuMachine machine;
        size_t n_command_stop;
        unsigned seconds;
        const char *ladder;
    } cases[] = {
        {BUTTON | KEYS, QEMU_MACHINE_MICROVM, 0, 90, "acpi 90, term 5!, kill 30!"},
        {BUTTON | KEYS, QEMU_MACHINE_Q35, 0, 90, "acpi 45, ctrl-alt-del 45, term 5!, kill 30!"},
        {KEYS, QEMU_MACHINE_MICROVM, 0, 90, "ctrl-alt-del 90, term 5!, kill 30!"},
        {BUTTON, QEMU_MACHINE_VIRT, 0, 90, "acpi 90, term 5!, kill 30!"},
        {OWN, QEMU_MACHINE_MICROVM, 2, 90, "command 90, term 5!, kill 30!"},
        /* it is asked by what there is */
        {OWN, QEMU_MACHINE_MICROVM, 0, 90, "term 90, kill 30!"},
        {0, QEMU_MACHINE_MICROVM, 0, 90, "term 90, kill 30!"},
        /* nobody is asked who is not waited for */
        {BUTTON, QEMU_MACHINE_MICROVM, 0, 0, "term 5!, kill 30!"},
        {0, QEMU_MACHINE_MICROVM, 0, 0, "term 5!, kill 30!"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        VmSpec spec = {.qemu_machine = cases[i].machine, .n_command_stop = cases[i].n_command_stop};
        StopLadder ladder;
        stop_ladder_make(&spec, cases[i].can, cases[i].seconds * SEC, &ladder);
        assert_string_equal(show(&ladder), cases[i].ladder);
    }
}

static void test_steps_of_ones_own(void **context)
{
    enum {
        AGENT = STOP_ACTION_AGENT,
        ACPI = STOP_ACTION_ACPI,
        KEYS_ = STOP_ACTION_CTRL_ALT_DEL,
        TERM = STOP_ACTION_TERM,
        KILL = STOP_ACTION_KILL,
    };
    static const struct {
        unsigned budget; /* seconds, as all */
        struct {
            int action;
            unsigned seconds;
        } steps[8];
        size_t n;
        const char *ladder;
    } cases[] = {
        {90, {{ACPI, 0}}, 1, "acpi 90, term 5!, kill 30!"},
        {90, {{ACPI, 60}, {KEYS_, 0}}, 2, "acpi 60, ctrl-alt-del 30, term 5!, kill 30!"},
        {90, {{ACPI, 10}, {KEYS_, 10}}, 2, "acpi 10, ctrl-alt-del 10, term 5!, kill 30!"},
        {90,
         {{KEYS_, 0}, {AGENT, 0}, {ACPI, 30}},
         3,
         "ctrl-alt-del 30, agent 30, acpi 30, term 5!, kill 30!"},
        {90, {{ACPI, 0}, {KILL, 0}}, 2, "acpi 90, kill 30!"},
        {90, {{ACPI, 0}, {KILL, 7}, {KEYS_, 0}}, 3, "acpi 90, kill 7!"},
        {90, {{ACPI, 0}, {TERM, 20}}, 2, "acpi 90, term 20!, kill 30!"},
        {90, {{TERM, 0}, {KILL, 0}}, 2, "term 90, kill 30!"},
        {90, {{KILL, 0}}, 1, "kill 30!"},
        /* more than there is time: in proportion, and the rest has none */
        {10, {{ACPI, 60}, {KEYS_, 40}}, 2, "acpi 6, ctrl-alt-del 4, term 5!, kill 30!"},
        {10, {{ACPI, 60}, {KEYS_, 0}}, 2, "acpi 10, term 5!, kill 30!"},
        {0, {{ACPI, 60}, {TERM, 0}}, 2, "term 5!, kill 30!"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        StopStepSpec steps[8];
        VmSpec spec = {.stop_steps = steps, .n_stop_steps = cases[i].n};
        StopLadder ladder;
        for (size_t k = 0; k < cases[i].n; k++)
            steps[k] = (StopStepSpec){(StopAction)cases[i].steps[k].action, cases[i].steps[k].seconds * SEC};
        stop_ladder_make(&spec, 0, cases[i].budget * SEC, &ladder);
        assert_string_equal(show(&ladder), cases[i].ladder);
    }
}

/* As many as a definition may have, and however long somebody is willing to wait. */
static void test_limits(void **context)
{
    StopStepSpec steps[8] = {0};
    VmSpec spec = {.stop_steps = steps, .n_stop_steps = ELEMENTSOF(steps)};
    StopLadder ladder;

    for (size_t i = 0; i < ELEMENTSOF(steps); i++)
        steps[i].timeout_usec = UINT64_C(86400) * SEC;
    stop_ladder_make(&spec, 0, SEC, &ladder);
    assert_int_equal(ladder.n, STOP_RUNGS_MAX);
    for (size_t i = 0; i < ELEMENTSOF(steps); i++)
        assert_int_equal(ladder.rungs[i].timeout_usec, SEC / 8);
    stop_ladder_make(&(VmSpec){0}, BUTTON, UINT64_MAX - 1, &ladder);
    stop_ladder_try(&ladder, 77 * SEC);
    assert_int_equal(stop_ladder_due(&ladder), UINT64_MAX);
    stop_ladder_make(NULL, 0, 0, &ladder);
    assert_string_equal(show(&ladder), "term 5!, kill 30!");
}

static void expect(char *text, const char *expected)
{
    if (expected)
        assert_string_equal(text, expected);
    else
        assert_null(text);
    free(text);
}

static void test_climb_to_the_end(void **context)
{
    VmSpec spec = {.qemu_machine = QEMU_MACHINE_Q35};
    StopLadder ladder;

    stop_ladder_make(&spec, BUTTON | KEYS, 20 * SEC, &ladder);
    assert_false(stop_ladder_forces(&ladder));
    expect(stop_ladder_tell(&ladder), NULL);
    stop_ladder_try(&ladder, 100 * SEC);
    stop_ladder_try(&ladder, 105 * SEC); /* again: it has been on it since */
    assert_int_equal(stop_ladder_due(&ladder), 110 * SEC);
    expect(stop_ladder_tell_end(&ladder, 101 * SEC), "the power button ended it after 1.0 s");
    assert_true(stop_ladder_climb(&ladder, 110 * SEC));
    expect(stop_ladder_tell(&ladder), "trying ctrl-alt-del; the power button has not helped for 10 s");
    expect(stop_ladder_tell_end(&ladder, 112100000),
           "ctrl-alt-del ended it after 2.1 s; the power button had not for 10 s");
    assert_false(stop_ladder_forces(&ladder));
    assert_true(stop_ladder_climb(&ladder, 119500000));
    assert_true(stop_ladder_forces(&ladder));
    assert_true(stop_ladder_climb(&ladder, 125 * SEC));
    assert_int_equal(stop_ladder_rung(&ladder)->action, STOP_ACTION_KILL);
    expect(stop_ladder_tell_end(&ladder, 125 * SEC),
           "SIGKILL ended it after 0.0 s; the power button had not for "
           "10 s, nor ctrl-alt-del for 9.5 s, nor SIGTERM for 5.5 s");
    assert_false(stop_ladder_climb(&ladder, 130 * SEC));
    assert_int_equal(stop_ladder_rung(&ladder)->action, STOP_ACTION_KILL);
}

/* Who says no is not waited for, and that is told. */
static void test_refusal(void **context)
{
    StopStepSpec steps[] = {{STOP_ACTION_AGENT, 0}, {STOP_ACTION_ACPI, 0}, {STOP_ACTION_CTRL_ALT_DEL, 0}};
    VmSpec spec = {.stop_steps = steps, .n_stop_steps = ELEMENTSOF(steps)};
    StopLadder ladder = {0};

    assert_false(stop_ladder_refuse(&ladder, STOP_ACTION_AGENT));
    stop_ladder_make(&spec, BUTTON | KEYS, 30 * SEC, &ladder);
    assert_false(stop_ladder_refuse(&ladder, STOP_ACTION_AGENT)); /* nobody was asked yet */
    stop_ladder_try(&ladder, 100 * SEC);
    assert_false(stop_ladder_refuse(&ladder, STOP_ACTION_ACPI));
    assert_true(stop_ladder_refuse(&ladder, STOP_ACTION_AGENT));
    assert_true(stop_ladder_climb(&ladder, 100100000));
    assert_false(stop_ladder_refuse(&ladder, STOP_ACTION_AGENT)); /* it is past that */
    expect(stop_ladder_tell(&ladder), "trying the power button; the guest's agent refused");
    expect(stop_ladder_tell_end(&ladder, 103 * SEC),
           "the power button ended it after 2.9 s; the guest's agent refused");
    assert_true(stop_ladder_climb(&ladder, 110100000));
    assert_true(stop_ladder_climb(&ladder, 120100000));
    expect(stop_ladder_tell(&ladder),
           "trying SIGTERM; the guest's agent refused, the power button has not helped "
           "for 10 s, nor ctrl-alt-del for 10 s");
}

/* Somebody has no more patience, or had none from the start. */
static void test_force_from_anywhere(void **context)
{
    VmSpec spec = {.qemu_machine = QEMU_MACHINE_Q35};
    StopLadder ladder = {0};

    assert_null(stop_ladder_rung(&ladder));
    assert_false(stop_ladder_forces(&ladder));
    stop_ladder_force(&ladder);
    assert_string_equal(show(&ladder), "term 5!, kill 30!");
    stop_ladder_make(&spec, BUTTON | KEYS, 20 * SEC, &ladder);
    stop_ladder_force(&ladder); /* nothing had been tried yet */
    assert_string_equal(show(&ladder), "term 5!, kill 30!");
    stop_ladder_make(&spec, BUTTON | KEYS, 20 * SEC, &ladder);
    stop_ladder_try(&ladder, SEC);
    stop_ladder_force(&ladder);
    assert_string_equal(show(&ladder), "acpi 10, term 5!, kill 30!");
    stop_ladder_try(&ladder, 4 * SEC);
    expect(stop_ladder_tell_end(&ladder, 5 * SEC),
           "SIGTERM ended it after 1.0 s; the power button had not for 3.0 s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_steps_of_ones_own),
        cmocka_unit_test(test_limits),   cmocka_unit_test(test_climb_to_the_end),
        cmocka_unit_test(test_refusal),  cmocka_unit_test(test_force_from_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
