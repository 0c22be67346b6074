/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a run ended: driver, console and wish put together. */
#include "supervise/ending.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static ConsoleEvidence evidence(const char *text, char **ret_detail)
{
    return console_evidence(text, strlen(text), ret_detail);
}

static void test_console_words(void **context)
{
    static const struct {
        const char *text;
        ConsoleEvidence evidence;
        const char *detail;
    } cases[] = {
        {"", EVIDENCE_NONE, NULL},
        {"[    1.2] Run /init as init process\n", EVIDENCE_NONE, NULL},
        {"[    9.1] reboot: Power down\n", EVIDENCE_POWEROFF, NULL},
        {"[    9.1] reboot: System halted\n", EVIDENCE_POWEROFF, NULL},
        {"[    9.1] reboot: Restarting system\r\n", EVIDENCE_REBOOT, NULL},
        {"[    3.0] Kernel panic - not syncing: sysrq triggered crash\r\n", EVIDENCE_PANIC,
         "sysrq triggered crash"},
        {"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100 \n", EVIDENCE_PANIC,
         "Attempted to kill init! exitcode=0x00000100"},
        /* the cause is the panic, though the kernel then restarts */
        {"Kernel panic - not syncing: oops\n[..] reboot: Restarting system\n", EVIDENCE_PANIC, "oops"},
        /* the latest counts */
        {"Kernel panic - not syncing: old\nLinux version 6.1\nreboot: Power down\n", EVIDENCE_POWEROFF, NULL},
        {"reboot: Power down\nLinux version 6.1\nKernel panic - not syncing: new\n", EVIDENCE_PANIC, "new"},
        /* what a guest says never reaches a terminal as it is */
        {"Kernel panic - not syncing: \033[31mred\007\n", EVIDENCE_PANIC, "?[31mred?"},
        {"Kernel panic - not syncing: ", EVIDENCE_PANIC, ""},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_free_ char *detail = NULL;
        assert_int_equal(evidence(cases[i].text, &detail), cases[i].evidence);
        if (cases[i].detail)
            assert_string_equal(detail, cases[i].detail);
        else
            assert_null(detail);
    }
}

static void test_console_binary(void **context)
{
    static const char text[] = "\0\0\xff\xfeKernel panic - not syncing: a\0b\n\0";
    _cleanup_free_ char *detail = NULL;

    assert_int_equal(console_evidence(text, sizeof(text), &detail), EVIDENCE_PANIC);
    assert_string_equal(detail, "a?b");
}

static void test_long_panic_is_cut(void **context)
{
    char text[1024] = "Kernel panic - not syncing: ";
    _cleanup_free_ char *detail = NULL;

    memset(text + strlen(text), 'x', sizeof(text) - strlen(text) - 1);
    assert_int_equal(console_evidence(text, sizeof(text) - 1, &detail), EVIDENCE_PANIC);
    assert_int_equal(strlen(detail), 120);
}

typedef struct Case {
    EndCause cause;
    StopAsked asked;
    ConsoleEvidence evidence;
    EndingKind kind;
    MicrovmResult result;
    MicrovmLastStop last_stop;
} Case;

static void test_table(void **context)
{
    static const Case cases[] = {
        /* nobody asked */
        {END_POWEROFF, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_POWEROFF, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        {END_REBOOT, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_REBOOT, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        {END_REBOOT, STOP_NOT_ASKED, EVIDENCE_PANIC, ENDING_FAILURE, MICROVM_RESULT_GUEST_PANIC,
         MICROVM_LAST_STOP_LOST},
        {END_SHUTDOWN, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_POWEROFF, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        {END_SHUTDOWN, STOP_NOT_ASKED, EVIDENCE_REBOOT, ENDING_REBOOT, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        {END_SHUTDOWN, STOP_NOT_ASKED, EVIDENCE_PANIC, ENDING_FAILURE, MICROVM_RESULT_GUEST_PANIC,
         MICROVM_LAST_STOP_LOST},
        {END_PANIC, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_FAILURE, MICROVM_RESULT_GUEST_PANIC,
         MICROVM_LAST_STOP_LOST},
        {END_WATCHDOG, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_FAILURE, MICROVM_RESULT_WATCHDOG,
         MICROVM_LAST_STOP_LOST},
        {END_WATCHDOG, STOP_ASKED, EVIDENCE_NONE, ENDING_STOPPED, MICROVM_RESULT_WATCHDOG,
         MICROVM_LAST_STOP_FORCED},
        {END_DESTROYED, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_MANUAL, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_FORCED},
        {END_ASKED, STOP_NOT_ASKED, EVIDENCE_POWEROFF, ENDING_MANUAL, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        {END_TERMINATED, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_FAILURE, MICROVM_RESULT_SIGNAL,
         MICROVM_LAST_STOP_LOST},
        {END_EXITED, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_FAILURE, MICROVM_RESULT_EXIT_CODE,
         MICROVM_LAST_STOP_LOST},
        {END_CRASHED, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_FAILURE, MICROVM_RESULT_SIGNAL,
         MICROVM_LAST_STOP_LOST},
        {END_UNIT_STOPPED, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_MANUAL, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_FORCED},
        {END_OOM, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_FAILURE, MICROVM_RESULT_OOM, MICROVM_LAST_STOP_LOST},
        {END_LOST, STOP_NOT_ASKED, EVIDENCE_NONE, ENDING_FAILURE, MICROVM_RESULT_LOST,
         MICROVM_LAST_STOP_LOST},
        {END_LOST, STOP_NOT_ASKED, EVIDENCE_PANIC, ENDING_FAILURE, MICROVM_RESULT_GUEST_PANIC,
         MICROVM_LAST_STOP_LOST},
        {END_LOST, STOP_NOT_ASKED, EVIDENCE_POWEROFF, ENDING_POWEROFF, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        {END_LOST, STOP_NOT_ASKED, EVIDENCE_REBOOT, ENDING_REBOOT, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        /* asked: whatever happens, it stays off */
        {END_POWEROFF, STOP_ASKED, EVIDENCE_POWEROFF, ENDING_STOPPED, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        {END_REBOOT, STOP_ASKED, EVIDENCE_NONE, ENDING_STOPPED, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_CLEAN},
        {END_REBOOT, STOP_ASKED, EVIDENCE_PANIC, ENDING_STOPPED, MICROVM_RESULT_GUEST_PANIC,
         MICROVM_LAST_STOP_FORCED},
        {END_DESTROYED, STOP_ASKED_TIMEOUT, EVIDENCE_NONE, ENDING_STOPPED, MICROVM_RESULT_TIMEOUT,
         MICROVM_LAST_STOP_FORCED},
        {END_DESTROYED, STOP_ASKED_FORCE, EVIDENCE_NONE, ENDING_STOPPED, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_FORCED},
        {END_CRASHED, STOP_ASKED, EVIDENCE_NONE, ENDING_STOPPED, MICROVM_RESULT_SIGNAL,
         MICROVM_LAST_STOP_FORCED},
        {END_UNIT_STOPPED, STOP_ASKED, EVIDENCE_NONE, ENDING_STOPPED, MICROVM_RESULT_SUCCESS,
         MICROVM_LAST_STOP_FORCED},
        {END_OOM, STOP_ASKED, EVIDENCE_NONE, ENDING_STOPPED, MICROVM_RESULT_OOM, MICROVM_LAST_STOP_FORCED},
        {END_LOST, STOP_ASKED, EVIDENCE_NONE, ENDING_STOPPED, MICROVM_RESULT_LOST, MICROVM_LAST_STOP_LOST},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        EndingFacts facts = {.cause = cases[i].cause, .asked = cases[i].asked, .evidence = cases[i].evidence};
        Ending ending = ending_classify(&facts);
        if (ending.kind != cases[i].kind || ending.result != cases[i].result ||
            ending.last_stop != cases[i].last_stop)
            fail_msg("case %zu: %s: kind %d, %s, %s", i, end_cause_to_string(cases[i].cause), ending.kind,
                     microvm_result_to_string(ending.result), microvm_last_stop_to_string(ending.last_stop));
        assert_non_null(ending.text);
        assert_true(strlen(ending.text) > 10);
        free(ending.text);
    }
}

static void test_an_asked_stop_is_never_a_failure(void **context)
{
    for (EndCause cause = 0; cause < END_MAX; cause++)
        for (StopAsked asked = STOP_ASKED; asked < STOP_ASKED_MAX; asked++)
            for (ConsoleEvidence found = EVIDENCE_NONE; found <= EVIDENCE_REBOOT; found++) {
                EndingFacts facts = {.cause = cause, .asked = asked, .evidence = found};
                Ending ending = ending_classify(&facts);
                assert_int_equal(ending.kind, ENDING_STOPPED);
                free(ending.text);
            }
}

static void test_reasons_name_the_cause(void **context)
{
    EndingFacts panic = {.cause = END_REBOOT, .evidence = EVIDENCE_PANIC};
    EndingFacts destroyed = {.cause = END_DESTROYED};
    Ending ending = ending_classify(&panic);

    assert_non_null(strstr(ending.text, "kernel panicked"));
    free(ending.text);
    ending = ending_classify(&destroyed);
    assert_non_null(strstr(ending.text, "stopped through libvirt"));
    free(ending.text);
    destroyed.driver_text = "QMP's quit";
    ending = ending_classify(&destroyed);
    assert_string_equal(ending.text, "stopped by somebody else (QMP's quit)");
    assert_int_equal(ending.kind, ENDING_MANUAL);
    free(ending.text);
    destroyed = (EndingFacts){.cause = END_CRASHED, .driver_text = "the hypervisor was killed by SIGKILL"};
    ending = ending_classify(&destroyed);
    assert_string_equal(ending.text, "the hypervisor died (killed by SIGKILL)");
    free(ending.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_console_words),
        cmocka_unit_test(test_console_binary),
        cmocka_unit_test(test_long_panic_is_cut),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_an_asked_stop_is_never_a_failure),
        cmocka_unit_test(test_reasons_name_the_cause),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
