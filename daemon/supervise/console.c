/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/console.h"

#include "supervise/log-follow.h"

#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    CHUNK = 4096,
    BURST = 16 * CHUNK, /* that one is given at a time: the others wait */
};

/* Short enough for the echo of a key, and a guest that talks a lot wakes us no oftener. */
#define PACE_USEC UINT64_C(10000)

#define TAKEN_OVER "\r\n[microvmd: somebody else writes to this console now; you read on]\r\n"
#define CUT_OFF    "\r\n[microvmd: the hypervisor takes no more input on this console]\r\n"

typedef struct Attached Attached;
struct Attached {
    Console *console;
    int fd;
    sd_event_source *source;
    LogFollow *follow;
    QuotaUser *caller;
    char text[CHUNK]; /* of the guest, not yet taken by this one */
    size_t used, sent;
    Attached *next;
};

struct Console {
    sd_event *event;
    char *state_dir;
    Attached *attached, *writer;
    int guest; /* -EBADF: nobody writes */
    sd_event_source *source;
    char keys[CHUNK]; /* of the writer, not yet taken by the guest */
    size_t n_keys;
    void (*idle)(void *userdata);
    void *userdata;
};

static void disconnect(Console *console)
{
    console->source = sd_event_source_disable_unref(console->source);
    console->guest = safe_close(console->guest);
    console->n_keys = 0;
}

static Attached *attached_free(Attached *attached)
{
    if (!attached)
        return NULL;
    log_follow_free(attached->follow);
    sd_event_source_disable_unref(attached->source);
    safe_close(attached->fd);
    quota_give_back(attached->caller);
    free(attached);
    return NULL;
}
DEFINE_CLEANUP(Attached *, attached_free)

static void detach(Attached *attached)
{
    Console *console = attached->console;

    for (Attached **link = &console->attached; *link; link = &(*link)->next)
        if (*link == attached) {
            *link = attached->next;
            break;
        }
    if (console->writer == attached) {
        console->writer = NULL;
        disconnect(console);
    }
    attached_free(attached);
    if (!console->attached)
        console->idle(console->userdata);
}

/* What it is to be woken for: keys, and with `more` that it can take what the log has. That its other end is
 * closed is told without being asked for. */
static int listen_to(Attached *attached, bool more)
{
    bool may_speak = attached->console->writer == attached && attached->console->n_keys == 0;

    return sd_event_source_set_io_events(attached->source, (may_speak ? EPOLLIN : 0) | (more ? EPOLLOUT : 0));
}

/* Gives it what the log has, as much as it takes now, and about `most` bytes. Negative: it is gone, or the
 * log. */
static int pump(Attached *attached, size_t most)
{
    for (size_t given = 0; given < most;) {
        ssize_t n;
        if (attached->sent == attached->used) {
            n = log_follow_read(attached->follow, attached->text, sizeof(attached->text));
            if (n <= 0)
                return n < 0 ? (int)n : listen_to(attached, false);
            attached->used = (size_t)n;
            attached->sent = 0;
        }
        n = send(attached->fd, attached->text + attached->sent, attached->used - attached->sent,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return -errno;
        attached->sent += (size_t)n;
        given += (size_t)n;
    }
    return listen_to(attached, true);
}

static void on_log(void *userdata)
{
    Attached *attached = userdata;

    if (pump(attached, BURST) < 0)
        detach(attached);
}

Console *console_free(Console *console)
{
    if (!console)
        return NULL;
    while (console->attached) {
        Attached *attached = console->attached;
        (void)pump(attached, SIZE_MAX);
        console->attached = attached->next;
        attached_free(attached);
    }
    disconnect(console);
    sd_event_unref(console->event);
    free(console->state_dir);
    free(console);
    return NULL;
}

/* --- the writer --- */

/* It goes on as a reader. */
static void stop_writing(Attached *attached, const char *notice)
{
    attached->console->writer = NULL;
    (void)!send(attached->fd, notice, strlen(notice), MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(attached->fd, SHUT_RD);
    (void)listen_to(attached, true);
}

/* Gives the guest the writer's keys; nothing more is heard of the writer until the guest has taken them. */
static int give_keys(Console *console)
{
    ssize_t n = write(console->guest, console->keys, console->n_keys);

    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    if (n > 0) {
        console->n_keys -= (size_t)n;
        memmove(console->keys, console->keys + n, console->n_keys);
    }
    (void)listen_to(console->writer, true);
    return sd_event_source_set_io_events(console->source, EPOLLIN | (console->n_keys > 0 ? EPOLLOUT : 0));
}

static void cut_off(Console *console)
{
    if (console->writer)
        stop_writing(console->writer, CUT_OFF);
    disconnect(console);
}

static void take_keys(Attached *attached)
{
    Console *console = attached->console;
    ssize_t n = recv(attached->fd, console->keys, sizeof(console->keys), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        stop_writing(attached, "");
        disconnect(console);
        return;
    }
    console->n_keys = (size_t)n;
    if (give_keys(console) < 0)
        cut_off(console);
}

static int on_attached(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    Attached *attached = userdata;
    Console *console = attached->console;

    if ((revents & EPOLLIN) && console->writer == attached && console->n_keys == 0)
        take_keys(attached); /* also the last ones of somebody who left at once */
    if ((revents & (EPOLLHUP | EPOLLERR)) || ((revents & EPOLLOUT) && pump(attached, BURST) < 0))
        detach(attached);
    return 0;
}

static int on_guest(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    Console *console = userdata;
    char text[CHUNK];
    ssize_t n;

    if ((revents & EPOLLOUT) && give_keys(console) < 0) {
        cut_off(console);
        return 0;
    }
    if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        n = read(fd, text, sizeof(text));
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            cut_off(console);
    }
    return 0;
}

bool console_is_idle(const Console *console)
{
    return !console->attached;
}

bool console_has_writer(const Console *console)
{
    return console->writer;
}

bool console_is_connected(const Console *console)
{
    return console->guest >= 0;
}

int console_connect(Console *console, int fd)
{
    console->guest = fd;
    return sd_event_add_io(console->event, &console->source, fd, EPOLLIN, on_guest, console);
}

/* --- attaching --- */

int console_new(sd_event *event, const char *state_dir, void (*idle)(void *userdata), void *userdata,
                Console **ret_console)
{
    Console *console = calloc(1, sizeof(*console));

    if (!console)
        return -ENOMEM;
    console->state_dir = strdup(state_dir);
    if (!console->state_dir) {
        free(console);
        return -ENOMEM;
    }
    console->event = sd_event_ref(event);
    console->guest = -EBADF;
    console->idle = idle;
    console->userdata = userdata;
    *ret_console = console;
    return 0;
}

int console_attach(Console *console, bool writes, uint64_t lines, QuotaUser *caller, int *ret_fd)
{
    _cleanup_(attached_freep)
    Attached *attached = calloc(1, sizeof(*attached));
    _cleanup_close_ int theirs = -EBADF;
    int pair[2], r;

    if (!attached)
        return -ENOMEM;
    attached->fd = -EBADF;
    attached->console = console;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    attached->fd = pair[0];
    theirs = pair[1];
    if (!writes && shutdown(attached->fd, SHUT_RD) < 0)
        return -errno;
    r = log_follow_new(console->event, console->state_dir,
                       &(LogFollowOptions){.lines = lines, .follow = true}, PACE_USEC, on_log, attached,
                       &attached->follow);
    if (r >= 0)
        r = sd_event_add_io(console->event, &attached->source, attached->fd,
                            EPOLLOUT | (writes ? EPOLLIN : 0), on_attached, attached);
    if (r < 0)
        return r;
    if (writes && console->writer)
        stop_writing(console->writer, TAKEN_OVER);
    if (writes)
        console->writer = attached;
    attached->caller = caller;
    attached->next = console->attached;
    console->attached = TAKE_PTR(attached);
    *ret_fd = TAKE_FD(theirs);
    return 0;
}
