/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starts, stops and pauses: what is asked for, in whatever order, and what becomes of it. */
#include "supervise-world.h"

static void test_start_and_stop(void **context)
{
    uint64_t job = start();

    wait_for(MICROVM_STARTING);
    assert_int_equal(world->starts, 1);
    assert_int_equal(world->last_job, 0);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_int_equal(world->vm->pid, 4242);

    job = stop(false);
    assert_int_equal(state(), MICROVM_STOPPING);
    assert_int_equal(world->graceful, 1);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_CLEAN);
    assert_int_equal(world->vm->pid, 0);
    assert_true(sd_id128_is_null(world->vm->record.generation));
}

static void test_start_of_running_and_stop_of_stopped_are_done(void **context)
{
    uint64_t job = stop(false);

    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    run_it();
    job = start();
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_int_equal(world->starts, 1);
}

static void test_same_job_is_joined(void **context)
{
    uint64_t job = start();

    assert_int_equal(start(), job);
    wait_for(MICROVM_STARTING);
    assert_int_equal(start(), job);
    assert_int_equal(world->starts, 1);
}

static void test_stop_supersedes_start(void **context)
{
    uint64_t job = start();

    wait_for(MICROVM_STARTING);
    stop(false);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_SUPERSEDED);
    /* there is no guest that could be asked, however often: it is ended as soon as it is there */
    stop(false);
    assert_int_equal(world->graceful + world->forced, 0);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(world->forced, 1);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
}

static void test_stop_during_preparation(void **context)
{
    start();
    assert_int_equal(state(), MICROVM_PREPARING);
    stop(false);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->starts, 0);
}

/* No driver knows of it yet. */
static void test_stop_of_a_preparation_asks_no_driver(void **context)
{
    start();
    assert_int_equal(state(), MICROVM_PREPARING);
    stop(false);
    stop(false);
    stop(true);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->graceful + world->forced, 0);
}

static void test_start_during_stop(void **context)
{
    uint64_t job;

    run_it();
    stop(false);
    job = start();
    assert_int_equal(world->last_result, MICROVM_JOB_SUPERSEDED);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
}

/* The wish to start again is fulfilled by one start, also where the stop came before there was a guest. */
static void test_start_again_is_once(void **context)
{
    start();
    stop(false);
    start();
    wait_for(MICROVM_STARTING);
    assert_false(world->vm->record.again);
    stop(false);
    start();
    driver_says(DRIVER_START_FAILED, 0);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
}

/* Paused by somebody before the answer to our start came. */
static void test_started_paused(void **context)
{
    define("");
    start();
    wait_for(MICROVM_STARTING);
    vm_driver_event(world->vm, &(DriverEvent){.type = DRIVER_STARTED,
                                              .name = "web",
                                              .generation = world->generation,
                                              .run = {.pid = 4242, .paused = true}});
    assert_int_equal(state(), MICROVM_PAUSED);
}

static void test_failed_preparation_says_why(void **context)
{
    uint64_t job;

    unlink(world->kernel);
    job = start();
    wait_for(MICROVM_FAILED);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_FAILED);
    assert_non_null(strstr(world->last_reason, world->kernel));
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_RESOURCES);
    assert_int_equal(world->starts, 0);
}

static void test_stale_events_are_dropped(void **context)
{
    sd_id128_t now;

    run_it();
    now = world->generation;
    assert_int_equal(sd_id128_randomize(&world->generation), 0);
    driver_says(DRIVER_ENDED, END_CRASHED);
    assert_int_equal(state(), MICROVM_RUNNING);
    world->generation = now;
}

static void test_held_start(void **context)
{
    world->admit = 0;
    world->hold = "held: the driver is away";
    start();
    assert_int_equal(state(), MICROVM_WAITING);
    assert_string_equal(world->vm->record.reason, "held: the driver is away");
    assert_int_equal(world->last_job, 0);
    world->admit = 1;
    vm_admit(world->vm);
    wait_for(MICROVM_STARTING);
}

/* The driver takes too long: said, and nobody waits for ever. It may still succeed. */
static void test_start_without_an_answer(void **context)
{
    uint64_t job = start();

    wait_for(MICROVM_STARTING);
    vm_driver_event(world->vm, &(DriverEvent){.type = DRIVER_CALL_FAILED,
                                              .name = "web",
                                              .generation = world->generation,
                                              .error = -ETIMEDOUT,
                                              .text = "no answer"});
    assert_int_equal(state(), MICROVM_STARTING);
    assert_string_equal(world->vm->record.reason, "no answer");
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_TIMEOUT);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
}

static int pause_result = 1;

static void on_paused(int error, const char *text, void *userdata)
{
    pause_result = error;
}

static void test_pause_and_resume(void **context)
{
    _cleanup_free_ char *error = NULL;

    assert_int_equal(vm_request_pause(world->vm, true, on_paused, NULL, &error), -ESRCH);
    run_it();
    free(error);
    error = NULL;
    assert_int_equal(vm_request_pause(world->vm, true, on_paused, NULL, &error), 0);
    assert_int_equal(pause_result, 1);
    driver_says(DRIVER_PAUSED, 0);
    assert_int_equal(pause_result, 0);
    assert_int_equal(state(), MICROVM_PAUSED);
    stop(false);
    assert_int_equal(world->pauses, 2); /* a paused guest can't hear */
    assert_int_equal(world->graceful, 1);
}

static int forget_result;
static char forget_text[256];

static void on_forgotten(int error, const char *text, void *userdata)
{
    forget_result = error;
    snprintf(forget_text, sizeof(forget_text), "%s", text ? text : "");
}

static void forget_volume(const char *image)
{
    _cleanup_free_ char *error = NULL;

    forget_result = 1;
    assert_int_equal(vm_forget_volume(world->vm, image, on_forgotten, NULL, &error), 0);
    /* One at a time: the memory is in a worker's hands. */
    assert_int_equal(vm_forget_volume(world->vm, image, on_forgotten, NULL, &error), -EBUSY);
    assert_non_null(strstr(error, "try again"));
    RUN_UNTIL(world->event, forget_result != 1);
}

static void test_a_lost_volume_can_be_given_up(void **context)
{
    _cleanup_free_ char *image = NULL;

    define(", \"volumes\": [{\"image\": \"d.img\", \"size\": 8}]");
    run_it();
    stop(true);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    while (world->vm->chores > 0)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_true(asprintf(&image, "%s/d.img", world->vm->state_dir) > 0);
    assert_int_equal(unlink(image), 0);
    start();
    wait_for(MICROVM_FAILED);
    assert_non_null(strstr(world->vm->record.reason, "forget-volume"));
    while (world->vm->chores > 0)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    forget_volume("e.img");
    assert_int_equal(forget_result, -ENODATA);
    assert_non_null(strstr(forget_text, "d.img"));
    forget_volume("d.img");
    assert_int_equal(forget_result, 0);
    run_it();
    assert_int_equal(access(image, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_start_and_stop),
        TEST(test_start_of_running_and_stop_of_stopped_are_done),
        TEST(test_same_job_is_joined),
        TEST(test_stop_supersedes_start),
        TEST(test_stop_during_preparation),
        TEST(test_stop_of_a_preparation_asks_no_driver),
        TEST(test_start_during_stop),
        TEST(test_start_again_is_once),
        TEST(test_started_paused),
        TEST(test_failed_preparation_says_why),
        TEST(test_stale_events_are_dropped),
        TEST(test_held_start),
        TEST(test_start_without_an_answer),
        TEST(test_pause_and_resume),
        TEST(test_a_lost_volume_can_be_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
