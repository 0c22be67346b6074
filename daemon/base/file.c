/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/file.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

/* O_NONBLOCK: the open of a FIFO or a device must not wait for anybody. */
static int open_regular(const char *path, struct stat *ret_st)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return -errno;
    if (fstat(fd, ret_st) < 0)
        return -errno;
    if (S_ISDIR(ret_st->st_mode))
        return -EISDIR;
    if (!S_ISREG(ret_st->st_mode))
        return -EINVAL;
    return TAKE_FD(fd);
}

int read_file(const char *path, size_t max, char **ret_text, size_t *ret_size)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_close_ int fd = -EBADF;
    struct stat st;
    size_t used = 0, room;
    ssize_t n;

    fd = open_regular(path, &st);
    if (fd < 0)
        return fd;
    if ((uint64_t)st.st_size > max)
        return -EFBIG;
    /* One byte more than it has tells that it grew meanwhile; files of /proc have no size at all. */
    room = (st.st_size > 0 ? (size_t)st.st_size : MIN(max, (size_t)4096)) + 1;
    text = malloc(room + 1);
    if (!text)
        return -ENOMEM;
    while ((n = read(fd, text + used, room - used)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        used += (size_t)n;
        if (used > max)
            return -EFBIG;
        if (used == room) {
            char *grown = realloc(text, (room *= 2) + 1);
            if (!grown)
                return -ENOMEM;
            text = grown;
        }
    }
    text[used] = '\0';
    *ret_text = TAKE_PTR(text);
    *ret_size = used;
    return 0;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int open_temporary(const char *path, mode_t mode, char **ret_temporary)
{
    _cleanup_free_ char *temporary = NULL;
    int fd;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return -ENOMEM;
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, mode) < 0) {
        int r = -errno;
        close(fd);
        unlink(temporary);
        return r;
    }
    *ret_temporary = TAKE_PTR(temporary);
    return fd;
}

static int finish_temporary(int r, const char *temporary, const char *path)
{
    if (r >= 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0)
        unlink(temporary);
    return r;
}

int write_file_atomic(const char *path, const void *data, size_t size, mode_t mode)
{
    _cleanup_free_ char *temporary = NULL;
    _cleanup_close_ int fd = open_temporary(path, mode, &temporary);
    int r;

    if (fd < 0)
        return fd;
    r = write_all(fd, data, size);
    if (r >= 0 && fdatasync(fd) < 0) /* free on tmpfs, and elsewhere a power cut must not leave an empty file */
        r = -errno;
    return finish_temporary(r, temporary, path);
}

int mkdir_parents(const char *path, mode_t mode)
{
    _cleanup_free_ char *copy = strdup(path);

    if (!copy)
        return -ENOMEM;
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return mkdir(copy, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
    return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int remove_tree(const char *path)
{
    enum { DESCRIPTORS = 16 };
    int r = nftw(path, remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

    if (r == -1)
        return errno == ENOENT ? 0 : -errno;
    return r;
}

static int copy_content(int from, int to)
{
    ssize_t n;

    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    while ((n = copy_file_range(from, NULL, to, NULL, 0x7ffff000, 0)) > 0)
        ;
    if (n == 0)
        return 0;
    if (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    /* From one file system to another, on kernels that do not copy between them: sendfile(2) goes on. */
    while ((n = sendfile(to, from, NULL, 0x7ffff000)) > 0)
        ;
    return n < 0 ? -errno : 0;
}

int copy_file(const char *from, const char *to, mode_t mode)
{
    _cleanup_close_ int source = -EBADF, target = -EBADF;
    _cleanup_free_ char *temporary = NULL;
    struct stat st;

    source = open_regular(from, &st);
    if (source < 0)
        return source;
    target = open_temporary(to, mode, &temporary);
    if (target < 0)
        return target;
    return finish_temporary(copy_content(source, target), temporary, to);
}
