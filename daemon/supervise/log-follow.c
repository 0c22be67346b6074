/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/log-follow.h"

#include "base/file-watch.h"
#include "resource/console-log.h"

#include <fcntl.h>
#include <sys/stat.h>

struct LogFollow {
    char *state_dir;
    LogFollowOptions options;
    int part; /* the file that is being read; -1: the one that grows */
    int file; /* -EBADF: not open */
    off_t offset;
    FileWatch *watch; /* NULL: it does not follow */
};

LogFollow *log_follow_free(LogFollow *follow)
{
    if (!follow)
        return NULL;
    file_watch_free(follow->watch);
    safe_close(follow->file);
    free(follow->state_dir);
    free(follow);
    return NULL;
}

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
static int find_start(LogFollow *follow)
{
    uint64_t wanted = follow->options.lines;
    int oldest = -2;

    for (int part = -1; part < CONSOLE_LOG_PARTS; part++) {
        _cleanup_close_ int fd = open_part(follow->state_dir, follow->options.boot, part);
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
            follow->offset = at;
            break;
        }
    }
    if (oldest == -2)
        return -ENOENT;
    follow->part = oldest;
    return 0;
}

/* Opens the present part if need be; 0 when there is none (yet). */
static int ensure_open(LogFollow *follow)
{
    if (follow->file >= 0)
        return 1;
    follow->file = open_part(follow->state_dir, follow->options.boot, follow->part);
    if (follow->file == -ENOENT) {
        follow->file = -EBADF;
        return 0;
    }
    return follow->file < 0 ? follow->file : 1;
}

/*
 * At the end of the growing file: whether the log goes on elsewhere. Another file by its name: at the
 * beginning of that. The file has shrunk: it was cut (console_log_bound()), what is yet to be read is in the
 * copy.
 */
static bool has_moved(LogFollow *follow)
{
    _cleanup_close_ int now = open_part(follow->state_dir, 0, -1), copy = -EBADF;
    struct stat old_st, new_st;

    if (now < 0 || fstat(follow->file, &old_st) < 0 || fstat(now, &new_st) < 0)
        return false;
    if (old_st.st_ino == new_st.st_ino && new_st.st_size >= follow->offset)
        return false;
    follow->file = safe_close(follow->file);
    if (old_st.st_ino == new_st.st_ino) {
        copy = open_part(follow->state_dir, 0, 0);
        if (copy >= 0 && fstat(copy, &old_st) >= 0 && old_st.st_size > follow->offset) {
            follow->part = 0;
            return true;
        }
    }
    follow->offset = 0;
    return true;
}

ssize_t log_follow_read(LogFollow *follow, char *buffer, size_t size)
{
    bool armed = false;

    for (;;) {
        ssize_t n = 0;
        int r = ensure_open(follow);
        if (r < 0)
            return r;
        if (r > 0)
            n = pread(follow->file, buffer, size, follow->offset);
        if (n < 0)
            return -errno;
        if (n > 0) {
            follow->offset += n;
            return n;
        }
        if (follow->part >= 0) {
            follow->part--;
            follow->file = safe_close(follow->file);
            follow->offset = 0;
        } else if (!follow->watch) {
            return -ENODATA;
        } else if (!(r > 0 && has_moved(follow))) {
            if (armed)
                return 0;
            r = file_watch_arm(follow->watch);
            if (r < 0)
                return r;
            armed = true; /* and once more: what came before that is not told */
        }
    }
}

int log_follow_new(sd_event *event, const char *state_dir, const LogFollowOptions *options,
                   uint64_t pace_usec, void (*changed)(void *userdata), void *userdata,
                   LogFollow **ret_follow)
{
    _cleanup_(log_follow_freep)
    LogFollow *follow = calloc(1, sizeof(*follow));
    int r;

    if (!follow)
        return -ENOMEM;
    follow->file = -EBADF;
    follow->options = *options;
    follow->state_dir = strdup(state_dir);
    if (!follow->state_dir)
        return -ENOMEM;
    r = find_start(follow);
    if (r >= 0 && options->follow && options->boot == 0)
        r = file_watch_new(event, state_dir, CONSOLE_LOG_NAME, pace_usec, changed, userdata, &follow->watch);
    if (r < 0)
        return r;
    *ret_follow = TAKE_PTR(follow);
    return 0;
}
