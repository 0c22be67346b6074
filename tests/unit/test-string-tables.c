/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every enum with names: each value has one, none twice, and it leads back. */
#include "driver/driver.h"
#include "launch/launch.h"
#include "microvm/errors.h"
#include "microvm/states.h"
#include "spec/spec.h"
#include "supervise/ending.h"
#include "supervise/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/*
 * Lower case words with hyphens: they are read by people, scripts and D-Bus alike. The first value may be the
 * empty word, of what has not been yet.
 */
static void check_name(const char *name)
{
    size_t length = strlen(name);

    if (length == 0)
        return;
    if (name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0' || name[0] == '-' ||
        name[length - 1] == '-')
        fail_msg("\"%s\" is no such word", name);
}

#define CHECK(type, prefix, max)                                                                             \
    do {                                                                                                     \
        assert_true((max) > 0);                                                                              \
        for (int i = 0; i < (int)(max); i++) {                                                               \
            const char *name = prefix##_to_string((type)i);                                                  \
            assert_non_null(name);                                                                           \
            assert_true(i == 0 || *name);                                                                    \
            check_name(name);                                                                                \
            assert_int_equal(prefix##_from_string(name), i); /* so there are no two of the same */           \
        }                                                                                                    \
        assert_null(prefix##_to_string((type)(max)));                                                        \
        assert_null(prefix##_to_string((type)-1));                                                           \
        assert_int_equal(prefix##_from_string("no-such-word"), -EINVAL);                                     \
    } while (0)

static void test_contract(void **context)
{
    CHECK(MicrovmState, microvm_state, MICROVM_STATE_MAX);
    CHECK(MicrovmReadiness, microvm_readiness, MICROVM_READINESS_MAX);
    CHECK(MicrovmResult, microvm_result, MICROVM_RESULT_MAX);
    CHECK(MicrovmLastStop, microvm_last_stop, MICROVM_LAST_STOP_MAX);
    CHECK(MicrovmJobVerb, microvm_job_verb, MICROVM_JOB_VERB_MAX);
    CHECK(MicrovmJobResult, microvm_job_result, MICROVM_JOB_RESULT_MAX);
    CHECK(MicrovmHold, microvm_hold, MICROVM_HOLD_MAX);
    CHECK(MicrovmAskedBy, microvm_asked_by, MICROVM_ASKED_BY_MAX);
    CHECK(MicrovmEvent, microvm_event, MICROVM_EVENT_MAX);
    CHECK(MicrovmOutdated, microvm_outdated, MICROVM_OUTDATED_MAX);
    CHECK(MicrovmPlan, microvm_plan, MICROVM_PLAN_MAX);
    CHECK(MicrovmStep, microvm_step, MICROVM_STEP_MAX);
    CHECK(MicrovmApply, microvm_apply, MICROVM_APPLY_MAX);
    CHECK(MicrovmHostRole, microvm_host_role, MICROVM_HOST_ROLE_MAX);
}

static void test_definitions(void **context)
{
    CHECK(Hypervisor, hypervisor, HYPERVISOR_MAX);
    CHECK(DriverKind, driver_kind, DRIVER_KIND_MAX);
    CHECK(Accel, accel, ACCEL_MAX);
    CHECK(GuestEnd, guest_end, GUEST_END_MAX);
    CHECK(RestartPolicy, restart_policy, RESTART_POLICY_MAX);
    CHECK(InterfaceType, interface_type, INTERFACE_TYPE_MAX);
    CHECK(ImageType, image_type, IMAGE_TYPE_MAX);
    CHECK(FsType, fs_type, FS_TYPE_MAX);
    CHECK(ForwardFrom, forward_from, FORWARD_FROM_MAX);
    CHECK(ForwardProto, forward_proto, FORWARD_PROTO_MAX);
}

static void test_inside(void **context)
{
    CHECK(EndCause, end_cause, END_MAX);
    CHECK(Launcher, launcher, LAUNCHER_MAX);
    CHECK(VmEvent, vm_event, VM_EVENT_MAX);
    CHECK(StopAsked, stop_asked, STOP_ASKED_MAX);
}

/* The words that users rely on, as the blueprint has them. A change here is a change of the contract. */
static void test_words(void **context)
{
    static const char *const states[] = {"inactive", "waiting",  "preparing", "starting", "running",
                                         "paused",   "stopping", "backoff",   "failed"};
    static const char *const results[] = {"success",     "exit-code",   "signal", "timeout",
                                          "watchdog",    "guest-panic", "oom",    "resources",
                                          "start-limit", "config",      "lost"};
    static const char *const job_results[] = {"done", "failed", "canceled", "timeout", "superseded"};

    assert_int_equal(ELEMENTSOF(states), MICROVM_STATE_MAX);
    for (size_t i = 0; i < ELEMENTSOF(states); i++)
        assert_true(microvm_state_from_string(states[i]) >= 0);
    assert_int_equal(ELEMENTSOF(results), MICROVM_RESULT_MAX);
    for (size_t i = 0; i < ELEMENTSOF(results); i++)
        assert_true(microvm_result_from_string(results[i]) >= 0);
    assert_int_equal(ELEMENTSOF(job_results), MICROVM_JOB_RESULT_MAX);
    for (size_t i = 0; i < ELEMENTSOF(job_results); i++)
        assert_true(microvm_job_result_from_string(job_results[i]) >= 0);
}

/* One errno, one D-Bus error, and back: two of the same would be told apart by nobody. */
static void test_errors(void **context)
{
#define ROW(name, error) {name, error},
    static const struct {
        const char *name;
        int error;
    } rows[] = {MICROVM_ERROR_LIST(ROW)};

    for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
        assert_int_equal(strncmp(rows[i].name, MICROVM_ERROR_PREFIX, strlen(MICROVM_ERROR_PREFIX)), 0);
        assert_true(rows[i].error > 0);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(rows[i].name, rows[k].name);
            assert_int_not_equal(rows[i].error, rows[k].error);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contract), cmocka_unit_test(test_definitions), cmocka_unit_test(test_inside),
        cmocka_unit_test(test_words),    cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
