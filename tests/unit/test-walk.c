/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random walks through the life of a microVM as it ships, record, timers, workers and all; test-model.c
 * searches everything, but of less. What must hold is the same. A walk that fails tells its seed:
 * MICROVMD_SEED=N repeats it.
 */
#include "base/log.h"
#include "supervise/vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

enum {
    WALKS = 60,
    STEPS = 60,
    PATIENCE = 2000, /* turns of the loop until what was stopped rests */
};

typedef struct World {
    char *state_dir, *runtime_dir, *kernel, *definition;
    sd_event *event;
    VmHost host;
    MicroVM *vm;
    Driver driver;
    unsigned seed; /* of the numbers */
    /* the one hypervisor that there may be */
    enum {
        NOWHERE,
        LAUNCHING,
        ALIVE,
    } phase;
    sd_id128_t generation, former;
    bool told_to_end, asked;
    bool online;
    bool off; /* is what a person said last */
    const char *broken;
} World;

static World *world;

static unsigned throw(unsigned n)
{
    world->seed = world->seed * 1103515245 + 12345;
    return (world->seed >> 16) % n;
}

static void must(bool holds, const char *what)
{
    if (!holds && !world->broken)
        world->broken = what;
}

/* --- the driver --- */

static CapabilitySet fake_capabilities(const VmSpec *spec)
{
    return CAPABILITY(CAP_STOP_BUTTON);
}

static int fake_start(Driver *driver, const StartRequest *request)
{
    if (!world->online)
        return -EHOSTDOWN;
    must(!world->off, "what a person stopped is launched");
    must(world->phase == NOWHERE, "there are two hypervisors");
    world->phase = LAUNCHING;
    world->former = world->generation;
    world->generation = request->generation;
    world->told_to_end = world->asked = false;
    return 0;
}

static int fake_stop(Driver *driver, const char *name, sd_id128_t generation, StopAction action)
{
    if (!world->online)
        return -EHOSTDOWN;
    if (world->phase == NOWHERE || !sd_id128_equal(generation, world->generation))
        return -ESRCH;
    world->told_to_end |= action == STOP_ACTION_TERM || action == STOP_ACTION_KILL;
    world->asked = true;
    return 0;
}

static int fake_set_paused(Driver *driver, const char *name, sd_id128_t generation, bool paused)
{
    return world->online ? 0 : -EHOSTDOWN;
}

static void fake_accel_facts(Driver *driver, AccelFacts *ret_facts)
{
    *ret_facts = (AccelFacts){.device_error = -ENOENT};
}

static const DriverOps fake_ops = {
    .capabilities = fake_capabilities,
    .start = fake_start,
    .stop = fake_stop,
    .set_paused = fake_set_paused,
    .accel_facts = fake_accel_facts,
};

static void say(DriverEventType type, sd_id128_t generation, EndCause cause)
{
    if (world->online)
        vm_driver_event(world->vm, &(DriverEvent){.type = type,
                                                  .name = "web",
                                                  .generation = generation,
                                                  .cause = cause,
                                                  .error = -EIO,
                                                  .run = {.pid = 4242}});
}

/* --- the host --- */

static int on_admit(MicroVM *vm, char **ret_reason, void *userdata)
{
    vm->driver = &world->driver;
    vm->driver_online = world->online;
    return world->online;
}

static void on_changed(MicroVM *vm, void *userdata)
{
}

static void on_job_removed(MicroVM *vm, Job job, MicrovmJobResult result, const char *reason, void *userdata)
{
}

static void make_vm(void)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    assert_int_equal(workers_new(world->event, "files", 1, &world->host.files), 0);
    assert_int_equal(vm_new(&world->host, "web", &world->vm), 0);
    assert_int_equal(vm_spec_parse("web", "/etc/web.json", world->definition, strlen(world->definition),
                                   &(SpecContext){0}, &problems, &spec),
                     0);
    vm_set_definition(world->vm, spec, "/etc/web.json", NULL);
    vm_spec_unref(spec);
    world->vm->driver = &world->driver;
}

/* --- what can happen --- */

static void turn(void)
{
    assert_true(sd_event_run(world->event, throw(2) * 1000) >= 0);
    vm_admit(world->vm);
}

static void start(void)
{
    _cleanup_free_ char *error = NULL;
    bool before = world->off;
    uint64_t job;

    world->off = false; /* it may be launched from within */
    if (vm_request_start(world->vm, &job, &error) < 0)
        world->off = before;
}

static bool stop(bool force)
{
    _cleanup_free_ char *error = NULL;
    StopOptions options = {.force = force, .timeout_usec = UINT64_MAX};
    uint64_t job;

    if (vm_request_stop(world->vm, &options, &job, &error) < 0)
        return false;
    world->off = true;
    return true;
}

static void restart(void)
{
    _cleanup_free_ char *error = NULL;
    StopOptions options = {.timeout_usec = UINT64_MAX};
    bool before = world->off;
    uint64_t job;

    world->off = false;
    if (vm_request_restart(world->vm, &options, &job, &error) < 0)
        world->off = before;
}

static void launch_answers(bool well)
{
    if (world->phase != LAUNCHING)
        return;
    world->phase = well ? ALIVE : NOWHERE;
    say(well ? DRIVER_STARTED : DRIVER_START_FAILED, world->generation, 0);
}

static void die(EndCause cause)
{
    if (world->phase != ALIVE)
        return;
    world->phase = NOWHERE;
    say(DRIVER_ENDED, world->generation, cause);
}

static void driver_goes(void)
{
    if (world->online)
        vm_driver_offline(world->vm, "it is away");
    world->online = false;
}

/* The calls of an earlier connection have come to their end before it lists. */
static void driver_comes(void)
{
    if (world->online || world->phase == LAUNCHING)
        return;
    world->online = true;
    vm_driver_online(world->vm);
    if (world->phase == ALIVE)
        vm_driver_found(world->vm,
                        &(DriverEvent){.type = DRIVER_FOUND, .name = "web", .generation = world->generation});
    vm_driver_synced(world->vm);
    vm_admit(world->vm);
}

static void daemon_dies(void)
{
    world->online = false;
    workers_stop(world->host.files, 5000000);
    vm_free(world->vm);
    make_vm();
    vm_restore(world->vm);
}

static const EndCause causes[] = {END_POWEROFF, END_REBOOT, END_CRASHED, END_DESTROYED, END_TERMINATED};

static void step(void)
{
    switch (throw(20)) {
    case 0:
    case 1:
        start();
        break;
    case 2:
        stop(false);
        break;
    case 3:
        stop(true);
        break;
    case 4:
        restart();
        break;
    case 5:
        vm_request_reset_failed(world->vm);
        break;
    case 6:
        launch_answers(throw(4) > 0);
        break;
    case 7:
        die(causes[throw(ELEMENTSOF(causes))]);
        break;
    case 8:
        if (sd_id128_is_null(world->former))
            break;
        say(DRIVER_ENDED, world->former, END_CRASHED);
        say(DRIVER_STARTED, world->former, 0);
        break;
    case 9:
        driver_goes();
        break;
    case 10:
    case 11:
        driver_comes();
        break;
    case 12:
        daemon_dies();
        break;
    default:
        turn();
    }
}

/* What goes on by itself. */
static void go_on(void)
{
    driver_comes();
    launch_answers(throw(2));
    if (world->phase == ALIVE && (world->told_to_end || (world->asked && throw(2))))
        die(world->told_to_end ? END_DESTROYED : END_POWEROFF);
    turn();
}

static bool rests(void)
{
    MicrovmState state = world->vm->record.state;

    return (state == MICROVM_INACTIVE || state == MICROVM_FAILED) && world->vm->chores == 0;
}

static void come_to_rest(void)
{
    _cleanup_free_ char *copy = NULL;
    int turns = 0;

    while (!stop(false) && turns++ < PATIENCE)
        go_on();
    while (!rests() && turns++ < PATIENCE && !world->broken)
        go_on();
    must(rests(), "a stop does not lead to rest");
    must(world->phase == NOWHERE, "what rests has a hypervisor");
    assert_true(asprintf(&copy, "%s/kernel", world->vm->runtime_dir) > 0);
    must(access(copy, F_OK) < 0, "what rests holds files");
}

static void walk(Scratch *scratch, unsigned seed)
{
    static const char *const policies[] = {"no", "on-failure", "on-abnormal", "always"};
    char name[32];

    world = calloc(1, sizeof(*world));
    snprintf(name, sizeof(name), "%u", seed);
    assert_true(asprintf(&world->state_dir, "%s/state", scratch_path(scratch, name)) > 0);
    assert_true(asprintf(&world->runtime_dir, "%s/run", scratch_path(scratch, name)) > 0);
    world->kernel = strdup(scratch_path(scratch, "vmlinuz"));
    world->seed = seed;
    assert_true(asprintf(&world->definition,
                         "{\"kernel\": \"%s\", \"restart\": {\"policy\": \"%s\", \"delay\": \"1ms\", "
                         "\"maxDelay\": \"2ms\"}, "
                         "\"stop\": {\"timeout\": \"3ms\"}}",
                         world->kernel, policies[throw(ELEMENTSOF(policies))]) > 0);
    world->driver =
        (Driver){.ops = &fake_ops, .kind = DRIVER_KIND_LIBVIRT, .rotates_console = throw(16) == 0};
    assert_int_equal(sd_event_new(&world->event), 0);
    world->host = (VmHost){.event = world->event,
                           .state_dir = world->state_dir,
                           .runtime_dir = world->runtime_dir,
                           .spare_dir = world->runtime_dir,
                           .ask_again_usec = 1000,
                           .admit = on_admit,
                           .changed = on_changed,
                           .job_removed = on_job_removed};
    make_vm();
    for (int i = 0; i < STEPS && !world->broken; i++)
        step();
    if (!world->broken)
        come_to_rest();
    if (world->broken)
        fail_msg("%s, in state %s: MICROVMD_SEED=%u", world->broken,
                 microvm_state_to_string(world->vm->record.state), seed);
    workers_stop(world->host.files, 5000000);
    vm_free(world->vm);
    sd_event_unref(world->event);
    free(world->state_dir);
    free(world->runtime_dir);
    free(world->kernel);
    free(world->definition);
    free(world);
}

static void test_walks(void **context)
{
    const char *seed = getenv("MICROVMD_SEED");

    assert_int_equal(write_file_atomic(scratch_path(*context, "vmlinuz"), "kernel", 6, 0600), 0);
    if (seed) {
        walk(*context, (unsigned)strtoul(seed, NULL, 10));
        return;
    }
    for (unsigned i = 0; i < WALKS; i++)
        walk(*context, i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_walks, scratch_setup, scratch_teardown),
    };

    /* Failures are what is looked for here. */
    if (!getenv("MICROVMD_SEED"))
        setenv("MICROVMD_LOG_LEVEL", "emerg", 1);
    log_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
