/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One try of a port, on a server of the test's own; and a console that is listened on. */
#include "resource/console-log.h"
#include "supervise/console-watch.h"
#include "supervise/probe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

#define PATIENCE_USEC UINT64_C(20000000)

typedef struct World {
    sd_event *event;
    int listener;
    uint16_t port;
    const char *answer; /* NULL: none */
    bool closes;        /* after it has read what was asked; else it keeps the connection */
    bool refuses;       /* closes without reading, as QEMU does for a guest that refuses */
    int client;
    char asked[512];
    size_t n_asked;
    bool done;
    char why[128]; /* empty: as it should */
    unsigned spoke, matched;
} World;

/* --- the server --- */

static int on_asked(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    World *world = userdata;
    ssize_t n = recv(fd, world->asked + world->n_asked, sizeof(world->asked) - 1 - world->n_asked, 0);

    world->n_asked += n > 0 ? (size_t)n : 0;
    if (world->answer && n > 0)
        assert_true(send(fd, world->answer, strlen(world->answer), MSG_NOSIGNAL) > 0);
    if (world->closes || n <= 0) {
        sd_event_source_set_enabled(source, SD_EVENT_OFF);
        if (world->closes) {
            close(fd);
            world->client = -1;
        }
    }
    return 0;
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    World *world = userdata;
    char byte;

    world->client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(world->client >= 0);
    if (world->refuses) {
        while (recv(world->client, &byte, 1, MSG_PEEK) != 1) /* it is there, and stays unread */
            ;
        close(world->client);
        world->client = -1;
        return 0;
    }
    assert_true(sd_event_add_io(world->event, NULL, world->client, EPOLLIN, on_asked, world) >= 0);
    return 0;
}

static World *world_new(void)
{
    static World world;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    world = (World){.client = -1};
    assert_int_equal(sd_event_new(&world.event), 0);
    world.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(world.listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(world.listener, 5), 0);
    assert_int_equal(getsockname(world.listener, (struct sockaddr *)&address, &size), 0);
    world.port = ntohs(address.sin_port);
    assert_true(sd_event_add_io(world.event, NULL, world.listener, EPOLLIN, on_connection, &world) >= 0);
    return &world;
}

static void world_end(World *world)
{
    if (world->client >= 0)
        close(world->client);
    if (world->listener >= 0)
        close(world->listener);
    sd_event_unref(world->event);
}

/* --- the probe --- */

static void on_done(const char *why, void *userdata)
{
    World *world = userdata;

    assert_false(world->done);
    world->done = true;
    snprintf(world->why, sizeof(world->why), "%s", why ? why : "");
}

static void try_it(World *world, const char *path, uint64_t timeout_usec, const char *expected)
{
    _cleanup_(probe_freep)
    Probe *probe = NULL;
    ProbeTarget target = {.address = "0.0.0.0", .port = world->port, .path = path};

    assert_int_equal(probe_new(world->event, &target, timeout_usec, on_done, world, &probe), 0);
    assert_false(world->done);
    while (!world->done)
        assert_true(sd_event_run(world->event, PATIENCE_USEC) > 0);
    assert_string_equal(world->why, expected);
    world_end(world);
}

static void test_tcp(void **context)
{
    World *world = world_new();

    world->answer = "220 ready\r\n";
    try_it(world, NULL, PATIENCE_USEC, "");
    assert_string_equal(world->asked, "\n");

    world = world_new(); /* somebody has read it, and has nothing to say */
    world->closes = true;
    try_it(world, NULL, PATIENCE_USEC, "");
}

static void test_tcp_that_fails(void **context)
{
    World *world = world_new();

    world->refuses = true;
    try_it(world, NULL, PATIENCE_USEC, "connection refused");

    world = world_new(); /* QEMU has taken it, and no guest answers */
    try_it(world, NULL, 50000, "no answer within 50ms");

    world = world_new();
    sd_event_unref(world->event);
    assert_int_equal(sd_event_new(&world->event), 0);
    close(world->listener);
    world->listener = -1;
    try_it(world, NULL, PATIENCE_USEC, "the host's port is closed");
}

static void test_http(void **context)
{
    static const struct {
        const char *answer, *why;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", ""},
        {"HTTP/1.0 204 No Content\n", ""},
        {"HTTP/1.1 399 Odd\r\n", ""},
        {"HTTP/1.1 404 Not Found\r\nServer: a\r\n\r\n", "it answers with status 404"},
        {"HTTP/1.1 503 Wait\r\n", "it answers with status 503"},
        {"HTTP/1.1 100 Continue\r\n", "it answers with status 100"},
        {"SSH-2.0-OpenSSH_9.2\r\n", "what answers is not HTTP"},
        {"HTTP/1.1 two hundred\r\n", "what answers is not HTTP"},
        {NULL, "the connection was closed without an answer"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        World *world = world_new();
        world->answer = cases[i].answer;
        world->closes = !cases[i].answer;
        try_it(world, "/health", PATIENCE_USEC, cases[i].why);
        assert_non_null(strstr(world->asked, "GET /health HTTP/1.1\r\nHost: "));
        assert_non_null(strstr(world->asked, "\r\n\r\n"));
    }
}

static void test_http_that_is_refused(void **context)
{
    World *world = world_new();

    world->refuses = true;
    try_it(world, "/", PATIENCE_USEC, "connection refused");
}

/* --- the console --- */

static void append(Scratch *scratch, const char *text)
{
    int fd = open(scratch_path(scratch, CONSOLE_LOG_NAME), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void on_heard(bool matched, void *userdata)
{
    World *world = userdata;

    world->spoke++;
    world->matched += matched;
}

/* Runs the loop until nothing happens for a while, or something matched. */
static void listen_for_a_while(World *world, unsigned matched)
{
    int r = 1;

    for (int i = 0; i < 1000 && world->matched < matched && r > 0; i++) {
        r = sd_event_run(world->event, 300000);
        assert_true(r >= 0);
    }
}

static void test_console(void **context)
{
    static const struct {
        const char *pattern, *first, *then;
        bool matches;
    } cases[] = {
        {"^guest: ready$", "booting\r\nguest: ready\r\n", "", true},
        {"^guest: ready$", "booting\r\nguest: re", "ady\r\n", true},
        {"^guest: ready$", "guest: ready", " to fail\n", false}, /* its line had not ended */
        {"^guest: ready$", "guest: already\n", "guest: ready or not\n", false},
        {"login:", "Debian 12\n", "web login: ", true}, /* a prompt does not end */
        {"login: ?$", "web login: ", "", false},
        {"a (b|c)+ d", "\033[32ma bcb d\033[0m\n", "", true},
        {"late", "", "late\n", true},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        World world = {0};
        Scratch *scratch;
        _cleanup_(console_watch_freep)
        ConsoleWatch *watch = NULL;
        scratch_setup((void **)&scratch);
        assert_int_equal(sd_event_new(&world.event), 0);
        if (*cases[i].first)
            append(scratch, cases[i].first);
        assert_int_equal(
            console_watch_new(world.event, scratch->path, cases[i].pattern, on_heard, &world, &watch), 0);
        assert_int_equal(world.spoke, 0);
        if (cases[i].first[0])
            listen_for_a_while(&world, 1);
        if (*cases[i].then && world.matched == 0)
            append(scratch, cases[i].then);
        listen_for_a_while(&world, 1);
        if (world.matched != cases[i].matches)
            fail_msg("\"%s\" in \"%s%s\": %u", cases[i].pattern, cases[i].first, cases[i].then,
                     world.matched);
        assert_true(world.spoke > 0);
        watch = console_watch_free(watch);
        sd_event_unref(world.event);
        scratch_teardown((void **)&scratch);
    }
}

/* More than is read at a time, and a line that never ends: what comes after is found. */
static void test_console_that_is_flooded(void **context)
{
    World world = {0};
    Scratch *scratch = *context;
    _cleanup_(console_watch_freep)
    ConsoleWatch *watch = NULL;
    char block[4096 + 1];

    memset(block, 'x', sizeof(block) - 1);
    block[sizeof(block) - 1] = '\0';
    assert_int_equal(sd_event_new(&world.event), 0);
    for (int i = 0; i < 200; i++)
        append(scratch, block);
    append(scratch, "\nhere\n");
    assert_int_equal(console_watch_new(world.event, scratch->path, "^here$", on_heard, &world, &watch), 0);
    listen_for_a_while(&world, 1);
    assert_int_equal(world.matched, 1);
    watch = console_watch_free(watch);
    sd_event_unref(world.event);
}

static void test_console_without_a_pattern(void **context)
{
    World world = {0};
    Scratch *scratch = *context;
    _cleanup_(console_watch_freep)
    ConsoleWatch *watch = NULL;

    assert_int_equal(sd_event_new(&world.event), 0);
    assert_int_equal(console_watch_new(world.event, scratch->path, "(", on_heard, &world, &watch), -EINVAL);
    assert_int_equal(console_watch_new(world.event, scratch->path, NULL, on_heard, &world, &watch), 0);
    listen_for_a_while(&world, 1);
    assert_int_equal(world.spoke, 0);
    append(scratch, "[    0.0");
    listen_for_a_while(&world, 1);
    append(scratch, "00000] Linux\n");
    listen_for_a_while(&world, 1);
    assert_int_equal(world.spoke, 1); /* once */
    assert_int_equal(world.matched, 0);
    watch = console_watch_free(watch);
    sd_event_unref(world.event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_tcp_that_fails),
        cmocka_unit_test(test_http),
        cmocka_unit_test(test_http_that_is_refused),
        cmocka_unit_test(test_console),
        IN_SCRATCH(test_console_that_is_flooded),
        IN_SCRATCH(test_console_without_a_pattern),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
