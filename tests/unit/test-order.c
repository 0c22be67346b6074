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
} World;

static void on_vm_changed(MicroVM *vm, void *userdata)
{
    World *world = userdata;
    char name[80];

    snprintf(name, sizeof(name), "%s,", vm->name);
    if (vm->record.state == MICROVM_PREPARING && !strstr(world->started, name))
        strncat(world->started, name, sizeof(world->started) - strlen(world->started) - 1);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
