/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QMP client against a QEMU that is made up: one that behaves, and all the others. */
#include "driver/direct/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000)

typedef struct World {
    sd_event *event;
    Qmp *qmp;
    int qemu; /* the other end */
    char events[256], replies[512], closed[128];
} World;

static void note(char *list, size_t size, const char *format, ...) _printf_(3, 4);
static void note(char *list, size_t size, const char *format, ...)
{
    size_t length = strlen(list);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(list + length, size - length, format, arguments);
    va_end(arguments);
}

static void on_event(Qmp *qmp, const char *name, const cJSON *data, const char *line, void *userdata)
{
    World *world = userdata;
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "reason"));

    note(world->events, sizeof(world->events), "%s(%s) ", name, reason ? reason : "");
    assert_true(line[0] == '{' && line[strlen(line) - 1] == '}');
}

static void on_closed(Qmp *qmp, const char *why, void *userdata)
{
    World *world = userdata;

    note(world->closed, sizeof(world->closed), "%s", why);
    world->qmp = qmp_free(world->qmp);
}

static void on_reply(Qmp *qmp, const QmpReply *reply, void *userdata)
{
    World *world = userdata;
    const char *status = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(reply->result, "status"));

    note(world->replies, sizeof(world->replies), "%d(%s) ", reply->error,
         reply->text ? reply->text
         : status    ? status
                     : "");
}

static void on_json(Qmp *qmp, const QmpReply *reply, void *userdata)
{
    World *world = userdata;

    note(world->replies, sizeof(world->replies), "%s ", reply->json ? reply->json : "nothing");
}

static int setup(void **context)
{
    World *world = calloc(1, sizeof(*world));
    QmpHandlers handlers = {on_event, on_closed, world};
    int pair[2];

    assert_int_equal(sd_event_new(&world->event), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    world->qemu = pair[1];
    assert_int_equal(qmp_new(world->event, pair[0], &handlers, &world->qmp), 0);
    *context = world;
    return 0;
}

static int teardown(void **context)
{
    World *world = *context;

    qmp_free(world->qmp);
    sd_event_unref(world->event);
    safe_close(world->qemu);
    free(world);
    return 0;
}

/* Until nothing more happens at once. */
static void run(World *world)
{
    while (sd_event_run(world->event, 10000) > 0)
        ;
}

static void qemu_says(World *world, const char *text)
{
    assert_int_equal(write(world->qemu, text, strlen(text)), strlen(text));
    run(world);
}

static void assert_heard(World *world, const char *expected)
{
    char text[4096] = "";
    ssize_t n = read(world->qemu, text, sizeof(text) - 1);

    assert_true(n >= 0);
    text[n] = '\0';
    assert_string_equal(text, expected);
}

static void ask(World *world, const char *command)
{
    assert_int_equal(qmp_call(world->qmp, command, NULL, 10 * SECOND, on_reply, world), 0);
}

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"
#define AGREED   "{\"return\": {}, \"id\": 1}\r\n"

/* Commands do not wait for the greeting. */
static void test_pipelined(void **context)
{
    World *world = *context;

    ask(world, "query-status");
    assert_int_equal(qmp_call(world->qmp, "stop", cJSON_CreateObject(), 10 * SECOND, NULL, NULL), 0);
    assert_heard(world,
                 "{\"execute\":\"qmp_capabilities\",\"id\":1}\n{\"execute\":\"query-status\",\"id\":2}\n"
                 "{\"execute\":\"stop\",\"id\":3,\"arguments\":{}}\n");
    qemu_says(world, GREETING AGREED "{\"timestamp\": {}, \"event\": \"RESUME\"}\r\n");
    qemu_says(world, "{\"return\": {\"status\": \"running\"}, \"id\": 2}\r\n");
    assert_string_equal(world->events, "RESUME() ");
    assert_string_equal(world->replies, "0(running) ");
}

static void test_halves_and_many(void **context)
{
    World *world = *context;

    qemu_says(world, "{\"event\": \"SHUT");
    assert_string_equal(world->events, "");
    qemu_says(
        world,
        "DOWN\", \"data\": {\"reason\": \"guest-reset\"}}\n{\"event\": \"A\"}\r\n\r\n{\"event\": \"B\"}\r");
    assert_string_equal(world->events, "SHUTDOWN(guest-reset) A() ");
    qemu_says(world, "\n");
    assert_string_equal(world->events, "SHUTDOWN(guest-reset) A() B() ");
}

static void test_errors(void **context)
{
    World *world = *context;

    ask(world, "query-status");
    ask(world, "query-status");
    qemu_says(world, AGREED
              "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}\n"
              "{\"error\": 7, \"id\": 3}\n{\"return\": {}, \"id\": 99}\n{\"return\": {}, \"id\": \"2\"}\n");
    assert_string_equal(world->replies, "-121(no) -121(an error without words) ");
    assert_non_null(world->qmp);
}

static void on_long_reply(Qmp *qmp, const QmpReply *reply, void *userdata)
{
    World *world = userdata;

    note(world->replies, sizeof(world->replies), "%zu %zu", strlen(reply->text), strlen(reply->class));
}

/* People are shown it, on their terminals, and the whole bus. */
static void test_errors_are_to_be_shown(void **context)
{
    World *world = *context;
    _cleanup_free_ char *answer = NULL;
    char words[5000];

    ask(world, "query-status");
    qemu_says(world, AGREED
              "{\"error\": {\"class\": \"A\\u0007\", \"desc\": \"\\u001b[2Jno\\r\\n\\u009b\"}, \"id\": 2}\n");
    assert_string_equal(world->replies, "-121(?[2Jno??" "?" "?) ");
    world->replies[0] = '\0';
    memset(words, 'x', sizeof(words));
    words[sizeof(words) - 1] = '\0';
    assert_true(asprintf(&answer, "{\"error\": {\"class\": \"%s\", \"desc\": \"%s\"}, \"id\": 3}\n", words,
                         words) > 0);
    assert_int_equal(qmp_call(world->qmp, "query-status", NULL, SECOND, on_long_reply, world), 0);
    qemu_says(world, answer);
    assert_string_equal(world->replies, "1000 1000");
}

/* A call past its deadline is told so once, and its late answer means nothing. */
static void test_never_answers(void **context)
{
    World *world = *context;

    assert_int_equal(qmp_call(world->qmp, "query-status", NULL, SECOND / 20, on_reply, world), 0);
    ask(world, "query-status");
    for (int i = 0; i < 50 && !world->replies[0]; i++)
        sd_event_run(world->event, SECOND / 20);
    assert_string_equal(world->replies, "-110(QEMU did not answer in time) ");
    qemu_says(world, "{\"return\": {\"status\": \"late\"}, \"id\": 2}\n{\"return\": {\"status\": "
                     "\"running\"}, \"id\": 3}\n");
    assert_string_equal(world->replies, "-110(QEMU did not answer in time) 0(running) ");
}

static void test_closed_in_the_middle(void **context)
{
    World *world = *context;

    ask(world, "query-status");
    qemu_says(world, "{\"QMP\": {\"ver");
    world->qemu = safe_close(world->qemu);
    run(world);
    assert_string_equal(world->replies, "-107(QEMU closed it) ");
    assert_string_equal(world->closed, "QEMU closed it");
    assert_null(world->qmp);
}

/* One that was gone before it was spoken to is told as all others are: from the loop. */
static void test_closed_before_it_is_asked(void **context)
{
    World *world = *context;

    world->qemu = safe_close(world->qemu);
    ask(world, "query-status");
    ask(world, "query-name");
    assert_string_equal(world->replies, "");
    run(world);
    assert_string_equal(world->replies, "-107(QEMU closed it) -107(QEMU closed it) ");
    assert_string_equal(world->closed, "QEMU closed it");
    assert_null(world->qmp);
}

/* What it said before is heard: why it ended may be in it. */
static void test_asked_after_its_last_words(void **context)
{
    World *world = *context;
    static const char words[] = "{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\r\n";

    assert_int_equal(write(world->qemu, words, sizeof(words) - 1), sizeof(words) - 1);
    world->qemu = safe_close(world->qemu);
    ask(world, "query-status");
    run(world);
    assert_string_equal(world->events, "SHUTDOWN(guest-shutdown) ");
    assert_string_equal(world->replies, "-107(QEMU closed it) ");
    assert_null(world->qmp);
}

/* One that listens no more, and talks on. */
static void test_does_not_listen(void **context)
{
    World *world = *context;

    assert_int_equal(shutdown(world->qemu, SHUT_RD), 0);
    ask(world, "query-status");
    run(world);
    assert_string_equal(world->replies, "-107(writing to it failed) ");
    assert_string_equal(world->closed, "writing to it failed");
}

/* A line or two that is no message does no harm; more of them, and it is no QEMU. */
static void test_garbage(void **context)
{
    World *world = *context;

    qemu_says(world, "hello\n[1]\n\"x\"\n{]\n" AGREED);
    assert_string_equal(world->closed, "");
    for (int i = 0; i < 16 && world->qmp; i++)
        qemu_says(world, "login: \n");
    assert_string_equal(world->closed, "what it says is not QEMU's protocol");
}

static void test_no_end(void **context)
{
    World *world = *context;
    static char much[64 * 1024];

    memset(much, '[', sizeof(much));
    for (int i = 0; i < 80 && world->qmp; i++) {
        (void)!write(world->qemu, much, sizeof(much));
        run(world);
    }
    assert_string_equal(world->closed, "it sent a message without an end");
}

static void ask_for_json(World *world, const char *answer, const char *expected)
{
    qmp_call(world->qmp, "query-status", NULL, UINT64_MAX, on_json, world);
    world->replies[0] = '\0';
    qemu_says(world, answer);
    assert_string_equal(world->replies, expected);
}

/* What QEMU wrote is handed on as it is: its numbers have more digits than cJSON's. */
static void test_text_of_answers(void **context)
{
    World *world = *context;

    ask_for_json(world, "{\"return\": 18446744073709551615, \"id\": 2}\n", "18446744073709551615 ");
    ask_for_json(world, "{\"id\": 3, \"return\": {\"return\": [1, {}], \"id\": \"}\\\"\"}}\r\n",
                 "{\"return\": [1, {}], \"id\": \"}\\\"\"} ");
    ask_for_json(world, "{\"timestamp\": {\"return\": 0}, \"return\" : \"a,b\" , \"id\": 4}\n", "\"a,b\"  ");
    ask_for_json(world, "{\"id\": 5, \"error\": {\"class\": \"X\", \"desc\": \"y\"}}\n",
                 "{\"class\": \"X\", \"desc\": \"y\"} ");
    ask_for_json(world, "{\"id\": 6, \"r\\u0065turn\": {}}\n", "nothing ");
    assert_string_equal(qmp_version(world->qmp), "{}");
    qemu_says(world, "{\"QMP\": {\"capabilities\": [], \"version\": {\"qemu\": {\"major\": 7}}}}\n");
    assert_string_equal(qmp_version(world->qmp), "{\"qemu\": {\"major\": 7}}");
}

static void test_odd_ids(void **context)
{
    World *world = *context;

    ask(world, "query-status");
    qemu_says(world, "{\"return\": {}, \"id\": 1e300}\n{\"return\": {}, \"id\": -1}\n"
                     "{\"return\": {}, \"id\": 18446744073709551618}\n{\"return\": {}, \"id\": null}\n");
    assert_string_equal(world->replies, "");
}

/* The beginning of an answer that is longer than is taken: it may end with "\", \"id\": N}". */
static void qemu_says_too_much(World *world)
{
    size_t size = QMP_MESSAGE_MAX + 100000, sent = 0;
    char *text = malloc(size);

    memset(text, 'x', size);
    memcpy(text, "{\"return\": \"", 12);
    while (sent < size) {
        ssize_t n = write(world->qemu, text + sent, size - sent);
        sent += n > 0 ? (size_t)n : 0;
        run(world);
    }
    free(text);
}

/* An answer that is too long is the loss of who asked, not of the connection. */
static void test_very_long_answer(void **context)
{
    World *world = *context;

    qemu_says(world, GREETING AGREED);
    ask(world, "human-monitor-command");
    ask(world, "query-status");
    qemu_says_too_much(world);
    assert_string_equal(world->replies, "-90(its answer is longer than microvmd takes (4 MiB)) ");
    qemu_says(world, "\", \"id\": 2}\r\n{\"return\": {\"status\": \"running\"}, \"id\": 3}\n");
    assert_string_equal(world->replies, "-90(its answer is longer than microvmd takes (4 MiB)) 0(running) ");
    assert_string_equal(world->closed, "");
}

/* Nor is it the loss of who asked next, when the one that it is for does not wait any more; and with nobody
 * who waits it does no harm at all. */
static void test_very_long_and_late(void **context)
{
    World *world = *context;

    qemu_says(world, GREETING AGREED);
    for (int i = 0; i < 2; i++) {
        world->replies[0] = '\0';
        assert_int_equal(qmp_call(world->qmp, "query-block", NULL, SECOND / 20, on_reply, world), 0);
        while (!world->replies[0])
            sd_event_run(world->event, SECOND / 20);
        assert_string_equal(world->replies, "-110(QEMU did not answer in time) ");
    }
    qemu_says_too_much(world);
    assert_string_equal(world->closed, "");
    qemu_says(world, "\", \"id\": 2}\n");
    world->replies[0] = '\0';
    ask(world, "query-status");
    qemu_says_too_much(world);
    assert_string_equal(world->replies, "");
    qemu_says(world, "\", \"id\": 3}\n{\"return\": {\"status\": \"running\"}, \"id\": 4}\n");
    assert_string_equal(world->replies, "0(running) ");
    assert_string_equal(world->closed, "");
}

/* What nobody has asked for is no answer. */
static void test_very_long_unasked(void **context)
{
    World *world = *context;

    qemu_says(world, GREETING AGREED);
    for (int i = 0; i < 80 && world->qmp; i++) {
        static char much[64 * 1024];
        memset(much, '[', sizeof(much));
        (void)!write(world->qemu, much, sizeof(much));
        run(world);
    }
    assert_string_equal(world->closed, "it sent a message without an end");
}

/* One that does not read: what waits for it is bounded, and goes when it reads again. */
static void test_does_not_read(void **context)
{
    World *world = *context;
    char *big = malloc(100000);
    int r = 0, accepted = 0;
    size_t lines = 0;

    memset(big, 'x', 99999);
    big[99999] = '\0';
    for (; accepted < 60 && r >= 0; accepted += r >= 0) {
        cJSON *arguments = cJSON_CreateObject();
        cJSON_AddStringToObject(arguments, "text", big);
        r = qmp_call(world->qmp, "human-monitor-command", arguments, 10 * SECOND, on_reply, world);
    }
    assert_int_equal(r, -ENOBUFS);
    for (int i = 0; i < 2000; i++) {
        ssize_t n = read(world->qemu, big, 99999);
        for (ssize_t k = 0; k < n; k++)
            lines += big[k] == '\n';
        if (n <= 0 && lines == (size_t)accepted + 1)
            break;
        run(world);
    }
    assert_int_equal(lines, accepted + 1);
    free(big);
}

static void test_too_many(void **context)
{
    World *world = *context;
    int r = 0;

    for (int i = 0; i < 100 && r >= 0; i++)
        r = qmp_call(world->qmp, "query-status", NULL, 10 * SECOND, NULL, NULL);
    assert_int_equal(r, -ENOBUFS);
}

/* What QEMU said before it ended is heard, though the loop has not come to it. */
static void test_last_words(void **context)
{
    World *world = *context;
    static const char words[] = "{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\r\n";

    assert_int_equal(write(world->qemu, words, sizeof(words) - 1), sizeof(words) - 1);
    world->qemu = safe_close(world->qemu);
    qmp_drain(world->qmp);
    assert_string_equal(world->events, "SHUTDOWN(guest-shutdown) ");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_pipelined),
        TEST(test_halves_and_many),
        TEST(test_errors),
        TEST(test_errors_are_to_be_shown),
        TEST(test_never_answers),
        TEST(test_garbage),
        TEST(test_closed_in_the_middle),
        TEST(test_closed_before_it_is_asked),
        TEST(test_asked_after_its_last_words),
        TEST(test_does_not_listen),
        TEST(test_no_end),
        TEST(test_does_not_read),
        TEST(test_too_many),
        TEST(test_last_words),
        TEST(test_text_of_answers),
        TEST(test_odd_ids),
        TEST(test_very_long_answer),
        TEST(test_very_long_and_late),
        TEST(test_very_long_unasked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
