/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a run ends, and whether it starts again. */
#include "supervise-world.h"

static void test_crash_restarts_after_the_delay(void **context)
{
    define(", \"restart\": {\"delay\": \"20ms\"}");
    run_it();
    driver_says(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_BACKOFF);
    assert_true(world->vm->record.next_restart_boot_usec > 0);
    wait_for(MICROVM_STARTING);
    assert_int_equal(world->starts, 2);
    assert_int_equal(world->vm->record.n_restarts, 1);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_SIGNAL);
}

static void test_on_reboot_and_on_poweroff(void **context)
{
    define(", \"onReboot\": \"stop\", \"onPoweroff\": \"restart\", \"restart\": {\"delay\": 0}");
    run_it();
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    write_console("[ 2.0] reboot: Restarting system\n");
    driver_says(DRIVER_ENDED, END_REBOOT);
    wait_for(MICROVM_INACTIVE);
    assert_string_equal(world->vm->record.reason, "the guest rebooted; onReboot is \"stop\"");
}

static void test_guest_reboot_and_poweroff(void **context)
{
    run_it();
    write_console("[ 2.0] reboot: Restarting system\n");
    driver_says(DRIVER_ENDED, END_REBOOT);
    wait_for(MICROVM_STARTING);
    assert_int_equal(world->vm->record.n_restarts, 1);
    driver_says(DRIVER_STARTED, 0);
    write_console("[ 2.0] reboot: Power down\n");
    driver_says(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_SUCCESS);
}

static void test_panic_is_read_from_the_console(void **context)
{
    run_it();
    write_console("[ 2.0] Kernel panic - not syncing: sysrq triggered crash\n");
    driver_says(DRIVER_ENDED, END_REBOOT);
    wait_for(MICROVM_BACKOFF);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_GUEST_PANIC);
    assert_non_null(strstr(world->vm->record.reason, "the guest's kernel panicked"));
    assert_null(strstr(world->vm->record.reason, "sysrq")); /* everyone may read the reason */
}

/* A log that another process writes may be late; the words count all the same. */
static void test_late_console_is_waited_for(void **context)
{
    world->driver.rotates_console = true;
    run_it();
    driver_says(DRIVER_ENDED, END_REBOOT);
    assert_int_equal(state(), MICROVM_RUNNING);
    write_console("Kernel panic - not syncing: late\n");
    wait_for(MICROVM_BACKOFF);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_GUEST_PANIC);
}

static void test_start_limit(void **context)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    define(", \"restart\": {\"delay\": 0}");
    run_it();
    for (int i = 0; i < 5; i++) {
        driver_says(DRIVER_ENDED, END_CRASHED);
        wait_for(MICROVM_STARTING);
        driver_says(DRIVER_STARTED, 0);
    }
    driver_says(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_FAILED);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_START_LIMIT);
    assert_int_equal(vm_request_start(world->vm, &job, &error), -ECANCELED);
    assert_non_null(strstr(error, "reset-failed"));
    vm_request_reset_failed(world->vm);
    assert_int_equal(state(), MICROVM_INACTIVE);
    start();
    wait_for(MICROVM_STARTING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_crash_restarts_after_the_delay), TEST(test_on_reboot_and_on_poweroff),
        TEST(test_guest_reboot_and_poweroff),      TEST(test_panic_is_read_from_the_console),
        TEST(test_late_console_is_waited_for),     TEST(test_start_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
