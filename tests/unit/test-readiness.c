/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The readiness of a run, over all types, with a time of the test's own. */
#include "spec/loader.h"
#include "supervise/readiness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define SEC UINT64_C(1000000)

/* The guest begins to run 100 s after the host; the clock on the wall is a million seconds ahead. */
#define BEGUN (100 * SEC)

static Instant at(uint64_t seconds)
{
    return (Instant){.boot_usec = BEGUN + seconds * SEC, .real_usec = BEGUN + (seconds + 1000000) * SEC};
}

static ReadinessRules rules_of(ReadinessType type, OnTimeout on_timeout)
{
    return (ReadinessRules){.type = type, .timeout_usec = 10 * SEC, .on_timeout = on_timeout};
}

static Readiness begun(const ReadinessRules *rules)
{
    Readiness readiness = {0};

    readiness_begin(&readiness, rules, BEGUN);
    return readiness;
}

static void test_types(void **context)
{
    for (ReadinessType type = 0; type < READINESS_TYPE_MAX; type++) {
        ReadinessRules rules = rules_of(type, ON_TIMEOUT_WAIT);
        Readiness readiness = begun(&rules);
        bool claims = type != READINESS_NONE && type != READINESS_AUTO;
        assert_int_equal(readiness.state, claims ? MICROVM_READINESS_WAITING : MICROVM_READINESS_NONE);
        assert_int_equal(readiness_is_open(&readiness), claims);
        assert_int_equal(readiness_due(&readiness), type == READINESS_NONE ? 0 : BEGUN + 10 * SEC);
        assert_int_equal(readiness_take(&readiness, &rules, READINESS_KERNEL_UP, NULL, at(1)),
                         type == READINESS_NONE ? READINESS_SAME : READINESS_CHANGED);
        assert_int_equal(readiness_take(&readiness, &rules, READINESS_KERNEL_UP, NULL, at(2)),
                         READINESS_SAME);
        assert_int_equal(readiness_take(&readiness, &rules, READINESS_IS_READY, "it said so", at(3)),
                         type == READINESS_NONE ? READINESS_SAME : READINESS_CHANGED);
        if (type != READINESS_NONE) {
            assert_int_equal(readiness.state, MICROVM_READINESS_READY);
            assert_int_equal(readiness.kernel.boot_usec, at(1).boot_usec);
            assert_int_equal(readiness.ready.real_usec, at(3).real_usec);
            assert_string_equal(readiness.text, "it said so");
        }
        /* Who is ready is late no more. */
        assert_int_equal(readiness_due(&readiness), 0);
        assert_false(readiness_is_open(&readiness));
        assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(99)),
                         READINESS_SAME);
        readiness_clear(&readiness);
    }
}

static void test_late(void **context)
{
    static const struct {
        OnTimeout on_timeout;
        ReadinessVerdict verdict;
    } cases[] = {
        {ON_TIMEOUT_WAIT, READINESS_LATE},
        {ON_TIMEOUT_RESTART, READINESS_RESTART},
        {ON_TIMEOUT_FAIL, READINESS_FAIL},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        ReadinessRules rules = rules_of(READINESS_TCP, cases[i].on_timeout);
        Readiness readiness = begun(&rules);
        /* A timer that is early, by whatever. */
        assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(9)), READINESS_SAME);
        assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(10)),
                         cases[i].verdict);
        assert_int_equal(readiness.state, MICROVM_READINESS_TIMED_OUT);
        assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(20)),
                         READINESS_SAME);
        /* It may yet come. */
        assert_true(readiness_is_open(&readiness));
        assert_int_equal(readiness_take(&readiness, &rules, READINESS_IS_READY, NULL, at(30)),
                         READINESS_CHANGED);
        assert_int_equal(readiness.state, MICROVM_READINESS_READY);
        readiness_clear(&readiness);
    }
}

static void test_lost_and_found(void **context)
{
    ReadinessRules rules = rules_of(READINESS_NOTIFY, ON_TIMEOUT_RESTART);
    Readiness readiness = begun(&rules);

    assert_int_equal(readiness_take(&readiness, &rules, READINESS_IS_NOT, "?", at(1)), READINESS_SAME);
    (void)readiness_take(&readiness, &rules, READINESS_IS_READY, "a", at(2));
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_IS_NOT, "it stops", at(3)),
                     READINESS_CHANGED);
    assert_int_equal(readiness.state, MICROVM_READINESS_LOST);
    assert_string_equal(readiness.text, "it stops");
    assert_int_equal(readiness_due(&readiness), 0);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_IS_READY, "b", at(4)), READINESS_CHANGED);
    assert_int_equal(readiness.ready.boot_usec, at(4).boot_usec);
    readiness_clear(&readiness);
}

/* A silent guest is not punished, whatever its definition says of the others. */
static void test_silent_guest(void **context)
{
    ReadinessRules rules = rules_of(READINESS_AUTO, ON_TIMEOUT_FAIL);
    Readiness readiness = begun(&rules);

    assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(10)), READINESS_LATE);
    assert_int_equal(readiness.state, MICROVM_READINESS_NONE);
    assert_int_equal(readiness_due(&readiness), 0);
    readiness_clear(&readiness);

    /* Who speaks is expected to come to the point. */
    readiness = begun(&rules);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_SPOKE, NULL, at(1)), READINESS_CHANGED);
    assert_int_equal(readiness.state, MICROVM_READINESS_WAITING);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_SPOKE, NULL, at(2)), READINESS_SAME);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(10)), READINESS_FAIL);
    readiness_clear(&readiness);
}

static void test_paused_time_does_not_count(void **context)
{
    ReadinessRules rules = rules_of(READINESS_CONSOLE, ON_TIMEOUT_FAIL);
    Readiness readiness = begun(&rules);

    assert_int_equal(readiness_take(&readiness, &rules, READINESS_RESUMED, NULL, at(1)), READINESS_SAME);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_PAUSED, NULL, at(4)), READINESS_CHANGED);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_PAUSED, NULL, at(5)), READINESS_SAME);
    assert_int_equal(readiness_due(&readiness), 0);
    assert_false(readiness_is_open(&readiness));
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(50)), READINESS_SAME);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_RESUMED, NULL, at(104)), READINESS_CHANGED);
    assert_int_equal(readiness_due(&readiness), at(110).boot_usec);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(109)), READINESS_SAME);
    assert_int_equal(readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(110)), READINESS_FAIL);
    readiness_clear(&readiness);
}

/* --- words --- */

static void says(const Readiness *readiness, const char *definition, const char *detail, const char *expected)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
    _cleanup_free_ char *text = NULL, *said = NULL;

    assert_true(asprintf(&text,
                         "{\"kernel\": \"/k\", \"interfaces\": [\"user\"], \"forwardPorts\": [{\"host\": "
                         "{\"port\": 8080}, \"guest\": {\"port\": 80}}], \"readiness\": {%s}}",
                         definition) > 0);
    if (vm_spec_parse("web", NULL, text, strlen(text), &(SpecContext){0}, &problems, &spec) < 0)
        fail_msg("%s", problem_format(&problems.items[0]));
    said = readiness_say(readiness, spec, detail);
    assert_string_equal(said, expected);
}

static void test_words(void **context)
{
    static const char tcp[] = "\"type\": \"tcp\", \"port\": 80, \"timeout\": 10";
    ReadinessRules rules = rules_of(READINESS_TCP, ON_TIMEOUT_WAIT);
    Readiness none = {0}, readiness = begun(&rules);

    says(&none, "\"type\": \"none\"", NULL, "");
    says(&readiness, tcp, NULL, "waiting for the guest's port 80; its kernel has not said anything yet");
    (void)readiness_take(&readiness, &rules, READINESS_KERNEL_UP, NULL,
                         (Instant){.boot_usec = BEGUN + 1340000, .real_usec = 1});
    says(&readiness, tcp, "connection refused",
         "waiting for the guest's port 80: connection refused; its kernel was up after 1.3 s");
    says(
        &readiness, "\"type\": \"http\", \"port\": 80, \"path\": \"/health\"", "it answers with status 503",
        "waiting for an answer to GET /health at the guest's port 80: it answers with status 503; its kernel "
        "was up after 1.3 s");
    says(&readiness, "\"type\": \"console\", \"pattern\": \"login: $\"", NULL,
         "waiting for a line on its console that matches \"login: $\"; its kernel was up after 1.3 s");
    says(&readiness, "\"type\": \"command\", \"command\": [\"/bin/true\"]", NULL,
         "waiting for /bin/true to succeed; its kernel was up after 1.3 s");
    (void)readiness_take(&readiness, &rules, READINESS_DEADLINE, NULL, at(10));
    says(&readiness, tcp, "connection refused",
         "not ready within 10s, waiting for the guest's port 80: connection refused; its kernel was up after "
         "1.3 s");
    (void)readiness_take(&readiness, &rules, READINESS_IS_READY, "the guest answered", at(75));
    says(&readiness, tcp, "connection refused", "the guest answered, after 1min 15s");
    (void)readiness_take(&readiness, &rules, READINESS_IS_NOT, "it shuts down", at(80));
    says(&readiness, tcp, NULL, "ready no longer: it shuts down");
    readiness_clear(&readiness);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_lost_and_found),
        cmocka_unit_test(test_silent_guest),
        cmocka_unit_test(test_paused_time_does_not_count),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
