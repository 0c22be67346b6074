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

    return restart_decide(&ending, &made, again, ran, now, history);
}

static void test_policy_table(void **context)
{
    static const RestartKind expected[RESTART_POLICY_MAX][5] = {
        /* stopped, manual, power-off, reboot, failure */
        [RESTART_NO] = {RESTART_VERDICT_OFF, RESTART_VERDICT_OFF, RESTART_VERDICT_OFF, RESTART_VERDICT_OFF,
                        RESTART_VERDICT_FAILED},
        [RESTART_ON_FAILURE] = {RESTART_VERDICT_OFF, RESTART_VERDICT_OFF, RESTART_VERDICT_OFF,
                                RESTART_VERDICT_AGAIN, RESTART_VERDICT_RETRY},
        [RESTART_ALWAYS] = {RESTART_VERDICT_OFF, RESTART_VERDICT_OFF, RESTART_VERDICT_RETRY,
                            RESTART_VERDICT_AGAIN, RESTART_VERDICT_RETRY},
    };

    for (RestartPolicy policy = 0; policy < RESTART_POLICY_MAX; policy++)
        for (EndingKind kind = ENDING_STOPPED; kind <= ENDING_FAILURE; kind++) {
            RestartHistory history = {0};
            RestartVerdict verdict = decide(kind, policy, false, SEC, MIN_, &history);
            if (verdict.kind != expected[policy][kind])
                fail_msg("%s, kind %d: %d instead of %d", restart_policy_to_string(policy), kind,
                         verdict.kind, expected[policy][kind]);
            assert_non_null(verdict.text);
            free(verdict.text);
        }
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
    verdict = restart_decide(&ending, &made, false, SEC, MIN_, &history);
    assert_int_equal(verdict.kind, RESTART_VERDICT_RETRY);
    free(verdict.text);
    verdict = restart_decide(&ending, &made, false, SEC, MIN_, &history);
    assert_int_equal(verdict.kind, RESTART_VERDICT_FAILED);
    assert_non_null(strstr(verdict.text, "start limit (1 within 1min 30s)"));
    free(verdict.text);
    made.start_limit = 0;
    for (int i = 0; i < 2 * RESTART_STARTS_MAX; i++) {
        verdict = restart_decide(&ending, &made, false, SEC, MIN_, &history);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy_table),
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
