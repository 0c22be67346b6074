/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A console that several look at and one writes to: on a real log file, with a socket in the hypervisor's
 * place. */
#include "supervise/console.h"
#include "supervise/log-stream.h"

#include "resource/console-log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

enum {
    PATIENCE = 60, /* seconds */
};

typedef struct World {
    Scratch *scratch;
    sd_event *event;
    Console *console;
    int guest; /* what the guest reads and writes, once somebody may write; -1 */
    unsigned idle;
} World;

static void on_idle(void *userdata)
{
    World *world = userdata;

    world->idle++;
}

static void append(World *world, const char *text, size_t times)
{
    int fd =
        open(scratch_path(world->scratch, CONSOLE_LOG_NAME), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    for (size_t i = 0; i < times; i++)
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static World *world_new(void **context)
{
    static World world;

    world = (World){.scratch = *context, .guest = -1};
    assert_int_equal(sd_event_new(&world.event), 0);
    append(&world, "one\ntwo\nthree\n", 1);
    assert_int_equal(console_new(world.event, world.scratch->path, on_idle, &world, &world.console), 0);
    return &world;
}

static void world_end(World *world)
{
    console_free(world->console);
    sd_event_unref(world->event);
    if (world->guest >= 0)
        close(world->guest);
}

static int attach(World *world, bool writes, uint64_t lines)
{
    int pair[2], fd;

    if (writes && !console_is_connected(world->console)) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        if (world->guest >= 0)
            close(world->guest);
        world->guest = pair[1];
        assert_true(console_connect(world->console, pair[0]) >= 0);
    }
    assert_int_equal(console_attach(world->console, writes, lines, NULL, &fd), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Lets the loop run for so long, and until it has nothing to do; says how often it had. */
static unsigned turn(World *world, unsigned milliseconds)
{
    struct timespec now;
    int64_t end = 0;
    unsigned turns = 0;
    bool busy;

    do {
        busy = sd_event_run(world->event, 2000) > 0;
        turns += busy;
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t at = now.tv_sec * 1000 + now.tv_nsec / 1000000;
        end = end ? end : at + milliseconds;
        if (at >= end && (!busy || at >= end + 1000))
            return turns;
    } while (true);
}

/* What comes out of `fd` must be exactly this. */
static void expect(World *world, int fd, const char *text)
{
    char got[4096] = "";
    size_t used = 0, wanted = strlen(text);
    time_t end = time(NULL) + PATIENCE;

    while (used < wanted && time(NULL) < end) {
        ssize_t n = recv(fd, got + used, sizeof(got) - 1 - used, 0);
        used += n > 0 ? (size_t)n : 0;
        if (n <= 0)
            (void)sd_event_run(world->event, 2000);
    }
    got[used] = '\0';
    assert_string_equal(got, text);
}

static void expect_nothing(World *world, int fd)
{
    char text[64];

    turn(world, 50);
    assert_int_equal(recv(fd, text, sizeof(text), 0), -1);
    assert_int_equal(errno, EAGAIN);
}

static bool may_write(int fd)
{
    return send(fd, "", 0, MSG_NOSIGNAL) == 0 || errno != EPIPE;
}

static void test_last_lines_come_first(void **context)
{
    World *world = world_new(context);
    int two = attach(world, false, 2), none = attach(world, false, 0), all = attach(world, false, UINT64_MAX);

    append(world, "four\n", 1);
    expect(world, two, "two\nthree\nfour\n");
    expect(world, none, "four\n");
    expect(world, all, "one\ntwo\nthree\nfour\n");
    append(world, "$ ", 1);
    for (int i = 0; i < 3; i++)
        expect(world, (int[]){two, none, all}[i], "$ ");
    expect_nothing(world, all);
    close(two);
    close(none);
    turn(world, 20);
    assert_int_equal(world->idle, 0);
    close(all);
    turn(world, 20);
    assert_int_equal(world->idle, 1);
    world_end(world);
}

static void test_one_writes(void **context)
{
    World *world = world_new(context);
    int reader = attach(world, false, 0), writer = attach(world, true, 0), second = attach(world, false, 0);

    assert_true(console_has_writer(world->console));
    assert_true(may_write(writer));
    assert_false(may_write(reader));
    assert_int_equal(send(second, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(send(writer, "ls\r", 3, 0), 3);
    expect(world, world->guest, "ls\r");
    /* What the guest says comes by the log, and by it alone. */
    assert_int_equal(send(world->guest, "from the guest", 14, 0), 14);
    append(world, "files\n", 1);
    expect(world, reader, "files\n");
    expect(world, second, "files\n");
    expect(world, writer, "files\n");
    expect_nothing(world, writer);
    close(reader);
    close(second);
    close(writer);
    turn(world, 20);
    world_end(world);
}

static void test_taking_over(void **context)
{
    World *world = world_new(context);
    int old = attach(world, true, 0), new = attach(world, true, 0);

    expect(world, old, "\r\n[microvmd: somebody else writes to this console now; you read on]\r\n");
    assert_false(may_write(old));
    assert_true(may_write(new));
    assert_int_equal(send(new, "mine", 4, 0), 4);
    expect(world, world->guest, "mine");
    append(world, "both\n", 1);
    expect(world, old, "both\n");
    expect(world, new, "both\n");
    /* The old one's leaving does not take the console from the new one. */
    close(old);
    turn(world, 20);
    assert_true(console_has_writer(world->console));
    assert_int_equal(send(new, "still", 5, 0), 5);
    expect(world, world->guest, "still");
    close(new);
    world_end(world);
}

static void test_writer_leaves(void **context)
{
    World *world = world_new(context);
    int reader = attach(world, false, 0), writer = attach(world, true, 0), next;
    char text[8];

    assert_int_equal(send(writer, "bye", 3, 0), 3);
    close(writer);
    expect(world, world->guest, "bye"); /* its last words are heard */
    turn(world, 20);
    assert_false(console_has_writer(world->console));
    assert_false(console_is_connected(world->console));
    assert_int_equal(recv(world->guest, text, sizeof(text), 0), 0);
    assert_false(may_write(reader)); /* nobody moves up by itself */
    next = attach(world, true, 0);
    assert_true(may_write(next));
    /* One that ends its input only reads on. */
    assert_int_equal(shutdown(next, SHUT_WR), 0);
    turn(world, 20);
    assert_false(console_has_writer(world->console));
    append(world, "on\n", 1);
    expect(world, next, "on\n");
    close(next);
    close(reader);
    world_end(world);
}

static void test_guest_that_reads_nothing(void **context)
{
    World *world = world_new(context);
    int writer = attach(world, true, 0), reader = attach(world, false, 0);
    char keys[4096];
    size_t given = 0;

    memset(keys, 'k', sizeof(keys));
    for (int i = 0; i < 1000; i++) {
        ssize_t n = send(writer, keys, sizeof(keys), 0);
        given += n > 0 ? (size_t)n : 0;
        (void)sd_event_run(world->event, 0);
    }
    assert_true(given < 2000 * 1000); /* what is not taken waits with who said it */
    assert_true(turn(world, 100) < 10);
    append(world, "alive\n", 1);
    expect(world, reader, "alive\n");
    expect(world, writer, "alive\n");
    close(writer);
    close(reader);
    world_end(world);
}

static void test_hypervisor_closes_it(void **context)
{
    World *world = world_new(context);
    int writer = attach(world, true, 0);

    close(world->guest);
    world->guest = -1;
    expect(world, writer, "\r\n[microvmd: the hypervisor takes no more input on this console]\r\n");
    assert_false(may_write(writer));
    append(world, "last\n", 1);
    expect(world, writer, "last\n");
    close(writer);
    world_end(world);
}

/* Numbered lines, of which none may be missing or come twice. */
static size_t count_lines(World *world, int fd, size_t lines)
{
    static char text[65536];
    size_t next = 0, number = 0;
    bool in_line = false;
    time_t end = time(NULL) + PATIENCE;

    while (next < lines && time(NULL) < end) {
        ssize_t n = recv(fd, text, sizeof(text), 0);
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] == '\n') {
                assert_true(in_line);
                assert_int_equal(number, next);
                next++;
                number = 0;
            } else {
                number = number * 10 + (size_t)(text[i] - '0');
            }
            in_line = text[i] != '\n';
        }
        if (n <= 0)
            (void)sd_event_run(world->event, 1000);
    }
    return next;
}

static void append_lines(World *world, size_t from, size_t to)
{
    FILE *file = fopen(scratch_path(world->scratch, CONSOLE_LOG_NAME), "a");

    assert_non_null(file);
    for (; from < to; from++)
        fprintf(file, "%zu\n", from);
    fclose(file);
}

static void test_slow_reader_keeps_its_place(void **context)
{
    World *world = world_new(context);
    int slow = attach(world, false, 0), quick = attach(world, false, 0);

    append_lines(world, 0, 300000); /* more than any socket holds */
    assert_int_equal(count_lines(world, quick, 300000), 300000);
    assert_int_equal(count_lines(world, slow, 300000), 300000);
    close(slow);
    close(quick);
    world_end(world);
}

/* Cut by us, as with a hypervisor that appends to the file itself. */
static void test_cut_log(void **context)
{
    World *world = world_new(context);
    int reader = attach(world, false, 0);

    append_lines(world, 0, 400000);
    turn(world, 50); /* it has begun, and its socket is full */
    assert_int_equal(log_bound(scratch_path(world->scratch, CONSOLE_LOG_NAME), CONSOLE_LOG_PARTS), 1);
    append_lines(world, 400000, 400100);
    assert_int_equal(count_lines(world, reader, 400100), 400100);
    close(reader);
    world_end(world);
}

/* Rotated by who writes it, as virtlogd does. */
static void test_rotated_log(void **context)
{
    World *world = world_new(context);
    int reader = attach(world, false, 0);
    char old[512];

    append_lines(world, 0, 1000);
    assert_int_equal(count_lines(world, reader, 1000), 1000);
    append_lines(world, 0, 300000);
    turn(world, 50);
    snprintf(old, sizeof(old), "%s", scratch_path(world->scratch, CONSOLE_LOG_NAME));
    assert_int_equal(rename(old, scratch_path(world->scratch, CONSOLE_LOG_NAME ".0")), 0);
    append_lines(world, 300000, 300100);
    assert_int_equal(count_lines(world, reader, 300100), 300100);
    close(reader);
    world_end(world);
}

static void test_last_words(void **context)
{
    World *world = world_new(context);
    int reader = attach(world, false, 1);
    char text[64] = "";

    append(world, "panic\n", 1);
    world->console = console_free(world->console); /* before the loop has looked */
    assert_int_equal(recv(reader, text, sizeof(text) - 1, 0), 12);
    assert_string_equal(text, "three\npanic\n");
    assert_int_equal(recv(reader, text, sizeof(text), 0), 0);
    close(reader);
    world_end(world);
}

static void test_silence_wakes_nobody(void **context)
{
    World *world = world_new(context);
    int reader = attach(world, false, 0), writer = attach(world, true, 0);

    append(world, "x\n", 1);
    expect(world, reader, "x\n");
    expect(world, writer, "x\n");
    turn(world, 100);
    assert_int_equal(turn(world, 500), 0);
    /* And a guest that writes byte by byte wakes us every now and then only. */
    for (int i = 0; i < 50; i++) {
        append(world, "y", 100);
        (void)sd_event_run(world->event, 0);
    }
    assert_true(turn(world, 100) < 100);
    close(reader);
    close(writer);
    world_end(world);
}

/* However much its reader takes: the loop is there for the others, too. */
static void test_log_in_bursts(void **state)
{
    World *world = world_new(state);
    int fd, before = 0, after, turns = 0;
    char text[4096 + 1];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    append(world, text, 256);
    assert_int_equal(log_stream_new(world->event, world->scratch->path,
                                    &(LogFollowOptions){.lines = UINT64_MAX, .follow = true}, NULL, &fd),
                     0);
    assert_true(fcntl(fd, F_SETPIPE_SZ, 1024 * 1024) >= 1024 * 1024);
    do {
        assert_true(sd_event_run(world->event, (uint64_t)PATIENCE * 1000000) > 0);
        assert_int_equal(ioctl(fd, FIONREAD, &after), 0);
        assert_true(after - before <= 256 * 1024);
        turns += after > before;
        before = after;
    } while (before < 1024 * 1024 - 64 * 1024 && turns < 100);
    assert_true(turns >= 4);
    close(fd);
    turn(world, 100); /* the stream sees that nobody reads */
    world_end(world);
}

/* Its place is somebody else's when it has detached, or reads its log no more. */
static void test_callers_places(void **state)
{
    World *world = world_new(state);
    Quota quota = {.most = 2};
    QuotaUser *callers[2], *more;
    int console, log;

    for (size_t i = 0; i < ELEMENTSOF(callers); i++)
        assert_int_equal(quota_take(&quota, 1000, &callers[i]), 0);
    assert_int_equal(console_attach(world->console, false, 0, callers[0], &console), 0);
    assert_int_equal(log_stream_new(world->event, world->scratch->path, &(LogFollowOptions){.follow = true},
                                    callers[1], &log),
                     0);
    turn(world, 50);
    assert_int_equal(quota_take(&quota, 1000, &more), -EDQUOT);
    close(log);
    turn(world, 50);
    assert_int_equal(quota_take(&quota, 1000, &more), 0);
    close(console);
    turn(world, 50);
    assert_int_equal(quota_take(&quota, 1000, &callers[0]), 0);
    quota_give_back(callers[0]);
    quota_give_back(more);
    assert_null(quota.users);
    world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_last_lines_come_first),
        IN_SCRATCH(test_one_writes),
        IN_SCRATCH(test_taking_over),
        IN_SCRATCH(test_writer_leaves),
        IN_SCRATCH(test_guest_that_reads_nothing),
        IN_SCRATCH(test_hypervisor_closes_it),
        IN_SCRATCH(test_slow_reader_keeps_its_place),
        IN_SCRATCH(test_cut_log),
        IN_SCRATCH(test_rotated_log),
        IN_SCRATCH(test_last_words),
        IN_SCRATCH(test_silence_wakes_nobody),
        IN_SCRATCH(test_log_in_bursts),
        IN_SCRATCH(test_callers_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
