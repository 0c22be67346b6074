/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/console-log.h"

#include "base/file.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

char *console_log_path(const char *state_dir, unsigned boot, int part)
{
    char boot_text[16] = "", part_text[16] = "", *path = NULL;

    if (boot > 0)
        snprintf(boot_text, sizeof(boot_text), ".%u", boot);
    if (part >= 0)
        snprintf(part_text, sizeof(part_text), ".%d", part);
    return asprintf(&path, "%s/console%s.log%s", state_dir, boot_text, part_text) < 0 ? NULL : path;
}

static int move(const char *state_dir, unsigned boot, int part, unsigned to_boot, int to_part)
{
    _cleanup_free_ char *from = console_log_path(state_dir, boot, part);
    _cleanup_free_ char *to = console_log_path(state_dir, to_boot, to_part);

    if (!from || !to)
        return -ENOMEM;
    if (rename(from, to) == 0)
        return 0;
    if (errno != ENOENT)
        return -errno;
    /* There is none to move: what is at the target belongs to an older boot and must not stay in its place.
     */
    return unlink(to) < 0 && errno != ENOENT ? -errno : 0;
}

int console_log_new_boot(const char *state_dir)
{
    for (unsigned boot = CONSOLE_LOG_BOOTS - 1; boot-- > 0;)
        for (int part = -1; part < CONSOLE_LOG_PARTS; part++) {
            int r = move(state_dir, boot, part, boot + 1, part);
            if (r < 0)
                return r;
        }
    return 0;
}

/* path.0 becomes path.1 and so on; the oldest goes. */
static int make_room(const char *path, unsigned parts)
{
    for (unsigned to = parts - 1; to > 0; to--) {
        _cleanup_free_ char *from_path = NULL, *to_path = NULL;
        if (asprintf(&from_path, "%s.%u", path, to - 1) < 0)
            from_path = NULL;
        if (asprintf(&to_path, "%s.%u", path, to) < 0)
            to_path = NULL;
        if (!from_path || !to_path)
            return -ENOMEM;
        if (rename(from_path, to_path) < 0 && errno != ENOENT)
            return -errno;
    }
    return 0;
}

/* What comes from there on, until there is no more: hardly a moment then passes before the log is cut. */
static int copy_rest(int fd, off_t from, const char *to)
{
    _cleanup_close_ int copy = open(to, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    off_t end = from + CONSOLE_LOG_MAX; /* for one that grows faster than it is copied */
    ssize_t n = 1;

    if (copy < 0 || lseek(copy, 0, SEEK_END) < 0)
        return -errno;
    while (n > 0 && from < end)
        n = sendfile(copy, fd, &from, (size_t)(end - from));
    return n < 0 ? -errno : 0;
}

static int copy_end(int fd, off_t size, const char *to)
{
    /* The whole, so that who reads it finds its place in the copy; unless it grew faster than it is looked
     * at. */
    off_t from = size > 2 * CONSOLE_LOG_MAX ? size - CONSOLE_LOG_MAX : 0;
    size_t room = (size_t)(size - from), used = 0;
    _cleanup_free_ char *text = malloc(room);
    ssize_t n;
    int r;

    if (!text)
        return -ENOMEM;
    while ((n = pread(fd, text + used, room - used, from + (off_t)used)) > 0)
        used += (size_t)n;
    r = n < 0 ? -errno : write_file_atomic(to, text, used, 0600);
    return r < 0 ? r : copy_rest(fd, from + (off_t)used, to);
}

int log_bound(const char *path, unsigned parts)
{
    _cleanup_free_ char *copy = NULL;
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    struct stat st;
    int r;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size <= CONSOLE_LOG_MAX)
        return 0;
    if (asprintf(&copy, "%s.0", path) < 0) {
        copy = NULL;
        return -ENOMEM;
    }
    r = make_room(path, parts);
    if (r >= 0)
        r = copy_end(fd, st.st_size, copy);
    /* Cut in any case: that a disk fills up is worse than a lost part. Who writes appends (O_APPEND), and
     * goes on at the new end; what it wrote since the copy is lost. */
    if (ftruncate(fd, 0) < 0)
        return -errno;
    return r < 0 ? r : 1;
}

int log_tail(const char *path, size_t max, char **ret_text, size_t *ret_size)
{
    _cleanup_free_ char *text = malloc(max);
    _cleanup_close_ int fd = -EBADF;
    struct stat st;
    ssize_t n = 0;

    if (!text)
        return -ENOMEM;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT)
        return -errno;
    if (fd >= 0) {
        if (fstat(fd, &st) < 0)
            return -errno;
        n = pread(fd, text, max, st.st_size > (off_t)max ? st.st_size - (off_t)max : 0);
        if (n < 0)
            return -errno;
    }
    *ret_text = TAKE_PTR(text);
    *ret_size = (size_t)n;
    return 0;
}

int console_log_tail(const char *state_dir, size_t max, char **ret_text, size_t *ret_size)
{
    _cleanup_free_ char *path = console_log_path(state_dir, 0, -1);

    return path ? log_tail(path, max, ret_text, ret_size) : -ENOMEM;
}
