/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/log-follow.h"

#include "base/file-watch.h"
#include "resource/console-log.h"

#include <fcntl.h>
#include <sys/stat.h>

struct LogFollow {
    char *state_dir;
    LogFollowOptions options;
    int part; /* the file that is being read */
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

enum {
    GROWING = -1, /* the part that is written to */
    NONE = -2,
};

/* The part of this boot that is the file `inode`, or NONE; *ret_oldest is the oldest there is, or NONE. */
static int find_file(const LogFollow *follow, ino_t inode, int *ret_oldest)
{
    *ret_oldest = NONE;
    for (int part = GROWING; part < CONSOLE_LOG_PARTS; part++) {
        _cleanup_close_ int fd = open_part(follow->state_dir, 0, part);
        struct stat st;
        if (fd == -ENOENT && part == GROWING)
            continue;
        if (fd < 0 || fstat(fd, &st) < 0)
            break;
        *ret_oldest = part;
        if (st.st_ino == inode)
            return part;
    }
    return NONE;
}

/* Goes on from a place of before; what was rotated away since is lost. */
static void find_place(LogFollow *follow, const LogPlace *place)
{
    int oldest, part = find_file(follow, (ino_t)place->inode, &oldest);

    follow->part = part != NONE ? part : MAX(oldest, GROWING);
    follow->offset = part != NONE ? (off_t)place->offset : 0;
}

/* Finds the part and the place in it where reading begins. */
static int find_start(LogFollow *follow)
{
    uint64_t wanted = follow->options.lines;
    int oldest = NONE;

    for (int part = GROWING; part < CONSOLE_LOG_PARTS; part++) {
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
    if (oldest == NONE)
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

/* At the end of the growing file: whether the log goes on elsewhere. */
static bool has_moved(LogFollow *follow)
{
    _cleanup_close_ int now = open_part(follow->state_dir, 0, -1), copy = -EBADF;
    struct stat old_st, new_st;
    int oldest, part;

    if (now < 0 || fstat(follow->file, &old_st) < 0 || fstat(now, &new_st) < 0)
        return false;
    if (old_st.st_ino == new_st.st_ino && new_st.st_size >= follow->offset)
        return false;
    if (old_st.st_ino != new_st.st_ino) { /* rotated, maybe more than once, or a new boot */
        part = find_file(follow, old_st.st_ino, &oldest);
        if (part >= 0) {
            follow->part = part; /* which is at its end */
            return true;
        }
        follow->part = oldest;
        follow->offset = 0;
    } else { /* cut (log_bound()): what is yet to be read is in the copy */
        copy = open_part(follow->state_dir, 0, 0);
        if (copy >= 0 && fstat(copy, &old_st) >= 0 && old_st.st_size > follow->offset)
            follow->part = 0;
        else
            follow->offset = 0;
    }
    follow->file = safe_close(follow->file);
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
    follow->part = GROWING;
    r = options->from ? 0 : find_start(follow);
    if (options->from)
        find_place(follow, options->from);
    follow->options.from = NULL;
    if (r >= 0 && options->follow && options->boot == 0)
        r = file_watch_new(event, state_dir, CONSOLE_LOG_NAME, pace_usec, changed, userdata, &follow->watch);
    if (r < 0)
        return r;
    *ret_follow = TAKE_PTR(follow);
    return 0;
}

void log_follow_place(const LogFollow *follow, LogPlace *ret_place)
{
    struct stat st = {0};

    if (follow->file >= 0)
        (void)fstat(follow->file, &st);
    *ret_place = (LogPlace){.inode = st.st_ino, .offset = (uint64_t)follow->offset};
}
