/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end by force of a hypervisor whose start has failed. */
#include "driver/direct/internal.h"

#include "base/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define SECOND_USEC UINT64_C(1000000)

static pid_t child(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    return pid;
}

/* Like gdb at its prompt: it is told of the end, and does not take the dead one off. */
static pid_t debugger(pid_t pid)
{
    int ready[2];
    pid_t tracer;
    char byte;

    assert_int_equal(pipe(ready), 0);
    tracer = fork();
    if (tracer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return tracer;
}

static Run run_of(pid_t pid)
{
    Run run = {.name = (char *)"web", .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};

    assert_true(run.pidfd >= 0);
    return run;
}

static void test_kill_leaves_no_zombie(void **context)
{
    pid_t pid = child();
    Run run = run_of(pid);

    direct_run_kill(&run);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    close(run.pidfd);
}

static void test_kill_waits_for_no_debugger(void **context)
{
    pid_t pid = child(), tracer = debugger(pid);
    Run run = run_of(pid);
    uint64_t begin = now_usec(CLOCK_MONOTONIC);

    alarm(20);
    direct_run_kill(&run);
    alarm(0);
    assert_in_range(now_usec(CLOCK_MONOTONIC) - begin, 0, 4 * SECOND_USEC);
    assert_int_equal(kill(tracer, SIGKILL), 0);
    assert_int_equal(waitpid(tracer, NULL, 0), tracer);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(run.pidfd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_leaves_no_zombie),
        cmocka_unit_test(test_kill_waits_for_no_debugger),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
