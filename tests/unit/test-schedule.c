/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The loop's thread runs first, and only it. */
#include "base/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>

static void *policy_of_thread(void *policy)
{
    *(int *)policy = sched_getscheduler(0);
    return NULL;
}

static void test_only_this_thread(void **context)
{
    int r = schedule_promptly(), policy = -1;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, policy_of_thread, &policy), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(policy, SCHED_OTHER);
    if (r == -EPERM) { /* not allowed here: nothing may have changed */
        assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
        return;
    }
    assert_int_equal(r, 0);
    assert_int_equal(sched_getscheduler(0), SCHED_RR | SCHED_RESET_ON_FORK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_this_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
