/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/log-stream.h"

#include "resource/console-log.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

enum {
    CHUNK = 64 * 1024,
};

struct LogStream {
    char *state_dir;
    LogStreamOptions options;
    int part; /* the file that is being sent; -1: the one that grows */
    int file; /* -EBADF: not open */
    off_t offset;
    int pipe; /* writing end */
    char *buffer;
    size_t used, sent; /* of the buffer */
    sd_event_source *writable, *changes, *unfinished;
};

static LogStream *log_stream_free(LogStream *stream)
{
    if (!stream)
        return NULL;
    sd_event_source_disable_unref(stream->writable);
    sd_event_source_disable_unref(stream->changes);
    sd_event_source_disable_unref(stream->unfinished);
    safe_close(stream->file);
    safe_close(stream->pipe);
    free(stream->buffer);
    free(stream->state_dir);
    free(stream);
    return NULL;
}
DEFINE_CLEANUP(LogStream *, log_stream_free)

static int open_part(const char *state_dir, unsigned boot, int part)
{
    _cleanup_free_ char *path = console_log_path(state_dir, boot, part);
    int fd;

    if (!path)
        return -ENOMEM;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

/* Position of the last `lines` lines within the part, or -1 - (lines still missing). */
static int64_t find_lines(int fd, off_t size, uint64_t *lines)
{
    char block[4096];

    for (off_t end = size; end > 0;) {
        off_t from = end > (off_t)sizeof(block) ? end - (off_t)sizeof(block) : 0;
        ssize_t n = pread(fd, block, (size_t)(end - from), from);
        if (n <= 0)
            return -1;
        for (ssize_t i = n; i-- > 0;)
            /* The newline at the very end closes the last line; it does not begin one. */
            if (block[i] == '\n' && from + i + 1 != size && --*lines == 0)
                return from + i + 1;
        end = from;
    }
    return -1;
}

/* Finds the part and the place in it where sending begins. */
static int find_start(LogStream *stream)
{
    uint64_t wanted = stream->options.lines;
    int oldest = -2;

    for (int part = -1; part < CONSOLE_LOG_PARTS; part++) {
        _cleanup_close_ int fd = open_part(stream->state_dir, stream->options.boot, part);
        struct stat st;
        int64_t at;
        if (fd == -ENOENT && part >= 0)
            break;
        if (fd == -ENOENT)
            continue;
        if (fd < 0)
            return fd;
        if (fstat(fd, &st) < 0)
            return -errno;
        oldest = part;
        if (wanted == UINT64_MAX)
            continue;
        at = wanted == 0 ? st.st_size : find_lines(fd, st.st_size, &wanted);
        if (at >= 0) {
            stream->offset = at;
            break;
        }
    }
    if (oldest == -2)
        return -ENOENT;
    stream->part = oldest;
    return 0;
}

/* Opens the present part if need be; 0 when there is none (yet). */
static int ensure_open(LogStream *stream)
{
    if (stream->file >= 0)
        return 1;
    stream->file = open_part(stream->state_dir, stream->options.boot, stream->part);
    if (stream->file == -ENOENT) {
        stream->file = -EBADF;
        return 0;
    }
    return stream->file < 0 ? stream->file : 1;
}

/* The growing file was truncated or replaced by another one: what comes now is at the beginning of the new
 * one. */
static bool was_replaced(LogStream *stream)
{
    _cleanup_close_ int now = open_part(stream->state_dir, 0, -1);
    struct stat old_st, new_st;

    if (now < 0 || fstat(stream->file, &old_st) < 0 || fstat(now, &new_st) < 0)
        return false;
    return old_st.st_ino != new_st.st_ino || old_st.st_size < stream->offset;
}

/* Fills the buffer; 0: nothing to send now, -ENODATA: nothing ever. */
static int fill(LogStream *stream)
{
    for (;;) {
        ssize_t n = 0;
        int r = ensure_open(stream);
        if (r < 0)
            return r;
        if (r > 0)
            n = pread(stream->file, stream->buffer, CHUNK, stream->offset);
        if (n < 0)
            return -errno;
        if (n > 0) {
            stream->offset += n;
            stream->used = (size_t)n;
            stream->sent = 0;
            return 1;
        }
        if (stream->part >= 0)
            stream->part--;
        else if (!stream->options.follow || stream->options.boot > 0)
            return -ENODATA;
        else if (r == 0 || !was_replaced(stream))
            return 0;
        stream->file = safe_close(stream->file);
        stream->offset = 0;
    }
}

/* Sends what can be sent without waiting. Negative: the stream is over. */
static int pump(LogStream *stream)
{
    for (;;) {
        ssize_t n;
        int r = stream->sent < stream->used ? 1 : fill(stream);
        if (r < 0)
            return r;
        if (r == 0)
            return sd_event_source_set_io_events(stream->writable,
                                                 0); /* EPOLLERR still tells that nobody reads */
        n = write(stream->pipe, stream->buffer + stream->sent, stream->used - stream->sent);
        if (n < 0 && errno == EAGAIN)
            return sd_event_source_set_io_events(stream->writable, EPOLLOUT);
        if (n < 0)
            return -errno;
        stream->sent += (size_t)n;
    }
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    LogStream *stream = userdata;

    if ((revents & EPOLLERR) || pump(stream) < 0)
        log_stream_free(stream);
    return 0;
}

static int on_change(sd_event_source *source, const struct inotify_event *change, void *userdata)
{
    LogStream *stream = userdata;

    if (pump(stream) < 0)
        log_stream_free(stream);
    return 0;
}

/* sd-event frees what is left when the loop ends. */
static int on_exit_loop(sd_event_source *source, void *userdata)
{
    log_stream_free(userdata);
    return 0;
}

int log_stream_new(sd_event *event, const char *state_dir, const LogStreamOptions *options, int *ret_fd)
{
    _cleanup_(log_stream_freep)
    LogStream *stream = calloc(1, sizeof(*stream));
    _cleanup_close_ int read_end = -EBADF;
    int ends[2], r;

    if (!stream)
        return -ENOMEM;
    stream->file = stream->pipe = -EBADF;
    stream->options = *options;
    stream->state_dir = strdup(state_dir);
    stream->buffer = malloc(CHUNK);
    if (!stream->state_dir || !stream->buffer)
        return -ENOMEM;
    r = find_start(stream);
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
    if (r >= 0 && options->follow && options->boot == 0)
        r = sd_event_add_inotify(event, &stream->changes, state_dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO,
                                 on_change, stream);
    if (r < 0)
        return r;
    *ret_fd = TAKE_FD(read_end);
    TAKE_PTR(stream);
    return 0;
}
