/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>

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

static int read_all(int fd, const struct stat *st, size_t max, char **ret_text, size_t *ret_size)
{
    _cleanup_free_ char *text = NULL;
    size_t used = 0, room;
    ssize_t n;

    if ((uint64_t)st->st_size > max)
        return -EFBIG;
    /* One byte more than it has tells that it grew meanwhile; files of /proc have no size at all. */
    room = (st->st_size > 0 ? (size_t)st->st_size : MIN(max, (size_t)4096)) + 1;
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

int read_file(const char *path, size_t max, char **ret_text, size_t *ret_size)
{
    _cleanup_close_ int fd = -EBADF;
    struct stat st;

    fd = open_regular(path, &st);
    return fd < 0 ? fd : read_all(fd, &st, max, ret_text, ret_size);
}

FileIdentity file_identity(const struct stat *st)
{
    return (FileIdentity){st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim};
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool file_identity_equal(const FileIdentity *a, const FileIdentity *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           same_time(a->modified, b->modified) && same_time(a->changed, b->changed);
}

int read_file_whole(const char *path, size_t max, char **ret_text, size_t *ret_size,
                    FileIdentity *ret_identity)
{
    enum {
        TRIES = 10
    };

    for (int i = 0; i < TRIES; i++) {
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int fd = -EBADF;
        FileIdentity before, after;
        struct stat st;
        size_t size;
        int r;

        fd = open_regular(path, &st);
        if (fd < 0)
            return fd;
        before = file_identity(&st);
        r = read_all(fd, &st, max, &text, &size);
        if (r < 0)
            return r;
        /* By its path: who replaced it meanwhile has a newer one for us. */
        if (stat(path, &st) < 0)
            return -errno;
        after = file_identity(&st);
        if (!file_identity_equal(&before, &after))
            continue;
        *ret_text = TAKE_PTR(text);
        *ret_size = size;
        *ret_identity = after;
        return 0;
    }
    return -EAGAIN;
}

const char *read_file_problem(int error)
{
    switch (error) {
    case -EISDIR:
        return "this is a directory, not a file";
    case -EINVAL:
        return "this is not a regular file";
    case -EAGAIN:
        return "it is being written all the time; reload when that is over";
    case -EFBIG:
        return "the file is too large to be what it should be";
    default:
        return strerror(-error);
    }
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

static int replace_file(const char *path, const void *data, size_t size, mode_t mode, bool durable)
{
    _cleanup_free_ char *temporary = NULL;
    _cleanup_close_ int fd = open_temporary(path, mode, &temporary);
    int r;

    if (fd < 0)
        return fd;
    r = write_all(fd, data, size);
    if (r >= 0 && durable && fdatasync(fd) < 0)
        r = -errno;
    return finish_temporary(r, temporary, path);
}

void write_file_forget(const char *path)
{
    _cleanup_free_ char *pattern = NULL;
    glob_t found;

    if (asprintf(&pattern, "%s.??????", path) < 0) {
        pattern = NULL;
        return;
    }
    if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        (void)unlink(found.gl_pathv[i]);
    globfree(&found);
}

int write_file_atomic(const char *path, const void *data, size_t size, mode_t mode)
{
    return replace_file(path, data, size, mode, false);
}

int write_file_durable(const char *path, const void *data, size_t size, mode_t mode)
{
    return replace_file(path, data, size, mode, true);
}

bool path_is_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);

    return strncmp(path, directory, length) == 0 && (path[length] == '/' || !path[length]);
}

static int make_directory(const char *path, mode_t mode)
{
    struct stat st;

    if (mkdir(path, mode) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    if (stat(path, &st) < 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int mkdir_parents(const char *path, mode_t mode)
{
    _cleanup_free_ char *copy = strdup(path);
    int r;

    if (!copy)
        return -ENOMEM;
    if (!*copy)
        return -ENOENT;
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        r = make_directory(copy, mode);
        if (r < 0)
            return r;
        *slash = '/';
    }
    return make_directory(copy, mode);
}

static int remove_content(int fd, unsigned depth);

/* Through the descriptor of its directory: whoever owns that can't swap a link in to lead us elsewhere. */
static int remove_entry(int directory, const char *name, unsigned depth)
{
    int fd, r;

    if (unlinkat(directory, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR)
        return -errno;
    fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    r = remove_content(fd, depth);
    if (r < 0)
        return r;
    return unlinkat(directory, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

/* Closes `fd`. Goes on after an error, so that as much as possible is gone, and returns the first. */
static int remove_content(int fd, unsigned depth)
{
    enum {
        DEPTH_MAX = 128
    };
    const struct dirent *entry;
    DIR *stream = depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    int first = 0;

    if (!stream) {
        first = depth < DEPTH_MAX ? -errno : -ELOOP;
        close(fd);
        return first;
    }
    while ((entry = readdir(stream))) {
        int r;
        if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
            continue;
        r = remove_entry(dirfd(stream), entry->d_name, depth + 1);
        if (first == 0)
            first = r;
    }
    closedir(stream);
    return first;
}

int remove_tree(const char *path)
{
    return remove_entry(AT_FDCWD, path, 0);
}

static int copy_content(int from, int to)
{
    enum {
        AT_ONCE = 0x7ffff000
    };
    ssize_t n;

    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    while ((n = copy_file_range(from, NULL, to, NULL, AT_ONCE, 0)) > 0 || (n < 0 && errno == EINTR))
        ;
    if (n < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    /* From one file system to another, or where the kernel claims too early to be through: sendfile(2) goes
     * on. */
    while ((n = sendfile(to, from, NULL, AT_ONCE)) > 0 || (n < 0 && errno == EINTR))
        ;
    return n < 0 ? -errno : 0;
}

FileStamp file_stamp_of(const struct stat *st)
{
    return (FileStamp){.device = st->st_dev,
                       .inode = st->st_ino,
                       .size = (uint64_t)st->st_size,
                       .mtime_nsec =
                           (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec};
}

int file_stamp(const char *path, FileStamp *ret_stamp)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return -errno;
    *ret_stamp = file_stamp_of(&st);
    return 0;
}

bool file_stamp_equal(const FileStamp *a, const FileStamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->mtime_nsec == b->mtime_nsec;
}

int copy_file_stamped(const char *from, const char *to, mode_t mode, FileStamp *ret_source)
{
    _cleanup_close_ int source = -EBADF, target = -EBADF;
    _cleanup_free_ char *temporary = NULL;
    struct stat st;
    int r;

    source = open_regular(from, &st);
    if (source < 0)
        return source;
    target = open_temporary(to, mode, &temporary);
    if (target < 0)
        return target;
    r = finish_temporary(copy_content(source, target), temporary, to);
    if (r >= 0)
        *ret_source = file_stamp_of(&st);
    return r;
}

int copy_file(const char *from, const char *to, mode_t mode)
{
    FileStamp ignored;

    return copy_file_stamped(from, to, mode, &ignored);
}
