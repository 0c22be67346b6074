/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Apply and its canary: a manager with a driver that does what the test says. */
#include "base/log.h"
#include "base/strv.h"
#include "manager-apply.h"
#include "manager-world.h"

#include <stddef.h>
#include <sys/stat.h>

typedef struct World {
    ManagerWorld base;
    Driver driver;
    const char *refused; /* microVM whose start fails */
    char told[4096];     /* "NAME STEP HOW[: TEXT]\n" of each */
    char ended[64];      /* how the apply ended */
    char reason[1024];
    char stops[256]; /* whom the driver was told to stop, in that order */
    uint64_t id;
} World;

/* --- the driver: accepts everything, and pump() answers --- */

static int fake_start(Driver *driver, const StartRequest *request)
{
    return 0;
}

static int fake_stop(Driver *driver, const char *name, sd_id128_t generation, StopAction action)
{
    World *world = (World *)((char *)driver - offsetof(World, driver));
    size_t used = strlen(world->stops);

    snprintf(world->stops + used, sizeof(world->stops) - used, "%s ", name);
    return 0;
}

static CapabilitySet fake_capabilities(const VmSpec *spec)
{
    return CAPABILITY(CAP_STOP_BUTTON);
}

static void fake_accel_facts(Driver *driver, AccelFacts *ret_facts)
{
    *ret_facts = (AccelFacts){.device_exists = false, .device_error = -ENOENT};
}

static Driver *fake_free(Driver *driver)
{
    return NULL;
}

static const DriverOps fake_ops = {
    .capabilities = fake_capabilities,
    .start = fake_start,
    .stop = fake_stop,
    .accel_facts = fake_accel_facts,
    .free = fake_free,
};

static void say_of(MicroVM *vm, DriverEventType type, EndCause cause)
{
    vm_driver_event(vm, &(DriverEvent){.type = type,
                                       .name = vm->name,
                                       .generation = vm->record.generation,
                                       .cause = cause,
                                       .error = -EIO,
                                       .text = "as told"});
}

static void answer(const World *world, MicroVM *vm)
{
    if (sd_id128_is_null(vm->record.generation) || vm->settling)
        return;
    if (vm->record.state == MICROVM_STARTING)
        say_of(vm, streq(world->refused, vm->name) ? DRIVER_START_FAILED : DRIVER_STARTED, 0);
    else if (vm->record.state == MICROVM_STOPPING)
        say_of(vm, DRIVER_ENDED, END_DESTROYED);
}

/* Some turns of the loop. */
static void pump(World *world, unsigned turns)
{
    while (turns-- > 0) {
        assert_true(sd_event_run(world->base.event, 2000) >= 0);
        for (size_t i = 0; i < world->base.manager->n_vms; i++)
            answer(world, world->base.manager->vms[i]);
    }
}

/* --- the host --- */

static void on_progress(uint64_t id, const char *name, MicrovmStep step, MicrovmApply how, const char *text,
                        void *userdata)
{
    World *world = userdata;
    size_t used = strlen(world->told);

    snprintf(world->told + used, sizeof(world->told) - used, "%s %s %s: %s\n", name,
             microvm_step_to_string(step), microvm_apply_to_string(how), text);
}

static void on_removed(uint64_t id, MicrovmJobResult result, const char *reason, void *userdata)
{
    World *world = userdata;

    snprintf(world->ended, sizeof(world->ended), "%s", microvm_job_result_to_string(result));
    snprintf(world->reason, sizeof(world->reason), "%s", reason);
}

static int setup(void **context)
{
    World *world = calloc(1, sizeof(*world));
    ManagerObserver observer = {
        .apply_progress = on_progress, .apply_removed = on_removed, .userdata = world};

    manager_world_make(&world->base, 100, &observer);
    world->driver = (Driver){.ops = &fake_ops, .kind = DRIVER_KIND_LIBVIRT};
    world->base.manager->drivers[DRIVER_KIND_LIBVIRT] = (DriverSlot){
        .driver = &world->driver, .online = true, .ever_online = true, .synced = true, .answered = true};
    *context = world;
    return 0;
}

static int teardown(void **context)
{
    World *world = *context;

    manager_world_clear(&world->base);
    free(world);
    return 0;
}

/* NULL: no definition any more. */
static MicroVM *define(World *world, const char *name, const char *more)
{
    _cleanup_free_ char *text = NULL;

    assert_true(asprintf(&text,
                         "{\"kernel\": \"%s\", \"autostart\": false, \"restart\": {\"policy\": \"no\"}%s}",
                         world->base.kernel, more ? more : "") > 0);
    manager_world_define(&world->base, name, more ? text : NULL);
    manager_world_reload(&world->base);
    return manager_find(world->base.manager, name);
}

static void wait_for_state(World *world, const MicroVM *vm, MicrovmState wanted)
{
    UNTIL (vm->record.state == wanted)
        pump(world, 1);
    assert_string_equal(microvm_state_to_string(vm->record.state), microvm_state_to_string(wanted));
}

static MicroVM *run(World *world, const char *name, const char *more)
{
    MicroVM *vm = define(world, name, more);
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(vm_request_start(vm, &job, &error), 0);
    wait_for_state(world, vm, MICROVM_RUNNING);
    return vm;
}

static void begin(World *world, ApplyOptions options)
{
    _cleanup_free_ char *error = NULL;

    options.restart = true;
    options.canary_usec = options.canary_usec ? options.canary_usec : 1000;
    world->ended[0] = world->told[0] = '\0';
    assert_int_equal(manager_apply(world->base.manager, &(Selection){0}, &options, &world->id, &error), 0);
}

static void wait_until_told(World *world, const char *words)
{
    UNTIL (strstr(world->told, words))
        pump(world, 1);
    if (!strstr(world->told, words))
        fail_msg("no \"%s\" in\n%s", words, world->told);
}

static void assert_not_told(const World *world, const char *words)
{
    if (strstr(world->told, words))
        fail_msg("\"%s\" in\n%s", words, world->told);
}

static void wait_for_end(World *world, const char *result, const char *words)
{
    UNTIL (world->ended[0])
        pump(world, 1);
    assert_string_equal(world->ended, result);
    if (!strstr(world->reason, words))
        fail_msg("no \"%s\" in \"%s\"\n%s", words, world->reason, world->told);
}

/* --- the canary --- */

static const ApplyOptions canary = {.canary = true};
static const ApplyOptions long_canary = {.canary = true, .canary_usec = 60000000};

static void test_canary_that_dies_is_rolled_back(void **context)
{
    World *world = *context;
    MicroVM *a = run(world, "a", ", \"mem\": 256, \"stop\": {\"timeout\": 90}");
    MicroVM *b = run(world, "b", ", \"mem\": 256");

    define(world, "a", ", \"mem\": 512, \"stop\": {\"timeout\": 5}");
    define(world, "b", ", \"mem\": 512");
    begin(world, long_canary);
    wait_until_told(world, "a restart begun");
    UNTIL (a->booted->mem_mib == 512)
        pump(world, 1);
    wait_for_state(world, a, MICROVM_RUNNING);
    say_of(a, DRIVER_ENDED, END_CRASHED);
    wait_for_end(world, "failed", "runs again with the one that it had; nothing else was changed");
    assert_int_equal(a->record.state, MICROVM_RUNNING);
    assert_int_equal(a->booted->mem_mib, 256);
    assert_int_equal(a->booted->stop_timeout_usec, 90000000); /* what would have been live, too */
    assert_int_equal(b->booted->mem_mib, 256);
    assert_non_null(strstr(world->told, "a rollback done"));
    assert_non_null(strstr(world->told, "b restart skipped: the canary failed"));
}

static void test_canary_that_can_not_be_brought_back(void **context)
{
    World *world = *context;
    MicroVM *a = run(world, "a", ", \"mem\": 256");

    define(world, "a", ", \"mem\": 512");
    begin(world, canary);
    world->refused = "a";
    wait_for_end(world, "failed", "nor could it be brought back: as told");
    assert_int_equal(a->record.state, MICROVM_FAILED);
    assert_int_equal(vm_next_spec(a)->mem_mib, 256);
}

static void test_canary_is_handed_on(void **context)
{
    World *world = *context;
    MicroVM *a = run(world, "a", ", \"mem\": 256"), *b, *c;
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    b = run(world, "b", ", \"mem\": 256");
    c = run(world, "c", ", \"mem\": 256");
    for (const char *name = "a\0b\0c\0"; *name; name += 2)
        define(world, name, ", \"mem\": 512");
    begin(world, long_canary);
    /* Before its turn comes, somebody stops the one that would be first. */
    assert_int_equal(vm_request_stop(a, &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error), 0);
    wait_until_told(world, "b restart begun");
    assert_non_null(strstr(world->told, "a restart skipped: it does not run any more"));
    UNTIL (b->record.state == MICROVM_RUNNING && b->booted->mem_mib == 512)
        pump(world, 1);
    pump(world, 50);
    assert_not_told(world, "c restart"); /* the second is the canary now, and watched */
    say_of(b, DRIVER_ENDED, END_CRASHED);
    wait_for_end(world, "failed", "restart of b failed");
    assert_non_null(strstr(world->told, "c restart skipped: the canary failed"));
    assert_int_equal(c->booted->mem_mib, 256);
}

static void test_canary_has_to_become_ready(void **context)
{
    static const struct {
        MicrovmReadiness then;
        const char *result, *words;
        uint64_t mem_mib;
    } cases[] = {
        {MICROVM_READINESS_TIMED_OUT, "failed", "did not become ready", 256},
        {MICROVM_READINESS_LOST, "failed", "did not become ready", 256},
        {MICROVM_READINESS_READY, "done", "", 512},
    };
    World *world = *context;
    MicroVM *a = run(world, "a", ", \"mem\": 256");

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        define(world, "a", "");
        define(world, "a", ", \"mem\": 512");
        begin(world, canary);
        while (a->record.state == MICROVM_RUNNING)
            pump(world, 1);
        UNTIL (a->record.state == MICROVM_RUNNING)
            pump(world, 1);
        a->record.readiness.state = MICROVM_READINESS_WAITING; /* as who watches for it would */
        pump(world, 50);
        assert_string_equal(world->ended, "");
        a->record.readiness.state = cases[i].then;
        world->base.manager->host.changed(a, world->base.manager->host.userdata);
        wait_for_end(world, cases[i].result, cases[i].words);
        assert_int_equal(a->booted->mem_mib, cases[i].mem_mib);
        assert_int_equal(a->record.readiness.state,
                         i == 2 ? MICROVM_READINESS_READY : MICROVM_READINESS_NONE);
    }
}

/* --- the others --- */

static void test_cancel_during_the_check(void **context)
{
    World *world = *context;
    MicroVM *a = run(world, "a", ", \"mem\": 256");
    _cleanup_free_ char *error = NULL;

    define(world, "a", ", \"mem\": 512");
    begin(world, (ApplyOptions){0});
    assert_int_equal(manager_cancel_apply(world->base.manager, world->id + 1, &error), -ESRCH);
    while (!strstr(world->told, "begun"))
        assert_true(sd_event_run(world->base.event, 0) >= 0);
    assert_int_equal(manager_cancel_apply(world->base.manager, world->id, &error), 0);
    assert_int_equal(manager_cancel_apply(world->base.manager, world->id, &error), 0); /* again */
    wait_for_end(world, "canceled", "1 of 1 steps was not begun");
    assert_int_equal(a->booted->mem_mib, 256); /* nothing is stopped any more, where that can be helped */
    assert_int_equal(a->record.state, MICROVM_RUNNING);
}

static void test_files_of_what_is_declared_again_stay(void **context)
{
    World *world = *context;
    MicroVM *gone;
    char *file = NULL;

    run(world, "a", "");
    run(world, "b", "");
    gone = run(world, "gone", "");
    assert_true(asprintf(&file, "%s/data.img", gone->state_dir) > 0);
    assert_int_equal(write_file_atomic(file, "x", 1, 0644), 0);
    define(world, "gone", NULL);
    gone->chores++; /* it is not forgotten yet */
    begin(world, (ApplyOptions){.prune = PRUNE_ALL, .purge = (char *[]){file, NULL}});
    wait_until_told(world, "gone purge begun");
    define(world, "gone", "");
    gone->chores--;
    wait_for_end(world, "failed", "it has a definition again");
    assert_int_equal(access(file, F_OK), 0);
    free(file);
}

/* What is pruned stops as anything else does: who is after another one first. */
static void test_prune_stops_in_order(void **context)
{
    World *world = *context;

    run(world, "a", "");
    run(world, "b", "");
    run(world, "db", "");
    run(world, "web", ", \"after\": [\"db\"]");
    define(world, "db", NULL);
    define(world, "web", NULL);
    begin(world, (ApplyOptions){.prune = PRUNE_ALL});
    wait_for_end(world, "done", "");
    assert_string_equal(world->stops, "web db ");
}

/* One that goes on needs it. */
static void test_prune_keeps_what_is_required(void **context)
{
    World *world = *context;
    MicroVM *db, *web;

    run(world, "a", "");
    run(world, "b", "");
    db = run(world, "db", "");
    web = run(world, "web", ", \"requires\": [\"db\"]");
    define(world, "db", NULL);
    begin(world, (ApplyOptions){.prune = PRUNE_ALL});
    wait_until_told(world, "db stop failed: web requires it, and goes on");
    wait_for_end(world, "failed", "");
    assert_int_equal(db->record.state, MICROVM_RUNNING);
    /* With its next start it does not any more, and that is what counts: a deploy takes both at once. */
    define(world, "web", ", \"mem\": 256");
    begin(world, (ApplyOptions){.prune = PRUNE_ALL});
    wait_for_end(world, "done", "");
    assert_non_null(strstr(world->told, "db stop done"));
    assert_int_equal(web->booted->mem_mib, 256);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_canary_that_dies_is_rolled_back),
        TEST(test_canary_that_can_not_be_brought_back),
        TEST(test_canary_is_handed_on),
        TEST(test_canary_has_to_become_ready),
        TEST(test_cancel_during_the_check),
        TEST(test_files_of_what_is_declared_again_stay),
        TEST(test_prune_stops_in_order),
        TEST(test_prune_keeps_what_is_required),
    };

    setenv("MICROVMD_LOG_LEVEL", "crit", 1);
    log_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
