/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the words of guests come in: lines of a port, connections of many guests. */
#include "supervise/notify-listener.h"
#include "supervise/notify-stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "descriptors.h"

typedef struct Heard {
    sd_event *event;
    char *text; /* all messages, each followed by '|' */
    size_t size;
    FILE *stream;
    unsigned n, closed;
    bool free_at_once;
    NotifyStream *port;
} Heard;

static void heard_begin(Heard *heard)
{
    *heard = (Heard){0};
    assert_true(sd_event_new(&heard->event) >= 0);
    heard->stream = open_memstream(&heard->text, &heard->size);
}

static void heard_end(Heard *heard)
{
    notify_stream_free(heard->port);
    sd_event_unref(heard->event);
    fclose(heard->stream);
    free(heard->text);
}

static const char *said(Heard *heard)
{
    fflush(heard->stream);
    return heard->text;
}

/* All that there is to do. */
static void turn(Heard *heard)
{
    while (sd_event_run(heard->event, 0) > 0)
        ;
}

/* --- a port --- */

static void on_line(NotifyStream *stream, char *text, void *userdata)
{
    Heard *heard = userdata;

    fprintf(heard->stream, "%s|", text);
    heard->n++;
    if (heard->free_at_once)
        heard->port = notify_stream_free(stream);
}

static void on_end(NotifyStream *stream, void *userdata)
{
    Heard *heard = userdata;

    heard->closed++;
    heard->port = notify_stream_free(stream);
}

/* The guest's end. */
static int port_new(Heard *heard)
{
    int pair[2];

    heard_begin(heard);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(
        notify_stream_new(heard->event, pair[0], &(NotifyHandlers){on_line, on_end, heard}, &heard->port), 0);
    return pair[1];
}

static void put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void test_lines(void **state)
{
    Heard heard;
    int guest = port_new(&heard);

    put(guest, "READY=1\nSTATUS=half a");
    turn(&heard);
    assert_string_equal(said(&heard), "READY=1|");
    put(guest, " line\n\n\r\nWATCHDOG=1\n\n");
    turn(&heard);
    assert_string_equal(said(&heard), "READY=1|STATUS=half a line|WATCHDOG=1|");
    close(guest);
    turn(&heard);
    assert_int_equal(heard.closed, 1);
    heard_end(&heard);
}

static void test_line_without_end(void **state)
{
    Heard heard;
    int guest = port_new(&heard);
    char block[1000];

    memset(block, 'x', sizeof(block) - 1);
    block[sizeof(block) - 1] = '\0';
    for (int i = 0; i < 20; i++) {
        put(guest, block);
        turn(&heard);
    }
    put(guest, "\nREADY=1\n");
    turn(&heard);
    assert_string_equal(said(&heard), "READY=1|");
    close(guest);
    heard_end(&heard);
}

static void test_freed_by_its_word(void **state)
{
    Heard heard;
    int guest = port_new(&heard);

    heard.free_at_once = true;
    put(guest, "A=1\nB=2\n");
    turn(&heard);
    assert_string_equal(said(&heard), "A=1|");
    close(guest);
    heard_end(&heard);
}

/* Who says too much is heard on in the next second: nothing is lost, and the loop has time for others. */
static void test_flood_of_lines(void **state)
{
    enum {
        MANY = NOTIFY_MESSAGES_A_SECOND + 100,
    };
    Heard heard;
    int guest = port_new(&heard);

    for (int i = 0; i < MANY / 10; i++)
        put(guest, "A=1\nA=1\nA=1\nA=1\nA=1\nA=1\nA=1\nA=1\nA=1\nA=1\n");
    turn(&heard);
    assert_int_equal(heard.n, NOTIFY_MESSAGES_A_SECOND);
    while (heard.n < MANY)
        assert_true(sd_event_run(heard.event, 10000000) > 0);
    assert_int_equal(heard.n, MANY);
    close(guest);
    heard_end(&heard);
}

/* --- many guests --- */

/* Here CIDs come from the address that a guest's socket is bound to: "CID.NUMBER". */
static int peer(int fd, unsigned *ret_cid)
{
    struct sockaddr_un address = {0};
    socklen_t size = sizeof(address);

    if (getpeername(fd, (struct sockaddr *)&address, &size) < 0 || size <= sizeof(sa_family_t))
        return -EINVAL;
    *ret_cid = (unsigned)strtoul(address.sun_path + 1, NULL, 10);
    return 0;
}

static bool knows(unsigned cid, void *userdata)
{
    return cid >= 10;
}

static void on_message(unsigned cid, char *text, void *userdata)
{
    Heard *heard = userdata;

    fprintf(heard->stream, "%u:%s|", cid, text);
    heard->n++;
}

typedef struct World {
    Heard heard;
    NotifyListener *listener;
    struct sockaddr_un address;
    socklen_t size;
    unsigned n_guests;
} World;

static void world_begin(World *world)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *world = (World){.address = {.sun_family = AF_UNIX}, .size = sizeof(world->address)};
    heard_begin(&world->heard);
    assert_int_equal(bind(fd, (struct sockaddr *)&world->address, sizeof(sa_family_t)), 0); /* autobind */
    assert_int_equal(getsockname(fd, (struct sockaddr *)&world->address, &world->size), 0);
    assert_int_equal(listen(fd, 1024), 0);
    assert_int_equal(notify_listener_new(&(NotifyListenerOptions){.event = world->heard.event,
                                                                  .fd = fd,
                                                                  .peer = peer,
                                                                  .knows = knows,
                                                                  .message = on_message,
                                                                  .userdata = &world->heard},
                                         &world->listener),
                     0);
}

static void world_end(World *world)
{
    notify_listener_free(world->listener);
    heard_end(&world->heard);
}

static int guest_connect(World *world, unsigned cid)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    int length =
        snprintf(own.sun_path + 1, sizeof(own.sun_path) - 1, "%u.%d.%u", cid, getpid(), world->n_guests++);

    assert_int_equal(bind(fd, (struct sockaddr *)&own, (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)length)),
                     0);
    assert_int_equal(connect(fd, (struct sockaddr *)&world->address, world->size), 0);
    return fd;
}

/* As systemd does it: a message, no more to come, and then it waits for the end. */
static int guest_says(World *world, unsigned cid, const char *text)
{
    int fd = guest_connect(world, cid);

    put(fd, text);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    return fd;
}

static bool is_answered(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

static void test_told_apart(void **state)
{
    World world;
    int fds[3];

    world_begin(&world);
    fds[0] = guest_says(&world, 11, "READY=1");
    fds[1] = guest_says(&world, 12, "STATUS=a\nREADY=1");
    fds[2] = guest_says(&world, 3, "READY=1"); /* a stranger */
    turn(&world.heard);
    assert_string_equal(said(&world.heard), "11:READY=1|12:STATUS=a\nREADY=1|");
    for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
        assert_true(is_answered(fds[i]));
        close(fds[i]);
    }
    world_end(&world);
}

static void test_message_in_pieces(void **state)
{
    World world;
    int fd;

    world_begin(&world);
    fd = guest_connect(&world, 20);
    turn(&world.heard);
    put(fd, "REA");
    turn(&world.heard);
    put(fd, "DY=1");
    turn(&world.heard);
    assert_string_equal(said(&world.heard), "");
    close(fd);
    turn(&world.heard);
    assert_string_equal(said(&world.heard), "20:READY=1|");
    world_end(&world);
}

static void test_message_too_long(void **state)
{
    char text[3 * NOTIFY_MESSAGE_MAX];
    World world;
    int fd;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    world_begin(&world);
    fd = guest_says(&world, 20, text);
    turn(&world.heard);
    assert_true(is_answered(fd));
    assert_int_equal(world.heard.n, 0);
    close(fd);
    world_end(&world);
}

/* One that holds connections open is refused more; another is heard meanwhile. */
static void test_too_many_connections(void **state)
{
    World world;
    int fds[40], fd;
    unsigned open = 0;

    world_begin(&world);
    for (size_t i = 0; i < ELEMENTSOF(fds); i++)
        fds[i] = guest_connect(&world, 20);
    fd = guest_says(&world, 21, "READY=1");
    turn(&world.heard);
    assert_string_equal(said(&world.heard), "21:READY=1|");
    for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
        open += !is_answered(fds[i]);
        close(fds[i]);
    }
    assert_int_equal(open, 16);
    close(fd);
    turn(&world.heard);
    fd = guest_says(&world, 20, "READY=1");
    turn(&world.heard);
    assert_int_equal(world.heard.n, 2);
    close(fd);
    world_end(&world);
}

static void test_flood_of_messages(void **state)
{
    World world;
    int fd;

    world_begin(&world);
    for (int i = 0; i < NOTIFY_MESSAGES_A_SECOND + 50; i++) {
        fd = guest_says(&world, 20, "A=1");
        turn(&world.heard);
        assert_true(is_answered(fd));
        close(fd);
    }
    /* On a slow machine a new second may have begun meanwhile. */
    assert_in_range(world.heard.n, NOTIFY_MESSAGES_A_SECOND, NOTIFY_MESSAGES_A_SECOND + 50);
    world_end(&world);
}

static void test_ends_with_open_connections(void **state)
{
    World world;
    int fd;

    world_begin(&world);
    fd = guest_connect(&world, 20);
    turn(&world.heard);
    world_end(&world);
    assert_true(is_answered(fd));
    close(fd);
}

/* Who comes then waits, and the loop sleeps. */
static void test_no_descriptor_left(void **state)
{
    struct rlimit before;
    World world;
    int fd;

    world_begin(&world);
    fd = guest_says(&world, 20, "READY=1");
    before = descriptors_none();
    assert_in_range(wake_ups(world.heard.event), 0, 10);
    assert_int_equal(world.heard.n, 0);
    descriptors_again(&before);
    while (world.heard.n == 0)
        assert_true(sd_event_run(world.heard.event, 10000000) > 0);
    assert_string_equal(said(&world.heard), "20:READY=1|");
    assert_true(is_answered(fd));
    close(fd);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_line_without_end),
        cmocka_unit_test(test_freed_by_its_word),
        cmocka_unit_test(test_flood_of_lines),
        cmocka_unit_test(test_told_apart),
        cmocka_unit_test(test_message_in_pieces),
        cmocka_unit_test(test_message_too_long),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_flood_of_messages),
        cmocka_unit_test(test_ends_with_open_connections),
        cmocka_unit_test(test_no_descriptor_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
