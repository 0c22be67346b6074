/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Programs that are run for a microVM, to their end, or not so far. */
#include "launch/errand.h"

#include "launch/launch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "debugger.h"
#include "run-until.h"
#include "scratch.h"

#define PATIENCE_USEC UINT64_C(20000000)

typedef struct World {
    Scratch *scratch;
    sd_event *event;
    Workers *workers;
    char *output, *uid_dir;
    bool done;
    int error;
    char text[256];
} World;

static void on_done(int error, const char *text, void *userdata)
{
    World *world = userdata;

    assert_false(world->done);
    world->done = true;
    world->error = error;
    snprintf(world->text, sizeof(world->text), "%s", text ? text : "");
}

static World *world_new(Scratch *scratch)
{
    static World world;

    world = (World){.scratch = scratch};
    assert_int_equal(chmod(scratch->path, 0755), 0);
    assert_int_equal(sd_event_new(&world.event), 0);
    assert_int_equal(workers_new(world.event, "test", 1, &world.workers), 0);
    assert_true(asprintf(&world.output, "%s/output", scratch->path) > 0);
    assert_true(asprintf(&world.uid_dir, "%s/uids", scratch->path) > 0);
    return &world;
}

static void world_end(World *world)
{
    workers_stop(world->workers, PATIENCE_USEC);
    sd_event_unref(world->event);
    free(world->output);
    free(world->uid_dir);
}

static Errand *run(World *world, const char *program, const char *script, bool anew, uint64_t timeout_usec)
{
    char *argv[] = {(char *)program, (char *)"-c", (char *)script, NULL};
    Errand *errand = NULL;

    world->done = false;
    assert_int_equal(errand_run(&(ErrandRequest){.event = world->event,
                                                 .runtime_dir = "/run/microvmd/vm/web",
                                                 .workers = world->workers,
                                                 .name = "web",
                                                 .pid = 4242,
                                                 .argv = argv,
                                                 .output = world->output,
                                                 .output_anew = anew,
                                                 .uid_dir = world->uid_dir,
                                                 .first_uid = 1900000000,
                                                 .timeout_usec = timeout_usec},
                                on_done, world, &errand),
                     0);
    assert_false(world->done);
    return errand;
}

/* Of the errand, to its end. */
static int result(World *world, const char *script, bool anew, uint64_t timeout_usec)
{
    (void)run(world, "/bin/sh", script, anew, timeout_usec);
    while (!world->done)
        assert_true(sd_event_run(world->event, PATIENCE_USEC) > 0);
    return world->error;
}

static void assert_output(World *world, const char *expected)
{
    _cleanup_free_ char *text = NULL;
    size_t size;

    assert_int_equal(read_file(world->output, 4096, &text, &size), 0);
    assert_string_equal(text, expected);
}

static void test_ends(void **context)
{
    World *world = world_new(*context);

    assert_int_equal(result(world, "echo $MICROVM_NAME $MICROVM_PID", false, PATIENCE_USEC), 0);
    assert_string_equal(world->text, "");
    assert_int_equal(result(world, "echo again >&2; exit 3", false, PATIENCE_USEC), -EPROTO);
    assert_string_equal(world->text, "/bin/sh failed: it exited with status 3");
    assert_output(world, "web 4242\nagain\n");
    assert_int_equal(result(world, "echo anew; kill -9 $$", true, PATIENCE_USEC), -EPROTO);
    assert_string_equal(world->text, "/bin/sh was killed by signal 9");
    assert_output(world, "anew\n");
    assert_int_equal(result(world, "exec sleep 1000", false, 200000), -EPROTO);
    assert_string_equal(world->text, "/bin/sh did not end within 200ms");
    world_end(world);
}

static void test_is_nobody(void **context)
{
    World *world = world_new(*context);

    if (geteuid() != 0)
        skip();
    assert_int_equal(
        result(world, "[ $(id -u) -ge 1900000000 ] && [ $(id -G) = $(id -u) ]", true, PATIENCE_USEC), 0);
    world_end(world);
}

static void test_does_not_begin(void **context)
{
    World *world = world_new(*context);

    (void)run(world, "/nowhere/program", "", true, PATIENCE_USEC);
    while (!world->done)
        assert_true(sd_event_run(world->event, PATIENCE_USEC) > 0);
    assert_int_equal(world->error, -ENOENT);
    assert_string_equal(world->text, "/nowhere/program can't be executed: No such file or directory");
    free(world->output);
    world->output = strdup("/nowhere/output");
    assert_int_equal(result(world, ":", true, PATIENCE_USEC), -ENOENT);
    assert_non_null(strstr(world->text, "/nowhere/output can't be written to"));
    world_end(world);
}

/* The process says its number, once it runs. */
static pid_t said_pid(World *world)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0;

    while (size == 0) {
        assert_true(sd_event_run(world->event, 10000) >= 0);
        free(text);
        text = NULL;
        if (access(world->output, R_OK) == 0)
            assert_int_equal(read_file(world->output, 4096, &text, &size), 0);
    }
    return (pid_t)strtol(text, NULL, 10);
}

/* Its process is killed and waited for, and nobody is told. */
static void test_is_forgotten(void **context)
{
    World *world = world_new(*context);
    Errand *errand = run(world, "/bin/sh", "echo $$; exec sleep 1000", true, PATIENCE_USEC);
    pid_t pid = said_pid(world);

    errand_forget(errand);
    RUN_UNTIL(world->event, kill(pid, 0) != 0);
    assert_int_equal(kill(pid, 0), -1);
    assert_false(world->done);
    world_end(world);
}

/* The loop goes on, and how it ended is not known. */
static void test_waits_for_no_debugger(void **context)
{
    World *world;
    pid_t pid, tracer;

    if (geteuid() != 0)
        skip(); /* nobody may debug what another user runs */
    world = world_new(*context);
    (void)run(world, "/bin/sh", "echo $$; exec sleep 1000", true, PATIENCE_USEC);
    pid = said_pid(world);
    tracer = debugger(pid, 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    alarm(20);
    while (!world->done)
        assert_true(sd_event_run(world->event, PATIENCE_USEC) > 0);
    alarm(0);
    assert_int_equal(world->error, -EPROTO);
    assert_string_equal(world->text, "/bin/sh has ended, and a debugger keeps from microvmd how");
    debugger_end(tracer);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    world_end(world);
}

/* The workers go first, when the daemon ends: whoever holds errands may still forget them. */
static void test_outlives_its_workers(void **context)
{
    World *world = world_new(*context);
    Errand *first = run(world, "/bin/sh", "exec sleep 1000", true, PATIENCE_USEC);
    Errand *second = run(world, "/bin/sh", "exec sleep 1000", true, PATIENCE_USEC);

    world->workers = workers_stop(world->workers, PATIENCE_USEC);
    errand_forget(first);
    errand_forget(second);
    assert_false(world->done);
    world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_ends),
        IN_SCRATCH(test_is_nobody),
        IN_SCRATCH(test_does_not_begin),
        IN_SCRATCH(test_is_forgotten),
        IN_SCRATCH(test_waits_for_no_debugger),
        IN_SCRATCH(test_outlives_its_workers),
    };

    setenv("MICROVMD_LIBEXECDIR", BINARY_DIR, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
