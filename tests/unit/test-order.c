/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is started with whom, who waits for whom, and who is first. */
#include "order-world.h"

static void test_with_and_after(void **context)
{
    World *world = *context;

    define(world, "cache", "\"mem\": 64");
    define(world, "db", "\"mem\": 64");
    define(world, "web", "\"requires\": [\"db\"], \"wants\": [\"cache\"], \"after\": [\"db\"]");
    begin(world);
    start(world, "web");
    assert_int_equal(state(world, "web"), MICROVM_WAITING);
    assert_string_equal(find(world, "web")->record.reason, "waits for db to run");
    assert_int_equal(state(world, "db"), MICROVM_PREPARING);
    assert_string_equal(find(world, "db")->record.reason, "preparing its volumes and boot files");
    assert_int_equal(state(world, "cache"), MICROVM_PREPARING); /* no order between these two */
    while (state(world, "web") == MICROVM_WAITING)
        assert_true(sd_event_run(world->base.event, UINT64_MAX) >= 0);
    assert_int_equal(state(world, "db"), MICROVM_RUNNING);
    wait_for(world, "web", MICROVM_RUNNING);
    wait_for(world, "cache", MICROVM_RUNNING);
    assert_non_null(strstr(world->jobs, "db start done,"));
    assert_non_null(strstr(world->jobs, "cache start done,"));
    assert_true(strstr(world->jobs, "db start done,") < strstr(world->jobs, "web start done,"));
    /* who runs is left alone */
    stop(world, "web");
    start(world, "web");
    wait_for(world, "web", MICROVM_RUNNING);
    assert_null(strstr(strstr(world->jobs, "db start done,") + 1, "db start"));
    stop(world, "web");
    stop(world, "cache");
    stop(world, "db");
}

/* "after" alone starts nobody, and waits for nobody who is not starting. */
static void test_after_is_only_an_order(void **context)
{
    World *world = *context;

    define(world, "db", "\"mem\": 64");
    define(world, "web", "\"after\": [\"db\"]");
    define(world, "app", "\"requires\": [\"db\"]");
    begin(world);
    start(world, "web");
    assert_int_equal(state(world, "web"), MICROVM_PREPARING);
    assert_int_equal(state(world, "db"), MICROVM_INACTIVE);
    start(world, "app");
    assert_int_equal(state(world, "app"), MICROVM_PREPARING); /* "requires" alone is no order */
    assert_int_equal(state(world, "db"), MICROVM_PREPARING);
    wait_for(world, "web", MICROVM_RUNNING);
    wait_for(world, "app", MICROVM_RUNNING);
    wait_for(world, "db", MICROVM_RUNNING);
    stop(world, "web");
    stop(world, "app");
    stop(world, "db");
}

static void test_what_is_required_fails(void **context)
{
    World *world = *context;

    define_with(world, "db", "/nowhere/vmlinuz", "\"autostart\": false");
    define(world, "web", "\"requires\": [\"db\"], \"after\": [\"db\"]");
    define(world, "top", "\"requires\": [\"web\"], \"after\": [\"web\"]");
    define(world, "easy", "\"wants\": [\"db\"], \"after\": [\"db\"]");
    begin(world);
    start(world, "top");
    start(world, "easy");
    wait_for(world, "web", MICROVM_FAILED);
    assert_non_null(
        strstr(find(world, "web")->record.reason, "it requires db, which is failed: kernel /nowhere"));
    assert_int_equal(find(world, "web")->record.result, MICROVM_RESULT_RESOURCES);
    wait_for(world, "top", MICROVM_FAILED);
    assert_non_null(
        strstr(find(world, "top")->record.reason, "it requires web, which is failed: it requires db"));
    assert_non_null(strstr(world->jobs, "web start failed,"));
    assert_non_null(strstr(world->jobs, "top start failed,"));
    wait_for(world, "easy", MICROVM_RUNNING);
    stop(world, "easy");
}

/* Also when it never began: its definition is broken. */
static void test_what_is_required_is_broken(void **context)
{
    World *world = *context;

    define(world, "db", "\"frobnicate\": 1");
    define(world, "web", "\"requires\": [\"db\"]");
    define(world, "easy", "\"wants\": [\"db\"]");
    begin(world);
    start(world, "web");
    assert_int_equal(state(world, "web"), MICROVM_FAILED);
    assert_non_null(
        strstr(find(world, "web")->record.reason, "it requires db, which can't be started: the def"));
    start(world, "easy");
    wait_for(world, "easy", MICROVM_RUNNING);
    stop(world, "easy");
}

/* What was stopped by hand while others wait for it stays stopped, and they are told. */
static void test_what_is_required_is_stopped(void **context)
{
    World *world = *context;
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    define(world, "db", "\"mem\": 64");
    define(world, "web", "\"requires\": [\"db\"], \"after\": [\"db\"]");
    begin(world);
    start(world, "web");
    assert_int_equal(
        vm_request_stop(find(world, "db"), &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error), 0);
    wait_for(world, "web", MICROVM_FAILED);
    wait_for(world, "db", MICROVM_INACTIVE);
    assert_non_null(strstr(find(world, "web")->record.reason, "it requires db, which is "));
}

/* Two who require each other start together. */
static void test_mutual(void **context)
{
    World *world = *context;

    define(world, "a", "\"requires\": [\"b\"]");
    define(world, "b", "\"requires\": [\"a\"], \"after\": [\"a\"]");
    begin(world);
    start(world, "b");
    wait_for(world, "b", MICROVM_RUNNING);
    assert_int_equal(state(world, "a"), MICROVM_RUNNING);
    stop(world, "a");
    stop(world, "b");
}

static void test_priority(void **context)
{
    World *world = *context;

    world->base.manager->config.max_concurrent_starts = 1;
    define_with(world, "a", world->base.kernel, "\"priority\": 5");
    define_with(world, "b", world->base.kernel, "\"mem\": 64");
    define_with(world, "c", world->base.kernel, "\"priority\": 900, \"after\": [\"b\"]");
    define_with(world, "d", world->base.kernel, "\"priority\": 900");
    define_with(world, "e", world->base.kernel, "\"mem\": 64");
    begin(world);
    for (char one[2] = "a"; one[0] <= 'e'; one[0]++)
        wait_for(world, one, MICROVM_RUNNING);
    assert_string_equal(world->started, "d,b,c,e,a,");
    for (char one[2] = "a"; one[0] <= 'e'; one[0]++)
        stop(world, one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_with_and_after),
        TEST(test_after_is_only_an_order),
        TEST(test_what_is_required_fails),
        TEST(test_what_is_required_is_broken),
        TEST(test_what_is_required_is_stopped),
        TEST(test_mutual),
        TEST(test_priority),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
