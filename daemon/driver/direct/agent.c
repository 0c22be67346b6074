/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/direct/agent.h"

#include "base/say.h"
#include "base/utf8.h"

#include <cjson/cJSON.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

enum {
    ANSWER_MAX = 4096,   /* of guest-sync-delimited and guest-shutdown alone */
    HEARD_MAX = 1 << 20, /* from then on it is no agent that speaks there */
    WORDS_MAX = 200,     /* bytes that are quoted of it */
};

struct Agent {
    agent_refused_fn refused;
    void *userdata;
    int fd;
    sd_event_source *readable;
    uint32_t number;
    bool synced; /* it has said the number */
    char answer[ANSWER_MAX];
    size_t size, heard;
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

Agent *agent_free(Agent *agent)
{
    if (!agent)
        return NULL;
    sd_event_source_disable_unref(agent->readable);
    safe_close(agent->fd);
    free(agent);
    return NULL;
}

/* A few bytes into a socket that nothing was written to but a few bytes. */
static int put(Agent *agent, const char *text)
{
    ssize_t n = send(agent->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);

    return n < 0 ? -errno : (size_t)n < strlen(text) ? -EAGAIN : 0;
}

/* The byte 0xff, which JSON never has, makes it drop what it may have of an earlier question. */
static int ask_number(Agent *agent)
{
    _cleanup_free_ char *text =
        say("\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%u}}\n", agent->number);

    return text ? put(agent, text) : -ENOMEM;
}

static int ask_shutdown(Agent *agent)
{
    return put(agent, "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}\n");
}

/* Nothing more is heard. */
static void close_it(Agent *agent)
{
    agent->readable = sd_event_source_disable_unref(agent->readable);
}

/* The last thing that is done with the agent. */
static void tell_refusal(Agent *agent, const cJSON *error)
{
    const char *words = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "desc"));
    _cleanup_free_ char *quoted = words ? strndup(words, WORDS_MAX) : NULL, *text = NULL;

    if (quoted)
        utf8_make_printable(quoted);
    text = say("the guest's agent refuses to shut it down%s%s", quoted ? ": " : "", quoted ? quoted : "");
    close_it(agent);
    agent->refused(agent, text ? text : "the guest's agent refuses to shut it down", agent->userdata);
}

/* Before it has said the number, it may complain of what it was asked before. false: the agent may be gone.
 */
static bool take_answer(Agent *agent, const cJSON *answer)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(answer, "return");

    if (agent->synced && error) {
        tell_refusal(agent, error);
        return false;
    }
    if (agent->synced || !cJSON_IsNumber(number) || number->valuedouble != (double)agent->number)
        return true;
    agent->synced = true;
    if (ask_shutdown(agent) >= 0)
        return true;
    close_it(agent);
    return false;
}

static void take_answers(Agent *agent)
{
    char *end;

    while ((end = memchr(agent->answer, '\n', agent->size))) {
        /* What comes before the byte 0xff is of an earlier question. */
        const char *mark = memrchr(agent->answer, 0xff, (size_t)(end - agent->answer));
        const char *start = mark ? mark + 1 : agent->answer;
        _cleanup_(cJSON_Deletep)
        cJSON *answer = cJSON_ParseWithLength(start, (size_t)(end - start));
        agent->size -= (size_t)(end + 1 - agent->answer);
        memmove(agent->answer, end + 1, agent->size);
        if (!take_answer(agent, answer))
            return;
    }
    if (agent->size == sizeof(agent->answer))
        agent->size = 0; /* no answer is that long */
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Agent *agent = userdata;
    ssize_t n = recv(fd, agent->answer + agent->size, sizeof(agent->answer) - agent->size, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    agent->heard += n > 0 ? (size_t)n : 0;
    if (n <= 0 || agent->heard > HEARD_MAX) {
        close_it(agent);
        return 0;
    }
    agent->size += (size_t)n;
    take_answers(agent);
    return 0;
}

int agent_new(sd_event *event, int fd, agent_refused_fn refused, void *userdata, Agent **ret_agent)
{
    _cleanup_(agent_freep)
    Agent *agent = calloc(1, sizeof(*agent));
    int r;

    if (!agent) {
        safe_close(fd);
        return -ENOMEM;
    }
    agent->fd = fd;
    agent->refused = refused;
    agent->userdata = userdata;
    if (getrandom(&agent->number, sizeof(agent->number), 0) < 0)
        return -errno;
    agent->number &= INT32_MAX; /* what any agent can say again */
    r = sd_event_add_io(event, &agent->readable, fd, EPOLLIN, on_readable, agent);
    if (r >= 0)
        r = ask_number(agent);
    if (r < 0)
        return r;
    *ret_agent = TAKE_PTR(agent);
    return 0;
}
