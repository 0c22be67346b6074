/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon is killed, and the next one finds its way. */
#include "supervise-world.h"

/* What a daemon was writing when it was killed goes with the next one; a volume of that look stays. */
static void test_unfinished_writes(void **context)
{
    static const char *const cut_off[] = {"state.json.aB3xY9", "crash-17.json.aB3xY9", "console.log.0.aB3xY9",
                                          "hypervisor.log.0.aB3xY9"};
    static const char *const kept[] = {"state.json", "crash-17.json", "console.log.0", "disk.backup"};
    char path[512];

    assert_int_equal(mkdir_parents(world->vm->state_dir, 0755), 0);
    for (size_t i = 0; i < ELEMENTSOF(cut_off) + ELEMENTSOF(kept); i++) {
        const char *name = i < ELEMENTSOF(kept) ? kept[i] : cut_off[i - ELEMENTSOF(kept)];
        snprintf(path, sizeof(path), "%s/%s", world->vm->state_dir, name);
        assert_int_equal(write_file_atomic(path, "", 0, 0600), 0);
    }
    restart_daemon();
    for (size_t i = 0; i < ELEMENTSOF(kept); i++) {
        snprintf(path, sizeof(path), "%s/%s", world->vm->state_dir, kept[i]);
        assert_int_equal(access(path, F_OK), 0);
        snprintf(path, sizeof(path), "%s/%s", world->vm->state_dir, cut_off[i]);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void test_adoption_after_a_crash_of_the_daemon(void **context)
{
    run_it();
    restart_daemon();
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_true(sd_id128_equal(world->vm->record.generation, world->generation));
    found();
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_int_equal(world->vm->pid, 4242);
    assert_int_equal(world->starts, 1);
    assert_non_null(world->vm->booted);
    assert_false(world->vm->outdated);
}

/* What runs is not known yet: a stop is refused, and says that this passes. */
static void test_a_stop_before_adoption(void **context)
{
    StopOptions options = {.timeout_usec = UINT64_MAX};
    _cleanup_free_ char *error = NULL;
    uint64_t job = 0;

    run_it();
    restart_daemon();
    assert_int_equal(vm_request_stop(world->vm, &options, &job, &error), -EHOSTDOWN);
    assert_non_null(strstr(error, "has just begun"));
    assert_non_null(strstr(error, "try again"));
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_true(world->vm->record.wanted);
    found();
    stop(true);
    assert_int_equal(world->forced, 1);
}

static void test_adoption_of_a_paused_start(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    restart_daemon();
    found_as((DriverRun){.paused = true});
    assert_int_equal(state(), MICROVM_PAUSED);
    assert_string_equal(world->vm->record.reason, "the guest is paused");
    driver_says(DRIVER_RESUMED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
}

/* Its hypervisor runs, but is yet to say that its guest does. */
static void test_adoption_of_a_start_that_goes_on(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    restart_daemon();
    found_as((DriverRun){.starting = true});
    assert_int_equal(state(), MICROVM_STARTING);
    assert_int_equal(world->vm->pid, 4242);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_int_equal(world->starts, 1);
}

static void test_adoption_of_a_start_that_fails(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    restart_daemon();
    found_as((DriverRun){.starting = true});
    driver_says(DRIVER_START_FAILED, 0);
    assert_int_equal(state(), MICROVM_BACKOFF);
}

static void test_adoption_of_a_start_that_is_stopped(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    stop(false);
    restart_daemon();
    found_as((DriverRun){.starting = true});
    assert_int_equal(state(), MICROVM_STOPPING);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(state(), MICROVM_STOPPING);
    assert_int_equal(world->last_action, STOP_ACTION_TERM);
}

static void test_adoption_finishes_a_start(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    restart_daemon();
    assert_int_equal(state(), MICROVM_STARTING);
    found();
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_int_equal(world->starts, 1);
}

/* Nothing had been launched yet, so that no driver will ever say that it ended. */
static void test_stop_of_a_preparation_survives_the_daemon(void **context)
{
    start();
    assert_int_equal(state(), MICROVM_PREPARING);
    stop(false);
    restart_daemon();
    assert_int_equal(state(), MICROVM_INACTIVE);

    start();
    wait_for(MICROVM_PREPARING);
    stop(false);
    start();
    restart_daemon();
    wait_for(MICROVM_STARTING);
    assert_false(world->vm->record.again);
}

/* Asked for while it is being stopped: nothing else changes then that would be put on record. */
static void test_restart_of_a_stopping_one_survives_the_daemon(void **context)
{
    /* there is no guest yet that could be asked again */
    start();
    wait_for(MICROVM_STARTING);
    stop(false);
    ask_restart();
    restart_daemon();
    assert_int_equal(state(), MICROVM_STOPPING);
    found();
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    /* there is no further rung */
    for (int i = 0; i < 3; i++)
        stop(true);
    assert_int_equal(world->last_action, STOP_ACTION_KILL);
    ask_restart();
    restart_daemon();
    found();
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_STARTING);
}

/* A start of what starts already: who asked, and by which definition it starts from now on. */
static void test_start_of_a_starting_one_survives_the_daemon(void **context)
{
    _cleanup_free_ char *error = NULL;
    VmSpec *before = make_spec(", \"mem\": 256");
    uint64_t job;

    assert_int_equal(vm_request_fallback(world->vm, before, &job, &error), 0);
    vm_spec_unref(before);
    wait_for(MICROVM_STARTING);
    start();
    assert_null(world->vm->record.fallback);
    restart_daemon();
    assert_null(world->vm->record.fallback);
}

static void finish_chores(void)
{
    RUN_UNTIL(world->event, world->vm->chores == 0);
    assert_int_equal(world->vm->chores, 0);
}

/* Killed before it had cleaned up, or while it prepared a start that is then called off. */
static void test_nothing_is_left_by_a_death_of_the_daemon(void **context)
{
    _cleanup_free_ char *copy = NULL;

    assert_true(asprintf(&copy, "%s/kernel", world->vm->runtime_dir) > 0);
    run_it();
    stop(true);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    finish_chores();
    assert_int_equal(write_file_atomic(copy, "kernel", 6, 0600), 0);
    restart_daemon();
    assert_int_equal(state(), MICROVM_INACTIVE);
    finish_chores();
    assert_int_equal(access(copy, F_OK), -1);

    start();
    assert_int_equal(state(), MICROVM_PREPARING);
    assert_int_equal(write_file_atomic(copy, "kernel", 6, 0600), 0);
    world->admit = 0;
    restart_daemon();
    assert_int_equal(state(), MICROVM_WAITING);
    stop(false);
    finish_chores();
    assert_int_equal(state(), MICROVM_INACTIVE);
    assert_int_equal(access(copy, F_OK), -1);
}

/* Killed after the state was on record, before the generation was. */
static void test_start_without_a_generation_begins_anew(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    world->vm->record.generation = SD_ID128_NULL;
    vm_save(world->vm);
    restart_daemon();
    wait_for(MICROVM_STARTING);
    assert_int_equal(world->starts, 2);
}

static void test_gone_while_nobody_watched(void **context)
{
    run_it();
    restart_daemon();
    vm_driver_online(world->vm);
    vm_driver_synced(world->vm);
    wait_for(MICROVM_BACKOFF);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_LOST);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_LOST);
}

static void test_manual_stop_survives_the_daemon(void **context)
{
    run_it();
    stop(false);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    restart_daemon();
    assert_int_equal(state(), MICROVM_INACTIVE);
    assert_int_equal(access(world->vm->record_path, F_OK),
                     0); /* autostart leaves those with a record alone */
}

static void test_backoff_survives_the_daemon(void **context)
{
    define(", \"restart\": {\"delay\": \"100ms\"}");
    run_it();
    driver_says(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_BACKOFF);
    restart_daemon();
    assert_int_equal(state(), MICROVM_BACKOFF);
    wait_for(MICROVM_STARTING);
    assert_int_equal(world->starts, 2);
}

static void test_stop_goes_on_after_a_crash_of_the_daemon(void **context)
{
    run_it();
    stop(false);
    restart_daemon();
    assert_int_equal(state(), MICROVM_STOPPING);
    found();
    assert_int_equal(world->graceful, 2);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
}

static void test_a_stop_before_the_first_start_is_remembered(void **context)
{
    assert_false(world->vm->record.decided);
    restart_daemon();
    assert_false(world->vm->record.decided);
    stop(false);
    restart_daemon();
    assert_true(world->vm->record.decided);
    assert_int_equal(state(), MICROVM_INACTIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unfinished_writes),
        TEST(test_adoption_after_a_crash_of_the_daemon),
        TEST(test_a_stop_before_adoption),
        TEST(test_adoption_of_a_paused_start),
        TEST(test_adoption_finishes_a_start),
        TEST(test_adoption_of_a_start_that_goes_on),
        TEST(test_adoption_of_a_start_that_fails),
        TEST(test_adoption_of_a_start_that_is_stopped),
        TEST(test_stop_of_a_preparation_survives_the_daemon),
        TEST(test_restart_of_a_stopping_one_survives_the_daemon),
        TEST(test_start_of_a_starting_one_survives_the_daemon),
        TEST(test_nothing_is_left_by_a_death_of_the_daemon),
        TEST(test_start_without_a_generation_begins_anew),
        TEST(test_gone_while_nobody_watched),
        TEST(test_manual_stop_survives_the_daemon),
        TEST(test_backoff_survives_the_daemon),
        TEST(test_stop_goes_on_after_a_crash_of_the_daemon),
        TEST(test_a_stop_before_the_first_start_is_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
