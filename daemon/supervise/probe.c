/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/probe.h"

#include "base/parse.h"
#include "base/say.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    ANSWER_MAX = 64, /* "HTTP/1.1 200" and more */
};

struct Probe {
    probe_done_fn done;
    void *userdata;
    bool http, routed;
    uint64_t timeout_usec;
    char *request;
    size_t sent, size;
    char answer[ANSWER_MAX];
    size_t answered;
    int fd, error; /* error: of the first moment, to be told later */
    sd_event_source *io, *late;
};

Probe *probe_free(Probe *probe)
{
    if (!probe)
        return NULL;
    sd_event_source_disable_unref(probe->io);
    sd_event_source_disable_unref(probe->late);
    safe_close(probe->fd);
    free(probe->request);
    free(probe);
    return NULL;
}

/* The probe may be gone after it. */
static int finish(Probe *probe, const char *why)
{
    probe->io = sd_event_source_disable_unref(probe->io);
    probe->late = sd_event_source_disable_unref(probe->late);
    probe->done(why, probe->userdata);
    return 0;
}

static int fail(Probe *probe, int error)
{
    switch (error) {
    case ECONNREFUSED: /* of a forwarded one, by the host: the hypervisor does not forward it (yet) */
        return finish(probe, probe->routed ? "connection refused" : "the host's port is closed");
    case ECONNRESET: /* what we sent was never read: the guest refused */
    case EPIPE:
        return finish(probe, "connection refused");
    default:
        return finish(probe, strerror(error));
    }
}

/* RFC 9112, 4: HTTP-version SP status-code SP [ reason-phrase ]. */
static int judge_http(Probe *probe)
{
    char why[64];
    unsigned status;

    probe->answer[MIN(probe->answered, sizeof(probe->answer) - 1)] = '\0';
    if (sscanf(probe->answer, "HTTP/%*1u.%*1u %3u", &status) != 1 || status < 100)
        return finish(probe, probe->answered > 0 ? "what answers is not HTTP"
                                                 : "the connection was closed without an answer");
    if (status >= 200 && status < 400)
        return finish(probe, NULL);
    snprintf(why, sizeof(why), "it answers with status %u", status);
    return finish(probe, why);
}

static int receive(Probe *probe)
{
    ssize_t n = recv(probe->fd, probe->answer + probe->answered, sizeof(probe->answer) - 1 - probe->answered,
                     MSG_DONTWAIT);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : fail(probe, errno);
    probe->answered += (size_t)n;
    if (!probe->http)
        return finish(probe, NULL);
    if (n == 0 || memchr(probe->answer, '\n', probe->answered) ||
        probe->answered == sizeof(probe->answer) - 1)
        return judge_http(probe);
    return 0;
}

/* 1: all is sent, 0: later. */
static int send_request(Probe *probe)
{
    ssize_t n =
        send(probe->fd, probe->request + probe->sent, probe->size - probe->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR || errno == ENOTCONN ? 0 : -errno;
    probe->sent += (size_t)n;
    if (probe->sent < probe->size)
        return 0;
    /* Who waits for more than a line end is told that there is none. */
    if (!probe->http)
        (void)shutdown(probe->fd, SHUT_WR);
    return 1;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Probe *probe = userdata;
    int error = 0, r;
    socklen_t size = sizeof(error);

    if (events & EPOLLERR && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) >= 0 && error != 0)
        return fail(probe, error);
    if (probe->sent < probe->size) {
        r = send_request(probe);
        if (r < 0)
            return fail(probe, -r);
        if (r > 0)
            (void)sd_event_source_set_io_events(source, EPOLLIN);
        return 0;
    }
    return events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP) ? receive(probe) : 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata)
{
    Probe *probe = userdata;
    char span[64], why[96];

    if (probe->error > 0)
        return fail(probe, probe->error);
    format_duration(probe->timeout_usec, span, sizeof(span));
    snprintf(why, sizeof(why), "no answer within %s", span);
    return finish(probe, why);
}

static int make_request(Probe *probe, const ProbeTarget *target)
{
    probe->http = target->path;
    if (probe->http)
        probe->request =
            say("GET %s HTTP/1.1\r\nHost: localhost:%u\r\nUser-Agent: microvmd\r\nAccept: */*\r\n"
                "Connection: close\r\n\r\n",
                target->path, (unsigned)target->port);
    else
        probe->request = strdup("\n");
    if (!probe->request)
        return -ENOMEM;
    probe->size = strlen(probe->request);
    return 0;
}

/*
 * The question follows at once, before QEMU can have the guest's refusal: it then drops the connection with
 * something unread, which is told from an end after it was read.
 */
static int connect_and_ask(Probe *probe, const ProbeTarget *target)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(target->port)};

    if (inet_pton(AF_INET, target->address, &at.sin_addr) != 1)
        return -EINVAL;
    if (at.sin_addr.s_addr == htonl(INADDR_ANY)) /* it listens at all of them */
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    probe->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe->fd < 0)
        return -errno;
    if (connect(probe->fd, (struct sockaddr *)&at, sizeof(at)) < 0 && errno != EINPROGRESS)
        return -errno;
    return send_request(probe);
}

int probe_new(sd_event *event, const ProbeTarget *target, uint64_t timeout_usec, probe_done_fn done,
              void *userdata, Probe **ret_probe)
{
    _cleanup_(probe_freep)
    Probe *probe = calloc(1, sizeof(*probe));
    int r;

    if (!probe)
        return -ENOMEM;
    *probe = (Probe){.done = done,
                     .userdata = userdata,
                     .routed = target->routed,
                     .timeout_usec = timeout_usec,
                     .fd = -EBADF};
    r = make_request(probe, target);
    if (r >= 0)
        r = connect_and_ask(probe, target);
    if (r < 0 && r != -ENOMEM && r != -EINVAL) {
        probe->error = -r;
        timeout_usec = 0;
        r = 0;
    } else if (r >= 0) {
        r = sd_event_add_io(event, &probe->io, probe->fd, r > 0 ? EPOLLIN : EPOLLIN | EPOLLOUT, on_io, probe);
    }
    if (r >= 0)
        r = sd_event_add_time_relative(event, &probe->late, CLOCK_MONOTONIC, timeout_usec, 0, on_late, probe);
    if (r < 0)
        return r;
    *ret_probe = TAKE_PTR(probe);
    return 0;
}
