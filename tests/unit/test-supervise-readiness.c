/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether it is ready, and what its guest says of itself. */
#include "supervise-world.h"

#define CONSOLE_READY ", \"readiness\": {\"type\": \"console\", \"pattern\": \"^up$\"}"
#define LATE(what)                                                                                           \
    ", \"readiness\": {\"type\": \"console\", \"pattern\": \"^up$\", \"timeout\": 0, \"onTimeout\": \"" what \
    "\"}"

static MicrovmReadiness readiness(void)
{
    return world->vm->record.readiness.state;
}

static void wait_for_readiness(MicrovmReadiness wanted)
{
    RUN_UNTIL(world->event, readiness() == wanted);
    assert_string_equal(microvm_readiness_to_string(readiness()), microvm_readiness_to_string(wanted));
}

/* Returns the job that waits for it to be ready. */
static uint64_t run_until_ready(void)
{
    uint64_t job;

    start();
    job = vm_wait_ready(world->vm, MICROVM_JOB_START);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    return job;
}

/* The last of its trail that is about readiness. */
static const char *readiness_event(void)
{
    const Trail *trail = &world->vm->record.past.trail;

    for (unsigned i = trail->count; i > 0; i--)
        if (trail_get(trail, i - 1)->kind == MICROVM_EVENT_READINESS)
            return trail_get(trail, i - 1)->text;
    return "";
}

static void test_ready_by_its_console(void **context)
{
    uint64_t job;

    define(CONSOLE_READY);
    job = run_until_ready();
    assert_int_not_equal(world->last_job, job); /* it runs, and is not ready */
    assert_int_equal(readiness(), MICROVM_READINESS_WAITING);
    assert_non_null(strstr(world->vm->readiness_reason, "waiting for a line"));
    write_console("Linux\nup and coming\n");
    RUN_UNTIL(world->event, world->vm->record.readiness.kernel.boot_usec != 0);
    assert_non_null(strstr(world->vm->readiness_reason, "its kernel was up after"));
    assert_int_equal(readiness(), MICROVM_READINESS_WAITING);
    assert_string_equal(readiness_event(), "");
    write_console("Linux\nup and coming\nup\n");
    wait_for_readiness(MICROVM_READINESS_READY);
    assert_ptr_equal(strstr(readiness_event(), "ready: a line on its console matched, after "),
                     readiness_event());
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_true(world->vm->record.readiness.ready.real_usec > 0);
    /* Of one that is ready there is nothing to wait for. */
    start();
    job = vm_wait_ready(world->vm, MICROVM_JOB_START);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(readiness(), MICROVM_READINESS_NONE);
    assert_null(world->vm->readiness_reason);
}

static void test_waiting_for_ready_ends_with_the_run(void **context)
{
    uint64_t job;

    define(CONSOLE_READY ", \"restart\": {\"policy\": \"no\"}");
    job = run_until_ready();
    driver_says(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_FAILED);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_FAILED);
    job = run_until_ready();
    stop(false);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_SUPERSEDED);
}

static void test_late_and_kept(void **context)
{
    uint64_t job;

    define(LATE("wait"));
    job = run_until_ready();
    wait_for_readiness(MICROVM_READINESS_TIMED_OUT);
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_TIMEOUT);
    assert_non_null(strstr(world->last_reason, "not ready within"));
    assert_ptr_equal(strstr(readiness_event(), "timed-out: not ready within "), readiness_event());
    write_console("up\n");
    wait_for_readiness(MICROVM_READINESS_READY);
    assert_ptr_equal(strstr(readiness_event(), "ready: "), readiness_event());
    assert_int_equal(world->graceful + world->forced, 0);
}

/* Its guest is asked to stop, as anyone's; but that is a failure, after which the restart policy applies. */
static void test_late_and_restarted(void **context)
{
    define(LATE("restart"));
    run_it();
    wait_for(MICROVM_STOPPING);
    assert_int_equal(world->graceful, 1);
    assert_non_null(strstr(world->vm->record.reason, "not ready within"));
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_BACKOFF);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_CLEAN);
    assert_non_null(strstr(world->vm->record.reason, "it starts again in"));
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    wait_for(MICROVM_STOPPING);
    stop(false); /* which is never undone */
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
}

static void test_late_and_given_up(void **context)
{
    define(LATE("fail"));
    run_it();
    wait_for(MICROVM_STOPPING);
    restart_daemon(); /* which forgets nothing of it */
    found();
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_FAILED);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
    assert_non_null(strstr(world->vm->record.reason, "given up"));
    /* A person may start it meanwhile. */
    define(LATE("fail"));
    run_it();
    wait_for(MICROVM_STOPPING);
    start();
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
}

/* A daemon that comes back waits on, within the time that is left; who was ready stays so. */
static void test_readiness_survives_the_daemon(void **context)
{
    uint64_t deadline;

    define(CONSOLE_READY);
    run_it();
    deadline = world->vm->record.readiness.deadline_boot_usec;
    assert_true(deadline > 0);
    restart_daemon();
    assert_int_equal(readiness(), MICROVM_READINESS_WAITING);
    assert_int_equal(world->vm->record.readiness.deadline_boot_usec, deadline);
    write_console("up\n"); /* while its driver is away */
    found();
    wait_for_readiness(MICROVM_READINESS_READY);
    restart_daemon();
    assert_int_equal(readiness(), MICROVM_READINESS_READY);
    found();
    assert_int_equal(readiness(), MICROVM_READINESS_READY);
    assert_non_null(strstr(world->vm->readiness_reason, "a line on its console matched, after"));
}

static void hear(const char *text)
{
    char *message = strdup(text);

    vm_notify_hear(world->vm, message);
    free(message);
}

/* The trouble of a guest is the reason of its state, and stays that until it is over. */
static void test_trouble_survives_the_daemon(void **context)
{
    static const char shell[] = "the guest is in an emergency shell";

    define(", \"readiness\": {\"type\": \"notify\"}");
    run_it();
    hear("X_SYSTEMD_UNIT_ACTIVE=sysinit.target");
    hear("X_SYSTEMD_UNIT_ACTIVE=emergency.target");
    hear("READY=1");
    assert_string_equal(world->vm->record.reason, shell);
    restart_daemon();
    found();
    assert_string_equal(world->vm->record.reason, shell);
    assert_non_null(strstr(world->vm->readiness_reason, shell));
    driver_says(DRIVER_PAUSED, 0);
    assert_string_equal(world->vm->record.reason, "the guest is paused");
    driver_says(DRIVER_RESUMED, 0);
    assert_string_equal(world->vm->record.reason, shell);
    /* That it has booted it does not say a second time. */
    hear("X_SYSTEMD_UNIT_INACTIVE=emergency.target");
    restart_daemon();
    found();
    hear("X_SYSTEMD_UNIT_ACTIVE=multi-user.target");
    assert_int_equal(readiness(), MICROVM_READINESS_READY);
    assert_string_equal(world->vm->record.reason, "the guest is running");
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_false(world->vm->record.words.ready);
}

/* A daemon that did not hear it hang hears that it lives again. */
static void test_a_hang_survives_the_daemon(void **context)
{
    define(", \"watchdog\": {\"type\": \"notify\", \"timeout\": 300, \"action\": \"wait\"}");
    run_it();
    hear("WATCHDOG=1");
    hear("WATCHDOG=trigger");
    assert_string_equal(world->vm->record.reason, "the guest hangs: its own watchdog says so");
    restart_daemon();
    found();
    assert_string_equal(world->vm->record.reason, "the guest hangs: its own watchdog says so");
    hear("WATCHDOG=1");
    assert_string_equal(world->vm->record.reason, "the guest is running");
    restart_daemon();
    found();
    assert_string_equal(world->vm->record.reason, "the guest is running");
}

static void test_what_a_guest_says(void **context)
{
    define(CONSOLE_READY);
    vm_guest_ready(world->vm, "nobody is there"); /* means nothing */
    assert_int_equal(readiness(), MICROVM_READINESS_NONE);
    start();
    wait_for(MICROVM_STARTING);
    vm_guest_ready(world->vm, "it is quick");
    assert_int_equal(readiness(), MICROVM_READINESS_READY);
    driver_says(DRIVER_STARTED, 0);
    vm_guest_not_ready(world->vm, "it shuts down");
    assert_int_equal(readiness(), MICROVM_READINESS_LOST);
    assert_string_equal(world->vm->readiness_reason, "ready no longer: it shuts down");
    assert_string_equal(readiness_event(), "lost: ready no longer: it shuts down");
    vm_guest_status(world->vm, "serving\x1b[31m \xff");
    assert_string_equal(world->vm->status_text, "serving?[31m ?");
    vm_guest_status(world->vm, NULL);
    assert_null(world->vm->status_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ready_by_its_console),
        TEST(test_waiting_for_ready_ends_with_the_run),
        TEST(test_late_and_kept),
        TEST(test_late_and_restarted),
        TEST(test_late_and_given_up),
        TEST(test_readiness_survives_the_daemon),
        TEST(test_trouble_survives_the_daemon),
        TEST(test_a_hang_survives_the_daemon),
        TEST(test_what_a_guest_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
