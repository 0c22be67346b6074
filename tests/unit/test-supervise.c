/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One microVM under supervision, with a driver that only notes what it is told. */
#include "base/file.h"
#include "resource/console-log.h"
#include "supervise/vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

typedef struct World {
    char directory[64];
    char *state_dir, *runtime_dir, *kernel;
    sd_event *event;
    VmHost host;
    MicroVM *vm;
    Driver driver;
    /* what the driver was told */
    unsigned starts, graceful, forced, pauses;
    StopAction last_action;
    sd_id128_t generation;
    /* what the world says */
    int admit;
    unsigned refuses; /* bits by StopAction */
    const char *hold;
    MicrovmJobResult last_result;
    uint64_t last_job;
    char last_reason[512];
} World;

static World *world;

/* --- the driver --- */

static int fake_start(Driver *driver, const StartRequest *request)
{
    world->starts++;
    world->generation = request->generation;
    assert_int_equal(access(request->kernel, R_OK), 0); /* prepared before it is launched */
    return 0;
}

static int fake_stop(Driver *driver, const char *name, sd_id128_t generation, StopAction action)
{
    assert_false(sd_id128_is_null(generation));
    world->last_action = action;
    if (action == STOP_ACTION_TERM || action == STOP_ACTION_KILL)
        world->forced++;
    else
        world->graceful++;
    return world->refuses & 1u << action ? -EIO : 0;
}

static CapabilitySet fake_capabilities(const VmSpec *spec)
{
    return CAPABILITY(CAP_STOP_BUTTON) | CAPABILITY(CAP_STOP_KEYS);
}

static int fake_set_paused(Driver *driver, const char *name, sd_id128_t generation, bool paused)
{
    world->pauses++;
    return 0;
}

static void fake_accel_facts(Driver *driver, AccelFacts *ret_facts)
{
    *ret_facts = (AccelFacts){.device_exists = false, .device_error = -ENOENT};
}

static const DriverOps fake_ops = {
    .capabilities = fake_capabilities,
    .start = fake_start,
    .stop = fake_stop,
    .set_paused = fake_set_paused,
    .accel_facts = fake_accel_facts,
};

/* --- the host --- */

static int on_admit(MicroVM *vm, char **ret_reason, void *userdata)
{
    vm->driver = &world->driver;
    vm->driver_online = true;
    if (world->hold)
        *ret_reason = strdup(world->hold);
    return world->admit;
}

static void on_changed(MicroVM *vm, void *userdata)
{
}

static void on_job_removed(MicroVM *vm, Job job, MicrovmJobResult result, const char *reason, void *userdata)
{
    world->last_job = job.id;
    world->last_result = result;
    snprintf(world->last_reason, sizeof(world->last_reason), "%s", reason);
}

static MicrovmState state(void)
{
    return world->vm->record.state;
}

/* Runs the loop until the microVM is in `wanted`; 5 s are for ever. */
static void wait_for(MicrovmState wanted)
{
    for (int i = 0; i < 500 && state() != wanted; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_string_equal(microvm_state_to_string(state()), microvm_state_to_string(wanted));
}

static void say(DriverEventType type, EndCause cause)
{
    vm_driver_event(world->vm, &(DriverEvent){.type = type,
                                              .name = "web",
                                              .generation = world->generation,
                                              .cause = cause,
                                              .error = -EIO,
                                              .text = "as told",
                                              .run = {.pid = 4242}});
}

static VmSpec *make_spec(const char *more)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *text = NULL;
    VmSpec *spec = NULL;

    assert_true(asprintf(&text, "{\"kernel\": \"%s\" %s}", world->kernel, more) > 0);
    assert_int_equal(
        vm_spec_parse("web", "/etc/web.json", text, strlen(text), &(SpecContext){0}, &problems, &spec), 0);
    return spec;
}

static void define(const char *more)
{
    VmSpec *spec = make_spec(more);

    vm_set_definition(world->vm, spec, "/etc/web.json", NULL);
    vm_spec_unref(spec);
}

static void write_console(const char *text)
{
    _cleanup_free_ char *path = console_log_path(world->vm->state_dir, 0, -1);

    assert_int_equal(write_file_atomic(path, text, strlen(text), 0600), 0);
}

static int setup(void **context)
{
    world = calloc(1, sizeof(*world));
    strcpy(world->directory, "/tmp/microvmd-test.XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    assert_true(asprintf(&world->state_dir, "%s/state", world->directory) > 0);
    assert_true(asprintf(&world->runtime_dir, "%s/run", world->directory) > 0);
    assert_true(asprintf(&world->kernel, "%s/vmlinuz", world->directory) > 0);
    assert_int_equal(write_file_atomic(world->kernel, "kernel", 6, 0600), 0);
    assert_int_equal(sd_event_new(&world->event), 0);
    world->admit = 1;
    world->driver = (Driver){.ops = &fake_ops, .kind = DRIVER_KIND_LIBVIRT};
    world->host = (VmHost){
        .event = world->event,
        .state_dir = world->state_dir,
        .runtime_dir = world->runtime_dir,
        .spare_dir = world->runtime_dir,
        .ask_again_usec = 20000,
        .admit = on_admit,
        .changed = on_changed,
        .job_removed = on_job_removed,
    };
    assert_int_equal(workers_new(world->event, "files", 2, &world->host.files), 0);
    assert_int_equal(vm_new(&world->host, "web", &world->vm), 0);
    define("");
    return 0;
}

static int teardown(void **context)
{
    workers_stop(world->host.files, 5000000);
    vm_free(world->vm);
    sd_event_unref(world->event);
    remove_tree(world->directory);
    free(world->state_dir);
    free(world->runtime_dir);
    free(world->kernel);
    free(world);
    return 0;
}

/* As after a kill -9 of the daemon: everything in memory is gone, the files are there. */
static void restart_daemon(void)
{
    workers_stop(world->host.files, 5000000);
    assert_int_equal(workers_new(world->event, "files", 2, &world->host.files), 0);
    vm_free(world->vm);
    assert_int_equal(vm_new(&world->host, "web", &world->vm), 0);
    define("");
    world->vm->driver = &world->driver;
    vm_restore(world->vm);
}

static uint64_t start(void)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(vm_request_start(world->vm, &job, &error), 0);
    return job;
}

static void run_it(void)
{
    start();
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
}

static uint64_t stop(bool force)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(
        vm_request_stop(world->vm, &(StopOptions){.force = force, .timeout_usec = UINT64_MAX}, &job, &error),
        0);
    return job;
}

/* --- tests --- */

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

static void test_start_and_stop(void **context)
{
    uint64_t job = start();

    wait_for(MICROVM_STARTING);
    assert_int_equal(world->starts, 1);
    assert_int_equal(world->last_job, 0);
    say(DRIVER_STARTED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_int_equal(world->vm->pid, 4242);

    job = stop(false);
    assert_int_equal(state(), MICROVM_STOPPING);
    assert_int_equal(world->graceful, 1);
    say(DRIVER_ENDED, END_POWEROFF);
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
    say(DRIVER_STARTED, 0);
    assert_int_equal(world->forced, 1);
    say(DRIVER_ENDED, END_DESTROYED);
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

static void test_start_during_stop(void **context)
{
    uint64_t job;

    run_it();
    stop(false);
    job = start();
    assert_int_equal(world->last_result, MICROVM_JOB_SUPERSEDED);
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
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
    say(DRIVER_START_FAILED, 0);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
}

static void test_stop_timeout_forces(void **context)
{
    define(", \"stop\": {\"timeout\": \"50ms\"}");
    run_it();
    stop(false);
    for (int i = 0; i < 500 && world->forced == 0; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_int_equal(world->forced, 1);
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_FORCED);
}

/* A guest that was still booting has not heard the first time. */
static void test_stop_is_asked_again(void **context)
{
    run_it();
    stop(false);
    for (int i = 0; i < 500 && world->graceful < 3; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_true(world->graceful >= 3);
    assert_int_equal(world->forced, 0);
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_CLEAN);
}

/* However long somebody is willing to wait. */
static void test_stop_without_haste(void **context)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    run_it();
    assert_int_equal(vm_request_stop(world->vm, &(StopOptions){.timeout_usec = UINT64_MAX - 1}, &job, &error),
                     0);
    for (int i = 0; i < 500 && world->graceful < 3; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_true(world->graceful >= 3);
    assert_int_equal(world->forced, 0);
}

static void test_force(void **context)
{
    run_it();
    stop(true);
    assert_int_equal(world->graceful, 0);
    assert_int_equal(world->forced, 1);
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_SUCCESS);
}

static void test_crash_restarts_after_the_delay(void **context)
{
    define(", \"restart\": {\"delay\": \"20ms\"}");
    run_it();
    say(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_BACKOFF);
    assert_true(world->vm->record.next_restart_boot_usec > 0);
    wait_for(MICROVM_STARTING);
    assert_int_equal(world->starts, 2);
    assert_int_equal(world->vm->record.n_restarts, 1);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_SIGNAL);
}

static void test_somebody_elses_stop_stays(void **context)
{
    define(", \"restart\": {\"policy\": \"always\"}");
    run_it();
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_non_null(strstr(world->vm->record.reason, "stopped by somebody else"));
}

/* Also when the crash comes between the wish and the act. */
static void test_manual_stop_wins_over_a_crash(void **context)
{
    define(", \"restart\": {\"policy\": \"always\"}");
    run_it();
    stop(false);
    say(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_INACTIVE);
}

/* The crash came first, and its restart is due. */
static void test_stop_during_backoff_stays(void **context)
{
    uint64_t job;

    define(", \"restart\": {\"policy\": \"always\", \"delay\": \"50ms\"}");
    run_it();
    say(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_BACKOFF);
    job = stop(false);
    assert_int_equal(state(), MICROVM_INACTIVE);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_null(world->vm->restart_timer);
    for (int i = 0; i < 10; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_int_equal(state(), MICROVM_INACTIVE);
    restart_daemon();
    assert_int_equal(state(), MICROVM_INACTIVE);
    assert_int_equal(world->starts, 1);
}

/* The run is over, and its console is still looked at: somebody stops it at that very moment. */
static void test_stop_while_it_settles_stays(void **context)
{
    uint64_t job;

    world->driver.rotates_console = true;
    define(", \"restart\": {\"policy\": \"always\"}");
    run_it();
    say(DRIVER_ENDED, END_REBOOT);
    assert_true(world->vm->settling);
    job = stop(false);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_int_equal(world->graceful + world->forced, 0); /* there is nobody to ask */
    assert_int_equal(world->starts, 1);
}

/* Accepted, and the daemon died before anything came of it; so did the hypervisor. */
static void test_stop_then_crash_unwatched_stays(void **context)
{
    define(", \"restart\": {\"policy\": \"always\"}");
    run_it();
    stop(false);
    restart_daemon();
    vm_driver_online(world->vm);
    vm_driver_synced(world->vm);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_LOST);
}

/* A stop takes back the start that was to follow another one. */
static void test_stop_after_restart_stays(void **context)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    run_it();
    assert_int_equal(vm_request_restart(world->vm, &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error),
                     0);
    stop(false);
    assert_int_equal(world->last_result, MICROVM_JOB_SUPERSEDED);
    say(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_INACTIVE);
}

static void test_on_reboot_and_on_poweroff(void **context)
{
    define(", \"onReboot\": \"stop\", \"onPoweroff\": \"restart\", \"restart\": {\"delay\": 0}");
    run_it();
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
    write_console("[ 2.0] reboot: Restarting system\n");
    say(DRIVER_ENDED, END_REBOOT);
    wait_for(MICROVM_INACTIVE);
    assert_string_equal(world->vm->record.reason, "the guest rebooted; onReboot is \"stop\"");
}

static void test_guest_reboot_and_poweroff(void **context)
{
    run_it();
    write_console("[ 2.0] reboot: Restarting system\n");
    say(DRIVER_ENDED, END_REBOOT);
    wait_for(MICROVM_STARTING);
    assert_int_equal(world->vm->record.n_restarts, 1);
    say(DRIVER_STARTED, 0);
    write_console("[ 2.0] reboot: Power down\n");
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_SUCCESS);
}

static void test_panic_is_read_from_the_console(void **context)
{
    run_it();
    write_console("[ 2.0] Kernel panic - not syncing: sysrq triggered crash\n");
    say(DRIVER_ENDED, END_REBOOT);
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
    say(DRIVER_ENDED, END_REBOOT);
    assert_int_equal(state(), MICROVM_RUNNING);
    write_console("Kernel panic - not syncing: late\n");
    wait_for(MICROVM_BACKOFF);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_GUEST_PANIC);
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

static void test_start_limit(void **context)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    define(", \"restart\": {\"delay\": 0}");
    run_it();
    for (int i = 0; i < 5; i++) {
        say(DRIVER_ENDED, END_CRASHED);
        wait_for(MICROVM_STARTING);
        say(DRIVER_STARTED, 0);
    }
    say(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_FAILED);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_START_LIMIT);
    assert_int_equal(vm_request_start(world->vm, &job, &error), -ECANCELED);
    assert_non_null(strstr(error, "reset-failed"));
    vm_request_reset_failed(world->vm);
    assert_int_equal(state(), MICROVM_INACTIVE);
    start();
    wait_for(MICROVM_STARTING);
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
    say(DRIVER_ENDED, END_CRASHED);
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

static void found_as(bool paused)
{
    vm_driver_online(world->vm);
    vm_driver_found(world->vm, &(DriverEvent){.type = DRIVER_FOUND,
                                              .name = "web",
                                              .generation = world->generation,
                                              .run = {.pid = 4242, .accel = ACCEL_TCG, .paused = paused}});
    vm_driver_synced(world->vm);
}

static void found(void)
{
    found_as(false);
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

static void test_adoption_of_a_paused_start(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    restart_daemon();
    found_as(true);
    assert_int_equal(state(), MICROVM_PAUSED);
    assert_string_equal(world->vm->record.reason, "the guest is paused");
    say(DRIVER_RESUMED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
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

static void ask_restart(void)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(vm_request_restart(world->vm, &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error),
                     0);
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
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
    /* there is no further rung */
    for (int i = 0; i < 3; i++)
        stop(true);
    assert_int_equal(world->last_action, STOP_ACTION_KILL);
    ask_restart();
    restart_daemon();
    found();
    say(DRIVER_ENDED, END_DESTROYED);
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
    for (int i = 0; i < 500 && world->vm->chores > 0; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_int_equal(world->vm->chores, 0);
}

/* Killed before it had cleaned up, or while it prepared a start that is then called off. */
static void test_nothing_is_left_by_a_death_of_the_daemon(void **context)
{
    _cleanup_free_ char *copy = NULL;

    assert_true(asprintf(&copy, "%s/kernel", world->vm->runtime_dir) > 0);
    run_it();
    stop(true);
    say(DRIVER_ENDED, END_DESTROYED);
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
    say(DRIVER_ENDED, END_POWEROFF);
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
    say(DRIVER_ENDED, END_CRASHED);
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
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
}

/* --- the ladder of a stop --- */

#define LADDER                                                                                               \
    ", \"stop\": {\"steps\": [{\"action\": \"acpi\", \"timeout\": \"60ms\"}, {\"action\": "                  \
    "\"ctrl-alt-del\", \"timeout\": \"60ms\"}, {\"action\": \"term\", \"timeout\": \"60ms\"}, \"kill\"]}"

static void wait_for_action(StopAction action)
{
    for (int i = 0; i < 500 && world->last_action != action; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_string_equal(stop_action_to_string(world->last_action), stop_action_to_string(action));
}

static void test_climbs_all_rungs(void **context)
{
    define(LADDER);
    run_it();
    stop(false);
    wait_for_action(STOP_ACTION_ACPI);
    wait_for_action(STOP_ACTION_CTRL_ALT_DEL);
    assert_non_null(
        strstr(world->vm->record.reason, "trying ctrl-alt-del; the power button has not helped for 0."));
    assert_true(world->graceful >= 3); /* the button was pressed more than once */
    wait_for_action(STOP_ACTION_TERM);
    wait_for_action(STOP_ACTION_KILL);
    assert_int_equal(state(), MICROVM_STOPPING);
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_FORCED);
    assert_int_equal(world->vm->record.stop.n, 0);
}

/* A stop under way, for which somebody has less patience. */
static void test_less_time_for_a_stop_under_way(void **context)
{
    StopOptions options = {.timeout_usec = 50000};
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    define(", \"stop\": {\"timeout\": \"1h\"}");
    run_it();
    stop(false);
    world->graceful = 0;
    assert_int_equal(vm_request_stop(world->vm, &options, &job, &error), 0);
    assert_int_equal(world->graceful, 1);
    wait_for_action(STOP_ACTION_TERM);
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
}

/* What the driver can't do costs no time. */
static void test_refused_rung_is_passed(void **context)
{
    define(", \"stop\": {\"steps\": [\"ctrl-alt-del\", \"acpi\"], \"timeout\": \"1h\"}");
    world->refuses = 1u << STOP_ACTION_CTRL_ALT_DEL;
    run_it();
    stop(false);
    assert_int_equal(world->last_action, STOP_ACTION_ACPI);
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_CLEAN);
}

static void refuse(StopAction action)
{
    vm_driver_event(world->vm, &(DriverEvent){.type = DRIVER_STOP_REFUSED,
                                              .name = "web",
                                              .generation = world->generation,
                                              .action = action,
                                              .text = "the guest's agent refuses to shut it down: secret"});
}

/* It is known at once, whatever time the step has; also by the next daemon. */
static void test_refusal_is_not_waited_for(void **context)
{
    define(", \"stop\": {\"steps\": [\"agent\", \"acpi\"], \"timeout\": \"1h\"}");
    run_it();
    refuse(STOP_ACTION_AGENT); /* nobody stops it */
    assert_int_equal(state(), MICROVM_RUNNING);
    stop(false);
    assert_int_equal(world->last_action, STOP_ACTION_AGENT);
    refuse(STOP_ACTION_AGENT);
    assert_int_equal(world->last_action, STOP_ACTION_ACPI);
    assert_string_equal(world->vm->record.reason, "trying the power button; the guest's agent refused");
    refuse(STOP_ACTION_AGENT); /* late */
    assert_int_equal(world->last_action, STOP_ACTION_ACPI);
    restart_daemon();
    assert_true(world->vm->record.stop.rungs[0].refused);
    found();
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_non_null(strstr(world->vm->record.reason, "; the guest's agent refused)"));
}

static void test_ladder_survives_the_daemon(void **context)
{
    StopLadder before;

    define(", \"stop\": {\"steps\": [{\"action\": \"acpi\", \"timeout\": \"20ms\"}, \"ctrl-alt-del\"], "
           "\"timeout\": \"1h\"}");
    run_it();
    stop(false);
    wait_for_action(STOP_ACTION_CTRL_ALT_DEL);
    before = world->vm->record.stop;
    assert_int_equal(before.at, 1);
    restart_daemon();
    assert_memory_equal(&world->vm->record.stop, &before, sizeof(before));
    world->last_action = STOP_ACTION_AGENT;
    found();
    assert_int_equal(world->last_action, STOP_ACTION_CTRL_ALT_DEL);
    assert_int_equal(world->vm->record.stop.rungs[1].since_boot_usec, before.rungs[1].since_boot_usec);
    stop(true);
    assert_int_equal(world->last_action, STOP_ACTION_TERM);
    restart_daemon();
    found();
    assert_int_equal(world->last_action, STOP_ACTION_TERM);
    stop(true);
    assert_int_equal(world->last_action, STOP_ACTION_KILL);
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_SUCCESS);
}

/* An earlier microvmd knew nothing of ladders. */
static void test_stop_of_an_earlier_version_goes_on(void **context)
{
    run_it();
    stop(false);
    world->vm->record.stop = (StopLadder){0};
    vm_save(world->vm);
    restart_daemon();
    world->graceful = 0;
    found();
    assert_int_equal(world->graceful, 1);
    assert_int_equal(world->vm->record.stop.n, 3);
    world->vm->record.stop = (StopLadder){0};
    world->vm->record.stop_deadline_boot_usec = 1; /* it is over */
    vm_save(world->vm);
    restart_daemon();
    found();
    assert_int_equal(world->last_action, STOP_ACTION_TERM);
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
}

static void test_broken_definition_leaves_the_run_alone(void **context)
{
    run_it();
    vm_set_definition(world->vm, NULL, "/etc/web.json", "the definition can't be used: line 1");
    assert_int_equal(state(), MICROVM_RUNNING);
    stop(false);
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
}

static void test_broken_definition_is_shown(void **context)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    vm_set_definition(world->vm, NULL, "/etc/web.json", "the definition can't be used: line 1");
    assert_int_equal(state(), MICROVM_FAILED);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_CONFIG);
    assert_int_equal(vm_request_start(world->vm, &job, &error), -EBADMSG);
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
    say(DRIVER_ENDED, END_CRASHED); /* nothing to start again from */
    wait_for(MICROVM_FAILED);
}

static void test_failed_start_without_a_definition_is_the_end(void **context)
{
    start();
    wait_for(MICROVM_STARTING);
    vm_set_definition(world->vm, NULL, NULL, NULL);
    say(DRIVER_START_FAILED, 0);
    assert_int_equal(state(), MICROVM_FAILED);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_RESOURCES);
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
    say(DRIVER_STARTED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
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
    say(DRIVER_PAUSED, 0);
    assert_int_equal(pause_result, 0);
    assert_int_equal(state(), MICROVM_PAUSED);
    stop(false);
    assert_int_equal(world->pauses, 2); /* a paused guest can't hear */
    assert_int_equal(world->graceful, 1);
}

/* --- what apply needs --- */

static void restart(void)
{
    ask_restart();
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
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
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
    assert_int_equal(world->vm->booted->mem_mib, 256);
    assert_int_equal(world->vm->outdated, OUTDATED(MICROVM_OUTDATED_DEFINITION));
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    /* Another daemon, a crash, a start of what runs: all the same. */
    restart_daemon();
    found();
    assert_int_equal(world->vm->outdated, OUTDATED(MICROVM_OUTDATED_DEFINITION));
    start();
    say(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
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
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_FAILED);
    assert_int_equal(vm_request_fallback(world->vm, before, &job, &error), 0);
    vm_spec_unref(before);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
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
    say(DRIVER_STARTED, 0);
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
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    vm_set_outdated_files(world->vm, OUTDATED(MICROVM_OUTDATED_KERNEL));
    assert_int_equal(world->vm->outdated, 0); /* what does not run is never outdated */
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
    for (int i = 0; i < 500 && forget_result == 1; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
}

static void test_a_lost_volume_can_be_given_up(void **context)
{
    _cleanup_free_ char *image = NULL;

    define(", \"volumes\": [{\"image\": \"d.img\", \"size\": 8}]");
    run_it();
    stop(true);
    say(DRIVER_ENDED, END_DESTROYED);
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

/* --- readiness --- */

#define CONSOLE_READY ", \"readiness\": {\"type\": \"console\", \"pattern\": \"^up$\"}"
#define LATE(what)                                                                                           \
    ", \"readiness\": {\"type\": \"console\", \"pattern\": \"^up$\", \"timeout\": 0, \"onTimeout\": \"" what \
    "\"}"

static MicrovmReadiness readiness(void)
{
    return world->vm->record.readiness.state;
}

static void wait_for_readiness(MicrovmReadiness wanted)
{
    for (int i = 0; i < 500 && readiness() != wanted; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_string_equal(microvm_readiness_to_string(readiness()), microvm_readiness_to_string(wanted));
}

/* Returns the job that waits for it to be ready. */
static uint64_t run_until_ready(void)
{
    uint64_t job;

    start();
    job = vm_wait_ready(world->vm, MICROVM_JOB_START);
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
    return job;
}

/* The last of its trail that is about readiness. */
static const char *readiness_event(void)
{
    const Trail *trail = &world->vm->record.past.trail;

    for (unsigned i = trail->count; i > 0; i--)
        if (trail_get(trail, i - 1)->kind == MICROVM_EVENT_READINESS)
            return trail_get(trail, i - 1)->text;
    return "";
}

static void test_ready_by_its_console(void **context)
{
    uint64_t job;

    define(CONSOLE_READY);
    job = run_until_ready();
    assert_int_not_equal(world->last_job, job); /* it runs, and is not ready */
    assert_int_equal(readiness(), MICROVM_READINESS_WAITING);
    assert_non_null(strstr(world->vm->readiness_reason, "waiting for a line"));
    write_console("Linux\nup and coming\n");
    for (int i = 0; i < 500 && world->vm->record.readiness.kernel.boot_usec == 0; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_non_null(strstr(world->vm->readiness_reason, "its kernel was up after"));
    assert_int_equal(readiness(), MICROVM_READINESS_WAITING);
    assert_string_equal(readiness_event(), "");
    write_console("Linux\nup and coming\nup\n");
    wait_for_readiness(MICROVM_READINESS_READY);
    assert_ptr_equal(strstr(readiness_event(), "ready: a line on its console matched, after "),
                     readiness_event());
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    assert_true(world->vm->record.readiness.ready.real_usec > 0);
    /* Of one that is ready there is nothing to wait for. */
    start();
    job = vm_wait_ready(world->vm, MICROVM_JOB_START);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_DONE);
    say(DRIVER_ENDED, END_DESTROYED);
    wait_for(MICROVM_INACTIVE);
    assert_int_equal(readiness(), MICROVM_READINESS_NONE);
    assert_null(world->vm->readiness_reason);
}

static void test_waiting_for_ready_ends_with_the_run(void **context)
{
    uint64_t job;

    define(CONSOLE_READY ", \"restart\": {\"policy\": \"no\"}");
    job = run_until_ready();
    say(DRIVER_ENDED, END_CRASHED);
    wait_for(MICROVM_FAILED);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_FAILED);
    job = run_until_ready();
    stop(false);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_SUPERSEDED);
}

static void test_late_and_kept(void **context)
{
    uint64_t job;

    define(LATE("wait"));
    job = run_until_ready();
    wait_for_readiness(MICROVM_READINESS_TIMED_OUT);
    assert_int_equal(state(), MICROVM_RUNNING);
    assert_int_equal(world->last_job, job);
    assert_int_equal(world->last_result, MICROVM_JOB_TIMEOUT);
    assert_non_null(strstr(world->last_reason, "not ready within"));
    assert_ptr_equal(strstr(readiness_event(), "timed-out: not ready within "), readiness_event());
    write_console("up\n");
    wait_for_readiness(MICROVM_READINESS_READY);
    assert_ptr_equal(strstr(readiness_event(), "ready: "), readiness_event());
    assert_int_equal(world->graceful + world->forced, 0);
}

/* Its guest is asked to stop, as anyone's; but that is a failure, after which the restart policy applies. */
static void test_late_and_restarted(void **context)
{
    define(LATE("restart"));
    run_it();
    wait_for(MICROVM_STOPPING);
    assert_int_equal(world->graceful, 1);
    assert_non_null(strstr(world->vm->record.reason, "not ready within"));
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_BACKOFF);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
    assert_int_equal(world->vm->record.last_stop, MICROVM_LAST_STOP_CLEAN);
    assert_non_null(strstr(world->vm->record.reason, "it starts again in"));
    wait_for(MICROVM_STARTING);
    say(DRIVER_STARTED, 0);
    wait_for(MICROVM_STOPPING);
    stop(false); /* which is never undone */
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
}

static void test_late_and_given_up(void **context)
{
    define(LATE("fail"));
    run_it();
    wait_for(MICROVM_STOPPING);
    restart_daemon(); /* which forgets nothing of it */
    found();
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_FAILED);
    assert_int_equal(world->vm->record.result, MICROVM_RESULT_TIMEOUT);
    assert_non_null(strstr(world->vm->record.reason, "given up"));
    /* A person may start it meanwhile. */
    define(LATE("fail"));
    run_it();
    wait_for(MICROVM_STOPPING);
    start();
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_STARTING);
}

/* A daemon that comes back waits on, within the time that is left; who was ready stays so. */
static void test_readiness_survives_the_daemon(void **context)
{
    uint64_t deadline;

    define(CONSOLE_READY);
    run_it();
    deadline = world->vm->record.readiness.deadline_boot_usec;
    assert_true(deadline > 0);
    restart_daemon();
    assert_int_equal(readiness(), MICROVM_READINESS_WAITING);
    assert_int_equal(world->vm->record.readiness.deadline_boot_usec, deadline);
    write_console("up\n"); /* while its driver is away */
    found();
    wait_for_readiness(MICROVM_READINESS_READY);
    restart_daemon();
    assert_int_equal(readiness(), MICROVM_READINESS_READY);
    found();
    assert_int_equal(readiness(), MICROVM_READINESS_READY);
    assert_non_null(strstr(world->vm->readiness_reason, "a line on its console matched, after"));
}

static void hear(const char *text)
{
    char *message = strdup(text);

    vm_notify_hear(world->vm, message);
    free(message);
}

/* The trouble of a guest is the reason of its state, and stays that until it is over. */
static void test_trouble_survives_the_daemon(void **context)
{
    static const char shell[] = "the guest is in an emergency shell";

    define(", \"readiness\": {\"type\": \"notify\"}");
    run_it();
    hear("X_SYSTEMD_UNIT_ACTIVE=sysinit.target");
    hear("X_SYSTEMD_UNIT_ACTIVE=emergency.target");
    hear("READY=1");
    assert_string_equal(world->vm->record.reason, shell);
    restart_daemon();
    found();
    assert_string_equal(world->vm->record.reason, shell);
    assert_non_null(strstr(world->vm->readiness_reason, shell));
    say(DRIVER_PAUSED, 0);
    assert_string_equal(world->vm->record.reason, "the guest is paused");
    say(DRIVER_RESUMED, 0);
    assert_string_equal(world->vm->record.reason, shell);
    /* That it has booted it does not say a second time. */
    hear("X_SYSTEMD_UNIT_INACTIVE=emergency.target");
    restart_daemon();
    found();
    hear("X_SYSTEMD_UNIT_ACTIVE=multi-user.target");
    assert_int_equal(readiness(), MICROVM_READINESS_READY);
    assert_string_equal(world->vm->record.reason, "the guest is running");
    say(DRIVER_ENDED, END_POWEROFF);
    wait_for(MICROVM_INACTIVE);
    assert_false(world->vm->record.words.ready);
}

/* A daemon that did not hear it hang hears that it lives again. */
static void test_a_hang_survives_the_daemon(void **context)
{
    define(", \"watchdog\": {\"type\": \"notify\", \"timeout\": 300, \"action\": \"wait\"}");
    run_it();
    hear("WATCHDOG=1");
    hear("WATCHDOG=trigger");
    assert_string_equal(world->vm->record.reason, "the guest hangs: its own watchdog says so");
    restart_daemon();
    found();
    assert_string_equal(world->vm->record.reason, "the guest hangs: its own watchdog says so");
    hear("WATCHDOG=1");
    assert_string_equal(world->vm->record.reason, "the guest is running");
    restart_daemon();
    found();
    assert_string_equal(world->vm->record.reason, "the guest is running");
}

static void test_what_a_guest_says(void **context)
{
    define(CONSOLE_READY);
    vm_guest_ready(world->vm, "nobody is there"); /* means nothing */
    assert_int_equal(readiness(), MICROVM_READINESS_NONE);
    start();
    wait_for(MICROVM_STARTING);
    vm_guest_ready(world->vm, "it is quick");
    assert_int_equal(readiness(), MICROVM_READINESS_READY);
    say(DRIVER_STARTED, 0);
    vm_guest_not_ready(world->vm, "it shuts down");
    assert_int_equal(readiness(), MICROVM_READINESS_LOST);
    assert_string_equal(world->vm->readiness_reason, "ready no longer: it shuts down");
    assert_string_equal(readiness_event(), "lost: ready no longer: it shuts down");
    vm_guest_status(world->vm, "serving\x1b[31m \xff");
    assert_string_equal(world->vm->status_text, "serving?[31m ?");
    vm_guest_status(world->vm, NULL);
    assert_null(world->vm->status_text);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unfinished_writes),
        TEST(test_start_and_stop),
        TEST(test_start_of_running_and_stop_of_stopped_are_done),
        TEST(test_same_job_is_joined),
        TEST(test_stop_supersedes_start),
        TEST(test_stop_during_preparation),
        TEST(test_start_during_stop),
        TEST(test_start_again_is_once),
        TEST(test_stop_timeout_forces),
        TEST(test_stop_is_asked_again),
        TEST(test_stop_without_haste),
        TEST(test_force),
        TEST(test_crash_restarts_after_the_delay),
        TEST(test_somebody_elses_stop_stays),
        TEST(test_manual_stop_wins_over_a_crash),
        TEST(test_stop_during_backoff_stays),
        TEST(test_stop_while_it_settles_stays),
        TEST(test_stop_then_crash_unwatched_stays),
        TEST(test_stop_after_restart_stays),
        TEST(test_on_reboot_and_on_poweroff),
        TEST(test_climbs_all_rungs),
        TEST(test_less_time_for_a_stop_under_way),
        TEST(test_refused_rung_is_passed),
        TEST(test_refusal_is_not_waited_for),
        TEST(test_ladder_survives_the_daemon),
        TEST(test_stop_of_an_earlier_version_goes_on),
        TEST(test_guest_reboot_and_poweroff),
        TEST(test_panic_is_read_from_the_console),
        TEST(test_late_console_is_waited_for),
        TEST(test_started_paused),
        TEST(test_start_limit),
        TEST(test_failed_preparation_says_why),
        TEST(test_stale_events_are_dropped),
        TEST(test_held_start),
        TEST(test_adoption_after_a_crash_of_the_daemon),
        TEST(test_adoption_of_a_paused_start),
        TEST(test_adoption_finishes_a_start),
        TEST(test_stop_of_a_preparation_survives_the_daemon),
        TEST(test_restart_of_a_stopping_one_survives_the_daemon),
        TEST(test_start_of_a_starting_one_survives_the_daemon),
        TEST(test_nothing_is_left_by_a_death_of_the_daemon),
        TEST(test_start_without_a_generation_begins_anew),
        TEST(test_gone_while_nobody_watched),
        TEST(test_manual_stop_survives_the_daemon),
        TEST(test_backoff_survives_the_daemon),
        TEST(test_stop_goes_on_after_a_crash_of_the_daemon),
        TEST(test_broken_definition_leaves_the_run_alone),
        TEST(test_broken_definition_is_shown),
        TEST(test_outdated_and_undeclared),
        TEST(test_failed_start_without_a_definition_is_the_end),
        TEST(test_start_without_an_answer),
        TEST(test_stop_of_a_preparation_asks_no_driver),
        TEST(test_pause_and_resume),
        TEST(test_fallback_lasts_until_a_person_starts_it),
        TEST(test_fallback_from_a_failure_ends_with_another_definition),
        TEST(test_live_changes_are_on_record),
        TEST(test_boot_files_are_on_record),
        TEST(test_a_stop_before_the_first_start_is_remembered),
        TEST(test_a_lost_volume_can_be_given_up),
        TEST(test_ready_by_its_console),
        TEST(test_waiting_for_ready_ends_with_the_run),
        TEST(test_late_and_kept),
        TEST(test_late_and_restarted),
        TEST(test_late_and_given_up),
        TEST(test_readiness_survives_the_daemon),
        TEST(test_trouble_survives_the_daemon),
        TEST(test_a_hang_survives_the_daemon),
        TEST(test_what_a_guest_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
