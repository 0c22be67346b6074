/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/listener.h"

#include "base/log.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    BURST = 64, /* then others of the loop have their turn */
};

#define PAUSE_USEC    UINT64_C(200000)
#define ACCURACY_USEC UINT64_C(10000)

struct Listener {
    int fd;
    const char *what;
    void (*accepted)(int fd, void *userdata);
    void *userdata;
    sd_event_source *source;
    sd_event_source *pause; /* there from the beginning: it takes a descriptor, too */
    bool short_of;          /* descriptors, which has been said */
};

Listener *listener_free(Listener *listener)
{
    if (!listener)
        return NULL;
    sd_event_source_disable_unref(listener->source);
    sd_event_source_disable_unref(listener->pause);
    safe_close(listener->fd);
    free(listener);
    return NULL;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
    Listener *listener = userdata;

    return sd_event_source_set_enabled(listener->source, SD_EVENT_ON);
}

/* Who waits can't be refused without a descriptor, and would wake the loop again and again. */
static int pause_it(Listener *listener, int error)
{
    int r;

    if (!listener->short_of)
        log_warning_errno(error, "%s have to wait, no more can be accepted now: %m", listener->what);
    listener->short_of = true;
    r = sd_event_source_set_time_relative(listener->pause, PAUSE_USEC);
    if (r >= 0)
        r = sd_event_source_set_enabled(listener->pause, SD_EVENT_ONESHOT);
    return r < 0 ? r : sd_event_source_set_enabled(listener->source, SD_EVENT_OFF);
}

static int on_connection(sd_event_source *source, int listening, uint32_t events, void *userdata)
{
    Listener *listener = userdata;

    for (int i = 0; i < BURST; i++) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno == EAGAIN)
            listener->short_of = false; /* all are served */
        if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            break; /* nobody more, or it has gone again */
        if (fd < 0)
            return pause_it(listener, -errno);
        listener->accepted(fd, listener->userdata);
    }
    return 0;
}

int listener_new(sd_event *event, int fd, const char *what, void (*accepted)(int fd, void *userdata),
                 void *userdata, Listener **ret_listener)
{
    _cleanup_(listener_freep)
    Listener *listener = calloc(1, sizeof(*listener));
    int r;

    if (!listener) {
        safe_close(fd);
        return -ENOMEM;
    }
    *listener = (Listener){.fd = fd, .what = what, .accepted = accepted, .userdata = userdata};
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        return -errno;
    r = sd_event_add_time(event, &listener->pause, CLOCK_MONOTONIC, 0, ACCURACY_USEC, on_pause_over,
                          listener);
    if (r >= 0)
        r = sd_event_source_set_enabled(listener->pause, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_io(event, &listener->source, fd, EPOLLIN, on_connection, listener);
    if (r < 0)
        return r;
    *ret_listener = TAKE_PTR(listener);
    return 0;
}
