/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/log-stream.h"

#include <fcntl.h>
#include <sys/epoll.h>

enum {
    CHUNK = 64 * 1024,
    BURST = 4 * CHUNK, /* that is sent at a time: the others of the loop wait, and a reader may be as fast as
                          we are */
};

/* Who looks on sees it at once, and a guest that talks a lot wakes us no oftener. */
#define PACE_USEC UINT64_C(10000)

struct LogStream {
    LogFollow *follow;
    QuotaUser *caller;
    int pipe; /* writing end */
    char *buffer;
    size_t used, sent; /* of the buffer */
    sd_event_source *writable, *unfinished;
};

static LogStream *log_stream_free(LogStream *stream)
{
    if (!stream)
        return NULL;
    sd_event_source_disable_unref(stream->writable);
    sd_event_source_disable_unref(stream->unfinished);
    log_follow_free(stream->follow);
    safe_close(stream->pipe);
    free(stream->buffer);
    quota_give_back(stream->caller);
    free(stream);
    return NULL;
}
DEFINE_CLEANUP(LogStream *, log_stream_free)

/* Fills the buffer; 0: nothing to send now, negative: nothing ever. */
static int fill(LogStream *stream)
{
    ssize_t n = log_follow_read(stream->follow, stream->buffer, CHUNK);

    if (n > 0) {
        stream->used = (size_t)n;
        stream->sent = 0;
    }
    return n > 0 ? 1 : (int)n;
}

/* Sends what can be sent without waiting. Negative: the stream is over. */
static int pump(LogStream *stream)
{
    for (size_t given = 0; given < BURST;) {
        ssize_t n;
        int r = stream->sent < stream->used ? 1 : fill(stream);
        if (r < 0)
            return r;
        if (r == 0)
            return sd_event_source_set_io_events(stream->writable,
                                                 0); /* EPOLLERR still tells that nobody reads */
        n = write(stream->pipe, stream->buffer + stream->sent, stream->used - stream->sent);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return -errno;
        stream->sent += (size_t)n;
        given += (size_t)n;
    }
    return sd_event_source_set_io_events(stream->writable, EPOLLOUT);
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    LogStream *stream = userdata;

    if ((revents & EPOLLERR) || pump(stream) < 0)
        log_stream_free(stream);
    return 0;
}

static void on_change(void *userdata)
{
    LogStream *stream = userdata;

    if (pump(stream) < 0)
        log_stream_free(stream);
}

/* sd-event frees what is left when the loop ends. */
static int on_exit_loop(sd_event_source *source, void *userdata)
{
    log_stream_free(userdata);
    return 0;
}

int log_stream_new(sd_event *event, const char *state_dir, const LogFollowOptions *options, QuotaUser *caller,
                   int *ret_fd)
{
    _cleanup_(log_stream_freep)
    LogStream *stream = calloc(1, sizeof(*stream));
    _cleanup_close_ int read_end = -EBADF;
    int ends[2], r;

    if (!stream)
        return -ENOMEM;
    stream->pipe = -EBADF;
    stream->buffer = malloc(CHUNK);
    if (!stream->buffer)
        return -ENOMEM;
    r = log_follow_new(event, state_dir, options, PACE_USEC, on_change, stream, &stream->follow);
    if (r < 0)
        return r;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    read_end = ends[0];
    stream->pipe = ends[1];
    if (fcntl(stream->pipe, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    r = sd_event_add_io(event, &stream->writable, stream->pipe, EPOLLOUT, on_writable, stream);
    if (r >= 0)
        r = sd_event_add_exit(event, &stream->unfinished, on_exit_loop, stream);
    if (r < 0)
        return r;
    stream->caller = caller;
    *ret_fd = TAKE_FD(read_end);
    TAKE_PTR(stream);
    return 0;
}
