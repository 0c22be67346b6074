/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What apply would do, from what is in memory. */
#include "base/log.h"
#include "manager-plan.h"
#include "manager-world.h"

typedef struct World {
    ManagerWorld base;
    HostPlan plan;
} World;

static int setup(void **context)
{
    World *world = calloc(1, sizeof(*world));

    manager_world_make(&world->base, 0, &(ManagerObserver){0});
    *context = world;
    return 0;
}

static int teardown(void **context)
{
    World *world = *context;

    host_plan_clear(&world->plan);
    manager_world_clear(&world->base);
    free(world);
    return 0;
}

static void define(World *world, const char *name, const char *text)
{
    manager_world_define(&world->base, name, text);
    manager_world_reload(&world->base);
}

static MicroVM *run(World *world, const char *name)
{
    MicroVM *vm = manager_find(world->base.manager, name);

    vm_spec_unref(vm->booted);
    vm->booted = vm_spec_ref(vm->spec);
    vm->record.state = MICROVM_RUNNING;
    vm->record.decided = true;
    return vm;
}

static const HostPlanItem *plan(World *world, const char *name)
{
    _cleanup_free_ char *error = NULL;

    host_plan_clear(&world->plan);
    assert_int_equal(manager_plan(world->base.manager, &(Selection){0}, &world->plan, &error), 0);
    for (size_t i = 0; i < world->plan.count; i++)
        if (streq(world->plan.items[i].name, name))
            return &world->plan.items[i];
    return NULL;
}

static void expect(World *world, MicrovmPlan action, const char *words, size_t changes)
{
    const HostPlanItem *item = plan(world, "web");

    assert_non_null(item);
    assert_string_equal(microvm_plan_to_string(item->action), microvm_plan_to_string(action));
    assert_int_equal(item->changes.count, changes);
    if (words && (!item->reason || !strstr(item->reason, words)))
        fail_msg("no \"%s\" in \"%s\"", words, item->reason ? item->reason : "");
    assert_true(words || !item->reason);
}

#define WEB "{\"kernel\": \"/k\""

static void test_running(void **context)
{
    World *world = *context;
    MicroVM *vm;

    define(world, "web", WEB "}");
    vm = run(world, "web");
    expect(world, MICROVM_PLAN_NONE, NULL, 0);
    define(world, "web", WEB ", \"description\": \"x\"}");
    expect(world, MICROVM_PLAN_LIVE, "takes effect while it runs", 1);
    assert_int_equal(vm->outdated, OUTDATED(MICROVM_OUTDATED_DEFINITION));
    define(world, "web", WEB ", \"description\": \"x\", \"mem\": 64}");
    expect(world, MICROVM_PLAN_RESTART, "needs a restart", 2);
    /* What is live is taken over, the rest waits. */
    assert_int_equal(vm_apply_live(vm), 0);
    expect(world, MICROVM_PLAN_RESTART, "needs a restart", 1);
    define(world, "web", WEB ", \"description\": \"x\"}");
    expect(world, MICROVM_PLAN_NONE, NULL, 0);
    assert_int_equal(vm->outdated, 0);
    vm_set_outdated_files(vm, OUTDATED(MICROVM_OUTDATED_KERNEL) | OUTDATED(MICROVM_OUTDATED_HYPERVISOR));
    expect(world, MICROVM_PLAN_OUTDATED, "another kernel and hypervisor by now", 0);
    define(world, "web", WEB ", \"description\": \"y\"}");
    expect(world, MICROVM_PLAN_OUTDATED, "another kernel", 1);
    define(world, "web", WEB ", \"mem\": 64}");
    expect(world, MICROVM_PLAN_RESTART, "needs a restart", 2);
    define(world, "web", "{");
    expect(world, MICROVM_PLAN_INVALID, "web.json:1:", 0);
    define(world, "web", NULL);
    expect(world, MICROVM_PLAN_UNDECLARED, "gone", 0);
    vm->record.state = MICROVM_INACTIVE;
}

static void test_not_running(void **context)
{
    World *world = *context;
    MicroVM *vm;

    define(world, "web", WEB "}");
    expect(world, MICROVM_PLAN_START, "would start", 0);
    define(world, "web", WEB ", \"autostart\": false}");
    expect(world, MICROVM_PLAN_NONE, NULL, 0);
    define(world, "web", "{");
    expect(world, MICROVM_PLAN_INVALID, "web.json:1:", 0);
    /* A mended one is still new. */
    define(world, "web", WEB "}");
    expect(world, MICROVM_PLAN_START, "would start", 0);
    vm = manager_find(world->base.manager, "web");
    vm->record.decided = true;
    expect(world, MICROVM_PLAN_NONE, NULL, 0);
    vm->record.state = MICROVM_FAILED;
    vm->record.decided = false;
    expect(world, MICROVM_PLAN_NONE, NULL, 0);
    vm->record.decided = true;
    define(world, "web", WEB ", \"mem\": 32}");
    vm->record.state = MICROVM_BACKOFF;
    vm->booted = vm_spec_ref(vm->spec);
    assert_int_equal(free_and_strdup(&vm->record.reason, "it crashed; it starts again in 5s"), 0);
    expect(world, MICROVM_PLAN_NONE, "starts again in 5s", 0); /* by itself */
    define(world, "web", WEB ", \"mem\": 64}");
    expect(world, MICROVM_PLAN_NONE, "starts again in 5s", 0);
    vm->record.wanted = true;
    expect(world, MICROVM_PLAN_RETRY, "its definition changed: would start at once", 0);
    vm->record.state = MICROVM_INACTIVE;
    define(world, "web", NULL);
    assert_null(plan(world, "web"));
}

static void test_failed(void **context)
{
    World *world = *context;
    MicroVM *vm;

    define(world, "web", WEB "}");
    vm = manager_find(world->base.manager, "web");
    vm->record.state = MICROVM_FAILED;
    vm->record.result = MICROVM_RESULT_RESOURCES;
    vm->record.decided = vm->record.wanted = true;
    assert_int_equal(free_and_strdup(&vm->record.reason, "kernel /k: No such file"), 0);
    expect(world, MICROVM_PLAN_RETRY, "kernel /k: No such file; would start again", 0);
    vm->record.result = MICROVM_RESULT_START_LIMIT;
    expect(world, MICROVM_PLAN_FAILED, "kernel /k: No such file", 0);
    /* A new definition is a new chance, a broken one in between or not. */
    define(world, "web", "{");
    expect(world, MICROVM_PLAN_INVALID, "web.json:1:", 0);
    define(world, "web", WEB ", \"mem\": 64}");
    expect(world, MICROVM_PLAN_RETRY, "its definition was mended; would start again", 0);
    vm->record.state = MICROVM_FAILED;
    vm->record.result = MICROVM_RESULT_START_LIMIT;
    assert_int_equal(free_and_strdup(&vm->record.reason, "it crashed"), 0);
    define(world, "web", WEB ", \"mem\": 32}");
    assert_int_equal(vm->record.state, MICROVM_INACTIVE);
    expect(world, MICROVM_PLAN_RETRY, "changed since it failed: it crashed; would start again", 0);
    define(world, "web", WEB ", \"autostart\": false}");
    expect(world, MICROVM_PLAN_NONE, NULL, 0);
}

static void test_selection(void **context)
{
    World *world = *context;
    char *error = NULL;
    char *a[] = {(char *)"a", NULL}, *nobody[] = {(char *)"a", (char *)"nobody", NULL};
    char *both[] = {(char *)"tier=web", (char *)"blue", NULL}, *other[] = {(char *)"tier=db", NULL},
         *prefix[] = {(char *)"tie", NULL};
    static const struct {
        bool named;
        int labels; /* 0: none, 1: both, 2: other, 3: prefix */
        size_t count;
    } cases[] = {{false, 0, 2}, {true, 0, 1}, {false, 1, 1}, {true, 1, 1}, {false, 2, 0}, {false, 3, 0}};

    define(world, "a", WEB ", \"labels\": {\"tier\": \"web\", \"blue\": \"\"}}");
    define(world, "b", WEB ", \"labels\": {\"tier\": \"web\"}}");
    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        char **labels[] = {NULL, both, other, prefix};
        host_plan_clear(&world->plan);
        assert_int_equal(manager_plan(world->base.manager,
                                      &(Selection){cases[i].named ? a : NULL, labels[cases[i].labels]},
                                      &world->plan, &error),
                         0);
        assert_int_equal(world->plan.count, cases[i].count);
    }
    host_plan_clear(&world->plan);
    assert_int_equal(manager_plan(world->base.manager, &(Selection){.names = nobody}, &world->plan, &error),
                     -ENOENT);
    assert_non_null(strstr(error, "nobody"));
    free(error);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_running),
        TEST(test_not_running),
        TEST(test_failed),
        TEST(test_selection),
    };

    setenv("MICROVMD_LOG_LEVEL", "crit", 1);
    log_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
