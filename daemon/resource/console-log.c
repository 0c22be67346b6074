/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/console-log.h"

#include "base/file.h"

#include <fcntl.h>
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

int console_log_bound(const char *state_dir)
{
    _cleanup_free_ char *log = console_log_path(state_dir, 0, -1), *part = console_log_path(state_dir, 0, 0);
    struct stat st;
    int r;

    if (!log || !part)
        return -ENOMEM;
    if (stat(log, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (st.st_size <= CONSOLE_LOG_MAX)
        return 0;
    for (int to = CONSOLE_LOG_PARTS - 1; to > 0; to--) {
        r = move(state_dir, 0, to - 1, 0, to);
        if (r < 0)
            return r;
    }
    r = copy_file(log, part, 0600);
    if (r < 0)
        return r;
    /* The writer appends (O_APPEND), so that it goes on at the new end. What it wrote since the copy is lost.
     */
    return truncate(log, 0) < 0 ? -errno : 1;
}

int console_log_tail(const char *state_dir, size_t max, char **ret_text, size_t *ret_size)
{
    _cleanup_free_ char *path = console_log_path(state_dir, 0, -1), *text = malloc(max);
    _cleanup_close_ int fd = -EBADF;
    struct stat st;
    ssize_t n = 0;

    if (!path || !text)
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
