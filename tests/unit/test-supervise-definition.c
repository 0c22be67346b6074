/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definition changes, breaks or goes while it runs. */
#include "supervise-world.h"

static void test_broken_definition_leaves_the_run_alone(void **context)
{
    run_it();
    vm_set_definition(world->vm, NULL, "/etc/web.json", "the definition can't be used: line 1");
    assert_int_equal(state(), MICROVM_RUNNING);
    stop(false);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
}

static void test_broken_definition_is_shown(void **context)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;
    size_t events;

    vm_set_definition(world->vm, NULL, "/etc/web.json", "the definition can't be used: line 1");
    assert_int_equal(state(), MICROVM_FAILED);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_CONFIG);
    assert_int_equal(vm_request_start(world->vm, &job, &error), -EBADMSG);
    /* Each reload finds it so: what else has happened is not pushed out of its past by that. */
    events = world->vm->record.past.trail.count;
    vm_set_definition(world->vm, NULL, "/etc/web.json", "the definition can't be used: line 1");
    assert_int_equal(world->vm->record.past.trail.count, events);
    vm_set_definition(world->vm, NULL, "/etc/web.json", "the definition can't be used: line 2");
    assert_int_equal(world->vm->record.past.trail.count, events + 1);
    assert_string_equal(world->vm->record.reason, "the definition can't be used: line 2");
    define("");
    assert_int_equal(state(), MICROVM_INACTIVE);
}

static void test_outdated_and_undeclared(void **context)
{
    run_it();
    define(", \"mem\": 1024");
    assert_true(world->vm->outdated);
    vm_set_definition(world->vm, NULL, NULL, NULL);
    assert_true(vm_is_undeclared(world->vm));
    assert_false(vm_is_gone(world->vm));
    driver_says(DRIVER_ENDED, END_CRASHED); /* nothing to start again from */
    wait_for(MICROVM_FAILED);
}

static void test_failed_start_without_a_definition_is_the_end(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    vm_set_definition(world->vm, NULL, NULL, NULL);
    driver_says(DRIVER_START_FAILED, 0);
    assert_int_equal(state(), MICROVM_FAILED);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_RESOURCES);
}

/* --- what apply needs --- */

static void restart(void)
{
    ask_restart();
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
}

static void test_fallback_lasts_until_a_person_starts_it(void **context)
{
    _cleanup_free_ char *error = NULL;
    VmSpec *before;
    uint64_t job;

    define(", \"mem\": 256, \"restart\": {\"delay\": 0}");
    run_it();
    before = vm_spec_ref(world->vm->booted);
    define(""); /* as restart_daemon() does */
    restart();
    assert_int_equal(world->vm->booted->mem_mib, 512);
    assert_int_equal(vm_request_fallback(world->vm, before, &job, &error), 0);
    vm_spec_unref(before);
    assert_int_equal(state(), MICROVM_STOPPING);
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(world->vm->booted->mem_mib, 256);
    assert_int_equal(world->vm->outdated, OUTDATED(MICROVM_OUTDATED_DEFINITION));
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    /* Another daemon, a crash, a start of what runs: all the same. */
    restart_daemon();
    found();
    assert_int_equal(world->vm->outdated, OUTDATED(MICROVM_OUTDATED_DEFINITION));
    start();
    driver_says(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(world->vm->booted->mem_mib, 256);
    define("");
    assert_non_null(world->vm->fallback); /* the same definition as before */
    restart();
    assert_int_equal(world->vm->booted->mem_mib, 512);
    assert_null(world->vm->fallback);
    assert_null(world->vm->record.fallback);
    assert_int_equal(world->vm->outdated, 0);
}

static void test_fallback_from_a_failure_ends_with_another_definition(void **context)
{
    _cleanup_free_ char *error = NULL, *kernel = strdup(world->kernel);
    VmSpec *before;
    uint64_t job;

    define(", \"mem\": 256");
    run_it();
    before = vm_spec_ref(world->vm->booted);
    assert_int_equal(vm_request_restart(world->vm, &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error),
                     0);
    free(world->kernel);
    world->kernel = strdup("/nonexistent");
    define("");
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_FAILED);
    assert_int_equal(vm_request_fallback(world->vm, before, &job, &error), 0);
    vm_spec_unref(before);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(world->vm->booted->mem_mib, 256);
    free(world->kernel);
    world->kernel = strdup(kernel);
    define(", \"mem\": 128");
    assert_null(world->vm->fallback);
    restart_daemon();
    assert_null(world->vm->fallback);
}

static void test_live_changes_are_on_record(void **context)
{
    define(", \"mem\": 256, \"stop\": {\"timeout\": 50}");
    run_it();
    define(", \"mem\": 512, \"stop\": {\"timeout\": 7}");
    assert_int_equal(vm_current_spec(world->vm)->stop_timeout_usec, 50000000); /* a reload only reads */
    assert_int_equal(vm_apply_live(world->vm), 0);
    assert_int_equal(vm_current_spec(world->vm)->stop_timeout_usec, 7000000);
    assert_int_equal(vm_current_spec(world->vm)->mem_mib, 256);
    restart_daemon();
    assert_int_equal(vm_current_spec(world->vm)->stop_timeout_usec, 7000000);
    assert_int_equal(vm_current_spec(world->vm)->mem_mib, 256);
}

static void test_boot_files_are_on_record(void **context)
{
    FileStamp kernel;

    assert_int_equal(file_stamp(world->kernel, &kernel), 0);
    start();
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    assert_true(file_stamp_equal(&world->vm->record.files.kernel, &kernel));
    assert_true(file_stamp_is_null(&world->vm->record.files.initrd));
    restart_daemon();
    found();
    assert_true(file_stamp_equal(&world->vm->record.files.kernel, &kernel));
    vm_set_outdated_files(world->vm, OUTDATED(MICROVM_OUTDATED_KERNEL));
    assert_int_equal(world->vm->outdated, OUTDATED(MICROVM_OUTDATED_KERNEL));
    restart();
    assert_int_equal(world->vm->outdated, 0);
    stop(true);
    driver_says(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    vm_set_outdated_files(world->vm, OUTDATED(MICROVM_OUTDATED_KERNEL));
    assert_int_equal(world->vm->outdated, 0); /* what does not run is never outdated */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_broken_definition_leaves_the_run_alone),
        TEST(test_broken_definition_is_shown),
        TEST(test_outdated_and_undeclared),
        TEST(test_failed_start_without_a_definition_is_the_end),
        TEST(test_fallback_lasts_until_a_person_starts_it),
        TEST(test_fallback_from_a_failure_ends_with_another_definition),
        TEST(test_live_changes_are_on_record),
        TEST(test_boot_files_are_on_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
