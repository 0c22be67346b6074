/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starts that the driver "direct" has to give up when the process is there already. */
#include "driver/direct/internal.h"

#include "base/clock.h"
#include "launch/internal.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "debugger.h"
#include "scratch.h"

#define SECOND_USEC UINT64_C(1000000)

/* --- an event loop that takes no more --- */

static pid_t watched, tracer; /* who was to be watched, and who holds it then; tracer -1: it is not full */

static pid_t pid_of(int pidfd)
{
    _cleanup_free_ char *text = NULL, *path = NULL;
    const char *line;
    size_t size;

    assert_true(asprintf(&path, "/proc/self/fdinfo/%d", pidfd) > 0);
    assert_int_equal(read_file(path, 4096, &text, &size), 0);
    line = strstr(text, "\nPid:");
    return line ? (pid_t)strtol(line + strlen("\nPid:"), NULL, 10) : 0;
}

/* In the place of libsystemd's. */
int sd_event_add_io(sd_event *event, sd_event_source **ret_source, int fd, uint32_t events,
                    sd_event_io_handler_t callback, void *userdata)
{
    __typeof__(&sd_event_add_io) real = (__typeof__(real))dlsym(RTLD_NEXT, "sd_event_add_io");
    pid_t pid = tracer == 0 ? pid_of(fd) : 0;

    if (pid == 0)
        return real(event, ret_source, fd, events, callback, userdata);
    watched = pid;
    tracer = debugger(pid, PTRACE_O_TRACEEXIT);
    return -ENOSPC; /* as epoll_ctl(2) has it */
}

/* --- a driver --- */

static const sd_id128_t generation = {.bytes = {1}};

typedef struct World {
    sd_event *event;
    Driver *driver;
    char *runtime_dir, *state_dir, *directory; /* the last is of the microVM */
    bool found, synced, started, failed, ended;
    uint64_t longest_usec; /* that the loop was away */
    char text[256];
} World;

static void on_event(Driver *driver, const DriverEvent *event, void *userdata)
{
    World *world = userdata;

    world->found |= event->type == DRIVER_FOUND;
    world->synced |= event->type == DRIVER_SYNCED;
    world->started |= event->type == DRIVER_STARTED;
    world->failed |= event->type == DRIVER_START_FAILED;
    world->ended |= event->type == DRIVER_ENDED;
    if (event->type == DRIVER_START_FAILED)
        snprintf(world->text, sizeof(world->text), "%s", event->text);
}

static void run_once(World *world, uint64_t patience_usec)
{
    uint64_t begin;
    int r = sd_event_prepare(world->event);

    if (r == 0)
        r = sd_event_wait(world->event, patience_usec);
    begin = now_usec(CLOCK_MONOTONIC);
    if (r > 0)
        r = sd_event_dispatch(world->event);
    assert_true(r >= 0);
    world->longest_usec = MAX(world->longest_usec, now_usec(CLOCK_MONOTONIC) - begin);
}

static void run_until(World *world, const bool *flag)
{
    uint64_t end = now_usec(CLOCK_MONOTONIC) + 60 * SECOND_USEC;

    while (!*flag) {
        if (now_usec(CLOCK_MONOTONIC) > end)
            fail_msg("it takes too long; %s", world->text);
        run_once(world, SECOND_USEC);
    }
}

static World *world_prepare(Scratch *scratch)
{
    static World world;
    _cleanup_free_ char *program = NULL, *path = NULL;

    world = (World){0};
    assert_int_equal(chmod(scratch->path, 0755), 0);
    assert_true(asprintf(&world.runtime_dir, "%s/run", scratch->path) > 0);
    assert_true(asprintf(&world.state_dir, "%s/state", scratch->path) > 0);
    assert_true(asprintf(&world.directory, "%s/vm/web", world.runtime_dir) > 0);
    assert_int_equal(mkdir_parents(world.directory, 0755), 0);
    assert_int_equal(mkdir_parents(world.state_dir, 0755), 0);
    assert_true(asprintf(&program, "%s/%s", scratch->path, recipe_qemu.program) > 0);
    assert_int_equal(copy_file(SOURCE_DIR "/tests/bus/fake-qemu.py", program, 0755), 0);
    assert_true(asprintf(&path, "%s:/usr/bin:/bin", scratch->path) > 0);
    setenv("PATH", path, 1);
    assert_int_equal(sd_event_new(&world.event), 0);
    return &world;
}

static void make_driver(World *world)
{
    HostConfig config = {.direct_first_uid = 1900000000};
    DriverSetup setup = {.event = world->event,
                         .config = &config,
                         .state_dir = world->state_dir,
                         .runtime_dir = world->runtime_dir,
                         .handler = on_event,
                         .userdata = world};

    assert_int_equal(driver_new(DRIVER_KIND_DIRECT, &setup, &world->driver), 0);
    run_until(world, &world->synced);
}

static World *world_new(Scratch *scratch)
{
    World *world = world_prepare(scratch);

    make_driver(world);
    return world;
}

static void world_end(World *world)
{
    driver_free(world->driver);
    sd_event_unref(world->event);
    free(world->runtime_dir);
    free(world->state_dir);
    free(world->directory);
}

static void start(World *world, const char *definition, Accel accel)
{
    SpecContext context = {.driver = DRIVER_KIND_DIRECT, .accel = accel};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *console = NULL;
    VmSpec *spec = NULL;

    assert_int_equal(
        vm_spec_parse("web", "web.json", definition, strlen(definition), &context, &problems, &spec), 0);
    assert_true(asprintf(&console, "%s/console.log", world->state_dir) > 0);
    assert_int_equal(world->driver->ops->start(world->driver, &(StartRequest){.spec = spec,
                                                                              .generation = generation,
                                                                              .accel = accel,
                                                                              .kernel = "/dev/null",
                                                                              .cmdline = "fake=msr",
                                                                              .console_log = console,
                                                                              .state_dir = world->state_dir}),
                     0);
    vm_spec_unref(spec);
}

static void assert_nothing_left(World *world)
{
    DIR *stream = opendir(world->directory);
    struct dirent *entry;

    assert_non_null(stream);
    while ((entry = readdir(stream)))
        if (entry->d_name[0] != '.')
            fail_msg("%s is left", entry->d_name);
    closedir(stream);
}

/* --- tests --- */

/* It is ended, however long that takes, and the loop goes on meanwhile. */
static void test_cannot_be_watched(void **context)
{
    World *world;
    uint64_t end;

    if (geteuid() != 0)
        skip(); /* nobody may debug what another user runs */
    world = world_new(*context);
    tracer = 0;
    start(world, "{ \"hypervisor\": \"command\", \"command\": { \"start\": [\"/bin/sleep\", \"1000\"] } }",
          ACCEL_TCG);
    for (end = now_usec(CLOCK_MONOTONIC) + 60 * SECOND_USEC; tracer == 0; run_once(world, SECOND_USEC))
        assert_true(now_usec(CLOCK_MONOTONIC) < end);
    for (end = now_usec(CLOCK_MONOTONIC) + SECOND_USEC / 2; now_usec(CLOCK_MONOTONIC) < end;)
        run_once(world, SECOND_USEC / 10);
    assert_in_range(world->longest_usec, 0, 9 * SECOND_USEC / 2); /* it had been 5 s */
    assert_false(world->failed);                                  /* not yet: something of it is left */
    debugger_end(tracer);
    run_until(world, &world->failed);
    assert_false(world->started);
    assert_string_equal(world->text, "No space left on device");
    assert_int_equal(waitpid(watched, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_nothing_left(world);
    world_end(world);
}

/* However the loop hears of its death: the connection to it ends, too. */
static void test_aborts_for_want_of_an_msr(void **context)
{
    World *world = world_new(*context);

    for (int i = 0; i < 10; i++) {
        world->started = world->ended = false;
        start(world, "{ \"kernel\": \"/k\" }", ACCEL_KVM);
        run_until(world, &world->started);
        assert_int_equal(world->driver->ops->stop(world->driver, "web", generation, STOP_ACTION_KILL), 0);
        run_until(world, &world->ended);
        assert_nothing_left(world);
    }
    assert_false(world->failed);
    world_end(world);
}

/* What an earlier daemon has left that was killed before the hand-over, or in the middle of it. */
typedef struct CutOff {
    pid_t pid;
    int pidfd, stream, output;
} CutOff;

static CutOff cut_off(World *world)
{
    CutOff cut = {.output = open("/dev/null", O_WRONLY | O_CLOEXEC)};
    LaunchRequest request = {.helper = BINARY_DIR "/microvmd-exec", .output = cut.output};
    ProcessRecord record = {.hypervisor = HYPERVISOR_COMMAND, .generation = generation, .accel = ACCEL_TCG};
    pid_t speaker;
    int theirs;

    assert_int_equal(handover_open(&cut.stream, &theirs), 0);
    assert_int_equal(fork_start(&request, theirs, &cut.pid), 0);
    close(theirs);
    assert_int_equal(handover_hear(cut.stream, &speaker, &record.launched.invocation), 0);
    record.launched.id.pid = speaker;
    record.launched.invocation = SD_ID128_NULL;
    assert_int_equal(process_hold(&record.launched.id, &cut.pidfd), 0);
    assert_int_equal(process_record_write(world->directory, &record), 0);
    return cut;
}

/* Lets somebody else decide on it in a moment: to hand something over, or nothing. */
static pid_t decide_later(const CutOff *cut, char *const *argv)
{
    pid_t pid = fork();

    if (pid == 0) {
        usleep(300000);
        _exit(argv ? -handover_make(cut->stream, &(LaunchRequest){.argv = argv}) : 0);
    }
    assert_true(pid > 0);
    close(cut->stream);
    return pid;
}

static void cut_off_clear(CutOff *cut, pid_t decider)
{
    int status;

    assert_int_equal(waitpid(decider, &status, 0), decider);
    assert_int_equal(status, 0);
    (void)kill(cut->pid, SIGKILL);
    (void)waitpid(cut->pid, NULL, 0);
    close(cut->pidfd);
    close(cut->output);
}

/* Nobody takes it for a hypervisor, even though it has not ended yet. */
static void test_start_that_was_cut_off(void **context)
{
    World *world = world_prepare(*context);
    CutOff cut = cut_off(world);
    pid_t decider = decide_later(&cut, NULL);

    make_driver(world);
    assert_false(world->found);
    assert_false(world->ended);
    assert_nothing_left(world);
    cut_off_clear(&cut, decider);
    world_end(world);
}

/* It has been told all. */
static void test_start_that_was_not_cut_off(void **context)
{
    char *argv[] = {(char *)"/bin/sleep", (char *)"1000", NULL};
    World *world = world_prepare(*context);
    CutOff cut = cut_off(world);
    pid_t decider = decide_later(&cut, argv);

    make_driver(world);
    assert_true(world->found);
    assert_int_equal(world->driver->ops->stop(world->driver, "web", generation, STOP_ACTION_KILL), 0);
    run_until(world, &world->ended);
    assert_nothing_left(world);
    cut_off_clear(&cut, decider);
    world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_cannot_be_watched),
        IN_SCRATCH(test_aborts_for_want_of_an_msr),
        IN_SCRATCH(test_start_that_was_cut_off),
        IN_SCRATCH(test_start_that_was_not_cut_off),
    };

    tracer = -1;
    setenv("MICROVMD_LIBEXECDIR", BINARY_DIR, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
