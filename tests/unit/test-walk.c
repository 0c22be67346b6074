/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random walks through the life of a microVM as it ships, record, timers, workers and all; test-model.c
 * searches everything, but of less. What must hold is the same. A walk that fails tells its seed:
 * MICROVMD_SEED=N repeats it.
 */
#include "base/log.h"
#include "supervise-world.h"

enum {
    WALKS = 60,
    STEPS = 60,
};

/* Beside the world, in which this driver and this host take the places of those that only note. */
typedef struct Walk {
    char definition[128];
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
} Walk;

static Walk walk;

static unsigned throw(unsigned n)
{
    walk.seed = walk.seed * 1103515245 + 12345;
    return (walk.seed >> 16) % n;
}

static void must(bool holds, const char *what)
{
    if (!holds && !walk.broken)
        walk.broken = what;
}

/* --- the driver --- */

static CapabilitySet walk_capabilities(const VmSpec *spec)
{
    return CAPABILITY(CAP_STOP_BUTTON);
}

static int walk_start(Driver *driver, const StartRequest *request)
{
    if (!walk.online)
        return -EHOSTDOWN;
    must(!walk.off, "what a person stopped is launched");
    must(walk.phase == NOWHERE, "there are two hypervisors");
    walk.phase = LAUNCHING;
    walk.former = walk.generation;
    walk.generation = request->generation;
    walk.told_to_end = walk.asked = false;
    return 0;
}

static int walk_stop(Driver *driver, const char *name, sd_id128_t generation, StopAction action)
{
    if (!walk.online)
        return -EHOSTDOWN;
    if (walk.phase == NOWHERE || !sd_id128_equal(generation, walk.generation))
        return -ESRCH;
    walk.told_to_end |= action == STOP_ACTION_TERM || action == STOP_ACTION_KILL;
    walk.asked = true;
    return 0;
}

static int walk_set_paused(Driver *driver, const char *name, sd_id128_t generation, bool paused)
{
    return walk.online ? 0 : -EHOSTDOWN;
}

static const DriverOps walk_ops = {
    .capabilities = walk_capabilities,
    .start = walk_start,
    .stop = walk_stop,
    .set_paused = walk_set_paused,
    .accel_facts = fake_accel_facts,
};

static void tell(DriverEventType type, sd_id128_t generation, EndCause cause)
{
    if (walk.online)
        vm_driver_event(world->vm, &(DriverEvent){.type = type,
                                                  .name = "web",
                                                  .generation = generation,
                                                  .cause = cause,
                                                  .error = -EIO,
                                                  .run = {.pid = 4242}});
}

/* --- the host --- */

static int walk_admit(MicroVM *vm, char **ret_reason, void *userdata)
{
    vm->driver = &world->driver;
    vm->driver_online = walk.online;
    return walk.online;
}

/* --- what can happen --- */

static void turn(void)
{
    assert_true(sd_event_run(world->event, throw(2) * 1000) >= 0);
    vm_admit(world->vm);
}

static void try_start(void)
{
    _cleanup_free_ char *error = NULL;
    bool before = walk.off;
    uint64_t job;

    walk.off = false; /* it may be launched from within */
    if (vm_request_start(world->vm, &job, &error) < 0)
        walk.off = before;
}

static bool try_stop(bool force)
{
    _cleanup_free_ char *error = NULL;
    StopOptions options = {.force = force, .timeout_usec = UINT64_MAX};
    uint64_t job;

    if (vm_request_stop(world->vm, &options, &job, &error) < 0)
        return false;
    walk.off = true;
    return true;
}

static void try_restart(void)
{
    _cleanup_free_ char *error = NULL;
    StopOptions options = {.timeout_usec = UINT64_MAX};
    bool before = walk.off;
    uint64_t job;

    walk.off = false;
    if (vm_request_restart(world->vm, &options, &job, &error) < 0)
        walk.off = before;
}

static void launch_answers(bool well)
{
    if (walk.phase != LAUNCHING)
        return;
    walk.phase = well ? ALIVE : NOWHERE;
    tell(well ? DRIVER_STARTED : DRIVER_START_FAILED, walk.generation, 0);
}

static void die(EndCause cause)
{
    if (walk.phase != ALIVE)
        return;
    walk.phase = NOWHERE;
    tell(DRIVER_ENDED, walk.generation, cause);
}

static void driver_goes(void)
{
    if (walk.online)
        vm_driver_offline(world->vm, "it is away");
    walk.online = false;
}

/* The calls of an earlier connection have come to their end before it lists. */
static void driver_comes(void)
{
    if (walk.online || walk.phase == LAUNCHING)
        return;
    walk.online = true;
    vm_driver_online(world->vm);
    if (walk.phase == ALIVE)
        vm_driver_found(world->vm,
                        &(DriverEvent){.type = DRIVER_FOUND, .name = "web", .generation = walk.generation});
    vm_driver_synced(world->vm);
    vm_admit(world->vm);
}

static void daemon_dies(void)
{
    walk.online = false;
    restart_daemon_with(walk.definition);
}

static const EndCause causes[] = {END_POWEROFF, END_REBOOT, END_CRASHED, END_DESTROYED, END_TERMINATED};

static void step(void)
{
    switch (throw(20)) {
    case 0:
    case 1:
        try_start();
        break;
    case 2:
        try_stop(false);
        break;
    case 3:
        try_stop(true);
        break;
    case 4:
        try_restart();
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
        if (sd_id128_is_null(walk.former))
            break;
        tell(DRIVER_ENDED, walk.former, END_CRASHED);
        tell(DRIVER_STARTED, walk.former, 0);
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
    if (walk.phase == ALIVE && (walk.told_to_end || (walk.asked && throw(2))))
        die(walk.told_to_end ? END_DESTROYED : END_POWEROFF);
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

    UNTIL (try_stop(false))
        go_on();
    UNTIL (rests() || walk.broken)
        go_on();
    must(rests(), "a stop does not lead to rest");
    must(walk.phase == NOWHERE, "what rests has a hypervisor");
    assert_true(asprintf(&copy, "%s/kernel", world->vm->runtime_dir) > 0);
    must(access(copy, F_OK) < 0, "what rests holds files");
}

/* Begins with a world of its own. */
static void take_walk(unsigned seed)
{
    static const char *const policies[] = {"no", "on-failure", "on-abnormal", "always"};

    world_teardown(NULL);
    world_setup(NULL);
    walk = (Walk){.seed = seed};
    snprintf(walk.definition, sizeof(walk.definition),
             ", \"restart\": {\"policy\": \"%s\", \"delay\": \"1ms\", \"maxDelay\": \"2ms\"}, "
             "\"stop\": {\"timeout\": \"3ms\"}",
             policies[throw(ELEMENTSOF(policies))]);
    world->driver.ops = &walk_ops;
    world->driver.rotates_console = throw(16) == 0;
    world->host.admit = walk_admit;
    world->host.ask_again_usec = 1000;
    daemon_dies(); /* the next one has that definition, driver and host */
    for (int i = 0; i < STEPS && !walk.broken; i++)
        step();
    if (!walk.broken)
        come_to_rest();
    if (walk.broken)
        fail_msg("%s, in state %s: MICROVMD_SEED=%u", walk.broken,
                 microvm_state_to_string(world->vm->record.state), seed);
}

static void test_walks(void **context)
{
    const char *seed = getenv("MICROVMD_SEED");

    if (seed) {
        take_walk((unsigned)strtoul(seed, NULL, 10));
        return;
    }
    for (unsigned i = 0; i < WALKS; i++)
        take_walk(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_walks),
    };

    /* Failures are what is looked for here. */
    if (!getenv("MICROVMD_SEED"))
        setenv("MICROVMD_LOG_LEVEL", "emerg", 1);
    log_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
