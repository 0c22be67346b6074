/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/notify-stream.h"

#include "base/clock.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#define SECOND_USEC UINT64_C(1000000)
/* A sender that has connected has its message ready. */
#define PATIENCE_USEC (5 * SECOND_USEC)

struct NotifyStream {
    NotifyHandlers handlers;
    int fd;
    bool whole;    /* the connection is one message */
    bool too_long; /* the rest of this message is dropped */
    bool *gone;    /* set when it is freed while its handlers are called */
    sd_event_source *readable, *timer;
    uint64_t second_usec; /* when the present second began, and how many messages came in it */
    unsigned in_second;
    char *rest; /* the beginning of a message whose end has not come yet */
    size_t n_rest;
};

NotifyStream *notify_stream_free(NotifyStream *stream)
{
    if (!stream)
        return NULL;
    if (stream->gone)
        *stream->gone = true;
    sd_event_source_disable_unref(stream->readable);
    sd_event_source_disable_unref(stream->timer);
    safe_close(stream->fd);
    free(stream->rest);
    free(stream);
    return NULL;
}

/* false: it freed the stream. */
static bool tell(NotifyStream *stream, char *text)
{
    bool gone = false;

    stream->gone = &gone;
    stream->handlers.message(stream, text, stream->handlers.userdata);
    if (!gone)
        stream->gone = NULL;
    return !gone;
}

static void close_it(NotifyStream *stream)
{
    stream->handlers.closed(stream, stream->handlers.userdata);
}

/* --- lines --- */

/* Whether one more may be heard in this second. */
static bool may_speak(NotifyStream *stream)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC);

    if (now - stream->second_usec >= SECOND_USEC) {
        stream->second_usec = now;
        stream->in_second = 0;
    }
    return stream->in_second < NOTIFY_MESSAGES_A_SECOND;
}

/* Its words wait in the socket, and then in the guest. */
static void turn_away(NotifyStream *stream)
{
    if (sd_event_source_set_enabled(stream->readable, SD_EVENT_OFF) < 0 ||
        sd_event_source_set_time(stream->timer, stream->second_usec + SECOND_USEC) < 0 ||
        sd_event_source_set_enabled(stream->timer, SD_EVENT_ONESHOT) < 0)
        close_it(stream);
}

/* What has come of a message, until the rest of it comes: mostly nothing. false: the stream is gone. */
static bool keep(NotifyStream *stream, const char *text, size_t size)
{
    char *copy = size > 0 ? malloc(size) : NULL;

    if (size > 0 && !copy) {
        close_it(stream);
        return false;
    }
    if (copy)
        memcpy(copy, text, size);
    free(stream->rest);
    stream->rest = copy;
    stream->n_rest = size;
    return true;
}

/* false: the stream is gone, or has said enough. */
static bool take_lines(NotifyStream *stream, char *text, size_t size)
{
    for (char *end; (end = memchr(text, '\n', size));) {
        char *line = text;
        bool drop = stream->too_long;
        if (!may_speak(stream)) {
            if (keep(stream, text, size))
                turn_away(stream);
            return false;
        }
        *end = '\0';
        size -= (size_t)(end + 1 - text);
        text = end + 1;
        stream->too_long = false;
        if (drop || line[0] == '\0' || line[0] == '\r')
            continue;
        stream->in_second++;
        if (!tell(stream, line))
            return false;
    }
    if (size == NOTIFY_MESSAGE_MAX) {
        stream->too_long = true;
        size = 0;
    }
    return keep(stream, text, size);
}

/* --- both --- */

/* The same of a connection that is one message: it is read on when it is too long, so that the sender sees no
 * reset. */
static bool take_part(NotifyStream *stream, const char *text, size_t size)
{
    if (size < NOTIFY_MESSAGE_MAX)
        return keep(stream, text, size);
    stream->too_long = true;
    return keep(stream, text, 0);
}

/* false: nothing more now, or ever. */
static bool read_more(NotifyStream *stream)
{
    char text[NOTIFY_MESSAGE_MAX + 1];
    size_t size = stream->n_rest;
    ssize_t n;

    if (size > 0)
        memcpy(text, stream->rest, size);
    n = recv(stream->fd, text + size, NOTIFY_MESSAGE_MAX - size, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        text[size] = '\0';
        if (n < 0 || !stream->whole || size == 0 || stream->too_long || tell(stream, text))
            close_it(stream);
        return false;
    }
    size += (size_t)n;
    return stream->whole ? take_part(stream, text, size) : take_lines(stream, text, size);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    enum {
        BURST = 16, /* others want to be heard, too */
    };

    for (int i = 0; i < BURST && read_more(userdata); i++)
        ;
    return 0;
}

static int on_next_second(sd_event_source *source, uint64_t usec, void *userdata)
{
    NotifyStream *stream = userdata;
    _cleanup_free_ char *text = TAKE_PTR(stream->rest);
    size_t size = stream->n_rest;

    stream->n_rest = 0;
    if (sd_event_source_set_enabled(stream->readable, SD_EVENT_ON) < 0)
        close_it(stream);
    else
        (void)take_lines(stream, text, size);
    return 0;
}

static int on_out_of_patience(sd_event_source *source, uint64_t usec, void *userdata)
{
    close_it(userdata);
    return 0;
}

static int stream_new(sd_event *event, int fd, bool whole, const NotifyHandlers *handlers,
                      NotifyStream **ret_stream)
{
    _cleanup_(notify_stream_freep)
    NotifyStream *stream = calloc(1, sizeof(*stream));
    int r;

    if (!stream) {
        safe_close(fd);
        return -ENOMEM;
    }
    stream->fd = fd;
    stream->whole = whole;
    stream->handlers = *handlers;
    r = sd_event_add_io(event, &stream->readable, fd, EPOLLIN, on_readable, stream);
    if (r >= 0 && whole)
        r = sd_event_add_time_relative(event, &stream->timer, CLOCK_MONOTONIC, PATIENCE_USEC, SECOND_USEC,
                                       on_out_of_patience, stream);
    else if (r >= 0)
        r = sd_event_add_time(event, &stream->timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_next_second, stream);
    if (r < 0)
        return r;
    *ret_stream = TAKE_PTR(stream);
    return 0;
}

int notify_stream_new(sd_event *event, int fd, const NotifyHandlers *handlers, NotifyStream **ret_stream)
{
    return stream_new(event, fd, false, handlers, ret_stream);
}

int notify_stream_take(sd_event *event, int fd, const NotifyHandlers *handlers, NotifyStream **ret_stream)
{
    int r = stream_new(event, fd, true, handlers, ret_stream);

    if (r >= 0)
        on_readable(NULL, fd, EPOLLIN, *ret_stream);
    return r;
}
