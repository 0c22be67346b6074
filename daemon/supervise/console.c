/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/console.h"

#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    CHUNK = 4096,
};

typedef struct Attached Attached;
struct Attached {
    Console *console;
    int fd;
    sd_event_source *source;
    char pending[CHUNK]; /* said by this one, not yet taken by the guest */
    size_t n_pending;
    Attached *next;
};

struct Console {
    sd_event *event;
    int fd;
    sd_event_source *source;
    Attached *attached;
    void (*idle)(void *userdata);
    void *userdata;
};

static void detach(Attached *attached)
{
    for (Attached **link = &attached->console->attached; *link; link = &(*link)->next)
        if (*link == attached) {
            *link = attached->next;
            break;
        }
    sd_event_source_disable_unref(attached->source);
    safe_close(attached->fd);
    free(attached);
}

Console *console_free(Console *console)
{
    if (!console)
        return NULL;
    while (console->attached)
        detach(console->attached);
    sd_event_source_disable_unref(console->source);
    safe_close(console->fd);
    free(console);
    return NULL;
}

/* Gives the guest what is pending; stops listening to who sent it until the guest takes more. */
static int flush(Attached *attached)
{
    Console *console = attached->console;
    ssize_t n = write(console->fd, attached->pending, attached->n_pending);

    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    if (n > 0) {
        attached->n_pending -= (size_t)n;
        memmove(attached->pending, attached->pending + n, attached->n_pending);
    }
    if (attached->n_pending > 0)
        sd_event_source_set_io_events(console->source, EPOLLIN | EPOLLOUT);
    return sd_event_source_set_io_events(attached->source, attached->n_pending > 0 ? 0 : EPOLLIN);
}

static int on_attached(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    Attached *attached = userdata;
    Console *console = attached->console;
    ssize_t n;

    if (attached->n_pending == 0 && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        n = recv(fd, attached->pending, sizeof(attached->pending), MSG_DONTWAIT);
        if (n > 0) {
            attached->n_pending = (size_t)n;
            if (flush(attached) >= 0)
                return 0;
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
    } else if (!(revents & (EPOLLHUP | EPOLLERR))) {
        return 0;
    }
    detach(attached);
    if (!console->attached)
        console->idle(console->userdata);
    return 0;
}

static void tell_all(Console *console, const char *text, size_t size)
{
    for (Attached *attached = console->attached; attached; attached = attached->next)
        /* What does not fit is lost for this one: its end is noticed by on_attached(). */
        (void)!send(attached->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int on_guest(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    Console *console = userdata;
    char text[CHUNK];
    ssize_t n = 0;

    if (revents & EPOLLOUT) {
        sd_event_source_set_io_events(source, EPOLLIN);
        for (Attached *attached = console->attached; attached; attached = attached->next)
            if (attached->n_pending > 0)
                flush(attached);
    }
    if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        n = read(fd, text, sizeof(text));
        if (n > 0)
            tell_all(console, text, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            console->idle(console->userdata);
    }
    return 0;
}

int console_new(sd_event *event, int fd, void (*idle)(void *userdata), void *userdata, Console **ret_console)
{
    _cleanup_(console_freep)
    Console *console = calloc(1, sizeof(*console));
    int r;

    if (!console) {
        safe_close(fd);
        return -ENOMEM;
    }
    console->event = event;
    console->fd = fd;
    console->idle = idle;
    console->userdata = userdata;
    r = sd_event_add_io(event, &console->source, fd, EPOLLIN, on_guest, console);
    if (r < 0)
        return r;
    *ret_console = TAKE_PTR(console);
    return 0;
}

int console_attach(Console *console, int *ret_fd)
{
    _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
    Attached *attached;
    int pair[2], r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    ours = pair[0];
    theirs = pair[1];
    attached = calloc(1, sizeof(*attached));
    if (!attached)
        return -ENOMEM;
    attached->console = console;
    r = sd_event_add_io(console->event, &attached->source, ours, EPOLLIN, on_attached, attached);
    if (r < 0) {
        free(attached);
        return r;
    }
    attached->fd = TAKE_FD(ours);
    attached->next = console->attached;
    console->attached = attached;
    *ret_fd = TAKE_FD(theirs);
    return 0;
}
