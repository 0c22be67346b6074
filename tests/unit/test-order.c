/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is started with whom, who waits for whom, and who is first: a manager with libvirt's test driver. */
#include "base/file.h"
#include "manager.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

typedef struct World {
    char directory[64];
    char *config, *definitions, *kernel;
    sd_event *event;
    Manager *manager;
    char started[128]; /* names, in the order in which they began to prepare */
    char jobs[512];    /* "NAME VERB RESULT," */
    char stopped[128]; /* names, in the order in which their guests were asked to shut down */
    size_t most;       /* that were preparing or starting at the same time */
} World;

static HostMemory memory; /* what the host has; all zero: not known */
static HostMemory get_memory(void)
{
    return memory;
}

static void count_starting(World *world)
{
    size_t n = 0;

    for (size_t i = 0; i < world->manager->n_vms; i++)
        n += world->manager->vms[i]->record.state == MICROVM_PREPARING ||
             world->manager->vms[i]->record.state == MICROVM_STARTING;
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

static int setup(void **context)
{
    World *world = calloc(1, sizeof(*world));
    ManagerSettings settings = {.n_directories = 1};
    HostConfig config = {.max_concurrent_starts = 1000};
    ManagerObserver observer = {
        .vm_changed = on_vm_changed, .job_removed = on_job_removed, .userdata = world};

    strcpy(world->directory, "/tmp/microvmd-test.XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    assert_true(asprintf(&world->config, "%s/host.json", world->directory) > 0);
    assert_true(asprintf(&world->definitions, "%s/vms", world->directory) > 0);
    assert_true(asprintf(&world->kernel, "%s/vmlinuz", world->directory) > 0);
    assert_int_equal(mkdir(world->definitions, 0755), 0);
    assert_int_equal(write_file_atomic(world->kernel, "kernel", 6, 0644), 0);
    assert_int_equal(sd_event_new(&world->event), 0);
    settings.config_path = world->config;
    settings.directories[0] = world->definitions;
    settings.state_dir = settings.runtime_dir = world->directory;
    config.libvirt_uri = strdup("test:///default");
    assert_int_equal(manager_new(world->event, &settings, &config, &observer, &world->manager), 0);
    memory = (HostMemory){0};
    world->manager->memory = get_memory;
    *context = world;
    return 0;
}

static int teardown(void **context)
{
    World *world = *context;

    manager_free(world->manager);
    sd_event_unref(world->event);
    remove_tree(world->directory);
    free(world->config);
    free(world->definitions);
    free(world->kernel);
    free(world);
    return 0;
}

static void define_with(World *world, const char *name, const char *kernel, const char *keys)
{
    _cleanup_free_ char *path = NULL, *text = NULL;

    assert_true(asprintf(&path, "%s/%s.json", world->definitions, name) > 0);
    assert_true(asprintf(&text, "{\"kernel\": \"%s\", %s}", kernel, keys) > 0);
    assert_int_equal(write_file_atomic(path, text, strlen(text), 0644), 0);
}

static void define(World *world, const char *name, const char *keys)
{
    _cleanup_free_ char *all = NULL;

    assert_true(asprintf(&all, "\"autostart\": false, %s", keys) > 0);
    define_with(world, name, world->kernel, all);
}

static MicroVM *find(World *world, const char *name)
{
    MicroVM *vm = manager_find(world->manager, name);

    assert_non_null(vm);
    return vm;
}

static MicrovmState state(World *world, const char *name)
{
    return find(world, name)->record.state;
}

static void wait_for(World *world, const char *name, MicrovmState wanted)
{
    for (int i = 0; i < 2000 && state(world, name) != wanted; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    if (state(world, name) != wanted)
        fail_msg("%s is %s: %s", name, microvm_state_to_string(state(world, name)),
                 find(world, name)->record.reason);
}

/* Loads what was defined; what needs no driver's answer happens at once. */
static void begin(World *world)
{
    assert_int_equal(manager_start(world->manager), 0);
    for (int i = 0; i < 2000 && !world->manager->drivers[DRIVER_KIND_LIBVIRT].synced; i++)
        assert_true(sd_event_run(world->event, 10000) >= 0);
    assert_true(world->manager->drivers[DRIVER_KIND_LIBVIRT].synced);
}

static void start(World *world, const char *name)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    if (vm_request_start(find(world, name), &job, &error) < 0)
        fail_msg("%s: %s", name, error);
}

/* Runs until nothing of `name` is left in the driver. */
static void stop(World *world, const char *name)
{
    _cleanup_free_ char *error = NULL;
    uint64_t job;

    assert_int_equal(vm_request_stop(find(world, name),
                                     &(StopOptions){.force = true, .timeout_usec = UINT64_MAX}, &job, &error),
                     0);
    wait_for(world, name, MICROVM_INACTIVE);
}

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
        assert_true(sd_event_run(world->event, UINT64_MAX) >= 0);
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

    world->manager->config.max_concurrent_starts = 1;
    define_with(world, "a", world->kernel, "\"priority\": 5");
    define_with(world, "b", world->kernel, "\"mem\": 64");
    define_with(world, "c", world->kernel, "\"priority\": 900, \"after\": [\"b\"]");
    define_with(world, "d", world->kernel, "\"priority\": 900");
    define_with(world, "e", world->kernel, "\"mem\": 64");
    begin(world);
    for (char one[2] = "a"; one[0] <= 'e'; one[0]++)
        wait_for(world, one, MICROVM_RUNNING);
    assert_string_equal(world->started, "d,b,c,e,a,");
    for (char one[2] = "a"; one[0] <= 'e'; one[0]++)
        stop(world, one);
}

/* --- stops --- */

static StopJobs stop_some(World *world, const char *const *names, size_t n, MicrovmDependents dependents)
{
    _cleanup_free_ char *error = NULL;
    MicroVM *vms[8];
    StopJobs jobs = {0};

    for (size_t i = 0; i < n; i++)
        vms[i] = find(world, names[i]);
    if (manager_stop(world->manager, vms, n, &(StopOptions){.timeout_usec = UINT64_MAX}, dependents, &jobs,
                     &error) < 0)
        fail_msg("%s", error);
    return jobs;
}

#define STOP_ALL(world, dependents, ...)                                                                     \
    stop_some(world, (const char *const[]){__VA_ARGS__},                                                     \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), dependents)

/* Three, one after the other, and one beside them. */
static void begin_chain(World *world)
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

static void test_stops_in_reverse(void **context)
{
    World *world = *context;
    StopJobs jobs;

    begin_chain(world);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_REFUSE, "app", "db", "log", "web");
    assert_int_equal(jobs.count, 4);
    assert_int_equal(jobs.items[1].before, MICROVM_RUNNING);
    stop_jobs_clear(&jobs);
    /* It runs on, and says why. */
    assert_int_equal(state(world, "db"), MICROVM_RUNNING);
    assert_true(find(world, "db")->record.stop_held);
    assert_string_equal(find(world, "db")->record.reason, "running; its stop waits for app to stop");
    assert_int_equal(find(world, "db")->job.verb, MICROVM_JOB_STOP);
    wait_for(world, "db", MICROVM_INACTIVE);
    wait_for(world, "log", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "log,web,app,db,");
    assert_non_null(strstr(world->jobs, "db stop done,"));
    assert_false(find(world, "db")->record.stop_held);
}

static void test_stop_of_what_others_require(void **context)
{
    World *world = *context;
    _cleanup_free_ char *error = NULL;
    MicroVM *db;
    StopJobs jobs = {0};

    begin_chain(world);
    db = find(world, "db");
    assert_int_equal(manager_stop(world->manager, &db, 1, &(StopOptions){.timeout_usec = UINT64_MAX},
                                  MICROVM_DEPENDENTS_REFUSE, &jobs, &error),
                     -EMLINK);
    assert_string_equal(error, "app requires db and is not to be stopped");
    assert_int_equal(state(world, "db"), MICROVM_RUNNING);
    assert_null(strstr(world->jobs, "stop"));
    /* with those that require it, and those that require these */
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_STOP, "db");
    assert_int_equal(jobs.count, 3);
    assert_string_equal(jobs.items[0].vm->name, "db");
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "web,app,db,");
    assert_int_equal(state(world, "log"), MICROVM_RUNNING);
    /* who does not run requires nothing */
    start(world, "db");
    wait_for(world, "db", MICROVM_RUNNING);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_REFUSE, "db");
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    stop(world, "log");
}

static void test_stop_without_those_that_require_it(void **context)
{
    World *world = *context;
    StopJobs jobs;

    begin_chain(world);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_IGNORE, "db");
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "db,");
    assert_int_equal(state(world, "app"), MICROVM_RUNNING);
    stop(world, "web");
    stop(world, "app");
    stop(world, "log");
}

/* A stop that waits is taken back by a start; an end meanwhile is a stop, not a failure. */
static void test_held_stop(void **context)
{
    World *world = *context;
    _cleanup_free_ char *error = NULL;
    StopJobs jobs;
    uint64_t job;

    begin_chain(world);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_REFUSE, "db", "app", "web");
    stop_jobs_clear(&jobs);
    start(world, "db");
    assert_non_null(strstr(world->jobs, "db stop superseded,"));
    assert_string_equal(find(world, "db")->record.reason, "the guest is running");
    assert_true(find(world, "db")->record.wanted);
    vm_ended(find(world, "app"), END_CRASHED, "the hypervisor was killed");
    wait_for(world, "app", MICROVM_INACTIVE);
    assert_false(find(world, "app")->record.stop_held);
    wait_for(world, "web", MICROVM_INACTIVE);
    assert_int_equal(state(world, "db"), MICROVM_RUNNING);
    /* by force nobody waits for anybody */
    assert_int_equal(
        vm_request_stop(find(world, "db"), &(StopOptions){.force = true, .held = true}, &job, &error), 0);
    assert_int_equal(state(world, "db"), MICROVM_STOPPING);
    wait_for(world, "db", MICROVM_INACTIVE);
    stop(world, "log");
}

/* What its definition said when each was started counts, and that may be a circle. */
static void test_stops_in_a_circle(void **context)
{
    World *world = *context;
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    _cleanup_free_ char *error = NULL;
    StopJobs jobs;

    define(world, "a", "\"after\": [\"b\"], \"priority\": 1");
    define(world, "b", "\"mem\": 64");
    begin(world);
    start(world, "a");
    wait_for(world, "a", MICROVM_RUNNING);
    define(world, "a", "\"mem\": 64, \"priority\": 1");
    define(world, "b", "\"after\": [\"a\"]");
    assert_int_equal(manager_reload(world->manager, &changes, &error), 0);
    start(world, "b");
    wait_for(world, "b", MICROVM_RUNNING);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_REFUSE, "a", "b");
    stop_jobs_clear(&jobs);
    wait_for(world, "a", MICROVM_INACTIVE);
    wait_for(world, "b", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "a,b,");
}

/* --- the herd --- */

static void test_never_more_at_once(void **context)
{
    World *world = *context;
    char name[8];

    world->manager->config.max_concurrent_starts = 2;
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "n%02d", i);
        define_with(world, name, world->kernel, "\"mem\": 16");
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

static void test_a_start_without_a_driver_takes_no_place(void **context)
{
    World *world = *context;

    world->manager->config.max_concurrent_starts = 1;
    define(world, "one", "\"mem\": 16");
    define(world, "two", "\"mem\": 16");
    begin(world);
    start(world, "one");
    start(world, "two");
    wait_for(world, "one", MICROVM_STARTING);
    assert_int_equal(find(world, "two")->held_by, MICROVM_HOLD_CONCURRENCY);
    vm_driver_offline(find(world, "one"), "it hangs");
    manager_admit_waiting(world->manager);
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

    world->manager->config.max_concurrent_starts = 1;
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

static void test_memory(void **context)
{
    World *world = *context;

    memory = (HostMemory){.total_mib = 1000, .available_mib = 600};
    world->manager->config.memory_reserve_mib = 100;
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
    assert_non_null(world->manager->memory_timer);
    /* Nothing tells when memory becomes available: it is looked at again. */
    memory.available_mib = 701;
    wait_for(world, "two", MICROVM_RUNNING);
    stop(world, "one");
    stop(world, "two");
    /* Where nobody waits nobody looks. */
    assert_null(world->manager->memory_timer);
}

/* --- a host that is emptied --- */

static void test_drain(void **context)
{
    World *world = *context;
    _cleanup_free_ char *error = NULL, *path = NULL;
    StopJobs jobs = {0};

    define(world, "off", "\"mem\": 64");
    begin_chain(world);
    assert_int_equal(manager_drain(world->manager, UINT64_MAX, &jobs, &error), 0);
    assert_int_equal(jobs.count, 4);
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    wait_for(world, "log", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "log,web,app,db,");
    assert_int_equal(manager_may_start(world->manager, find(world, "off"), &error), -EUSERS);
    /* Whoever asks past that is held. */
    start(world, "off");
    assert_int_equal(state(world, "off"), MICROVM_WAITING);
    assert_non_null(strstr(find(world, "off")->record.reason, "microvmctl undrain"));
    assert_int_equal(find(world, "off")->held_by, MICROVM_HOLD_DRAIN);
    assert_true(asprintf(&path, "%s/daemon/drained", world->directory) > 0);
    assert_int_equal(access(path, F_OK), 0);
    world->started[0] = '\0';
    assert_int_equal(manager_undrain(world->manager, true, &jobs), 0);
    assert_int_equal(jobs.count, 4);
    stop_jobs_clear(&jobs);
    assert_int_not_equal(access(path, F_OK), 0);
    wait_for(world, "web", MICROVM_RUNNING);
    wait_for(world, "log", MICROVM_RUNNING);
    wait_for(world, "off", MICROVM_RUNNING);
    assert_true(strstr(world->started, "db,") < strstr(world->started, "app,"));
    /* and stays empty */
    assert_int_equal(manager_drain(world->manager, UINT64_MAX, &jobs, &error), 0);
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    wait_for(world, "off", MICROVM_INACTIVE);
    wait_for(world, "log", MICROVM_INACTIVE);
    assert_int_equal(manager_undrain(world->manager, false, &jobs), 0);
    assert_int_equal(jobs.count, 0);
    stop_jobs_clear(&jobs);
    assert_int_equal(state(world, "db"), MICROVM_INACTIVE);
    assert_int_equal(manager_may_start(world->manager, find(world, "off"), &error), 0);
}

/* --- a record that could not be written, as on a full disk --- */

static void test_record_is_written_later(void **context)
{
    World *world = *context;
    _cleanup_(vm_record_clear)
    VmRecord record = {0};
    _cleanup_free_ char *error = NULL;
    uint64_t job;
    MicroVM *vm;

    define(world, "web", "\"mem\": 64");
    begin(world);
    start(world, "web");
    wait_for(world, "web", MICROVM_RUNNING);
    vm = find(world, "web");
    assert_int_equal(remove_tree(vm->runtime_dir), 0);
    assert_int_equal(write_file_atomic(vm->runtime_dir, "", 0, 0600), 0);
    stop(world, "web");
    assert_non_null(vm->save_timer);
    assert_int_equal(unlink(vm->runtime_dir), 0);
    /* Who asks for what is there already has it on record, too. */
    assert_int_equal(vm_request_stop(vm, &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error), 0);
    assert_null(vm->save_timer);
    assert_int_equal(vm_record_read(vm->record_path, &record), 0);
    assert_int_equal(record.state, MICROVM_INACTIVE);
    assert_true(record.decided);
    assert_false(record.wanted);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_with_and_after),
        TEST(test_after_is_only_an_order),
        TEST(test_what_is_required_fails),
        TEST(test_what_is_required_is_broken),
        TEST(test_what_is_required_is_stopped),
        TEST(test_mutual),
        TEST(test_priority),
        TEST(test_stops_in_reverse),
        TEST(test_stop_of_what_others_require),
        TEST(test_stop_without_those_that_require_it),
        TEST(test_held_stop),
        TEST(test_stops_in_a_circle),
        TEST(test_never_more_at_once),
        TEST(test_memory),
        TEST(test_a_start_without_a_driver_takes_no_place),
        TEST(test_held_by),
        TEST(test_drain),
        TEST(test_record_is_written_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
