/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is read out of what systemd tells of a unit. tests/system/test-units.sh has the same from a real one. */
#include "launch/unit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

#define OURS SD_ID128_MAKE(01, 23, 45, 67, 89, ab, cd, ef, 01, 23, 45, 67, 89, ab, cd, ef)
#define NEXT SD_ID128_MAKE(fe, dc, ba, 98, 76, 54, 32, 10, fe, dc, ba, 98, 76, 54, 32, 10)

typedef struct Case {
    const char *what;
    UnitLook look;
    bool over;
    ProcessEnd end; /* if it is over */
    UnitLeft left;
} Case;

#define LOADED .loaded = true, .generation = OURS, .invocation = OURS

static const Case cases[] = {
    {"never was, or stopped and forgotten",
     {.load = "not-found", .active = "inactive"},
     true,
     {.stopped = true},
     UNIT_LEFT_NOTHING},
    {"being set up", {LOADED, .active = "activating", .sub = "start"}, false, {0}, UNIT_LEFT_NOTHING},
    {"running", {LOADED, .active = "active", .sub = "running"}, false, {0}, UNIT_LEFT_NOTHING},
    {"exited",
     {LOADED, .active = "active", .sub = "exited", .result = "success", .code = CLD_EXITED, .exit_usec = 5},
     true,
     {.code = CLD_EXITED},
     UNIT_LEFT_EXITED},
    {"SIGTERM of its own",
     {LOADED, .active = "active", .sub = "exited", .result = "success", .code = CLD_KILLED, .status = SIGTERM,
      .exit_usec = 5},
     true,
     {.code = CLD_KILLED, .status = SIGTERM},
     UNIT_LEFT_EXITED},
    {"exit status",
     {LOADED, .active = "failed", .sub = "failed", .result = "exit-code", .code = CLD_EXITED, .status = 1,
      .exit_usec = 5, .leave_usec = 6},
     true,
     {.code = CLD_EXITED, .status = 1},
     UNIT_LEFT_FAILED},
    {"killed",
     {LOADED, .active = "failed", .sub = "failed", .result = "signal", .code = CLD_KILLED, .status = SIGKILL,
      .exit_usec = 5, .leave_usec = 6},
     true,
     {.code = CLD_KILLED, .status = SIGKILL},
     UNIT_LEFT_FAILED},
    {"killed before it was up",
     {LOADED, .active = "failed", .result = "signal", .code = CLD_KILLED, .status = SIGKILL, .exit_usec = 5},
     true,
     {.code = CLD_KILLED, .status = SIGKILL},
     UNIT_LEFT_FAILED},
    {"no memory",
     {LOADED, .active = "failed", .result = "oom-kill", .code = CLD_KILLED, .status = SIGKILL, .exit_usec = 5,
      .leave_usec = 6},
     true,
     {.code = CLD_KILLED, .status = SIGKILL, .oom = true},
     UNIT_LEFT_FAILED},
    {"being stopped",
     {LOADED, .active = "deactivating", .sub = "stop-sigterm", .leave_usec = 4},
     false,
     {0},
     UNIT_LEFT_NOTHING},
    {"stopped, and not forgotten yet",
     {LOADED, .active = "inactive", .sub = "dead", .exit_usec = 5, .leave_usec = 4},
     true,
     {.stopped = true},
     UNIT_LEFT_NOTHING},
    {"stopped, by SIGKILL in the end",
     {LOADED, .active = "failed", .result = "timeout", .code = CLD_KILLED, .status = SIGKILL, .exit_usec = 5,
      .leave_usec = 4},
     true,
     {.code = CLD_KILLED, .status = SIGKILL, .stopped = true},
     UNIT_LEFT_FAILED},
    {"systemctl restart, in between",
     {LOADED, .active = "inactive", .sub = "dead", .job = 7},
     false,
     {0},
     UNIT_LEFT_NOTHING},
    {"systemctl restart, in the end",
     {.loaded = true,
      .generation = OURS,
      .invocation = NEXT,
      .active = "failed",
      .result = "exit-code",
      .code = CLD_EXITED,
      .status = 1},
     true,
     {.stopped = true},
     UNIT_LEFT_FAILED},
    {"somebody else's",
     {.loaded = true, .invocation = NEXT, .active = "failed", .result = "exit-code"},
     true,
     {.stopped = true},
     UNIT_LEFT_NOTHING},
};

static void test_table(void **context)
{
    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        const Case *row = &cases[i];
        ProcessEnd end = unit_end_of(&row->look, OURS);
        if (unit_is_over(&row->look) != row->over || unit_left_of(&row->look) != row->left)
            fail_msg("%s: over %d, left %d", row->what, unit_is_over(&row->look), unit_left_of(&row->look));
        if (row->over && (end.code != row->end.code || end.status != row->end.status ||
                          end.stopped != row->end.stopped || end.oom != row->end.oom))
            fail_msg("%s: code %d, status %d, stopped %d, oom %d", row->what, end.code, end.status,
                     end.stopped, end.oom);
    }
}

/* An older systemd says nothing of memory, a newer one UINT64_MAX where it does not know. */
static void test_what_is_told_beside(void **context)
{
    UnitLook look = {.loaded = true, .invocation = OURS, .active = "failed", .result = "oom-kill"};

    assert_string_equal(unit_end_of(&look, OURS).unit_result, "oom-kill");
    assert_int_equal(unit_end_of(&look, OURS).memory_peak, 0);
    look.memory_peak = UINT64_MAX;
    assert_int_equal(unit_end_of(&look, OURS).memory_peak, 0);
    look.memory_peak = 4096;
    assert_int_equal(unit_end_of(&look, OURS).memory_peak, 4096);
    assert_string_equal(unit_end_of(&look, NEXT).unit_result, "");
    assert_int_equal(unit_memory_peak("no-such-microvm"), 0);
}

static void test_name(void **context)
{
    char name[UNIT_NAME_SIZE], longest[MICROVM_NAME_MAX + 1];

    unit_name("web@1", name);
    assert_string_equal(name, "microvmd-vm@web@1.service");
    memset(longest, 'x', MICROVM_NAME_MAX);
    longest[MICROVM_NAME_MAX] = '\0';
    unit_name(longest, name);
    assert_string_equal(name + strlen(name) - strlen("x.service"), "x.service");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_what_is_told_beside),
        cmocka_unit_test(test_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
