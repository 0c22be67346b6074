/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise-world.h"

#include "resource/console-log.h"

World *world;

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

void fake_accel_facts(Driver *driver, AccelFacts *ret_facts)
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

MicrovmState state(void)
{
    return world->vm->record.state;
}

void wait_for(MicrovmState wanted)
{
    RUN_UNTIL(world->event, state() == wanted);
    assert_string_equal(microvm_state_to_string(state()), microvm_state_to_string(wanted));
}

void driver_says(DriverEventType type, EndCause cause)
{
    vm_driver_event(world->vm, &(DriverEvent){.type = type,
                                              .name = "web",
                                              .generation = world->generation,
                                              .cause = cause,
                                              .error = -EIO,
                                              .text = "as told",
                                              .run = {.pid = 4242}});
}

VmSpec *make_spec(const char *more)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *text = NULL;
    VmSpec *spec = NULL;

    assert_true(asprintf(&text, "{\"kernel\": \"%s\" %s}", world->kernel, more) > 0);
    assert_int_equal(
        vm_spec_parse("web", "/etc/web.json", text, strlen(text), &(SpecContext){0}, &problems, &spec), 0);
    return spec;
}

void define(const char *more)
{
    VmSpec *spec = make_spec(more);

    vm_set_definition(world->vm, spec, "/etc/web.json", NULL);
    vm_spec_unref(spec);
}

void write_console(const char *text)
{
    _cleanup_free_ char *path = console_log_path(world->vm->state_dir, 0, -1);

    assert_int_equal(write_file_atomic(path, text, strlen(text), 0600), 0);
}

int world_setup(void **context)
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

int world_teardown(void **context)
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

void restart_daemon_with(const char *more)
{
    workers_stop(world->host.files, 5000000);
    assert_int_equal(workers_new(world->event, "files", 2, &world->host.files), 0);
    vm_free(world->vm);
    assert_int_equal(vm_new(&world->host, "web", &world->vm), 0);
    define(more);
    world->vm->driver = &world->driver;
    vm_restore(world->vm);
}

void restart_daemon(void)
{
    restart_daemon_with("");
}

uint64_t start(void)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(vm_request_start(world->vm, &job, &error), 0);
    return job;
}

void run_it(void)
{
    start();
    wait_for(MICROVM_STARTING);
    driver_says(DRIVER_STARTED, 0);
    assert_int_equal(state(), MICROVM_RUNNING);
}

uint64_t stop(bool force)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(
        vm_request_stop(world->vm, &(StopOptions){.force = force, .timeout_usec = UINT64_MAX}, &job, &error),
        0);
    return job;
}

void found_as(DriverRun run)
{
    run.pid = 4242;
    run.accel = ACCEL_TCG;
    vm_driver_online(world->vm);
    vm_driver_found(
        world->vm,
        &(DriverEvent){.type = DRIVER_FOUND, .name = "web", .generation = world->generation, .run = run});
    vm_driver_synced(world->vm);
}

void found(void)
{
    found_as((DriverRun){0});
}

void ask_restart(void)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(vm_request_restart(world->vm, &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error),
                     0);
}
