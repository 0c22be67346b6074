/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The restart policy: no clock, no process. */
#include "supervise/restart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define SEC  UINT64_C(1000000)
#define MIN_ (60 * SEC)

/* The defaults of the definition language. */
static RestartRules rules(RestartPolicy policy)
{
    return (RestartRules){.policy = policy,
                          .on_reboot = policy == RESTART_NO ? GUEST_END_STOP : GUEST_END_RESTART,
                          .on_poweroff = policy == RESTART_ALWAYS ? GUEST_END_RESTART : GUEST_END_STOP,
                          .delay_usec = SEC,
                          .max_delay_usec = 5 * MIN_,
                          .factor = 2,
                          .start_limit = 5,
                          .limit_interval_usec = 10 * MIN_};
}

static RestartVerdict decide(EndingKind kind, RestartPolicy policy, bool again, uint64_t ran, uint64_t now,
                             RestartHistory *history)
{
    Ending ending = {.kind = kind, .result = MICROVM_RESULT_SIGNAL, .text = (char *)"it ended"};

    RestartRules made = rules(policy);

    return restart_decide(&ending, &made, again, ran, now, 0, history);
}

/* Every way in which a run can end × every policy: what the drivers and the console say decides, so that they
 * are where it begins. */
static void test_every_ending_and_policy(void **context)
{
    enum {
        O = RESTART_VERDICT_OFF,
        F = RESTART_VERDICT_FAILED,
        R = RESTART_VERDICT_RETRY,
        A = RESTART_VERDICT_AGAIN,
    };
    static const struct {
        const char *what;
        EndCause cause;
        ConsoleEvidence evidence;
        int expected[RESTART_POLICY_MAX]; /* no, on-failure, on-abnormal, always */
    } cases[] = {
        {"power-off", END_POWEROFF, EVIDENCE_NONE, {O, O, O, R}},
        {"reboot", END_REBOOT, EVIDENCE_NONE, {O, A, A, A}},
        {"panic, then reset", END_REBOOT, EVIDENCE_PANIC, {F, R, R, R}},
        {"shutdown", END_SHUTDOWN, EVIDENCE_NONE, {O, O, O, R}},
        {"shutdown: a reboot", END_SHUTDOWN, EVIDENCE_REBOOT, {O, A, A, A}},
        {"shutdown: a panic", END_SHUTDOWN, EVIDENCE_PANIC, {F, R, R, R}},
        {"panic", END_PANIC, EVIDENCE_NONE, {F, R, R, R}},
        {"watchdog", END_WATCHDOG, EVIDENCE_NONE, {F, R, R, R}},
        {"destroyed by somebody else", END_DESTROYED, EVIDENCE_NONE, {O, O, O, O}},
        {"shut down by somebody else", END_ASKED, EVIDENCE_NONE, {O, O, O, O}},
        {"SIGTERM", END_TERMINATED, EVIDENCE_NONE, {F, R, R, R}},
        {"unit stopped", END_UNIT_STOPPED, EVIDENCE_NONE, {O, O, O, O}},
        {"out of memory", END_OOM, EVIDENCE_NONE, {F, R, R, R}},
        {"exit status", END_EXITED, EVIDENCE_NONE, {F, R, F, R}},
        {"crash", END_CRASHED, EVIDENCE_NONE, {F, R, R, R}},
        {"lost", END_LOST, EVIDENCE_NONE, {F, R, R, R}},
        {"lost: a power-off", END_LOST, EVIDENCE_POWEROFF, {O, O, O, R}},
        {"lost: a reboot", END_LOST, EVIDENCE_REBOOT, {O, A, A, A}},
        {"lost: a panic", END_LOST, EVIDENCE_PANIC, {F, R, R, R}},
    };
    bool seen[END_MAX] = {false};

    for (size_t i = 0; i < ELEMENTSOF(cases); i++)
        for (RestartPolicy policy = 0; policy < RESTART_POLICY_MAX; policy++)
            for (StopAsked asked = 0; asked < STOP_ASKED_MAX; asked++) {
                RestartHistory history = {0};
                RestartRules made = rules(policy);
                Ending ending = ending_classify(
                    &(EndingFacts){.cause = cases[i].cause, .evidence = cases[i].evidence, .asked = asked});
                RestartVerdict verdict = restart_decide(&ending, &made, false, SEC, MIN_, 0, &history);
                int expected = asked == STOP_NOT_ASKED ? cases[i].expected[policy] : O;
                if ((int)verdict.kind != expected)
                    fail_msg("%s, policy %s, stop asked: %s: %d instead of %d", cases[i].what,
                             restart_policy_to_string(policy), stop_asked_to_string(asked), verdict.kind,
                             expected);
                assert_non_null(verdict.text);
                free(verdict.text);
                free(ending.text);
                seen[cases[i].cause] = true;
            }
    for (EndCause cause = 0; cause < END_MAX; cause++)
        if (!seen[cause])
            fail_msg("no case for %s", end_cause_to_string(cause));
}

/* A start that failed has its own kind of ending. */
static void test_failed_start(void **context)
{
    static const RestartKind expected[RESTART_POLICY_MAX] = {
        [RESTART_NO] = RESTART_VERDICT_FAILED,
        [RESTART_ON_FAILURE] = RESTART_VERDICT_RETRY,
        [RESTART_ON_ABNORMAL] = RESTART_VERDICT_FAILED,
        [RESTART_ALWAYS] = RESTART_VERDICT_RETRY,
    };

    for (RestartPolicy policy = 0; policy < RESTART_POLICY_MAX; policy++) {
        Ending ending = {
            .kind = ENDING_FAILURE, .result = MICROVM_RESULT_RESOURCES, .text = (char *)"no disk"};
        RestartHistory history = {0};
        RestartRules made = rules(policy);
        RestartVerdict verdict = restart_decide(&ending, &made, false, 0, MIN_, 0, &history);
        assert_int_equal(verdict.kind, expected[policy]);
        free(verdict.text);
    }
}

/* The two keys decide, whatever the policy says of failures; they are told where they are the cause. */
static void test_guests_own_ends(void **context)
{
    for (RestartPolicy policy = 0; policy < RESTART_POLICY_MAX; policy++)
        for (GuestEnd wanted = 0; wanted < GUEST_END_MAX; wanted++) {
            Ending reboot = {.kind = ENDING_REBOOT, .text = (char *)"it rebooted"},
                   poweroff = {.kind = ENDING_POWEROFF, .text = (char *)"it powered itself off"};
            RestartHistory history = {0};
            RestartRules made = rules(policy);
            RestartVerdict verdict;
            made.on_reboot = made.on_poweroff = wanted;
            verdict = restart_decide(&reboot, &made, false, SEC, MIN_, 0, &history);
            assert_int_equal(verdict.kind,
                             wanted == GUEST_END_RESTART ? RESTART_VERDICT_AGAIN : RESTART_VERDICT_OFF);
            if (wanted == GUEST_END_STOP && policy != RESTART_NO)
                assert_string_equal(verdict.text, "it rebooted; onReboot is \"stop\"");
            free(verdict.text);
            verdict = restart_decide(&poweroff, &made, false, SEC, MIN_, 0, &history);
            assert_int_equal(verdict.kind,
                             wanted == GUEST_END_RESTART ? RESTART_VERDICT_RETRY : RESTART_VERDICT_OFF);
            free(verdict.text);
        }
}

/* Up to a tenth later, never earlier, and never beyond the longest. */
static void test_jitter(void **context)
{
    RestartRules made = rules(RESTART_ALWAYS);
    RestartHistory history = {.failures = 3};
    Ending ending = {.kind = ENDING_FAILURE, .result = MICROVM_RESULT_SIGNAL, .text = (char *)"it ended"};
    RestartVerdict verdict;

    assert_int_equal(restart_jitter(&made, 10 * SEC, 0), 10 * SEC);
    assert_int_equal(restart_jitter(&made, 10 * SEC, UINT32_MAX / 2 + 1), 10 * SEC + SEC / 2);
    assert_in_range(restart_jitter(&made, 10 * SEC, UINT32_MAX), 11 * SEC - 100, 11 * SEC);
    assert_int_equal(restart_jitter(&made, 5 * MIN_, UINT32_MAX), 5 * MIN_);
    assert_int_equal(restart_jitter(&made, 0, UINT32_MAX), 0);
    made.delay_usec = made.max_delay_usec = UINT64_C(86400) * SEC;
    assert_int_equal(restart_jitter(&made, made.delay_usec, UINT32_MAX), made.delay_usec);
    made = rules(RESTART_ALWAYS);
    verdict = restart_decide(&ending, &made, false, SEC, MIN_, UINT32_MAX / 2 + 1, &history);
    assert_int_equal(verdict.delay_usec, 8 * SEC + 8 * SEC / 20);
    assert_string_equal(verdict.text, "it ended; it starts again in 8s");
    free(verdict.text);
}

/* Whatever the policy and the end: who was asked to start again does. */
static void test_again_wins(void **context)
{
    for (RestartPolicy policy = 0; policy < RESTART_POLICY_MAX; policy++)
        for (EndingKind kind = ENDING_STOPPED; kind <= ENDING_FAILURE; kind++) {
            RestartHistory history = {0};
            RestartVerdict verdict = decide(kind, policy, true, SEC, MIN_, &history);
            assert_int_equal(verdict.kind, RESTART_VERDICT_AGAIN);
            assert_int_equal(history.n_starts, 0); /* a person's wish does not use up the limit */
            free(verdict.text);
        }
}

static void test_delay_doubles_to_its_cap(void **context)
{
    RestartRules made = rules(RESTART_ALWAYS);

    assert_int_equal(restart_delay(&made, 0), SEC);
    assert_int_equal(restart_delay(&made, 1), SEC);
    assert_int_equal(restart_delay(&made, 2), 2 * SEC);
    assert_int_equal(restart_delay(&made, 9), 256 * SEC);
    assert_int_equal(restart_delay(&made, 10), 5 * MIN_);
    assert_int_equal(restart_delay(&made, UINT32_MAX), 5 * MIN_);
    made.factor = 10;
    assert_int_equal(restart_delay(&made, 3), 100 * SEC);
    made.factor = 1;
    assert_int_equal(restart_delay(&made, UINT32_MAX), SEC);
    made.factor = 2;
    made.delay_usec = 7 * MIN_;
    assert_int_equal(restart_delay(&made, 5), 7 * MIN_); /* a longer one is what the user wants */
    made.delay_usec = 0;
    assert_int_equal(restart_delay(&made, 5), 0);
}

/* The limit that the definition says, and none. */
static void test_limit_of_ones_own(void **context)
{
    Ending ending = {.kind = ENDING_FAILURE, .result = MICROVM_RESULT_SIGNAL, .text = (char *)"it ended"};
    RestartHistory history = {0};
    RestartRules made = rules(RESTART_ALWAYS);
    RestartVerdict verdict;

    made.start_limit = 1;
    made.limit_interval_usec = 90 * SEC;
    verdict = restart_decide(&ending, &made, false, SEC, MIN_, 0, &history);
    assert_int_equal(verdict.kind, RESTART_VERDICT_RETRY);
    free(verdict.text);
    verdict = restart_decide(&ending, &made, false, SEC, MIN_, 0, &history);
    assert_int_equal(verdict.kind, RESTART_VERDICT_FAILED);
    assert_non_null(strstr(verdict.text, "start limit (1 within 1min 30s)"));
    free(verdict.text);
    made.start_limit = 0;
    for (int i = 0; i < 2 * RESTART_STARTS_MAX; i++) {
        verdict = restart_decide(&ending, &made, false, SEC, MIN_, 0, &history);
        assert_int_equal(verdict.kind, RESTART_VERDICT_RETRY);
        free(verdict.text);
    }
}

static void test_limit(void **context)
{
    RestartHistory history = {0};
    uint64_t now = 100 * SEC;

    for (int i = 0; i < 5; i++) {
        RestartVerdict verdict = decide(ENDING_FAILURE, RESTART_ON_FAILURE, false, SEC, now, &history);
        assert_int_equal(verdict.kind, RESTART_VERDICT_RETRY);
        assert_int_equal(verdict.result, MICROVM_RESULT_SIGNAL);
        assert_int_equal(verdict.delay_usec, SEC << i);
        now += verdict.delay_usec + SEC;
        free(verdict.text);
    }
    RestartVerdict verdict = decide(ENDING_FAILURE, RESTART_ON_FAILURE, false, SEC, now, &history);
    assert_int_equal(verdict.kind, RESTART_VERDICT_FAILED);
    assert_int_equal(verdict.result, MICROVM_RESULT_START_LIMIT);
    assert_non_null(strstr(verdict.text, "reset-failed"));
    assert_non_null(strstr(verdict.text, "it ended")); /* the cause is not hidden */
    free(verdict.text);
}

static void test_reboot_loop_meets_the_limit(void **context)
{
    RestartHistory history = {0};
    RestartVerdict verdict;

    for (int i = 0; i < 5; i++) {
        verdict = decide(ENDING_REBOOT, RESTART_ALWAYS, false, SEC, 100 * SEC, &history);
        assert_int_equal(verdict.kind, RESTART_VERDICT_AGAIN);
        free(verdict.text);
    }
    verdict = decide(ENDING_REBOOT, RESTART_ALWAYS, false, SEC, 100 * SEC, &history);
    assert_int_equal(verdict.kind, RESTART_VERDICT_FAILED);
    free(verdict.text);
}

static void test_old_starts_are_forgotten(void **context)
{
    RestartHistory history = {0};
    uint64_t now = 100 * SEC;

    for (int i = 0; i < 20; i++) {
        RestartVerdict verdict = decide(ENDING_REBOOT, RESTART_ON_FAILURE, false, SEC, now, &history);
        assert_int_equal(verdict.kind, RESTART_VERDICT_AGAIN);
        now += 3 * MIN_;
        free(verdict.text);
    }
}

static void test_a_long_run_resets_the_delay(void **context)
{
    RestartHistory history = {.failures = 4};
    RestartVerdict verdict =
        decide(ENDING_FAILURE, RESTART_ON_FAILURE, false, 11 * MIN_, 20 * MIN_, &history);

    assert_int_equal(verdict.delay_usec, SEC);
    free(verdict.text);
}

/* Whatever the policy says; but a person who wants it started has their way. */
static void test_never(void **state)
{
    const struct {
        EndingKind kind;
        RestartKind verdict;
        const char *text;
    } cases[] = {
        {ENDING_FAILURE, RESTART_VERDICT_FAILED, "it ended; it has no definition any more"},
        {ENDING_REBOOT, RESTART_VERDICT_OFF, "it ended; it has no definition any more"},
        {ENDING_POWEROFF, RESTART_VERDICT_OFF, "it ended"},
        {ENDING_STOPPED, RESTART_VERDICT_OFF, "it ended"},
        {ENDING_MANUAL, RESTART_VERDICT_OFF, "it ended"},
    };
    RestartRules made = rules(RESTART_ALWAYS);

    made.never = "it has no definition any more";
    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        Ending ending = {.kind = cases[i].kind, .text = (char *)"it ended"};
        RestartVerdict verdict = restart_decide(&ending, &made, false, 0, SEC, 0, &(RestartHistory){0});
        assert_int_equal(verdict.kind, cases[i].verdict);
        assert_string_equal(verdict.text, cases[i].text);
        free(verdict.text);
        verdict = restart_decide(&ending, &made, true, 0, SEC, 0, &(RestartHistory){0});
        assert_int_equal(verdict.kind, RESTART_VERDICT_AGAIN);
        free(verdict.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_ending_and_policy),
        cmocka_unit_test(test_failed_start),
        cmocka_unit_test(test_never),
        cmocka_unit_test(test_guests_own_ends),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_again_wins),
        cmocka_unit_test(test_delay_doubles_to_its_cap),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_of_ones_own),
        cmocka_unit_test(test_reboot_loop_meets_the_limit),
        cmocka_unit_test(test_old_starts_are_forgotten),
        cmocka_unit_test(test_a_long_run_resets_the_delay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
