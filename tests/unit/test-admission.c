/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is held back at a start, and by what. */
#include "order-world.h"

static void test_never_more_at_once(void **context)
{
    World *world = *context;
    char name[8];

    world->base.manager->config.max_concurrent_starts = 2;
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "n%02d", i);
        define_with(world, name, world->base.kernel, "\"mem\": 16");
    }
    begin(world);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "n%02d", i);
        wait_for(world, name, MICROVM_RUNNING);
    }
    assert_int_equal(world->most, 2);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "n%02d", i);
        stop(world, name);
    }
}

static void test_memory(void **context)
{
    World *world = *context;

    memory = (HostMemory){.total_mib = 1000, .available_mib = 600};
    world->base.manager->config.memory_reserve_mib = 100;
    define(world, "big", "\"mem\": 901");
    define(world, "one", "\"mem\": 300");
    define(world, "two", "\"mem\": 300");
    begin(world);
    start(world, "big");
    assert_int_equal(state(world, "big"), MICROVM_FAILED);
    assert_int_equal(find(world, "big")->record.result, MICROVM_RESULT_RESOURCES);
    assert_string_equal(
        find(world, "big")->record.reason,
        "it needs 901 MiB of memory, and this host has 900 MiB for microVMs, whatever else runs");
    start(world, "one");
    wait_for(world, "one", MICROVM_RUNNING);
    /* Its guest has not taken yet what it was promised. */
    start(world, "two");
    assert_int_equal(state(world, "two"), MICROVM_WAITING);
    assert_string_equal(
        find(world, "two")->record.reason,
        "held: it needs 300 MiB of memory; 600 MiB are available, of which 300 MiB are for those "
        "that have just started, and the host.memoryReserve stays free");
    assert_int_equal(find(world, "two")->held_by, MICROVM_HOLD_MEMORY);
    assert_non_null(world->base.manager->memory_timer);
    /* Nothing tells when memory becomes available: it is looked at again. */
    memory.available_mib = 701;
    wait_for(world, "two", MICROVM_RUNNING);
    stop(world, "one");
    stop(world, "two");
    /* Where nobody waits nobody looks. */
    assert_null(world->base.manager->memory_timer);
}

static void test_a_start_without_a_driver_takes_no_place(void **context)
{
    World *world = *context;

    world->base.manager->config.max_concurrent_starts = 1;
    define(world, "one", "\"mem\": 16");
    define(world, "two", "\"mem\": 16");
    begin(world);
    start(world, "one");
    start(world, "two");
    wait_for(world, "one", MICROVM_STARTING);
    assert_int_equal(find(world, "two")->held_by, MICROVM_HOLD_CONCURRENCY);
    vm_driver_offline(find(world, "one"), "it hangs");
    manager_admit_waiting(world->base.manager);
    assert_int_equal(state(world, "two"), MICROVM_PREPARING);
    vm_driver_online(find(world, "one"));
    wait_for(world, "one", MICROVM_RUNNING);
    wait_for(world, "two", MICROVM_RUNNING);
    stop(world, "one");
    stop(world, "two");
}

static void test_held_by(void **context)
{
    World *world = *context;

    world->base.manager->config.max_concurrent_starts = 1;
    define(world, "one", "\"mem\": 16");
    define(world, "two", "\"mem\": 16");
    define(world, "three", "\"after\": [\"two\"]");
    begin(world);
    start(world, "one");
    start(world, "two");
    start(world, "three");
    assert_int_equal(state(world, "two"), MICROVM_WAITING);
    assert_int_equal(find(world, "two")->held_by, MICROVM_HOLD_CONCURRENCY);
    assert_int_equal(state(world, "three"), MICROVM_WAITING);
    assert_int_equal(find(world, "three")->held_by, MICROVM_HOLD_DEPENDENCY);
    wait_for(world, "three", MICROVM_RUNNING);
    assert_int_equal(find(world, "three")->held_by, MICROVM_HOLD_NONE);
    stop(world, "one");
    stop(world, "two");
    stop(world, "three");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_never_more_at_once),
        TEST(test_memory),
        TEST(test_a_start_without_a_driver_takes_no_place),
        TEST(test_held_by),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
