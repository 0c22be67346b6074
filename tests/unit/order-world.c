/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "order-world.h"

HostMemory memory;

static HostMemory get_memory(void)
{
    return memory;
}

static void count_starting(World *world)
{
    size_t n = 0;

    for (size_t i = 0; i < world->base.manager->n_vms; i++)
        n += world->base.manager->vms[i]->record.state == MICROVM_PREPARING ||
             world->base.manager->vms[i]->record.state == MICROVM_STARTING;
    world->most = MAX(world->most, n);
}

static void on_vm_changed(MicroVM *vm, void *userdata)
{
    World *world = userdata;
    char name[80];

    snprintf(name, sizeof(name), "%s,", vm->name);
    if (vm->record.state == MICROVM_PREPARING && !strstr(world->started, name))
        strncat(world->started, name, sizeof(world->started) - strlen(world->started) - 1);
    if (vm->record.state == MICROVM_STOPPING && !strstr(world->stopped, name))
        strncat(world->stopped, name, sizeof(world->stopped) - strlen(world->stopped) - 1);
    count_starting(world);
}

static void on_job_removed(const char *name, Job job, MicrovmJobResult result, const char *reason,
                           void *userdata)
{
    World *world = userdata;
    size_t used = strlen(world->jobs);

    snprintf(world->jobs + used, sizeof(world->jobs) - used, "%s %s %s,", name,
             microvm_job_verb_to_string(job.verb), microvm_job_result_to_string(result));
}

int order_setup(void **context)
{
    World *world = calloc(1, sizeof(*world));
    ManagerObserver observer = {
        .vm_changed = on_vm_changed, .job_removed = on_job_removed, .userdata = world};

    manager_world_make(&world->base, 1000, &observer);
    memory = (HostMemory){0};
    world->base.manager->memory = get_memory;
    *context = world;
    return 0;
}

int order_teardown(void **context)
{
    World *world = *context;

    manager_world_clear(&world->base);
    free(world);
    return 0;
}

void define_with(World *world, const char *name, const char *kernel, const char *keys)
{
    _cleanup_free_ char *text = NULL;

    assert_true(asprintf(&text, "{\"kernel\": \"%s\", %s}", kernel, keys) > 0);
    manager_world_define(&world->base, name, text);
}

void define(World *world, const char *name, const char *keys)
{
    _cleanup_free_ char *all = NULL;

    assert_true(asprintf(&all, "\"autostart\": false, %s", keys) > 0);
    define_with(world, name, world->base.kernel, all);
}

MicroVM *find(World *world, const char *name)
{
    MicroVM *vm = manager_find(world->base.manager, name);

    assert_non_null(vm);
    return vm;
}

MicrovmState state(World *world, const char *name)
{
    return find(world, name)->record.state;
}

void wait_for(World *world, const char *name, MicrovmState wanted)
{
    RUN_UNTIL(world->base.event, state(world, name) == wanted);
    if (state(world, name) != wanted)
        fail_msg("%s is %s: %s", name, microvm_state_to_string(state(world, name)),
                 find(world, name)->record.reason);
}

void begin(World *world)
{
    assert_int_equal(manager_start(world->base.manager), 0);
    RUN_UNTIL(world->base.event, world->base.manager->drivers[DRIVER_KIND_LIBVIRT].synced);
    assert_true(world->base.manager->drivers[DRIVER_KIND_LIBVIRT].synced);
}

void start(World *world, const char *name)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    if (vm_request_start(find(world, name), &job, &error) < 0)
        fail_msg("%s: %s", name, error);
}

void stop(World *world, const char *name)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(vm_request_stop(find(world, name),
                                     &(StopOptions){.force = true, .timeout_usec = UINT64_MAX}, &job, &error),
                     0);
    wait_for(world, name, MICROVM_INACTIVE);
}

StopJobs stop_some(World *world, const char *const *names, size_t n, MicrovmDependents dependents)
{
    _cleanup_free_ char *error = NULL;
    MicroVM *vms[8];
    StopJobs jobs = {0};

    for (size_t i = 0; i < n; i++)
        vms[i] = find(world, names[i]);
    if (manager_stop(world->base.manager, vms, n, &(StopOptions){.timeout_usec = UINT64_MAX}, dependents,
                     &jobs, &error) < 0)
        fail_msg("%s", error);
    return jobs;
}

void begin_chain(World *world)
{
    define(world, "db", "\"priority\": 900");
    define(world, "app", "\"requires\": [\"db\"], \"after\": [\"db\"]");
    define(world, "web", "\"requires\": [\"app\"], \"after\": [\"app\"]");
    define(world, "log", "\"priority\": 1");
    begin(world);
    start(world, "web");
    start(world, "log");
    wait_for(world, "web", MICROVM_RUNNING);
    wait_for(world, "log", MICROVM_RUNNING);
}
