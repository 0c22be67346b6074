/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A stop: it is never undone, and it climbs its ladder until the guest is gone. */
#include "supervise-world.h"

static void test_stop_timeout_forces(void **context)
{
    define(", \"stop\": {\"timeout\": \"50ms\"}");
    run_it();
    stop(false);
    RUN_UNTIL(world->event, world->forced != 0);
    assert_int_equal(world->forced, 1);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_FORCED);
}

/* A guest that was still booting has not heard the first time. */
static void test_stop_is_asked_again(void **context)
{
    run_it();
    stop(false);
    RUN_UNTIL(world->event, world->graceful >= 3);
    assert_true(world->graceful >= 3);
    assert_int_equal(world->forced, 0);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_CLEAN);
}

/* However long somebody is willing to wait. */
static void test_stop_without_haste(void **context)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    run_it();
    assert_int_equal(vm_request_stop(world->vm, &(StopOptions){.timeout_usec = UINT64_MAX - 1}, &job, &error),
                     0);
    RUN_UNTIL(world->event, world->graceful >= 3);
    assert_true(world->graceful >= 3);
    assert_int_equal(world->forced, 0);
}

static void test_force(void **context)
{
    run_it();
    stop(true);
    assert_int_equal(world->graceful, 0);
    assert_int_equal(world->forced, 1);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_SUCCESS);
}

/* There is no guest yet to be asked, so that a stop waits for the launch. Force does not, and ends it. */
static void test_force_of_a_launch(void **context)
{
    static const char *const ladders[] = {"", ", \"stop\": {\"steps\": [\"kill\"]}"};

    for (size_t i = 0; i < ELEMENTSOF(ladders); i++) {
        define(ladders[i]);
        start();
        wait_for(MICROVM_STARTING);
        stop(false);
        assert_int_equal(world->forced, 0);
        stop(true);
        assert_int_equal(world->forced, 1);
        driver_says(DRIVER_START_FAILED, 0);
        wait_for(MICROVM_INACTIVE);
        assert_int_equal(world->vm->record.result, MICROVM_RESULT_SUCCESS);
        assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_FORCED);
        world->forced = 0;
    }
}

static void test_somebody_elses_stop_stays(void **context)
{
    define(", \"restart\": {\"policy\": \"always\"}");
    run_it();
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_non_null(strstr(world->vm->record.reason, "stopped by somebody else"));
}

/* Also when the crash comes between the wish and the act. */
static void test_manual_stop_wins_over_a_crash(void **context)
{
    define(", \"restart\": {\"policy\": \"always\"}");
    run_it();
    stop(false);
    driver_says(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_INACTIVE);
}

/* The crash came first, and its restart is due. */
static void test_stop_during_backoff_stays(void **context)
{
    uint64_t job;

    define(", \"restart\": {\"policy\": \"always\", \"delay\": \"50ms\"}");
    run_it();
    driver_says(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_BACKOFF);
    job = stop(false);
    assert_int_equal(state(), MICROVM_INACTIVE);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_null(world->vm->restart_timer);
    for (int i = 0; i < 10; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_int_equal(state(), MICROVM_INACTIVE);
    restart_daemon();
    assert_int_equal(state(), MICROVM_INACTIVE);
    assert_int_equal(world->starts, 1);
}

/* The run is over, and its console is still looked at: somebody stops it at that very moment. */
static void test_stop_while_it_settles_stays(void **context)
{
    uint64_t job;

    world->driver.rotates_console = true;
    define(", \"restart\": {\"policy\": \"always\"}");
    run_it();
    driver_says(DRIVER_ENDED, END_REBOOT);
    assert_true(world->vm->settling);
    job = stop(false);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_int_equal(world->graceful + world->forced, 0); /* there is nobody to ask */
    assert_int_equal(world->starts, 1);
}

/* Accepted, and the daemon died before anything came of it; so did the hypervisor. */
static void test_stop_then_crash_unwatched_stays(void **context)
{
    define(", \"restart\": {\"policy\": \"always\"}");
    run_it();
    stop(false);
    restart_daemon();
    vm_driver_online(world->vm);
    vm_driver_synced(world->vm);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_LOST);
}

/* A stop takes back the start that was to follow another one. */
static void test_stop_after_restart_stays(void **context)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    run_it();
    assert_int_equal(vm_request_restart(world->vm, &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error),
                     0);
    stop(false);
    assert_int_equal(world->last_result, MICROVM_JOB_SUPERSEDED);
    driver_says(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_INACTIVE);
}

/* --- the ladder of a stop --- */

#define LADDER                                                                                               \
    ", \"stop\": {\"steps\": [{\"action\": \"acpi\", \"timeout\": \"60ms\"}, {\"action\": "                  \
    "\"ctrl-alt-del\", \"timeout\": \"60ms\"}, {\"action\": \"term\", \"timeout\": \"60ms\"}, \"kill\"]}"

static void wait_for_action(StopAction action)
{
    RUN_UNTIL(world->event, world->last_action == action);
    assert_string_equal(stop_action_to_string(world->last_action), stop_action_to_string(action));
}

static void test_climbs_all_rungs(void **context)
{
    define(LADDER);
    run_it();
    stop(false);
    wait_for_action(STOP_ACTION_ACPI);
    wait_for_action(STOP_ACTION_CTRL_ALT_DEL);
    assert_non_null(
        strstr(world->vm->record.reason, "trying ctrl-alt-del; the power button has not helped for 0."));
    assert_true(world->graceful >= 3); /* the button was pressed more than once */
    wait_for_action(STOP_ACTION_TERM);
    wait_for_action(STOP_ACTION_KILL);
    assert_int_equal(state(), MICROVM_STOPPING);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_FORCED);
    assert_int_equal(world->vm->record.stop.n, 0);
}

/* A stop under way, for which somebody has less patience. */
static void test_less_time_for_a_stop_under_way(void **context)
{
    StopOptions options = {.timeout_usec = 50000};
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    define(", \"stop\": {\"timeout\": \"1h\"}");
    run_it();
    stop(false);
    world->graceful = 0;
    assert_int_equal(vm_request_stop(world->vm, &options, &job, &error), 0);
    assert_int_equal(world->graceful, 1);
    wait_for_action(STOP_ACTION_TERM);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
}

/* What the driver can't do costs no time. */
static void test_refused_rung_is_passed(void **context)
{
    define(", \"stop\": {\"steps\": [\"ctrl-alt-del\", \"acpi\"], \"timeout\": \"1h\"}");
    world->refuses = 1u << STOP_ACTION_CTRL_ALT_DEL;
    run_it();
    stop(false);
    assert_int_equal(world->last_action, STOP_ACTION_ACPI);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_CLEAN);
}

static void refuse(StopAction action)
{
    vm_driver_event(world->vm, &(DriverEvent){.type = DRIVER_STOP_REFUSED,
                                              .name = "web",
                                              .generation = world->generation,
                                              .action = action,
                                              .text = "the guest's agent refuses to shut it down: secret"});
}

/* It is known at once, whatever time the step has; also by the next daemon. */
static void test_refusal_is_not_waited_for(void **context)
{
    define(", \"stop\": {\"steps\": [\"agent\", \"acpi\"], \"timeout\": \"1h\"}");
    run_it();
    refuse(STOP_ACTION_AGENT); /* nobody stops it */
    assert_int_equal(state(), MICROVM_RUNNING);
    stop(false);
    assert_int_equal(world->last_action, STOP_ACTION_AGENT);
    refuse(STOP_ACTION_AGENT);
    assert_int_equal(world->last_action, STOP_ACTION_ACPI);
    assert_string_equal(world->vm->record.reason, "trying the power button; the guest's agent refused");
    refuse(STOP_ACTION_AGENT); /* late */
    assert_int_equal(world->last_action, STOP_ACTION_ACPI);
    restart_daemon();
    assert_true(world->vm->record.stop.rungs[0].refused);
    found();
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_non_null(strstr(world->vm->record.reason, "; the guest's agent refused)"));
}

static void test_ladder_survives_the_daemon(void **context)
{
    StopLadder before;

    define(", \"stop\": {\"steps\": [{\"action\": \"acpi\", \"timeout\": \"20ms\"}, \"ctrl-alt-del\"], "
           "\"timeout\": \"1h\"}");
    run_it();
    stop(false);
    wait_for_action(STOP_ACTION_CTRL_ALT_DEL);
    before = world->vm->record.stop;
    assert_int_equal(before.at, 1);
    restart_daemon();
    assert_memory_equal(&world->vm->record.stop, &before, sizeof(before));
    world->last_action = STOP_ACTION_AGENT;
    found();
    assert_int_equal(world->last_action, STOP_ACTION_CTRL_ALT_DEL);
    assert_int_equal(world->vm->record.stop.rungs[1].since_boot_usec, before.rungs[1].since_boot_usec);
    stop(true);
    assert_int_equal(world->last_action, STOP_ACTION_TERM);
    restart_daemon();
    found();
    assert_int_equal(world->last_action, STOP_ACTION_TERM);
    stop(true);
    assert_int_equal(world->last_action, STOP_ACTION_KILL);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_SUCCESS);
}

/* An earlier microvmd knew nothing of ladders. */
static void test_stop_of_an_earlier_version_goes_on(void **context)
{
    run_it();
    stop(false);
    world->vm->record.stop = (StopLadder){0};
    vm_save(world->vm);
    restart_daemon();
    world->graceful = 0;
    found();
    assert_int_equal(world->graceful, 1);
    assert_int_equal(world->vm->record.stop.n, 3);
    world->vm->record.stop = (StopLadder){0};
    world->vm->record.stop_deadline_boot_usec = 1; /* it is over */
    vm_save(world->vm);
    restart_daemon();
    found();
    assert_int_equal(world->last_action, STOP_ACTION_TERM);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_stop_timeout_forces),
        TEST(test_stop_is_asked_again),
        TEST(test_stop_without_haste),
        TEST(test_force),
        TEST(test_force_of_a_launch),
        TEST(test_somebody_elses_stop_stays),
        TEST(test_manual_stop_wins_over_a_crash),
        TEST(test_stop_during_backoff_stays),
        TEST(test_stop_while_it_settles_stays),
        TEST(test_stop_then_crash_unwatched_stays),
        TEST(test_stop_after_restart_stays),
        TEST(test_climbs_all_rungs),
        TEST(test_less_time_for_a_stop_under_way),
        TEST(test_refused_rung_is_passed),
        TEST(test_refusal_is_not_waited_for),
        TEST(test_ladder_survives_the_daemon),
        TEST(test_stop_of_an_earlier_version_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
