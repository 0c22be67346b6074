/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One made-up QEMU, shared by clients that behave, and by all the others. */
#include "driver/direct/qmp-share.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "descriptors.h"

#define GREETING "{\"QMP\": {\"version\": {\"qemu\": 9}, \"capabilities\": [\"oob\"]}}\r\n"
#define OURS     "{\"QMP\": {\"version\": {\"qemu\": 9}, \"capabilities\": []}}\r\n"
#define HELLO    "{\"execute\": \"qmp_capabilities\"}\r\n"
#define AGREED   "{\"return\": {}}\r\n"

enum {
    MUCH = 8 * 1024 * 1024,
};

typedef struct World {
    sd_event *event;
    Qmp *qmp;
    QmpShare *share;
    int qemu; /* the other end */
    struct sockaddr_un address;
    socklen_t address_size;
    int clients[32];
    size_t n_clients;
    char answers[512];
    char *heard; /* MUCH bytes */
} World;

static void on_event(Qmp *qmp, const char *name, const cJSON *data, const char *line, void *userdata)
{
    qmp_share_event(((World *)userdata)->share, line);
}

static void on_closed(Qmp *qmp, const char *why, void *userdata)
{
    World *world = userdata;

    world->share = qmp_share_free(world->share);
    world->qmp = qmp_free(world->qmp);
}

/* Until nothing more happens at once. */
static void run(World *world)
{
    while (sd_event_run(world->event, 0) > 0)
        ;
}

static void write_all(World *world, int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            text += n;
            size -= (size_t)n;
        } else if (errno != EAGAIN) {
            return;
        }
        run(world);
    }
}

static void says(World *world, int fd, const char *text)
{
    write_all(world, fd, text, strlen(text));
    run(world);
}

/* All that comes, as long as something does. */
static const char *hear(World *world, int fd)
{
    size_t size = 0;
    ssize_t n;

    run(world);
    while ((n = recv(fd, world->heard + size, MUCH - 1 - size, MSG_DONTWAIT)) > 0) {
        size += (size_t)n;
        run(world);
    }
    world->heard[size] = '\0';
    return world->heard;
}

static bool is_closed(World *world, int fd)
{
    hear(world, fd);
    return recv(fd, world->heard, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

#define assert_hears(world, fd, expected) assert_string_equal(hear(world, fd), expected)

static int dial(World *world)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&world->address, world->address_size), 0);
    world->clients[world->n_clients++] = fd;
    run(world);
    return fd;
}

/* One that has negotiated. */
static int join(World *world)
{
    int fd = dial(world);

    says(world, fd, HELLO);
    assert_hears(world, fd, OURS AGREED);
    return fd;
}

static int setup(void **context)
{
    World *world = calloc(1, sizeof(*world));
    QmpHandlers handlers = {on_event, on_closed, world};
    int pair[2], listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    world->heard = malloc(MUCH);
    assert_int_equal(sd_event_new(&world->event), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    world->qemu = pair[1];
    assert_int_equal(qmp_new(world->event, pair[0], &handlers, &world->qmp), 0);
    says(world, world->qemu, GREETING "{\"return\": {}, \"id\": 1}\r\n");
    hear(world, world->qemu);
    world->address.sun_family = AF_UNIX; /* the kernel finds an abstract name */
    assert_int_equal(bind(listener, (struct sockaddr *)&world->address, sizeof(sa_family_t)), 0);
    world->address_size = sizeof(world->address);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&world->address, &world->address_size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(qmp_share_new(world->event, world->qmp, &world->share), 0);
    assert_int_equal(qmp_share_listen(world->share, listener), 0);
    *context = world;
    return 0;
}

static int teardown(void **context)
{
    World *world = *context;

    qmp_free(world->qmp);
    qmp_share_free(world->share);
    for (size_t i = 0; i < world->n_clients; i++)
        safe_close(world->clients[i]);
    safe_close(world->qemu);
    sd_event_unref(world->event);
    free(world->heard);
    free(world);
    return 0;
}

/* --- those that behave --- */

static void test_each_negotiates(void **context)
{
    World *world = *context;
    int first = dial(world), second = dial(world);

    assert_hears(world, first, OURS);
    assert_hears(world, second, OURS);
    says(world, first, "{\"execute\": \"query-status\", \"id\": 1}");
    assert_hears(
        world, first,
        "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting capabilities negotiation "
        "with 'qmp_capabilities'\"}, \"id\": 1}\r\n");
    says(world, first, "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}");
    assert_hears(world, first,
                 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"No capabilities are offered by "
                 "microvmd\"}}\r\n");
    says(world, first,
         "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": []}, \"id\": {\"a\": 1}}");
    assert_hears(world, first, "{\"return\": {}, \"id\": {\"a\":1}}\r\n");
    says(world, first, HELLO);
    assert_non_null(
        strstr(hear(world, first), "\"CommandNotFound\", \"desc\": \"Capabilities negotiation is "));
    says(world, second, "{\"execute\": \"stop\"}");
    assert_non_null(strstr(hear(world, second), "Expecting capabilities negotiation"));
    assert_hears(world, world->qemu, "");
}

/* The same id of two clients: each gets its own answer, with its own id, digits and all. */
static void test_answers_find_their_client(void **context)
{
    World *world = *context;
    int first = join(world), second = join(world);

    says(world, first, "{\"execute\": \"query-a\", \"id\": 1}\n");
    says(world, second, "{\"id\": 1, \"execute\": \"query-b\", \"arguments\": {\"x\": \"\xc3\xa4\"}}\n");
    assert_hears(world, world->qemu,
                 "{\"execute\":\"query-a\",\"id\":2}\n"
                 "{\"execute\":\"query-b\",\"id\":3,\"arguments\":{\"x\":\"\xc3\xa4\"}}\n");
    says(world, world->qemu, "{\"return\": 18446744073709551615, \"id\": 3}\r\n");
    assert_hears(world, first, "");
    assert_hears(world, second, "{\"return\": 18446744073709551615, \"id\": 1}\r\n");
    says(world, world->qemu, "{\"id\": 2, \"error\": {\"class\": \"X\", \"desc\": \"no\"}}\r\n");
    assert_hears(world, first, "{\"error\": {\"class\": \"X\", \"desc\": \"no\"}, \"id\": 1}\r\n");
    assert_hears(world, second, "");
}

static void test_events_are_copied(void **context)
{
    World *world = *context;
    int first = join(world), second = join(world), third = dial(world);
    static const char event[] = "{\"timestamp\": {\"seconds\": 1}, \"event\": \"STOP\"}\r\n";

    assert_hears(world, third, OURS);
    says(world, world->qemu, event);
    assert_hears(world, first, event);
    assert_hears(world, second, event);
    assert_hears(world, third, ""); /* it has not negotiated */
}

/* Commands come one after the other, however they are cut; the next is sent when the one before is answered.
 */
static void test_pipelined_and_cut(void **context)
{
    World *world = *context;
    int client = dial(world);

    says(world, client,
         HELLO "{\"execute\":\n \"query-a\", \"id\": \"}{\\\"\"}{\"execute\": \"query-b\"}  {\"exe");
    assert_hears(world, client, OURS AGREED);
    assert_hears(world, world->qemu, "{\"execute\":\"query-a\",\"id\":2}\n");
    says(world, world->qemu, "{\"return\": [], \"id\": 2}\n");
    assert_hears(world, client, "{\"return\": [], \"id\": \"}{\\\"\"}\r\n");
    assert_hears(world, world->qemu, "{\"execute\":\"query-b\",\"id\":3}\n");
    says(world, client, "cute\": \"query-c\"}");
    assert_hears(world, world->qemu, "");
    says(world, world->qemu, "{\"return\": [], \"id\": 3}\n");
    assert_hears(world, world->qemu, "{\"execute\":\"query-c\",\"id\":4}\n");
}

/* What it said before it closed its side is carried out and answered. */
static void test_half_closed(void **context)
{
    World *world = *context;
    int client = dial(world);

    says(world, client, HELLO "{\"execute\": \"query-a\"}{\"execute\": \"query-b\"}");
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    run(world);
    says(world, world->qemu, "{\"return\": 1, \"id\": 2}\n{\"return\": 2, \"id\": 3}\n");
    assert_hears(world, client, OURS AGREED "{\"return\": 1}\r\n{\"return\": 2}\r\n");
    assert_true(is_closed(world, client));
}

static void test_large_answer(void **context)
{
    World *world = *context;
    size_t size = QMP_MESSAGE_MAX - 100;
    char *text = malloc(size + 64);
    int client = join(world);

    says(world, client, "{\"execute\": \"query-qmp-schema\"}");
    memset(text, 'x', size);
    memcpy(text, "{\"return\": \"", 12);
    snprintf(text + size, 64, "\", \"id\": 2}\r\n");
    write_all(world, world->qemu, text, strlen(text));
    hear(world, client);
    assert_int_equal(strlen(world->heard), size + 4);
    assert_int_equal(strncmp(world->heard, text, size), 0);
    free(text);
}

/* --- all the others --- */

static void test_garbage(void **context)
{
    World *world = *context;
    int client = join(world), other = join(world);

    says(world, client, "hello\n\r\n{\"execute\": }\r\n}{\"a\": \"\n");
    assert_hears(world, client,
                 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n"
                 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n"
                 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n"
                 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n");
    says(world, client, "{\"execute\": 5, \"id\": 3}");
    assert_hears(world, client,
                 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"QMP input member 'execute' must be a "
                 "string\"}, \"id\": 3}\r\n");
    says(world, client, "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"x\"}}");
    assert_non_null(strstr(hear(world, client), "microvmd passes no file descriptors on to QEMU"));
    says(world, client, "{\"execute\": \"query-a\"}");
    assert_hears(world, world->qemu, "{\"execute\":\"query-a\",\"id\":2}\n");
    assert_hears(world, other, "");
}

static void test_no_end(void **context)
{
    World *world = *context;
    static char much[QMP_COMMAND_MAX + 4096];
    int client = join(world), other = join(world);

    memset(much, '[', sizeof(much));
    write_all(world, client, much, sizeof(much));
    assert_non_null(strstr(hear(world, client), "longer than microvmd takes"));
    assert_true(is_closed(world, client));
    says(world, other, "{\"execute\": \"query-a\"}");
    assert_hears(world, world->qemu, "{\"execute\":\"query-a\",\"id\":2}\n");
}

/* Who does not read is let go, and nobody waits for it. */
static void test_does_not_read(void **context)
{
    World *world = *context;
    char *event = malloc(100000);
    int deaf = join(world), client = join(world);
    size_t heard = 0;

    memset(event, 'x', 99999);
    memcpy(event, "{\"event\": \"", 11);
    snprintf(event + 90000, 100, "\"}\r\n");
    for (int i = 0; i < 80; i++) {
        write_all(world, world->qemu, event, strlen(event));
        heard += strlen(hear(world, client));
    }
    assert_int_equal(heard, 80 * strlen(event));
    for (heard = 0; recv(deaf, event, 99999, 0) > 0;)
        heard++;
    assert_true(heard > 0);
    free(event);
}

/* Who asks and does not read the answers is not asked for more: its questions stay where they are. */
static void test_asks_and_does_not_read(void **context)
{
    World *world = *context;
    static char answer[20000];
    int client = join(world);
    int asked = 0;

    fcntl(client, F_SETFL, O_NONBLOCK);
    memset(answer, 'x', sizeof(answer));
    for (int i = 0; i < 2000 && write(client, "{\"execute\": \"query-a\"}\n", 23) == 23; i++) {
        int id = -1;
        const char *at = strstr(hear(world, world->qemu), "\"id\":");
        if (!at)
            continue;
        id = atoi(at + 5);
        asked++;
        snprintf(answer + 19000, 100, "\", \"id\": %d}\r\n", id);
        memcpy(answer, "{\"return\": \"", 12);
        says(world, world->qemu, answer);
    }
    assert_in_range(asked, 5, 100);
    hear(world, client);
    assert_false(is_closed(world, client));
}

static void test_too_many_clients(void **context)
{
    World *world = *context;
    int last = -1;

    for (int i = 0; i < 17; i++)
        last = dial(world);
    assert_hears(
        world, last,
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"too many clients share this QEMU\"}}\r\n");
    assert_true(is_closed(world, last));
    close(world->clients[3]);
    world->clients[3] = -EBADF;
    run(world);
    last = dial(world);
    assert_hears(world, last, OURS);
}

/* Who comes then waits, and the loop sleeps. */
static void test_no_descriptor_left(void **context)
{
    World *world = *context;
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct rlimit before = descriptors_none();

    world->clients[world->n_clients++] = client;
    assert_int_equal(connect(client, (struct sockaddr *)&world->address, world->address_size), 0);
    assert_in_range(wake_ups(world->event), 0, 10);
    descriptors_again(&before);
    while (isempty(hear(world, client)))
        assert_true(sd_event_run(world->event, 10000000) > 0);
    assert_string_equal(world->heard, OURS);
}

/* It leaves while its command is on the way. */
static void test_leaves(void **context)
{
    World *world = *context;
    int client = join(world);

    says(world, client, "{\"execute\": \"query-a\"}");
    close(client);
    world->clients[0] = -EBADF;
    run(world);
    says(world, world->qemu, "{\"event\": \"STOP\"}\n{\"return\": {}, \"id\": 2}\n");
    client = join(world);
    says(world, client, "{\"execute\": \"query-b\"}");
    says(world, world->qemu, "{\"return\": 7, \"id\": 3}\n");
    assert_hears(world, client, "{\"return\": 7}\r\n");
}

/* As many as there may be leave, of whom none is answered: that takes no place away from others. */
static void test_leave_unanswered(void **context)
{
    World *world = *context;
    int client;

    for (size_t i = 0; i < 16; i++) {
        client = join(world);
        says(world, client, "{\"execute\": \"query-a\"}");
        if (i % 2) /* it may have closed its own side before */
            assert_int_equal(shutdown(client, SHUT_WR), 0);
        run(world);
    }
    for (size_t i = 0; i < 16; i++)
        world->clients[i] = safe_close(world->clients[i]);
    run(world);
    client = join(world);
    says(world, client, "{\"execute\": \"query-b\"}");
    says(world, world->qemu, "{\"return\": 7, \"id\": 2}\n{\"return\": 8, \"id\": 18}\n");
    assert_hears(world, client, "{\"return\": 8}\r\n");
}

static void test_qemu_ends(void **context)
{
    World *world = *context;
    int client = join(world);

    says(world, client, "{\"execute\": \"quit\", \"id\": 1}");
    says(world, world->qemu, "{\"event\": \"SHUTDOWN\"}\n");
    world->qemu = safe_close(world->qemu);
    assert_hears(
        world, client,
        "{\"event\": \"SHUTDOWN\"}\r\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"QEMU closed "
        "it\"}, \"id\": 1}\r\n");
    assert_true(is_closed(world, client));
    assert_null(world->share);
}

/* --- calls without a connection --- */

static void on_answer(int error, const char *text, const char *json, void *userdata)
{
    World *world = userdata;
    size_t length = strlen(world->answers);

    snprintf(world->answers + length, sizeof(world->answers) - length, "%d %s; ", error,
             error < 0 ? text : json);
}

static int call(World *world, const char *name, uint64_t timeout_usec)
{
    return qmp_share_call(world->share, &(QmpCommand){.name = (char *)name}, timeout_usec, on_answer, world);
}

static void test_calls(void **context)
{
    World *world = *context;

    assert_int_equal(call(world, "query-a", 10000000), 0);
    assert_int_equal(call(world, "query-b", 10000000), 0);
    says(world, world->qemu,
         "{\"return\": {\"a\": 9007199254740993}, \"id\": 2}\n"
         "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"none\"}, \"id\": 3}\n");
    assert_string_equal(world->answers, "0 {\"a\": 9007199254740993}; -121 CommandNotFound: none; ");
    world->answers[0] = '\0';
    assert_int_equal(call(world, "qmp_capabilities", 10000000), 0);
    assert_int_equal(call(world, "add-fd", 10000000), 0);
    assert_string_equal(world->answers, "0 {}; -95 microvmd passes no file descriptors on to QEMU; ");
    world->answers[0] = '\0';
    assert_int_equal(call(world, "query-a", 20000), 0);
    while (!world->answers[0])
        sd_event_run(world->event, 100000);
    assert_string_equal(world->answers, "-110 QEMU did not answer in time; ");
}

/* However many wait, microvmd's own calls have a place; and all are answered in the end. */
static void test_many_calls(void **context)
{
    World *world = *context;
    int n = 0;

    while (n < 100 && call(world, "query-a", UINT64_MAX) == 0)
        n++;
    assert_int_equal(n, 32);
    assert_int_equal(call(world, "query-a", UINT64_MAX), -EBUSY);
    assert_int_equal(qmp_call(world->qmp, "system_powerdown", NULL, 1000000, NULL, NULL), 0);
    world->qmp = qmp_free(world->qmp);
    world->share = qmp_share_free(world->share);
    assert_int_equal(strncmp(world->answers, "-3 the connection to its QEMU has ended; -3 the", 47), 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_each_negotiates),
        TEST(test_answers_find_their_client),
        TEST(test_events_are_copied),
        TEST(test_pipelined_and_cut),
        TEST(test_half_closed),
        TEST(test_large_answer),
        TEST(test_garbage),
        TEST(test_no_end),
        TEST(test_does_not_read),
        TEST(test_asks_and_does_not_read),
        TEST(test_too_many_clients),
        TEST(test_leaves),
        TEST(test_leave_unanswered),
        TEST(test_qemu_ends),
        TEST(test_calls),
        TEST(test_many_calls),
        TEST(test_no_descriptor_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
