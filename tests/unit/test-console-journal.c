/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The console log copied to a journal, which is a socket here. */
#include "supervise/console-journal.h"

#include "resource/console-log.h"
#include "supervise/console-lines.h"

#include "microvm/names.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
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
    ConsoleJournal *journal;
    int journald;
    char socket[512], place[512];
} World;

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static World *world_new(void **context)
{
    static World world;

    world = (World){.scratch = *context};
    snprintf(world.socket, sizeof(world.socket), "%s", scratch_path(world.scratch, "socket"));
    snprintf(world.place, sizeof(world.place), "%s", scratch_path(world.scratch, "console.place"));
    world.journald = listen_at(world.socket);
    assert_int_equal(sd_event_new(&world.event), 0);
    return &world;
}

static void begin(World *world, bool resume)
{
    assert_int_equal(console_journal_new(world->event,
                                         &(ConsoleJournalOptions){.name = "web",
                                                                  .state_dir = world->scratch->path,
                                                                  .place = world->place,
                                                                  .resume = resume,
                                                                  .socket = world->socket},
                                         &world->journal),
                     0);
}

static void world_end(World *world)
{
    console_journal_free(world->journal);
    sd_event_unref(world->event);
    close(world->journald);
}

static void append(World *world, const char *text)
{
    int fd =
        open(scratch_path(world->scratch, CONSOLE_LOG_NAME), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* The next entry's message; what else it must have is looked at. NULL: none within a while. */
static const char *next(World *world, int seconds)
{
    static char entry[8192];
    time_t end = time(NULL) + seconds;

    do {
        ssize_t n = recv(world->journald, entry, sizeof(entry) - 1, 0);
        if (n > 0) {
            char *line_end;
            entry[n] = '\0';
            assert_memory_equal(entry, "MESSAGE=", 8);
            line_end = strchr(entry, '\n');
            assert_non_null(line_end);
            assert_non_null(strstr(line_end, "\nSYSLOG_IDENTIFIER=microvm-web\n"));
            assert_non_null(strstr(line_end, "\nMICROVM_NAME=web\n"));
            assert_non_null(strstr(line_end, "\nOBJECT_SYSTEMD_UNIT=microvmd-vm@web.service\n"));
            assert_non_null(strstr(line_end, "\nMESSAGE_ID=" MICROVM_MESSAGE_CONSOLE "\n"));
            *line_end = '\0';
            return entry + 8;
        }
        (void)sd_event_run(world->event, 2000);
    } while (time(NULL) < end);
    return NULL;
}

static void expect(World *world, const char *message)
{
    const char *got = next(world, PATIENCE);

    assert_non_null(got);
    assert_string_equal(got, message);
}

static void expect_nothing(World *world)
{
    assert_null(next(world, 1));
}

static void test_lines_as_they_come(void **context)
{
    World *world = world_new(context);

    begin(world, false); /* virtlogd makes the file when it likes */
    append(world, "one\r\n\x1b[1mtwo\x1b[0m\nlog");
    expect(world, "one");
    expect(world, "two");
    expect_nothing(world);
    append(world, "in: root\n");
    expect(world, "login: root");
    world_end(world);
}

static void test_next_daemon_goes_on(void **context)
{
    World *world = world_new(context);

    append(world, "one\nbegun");
    begin(world, false);
    expect(world, "one");
    expect_nothing(world);
    world->journal = console_journal_free(world->journal);
    append(world, " and ended\ntwo\n");
    begin(world, true);
    expect(world, "begun and ended");
    expect(world, "two");
    expect_nothing(world);
    /* Also over a rotation in between, by whoever writes the log. */
    world->journal = console_journal_free(world->journal);
    append(world, "three\n");
    char old[512];
    snprintf(old, sizeof(old), "%s", scratch_path(world->scratch, CONSOLE_LOG_NAME));
    assert_int_equal(rename(old, scratch_path(world->scratch, CONSOLE_LOG_NAME ".0")), 0);
    append(world, "four\n");
    begin(world, true);
    expect(world, "three");
    expect(world, "four");
    /* One that does not know where the one before it was does not repeat all. */
    world->journal = console_journal_free(world->journal);
    assert_int_equal(unlink(world->place), 0);
    begin(world, true);
    append(world, "five\n");
    expect(world, "five");
    world_end(world);
}

static void test_last_words(void **context)
{
    World *world = world_new(context);

    begin(world, false);
    append(world, "panic\nat the very e");
    console_journal_end(TAKE_PTR(world->journal)); /* before the loop has looked */
    expect(world, "panic");
    expect(world, "at the very e");
    assert_int_equal(access(world->place, F_OK), -1);
    world_end(world);
}

/* It waits in the log, and after the run in memory, as long as it fits there. */
static void test_busy_journal(void **context)
{
    World *world = world_new(context);
    char line[32];

    begin(world, false);
    for (int i = 0; i < 1500; i++) {
        snprintf(line, sizeof(line), "line %d\n", i);
        append(world, line);
    }
    for (int i = 0; i < 200; i++)
        (void)sd_event_run(world->event, 2000);
    console_journal_end(TAKE_PTR(world->journal));
    for (int i = 0; i < 1500; i++) {
        snprintf(line, sizeof(line), "line %d", i);
        expect(world, line);
    }
    expect_nothing(world);
    world_end(world);
}

static void test_flood(void **context)
{
    World *world = world_new(context);
    static char block[65536];
    uint64_t lines = 0, left_out = 0;
    const char *message;

    memset(block, 'x', sizeof(block) - 1);
    for (size_t i = 15; i < sizeof(block) - 1; i += 16)
        block[i] = '\n';
    begin(world, false);
    for (int i = 0; i < 16; i++)
        append(world, block);
    while ((message = next(world, PATIENCE))) { /* the number comes ten seconds later */
        unsigned long long n;
        if (sscanf(message, "%llu lines of the console were left out here: more than 50 a second came", &n) ==
            1) {
            left_out += n;
            break;
        }
        lines++;
    }
    assert_in_range(lines, LINE_RATE_BURST, LINE_RATE_BURST + 1000);
    assert_int_equal(lines + left_out, 16 * (65535 / 16));
    world_end(world);
}

static void test_no_journal(void **context)
{
    World *world = world_new(context);

    close(world->journald);
    assert_int_equal(unlink(world->socket), 0);
    append(world, "one\n");
    begin(world, false);
    for (int i = 0; i < 50; i++)
        (void)sd_event_run(world->event, 2000);
    world->journald = listen_at(world->socket);
    append(world, "two\n"); /* it tries again after ten seconds */
    expect(world, "one");
    expect(world, "two");
    world_end(world);
}

static size_t descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(directory);
    while (readdir(directory))
        n++;
    closedir(directory);
    return n;
}

/* Nothing waits for a journald that is not there once the run is over. */
static void test_end_without_journal(void **context)
{
    World *world = world_new(context);
    size_t before = 0;

    close(world->journald);
    assert_int_equal(unlink(world->socket), 0);
    for (int i = 0; i < 3; i++) {
        append(world, "one\n");
        begin(world, false);
        console_journal_end(TAKE_PTR(world->journal));
        for (int turn = 0; turn < 10; turn++)
            (void)sd_event_run(world->event, 2000);
        assert_true(before == 0 || descriptors() == before);
        before = descriptors();
    }
    world->journald = listen_at(world->socket);
    world_end(world);
}

static void test_silence_wakes_nobody(void **context)
{
    World *world = world_new(context);
    unsigned turns = 0;
    time_t end;

    begin(world, false);
    append(world, "one\n");
    expect(world, "one");
    expect_nothing(world);
    end = time(NULL) + 2;
    while (time(NULL) < end)
        turns += sd_event_run(world->event, 100000) > 0;
    assert_int_equal(turns, 0);
    world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_lines_as_they_come),
        IN_SCRATCH(test_next_daemon_goes_on),
        IN_SCRATCH(test_last_words),
        IN_SCRATCH(test_busy_journal),
        IN_SCRATCH(test_flood),
        IN_SCRATCH(test_no_journal),
        IN_SCRATCH(test_silence_wakes_nobody),
        IN_SCRATCH(test_end_without_journal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
