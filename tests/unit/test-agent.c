/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who asks a guest's agent, against one that is made up: one that behaves, and all the others. */
#include "driver/direct/agent.h"

#include "base/say.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

#define SHUTDOWN "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}\n"

typedef struct World {
    sd_event *event;
    Agent *agent;
    int guest; /* the other end */
    unsigned refusals;
    char text[512];
} World;

static void on_refused(Agent *agent, const char *text, void *userdata)
{
    World *world = userdata;

    world->refusals++;
    snprintf(world->text, sizeof(world->text), "%s", text);
    world->agent = agent_free(agent);
}

static int set_up(void **state)
{
    static World world;
    int fds[2];

    world = (World){0};
    assert_int_equal(sd_event_new(&world.event), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    world.guest = fds[1];
    assert_int_equal(agent_new(world.event, fds[0], on_refused, &world, &world.agent), 0);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    World *world = *state;

    agent_free(world->agent);
    safe_close(world->guest);
    sd_event_unref(world->event);
    return 0;
}

static void settle(World *world)
{
    while (sd_event_run(world->event, 0) > 0)
        ;
}

static void says_bytes(World *world, const char *bytes, size_t size)
{
    assert_int_equal(send(world->guest, bytes, size, MSG_NOSIGNAL), size);
    settle(world);
}

static void says(World *world, const char *text)
{
    says_bytes(world, text, strlen(text));
}

/* What the guest was asked since, in a buffer that the next call takes. */
static const char *asked(World *world)
{
    static char text[1024];
    ssize_t n = recv(world->guest, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* It is asked for a number, and says it. */
static void greet(World *world)
{
    _cleanup_free_ char *answer = NULL;
    unsigned number;

    assert_int_equal(sscanf(asked(world),
                            "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%u}}\n",
                            &number),
                     1);
    answer = say("\xff{\"return\": %u}\n", number);
    says(world, answer);
}

static void test_obeys(void **state)
{
    World *world = *state;

    greet(world);
    assert_string_equal(asked(world), SHUTDOWN);
    settle(world);
    assert_string_equal(asked(world), "");
    assert_int_equal(world->refusals, 0);
}

static void test_refuses(void **state)
{
    World *world = *state;

    greet(world);
    says(world, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Command guest-shutdown has been "
                "disabled\x1b[2J\"}}\n");
    assert_int_equal(world->refusals, 1);
    assert_string_equal(world->text,
                        "the guest's agent refuses to shut it down: Command guest-shutdown has been disabled"
                        "?[2J");
    assert_null(world->agent);
}

static void test_refuses_without_a_word(void **state)
{
    World *world = *state;

    greet(world);
    says(world, "{\"error\": 7}\n");
    assert_string_equal(world->text, "the guest's agent refuses to shut it down");
}

/* In pieces, and after what is left of an earlier conversation: an answer that was cut off, and a refusal. */
static void test_what_is_left_of_others(void **state)
{
    World *world = *state;
    _cleanup_free_ char *answer = NULL;
    unsigned number;

    says(world,
         "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Parse error\"}}\n{\"return\": {\"cut\": ");
    assert_int_equal(world->refusals, 0);
    assert_int_equal(
        sscanf(asked(world) + 1, "{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%u}}", &number),
        1);
    says(world, "\xff{\"return\": 1}\n"); /* another's number, or this one's twin: never ours */
    if (number != 1)
        assert_string_equal(asked(world), "");
    answer = say("\xff{\"return\": %u}\n", number);
    for (size_t i = 0; answer[i]; i++)
        says_bytes(world, answer + i, 1);
    assert_string_equal(asked(world), SHUTDOWN);
    says(world, answer); /* again: it is asked once */
    assert_string_equal(asked(world), "");
    assert_int_equal(world->refusals, 0);
}

/* What is no answer is dropped; somebody who never ends is not listened to any more. */
static void test_garbage(void **state)
{
    World *world = *state;
    char block[1024];

    memset(block, 'x', sizeof(block));
    for (size_t i = 0; i < 5; i++)
        says_bytes(world, block, sizeof(block));
    says(world, "\n[]\n{}\n\xff\n\xff\xff{\"return\": {}}\n\"\\u0000\"\nnull\n");
    says_bytes(world, "\0\0\n", 3);
    greet(world);
    assert_string_equal(asked(world), SHUTDOWN);
    for (size_t i = 0; i < 1100 && send(world->guest, block, sizeof(block), MSG_NOSIGNAL) > 0; i++)
        settle(world);
    says(world, "\n{\"error\": {\"desc\": \"too late\"}}\n");
    assert_int_equal(world->refusals, 0);
}

static void test_leaves(void **state)
{
    World *world = *state;

    world->guest = safe_close(world->guest);
    settle(world);
    assert_int_equal(world->refusals, 0);
}

static void test_nobody_there(void **state)
{
    World *world = *state;
    Agent *agent = NULL;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    safe_close(fds[1]);
    assert_int_equal(agent_new(world->event, fds[0], on_refused, world, &agent), -EPIPE);
    assert_null(agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_obeys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_without_a_word, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_left_of_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_garbage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_there, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
