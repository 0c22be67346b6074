/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A debugger that holds a process; after cmocka.h. */
#ifndef TEST_DEBUGGER_H
#define TEST_DEBUGGER_H

#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Like gdb at its prompt: it is told of the end, and does not take the dead one off; with PTRACE_O_TRACEEXIT
 * in `options` the process does not even get beyond the beginning of its end. Until debugger_end().
 */
static pid_t debugger(pid_t pid, uintptr_t options)
{
    int ready[2];
    pid_t tracer;
    char byte;

    assert_int_equal(pipe(ready), 0);
    tracer = fork();
    if (tracer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ptrace(PTRACE_SEIZE, pid, NULL, options) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_true(tracer > 0);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return tracer;
}

static void debugger_end(pid_t tracer)
{
    assert_int_equal(kill(tracer, SIGKILL), 0);
    assert_int_equal(waitpid(tracer, NULL, 0), tracer);
}

#endif
