/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/spare-copies.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/statvfs.h>

enum {
    SPARES_MAX = 4, /* of all: kernel and initrd of two kinds of guest */
    PART_OF_FREE = 8,
    /* Timestamps are coarse: what is written to within one of their steps looks the same as before. */
    SETTLED_SECONDS = 2,
};
static const uint64_t BYTES_MAX = UINT64_C(64) << 20;

/* Named after the very content that it is a copy of. */
static char *spare_path(const char *directory, const struct stat *st)
{
    char *path = NULL;

    return asprintf(&path, "%s/%jx-%jx-%jx-%jx.%lx-%jx.%lx", directory, (uintmax_t)st->st_dev,
                    (uintmax_t)st->st_ino, (uintmax_t)st->st_size, (uintmax_t)st->st_mtim.tv_sec,
                    (unsigned long)st->st_mtim.tv_nsec, (uintmax_t)st->st_ctim.tv_sec,
                    (unsigned long)st->st_ctim.tv_nsec) < 0
               ? NULL
               : path;
}

int spare_copy_take(const char *directory, const char *from, const char *to, FileStamp *ret_source)
{
    _cleanup_free_ char *path = NULL;
    struct stat st;

    if (stat(from, &st) < 0)
        return -errno;
    path = spare_path(directory, &st);
    if (!path)
        return -ENOMEM;
    if (rename(path, to) < 0)
        return -errno;
    *ret_source = file_stamp_of(&st);
    return 0;
}

/* Whether one of `size` bytes may be added to what is there. If not, `ret_oldest` is to go; "": it is too
 * big. */
static int has_room(const char *directory, uint64_t size, char ret_oldest[static NAME_MAX + 1])
{
    DIR *stream = opendir(directory);
    struct stat st, oldest = {0};
    struct dirent *entry;
    struct statvfs fs;
    uint64_t bytes = 0;
    size_t n = 0;

    ret_oldest[0] = '\0';
    if (!stream)
        return -errno;
    while ((entry = readdir(stream))) {
        if (fstatat(dirfd(stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        n++;
        bytes += (uint64_t)st.st_size;
        if (ret_oldest[0] && st.st_mtim.tv_sec >= oldest.st_mtim.tv_sec)
            continue;
        oldest = st;
        snprintf(ret_oldest, NAME_MAX + 1, "%s", entry->d_name);
    }
    closedir(stream);
    if (n >= SPARES_MAX || bytes + size > BYTES_MAX)
        return 0;
    if (statvfs(directory, &fs) < 0)
        return -errno;
    return size <= (uint64_t)fs.f_bavail * fs.f_frsize / PART_OF_FREE;
}

static int make_room(const char *directory, uint64_t size)
{
    char oldest[NAME_MAX + 1];
    int r;

    if (size > BYTES_MAX)
        return -ENOSPC;
    while ((r = has_room(directory, size, oldest)) == 0) {
        _cleanup_free_ char *path = NULL;
        if (!oldest[0])
            return -ENOSPC;
        if (asprintf(&path, "%s/%s", directory, oldest) < 0)
            return -ENOMEM;
        if (unlink(path) < 0 && errno != ENOENT)
            return -errno;
    }
    return r < 0 ? r : 0;
}

int spare_copy_make(const char *directory, const char *from, int64_t now_sec)
{
    _cleanup_free_ char *path = NULL, *fresh = NULL;
    struct stat before, after;
    FileIdentity was, now_is;
    int r;

    if (stat(from, &before) < 0)
        return -errno;
    was = file_identity(&before);
    if (now_sec - before.st_ctim.tv_sec < SETTLED_SECONDS)
        return -EAGAIN;
    path = spare_path(directory, &before);
    if (!path || asprintf(&fresh, "%s.new", path) < 0)
        return -ENOMEM;
    if (access(path, F_OK) == 0)
        return 0;
    r = mkdir_parents(directory, 0700);
    if (r >= 0)
        r = make_room(directory, (uint64_t)before.st_size);
    if (r >= 0)
        r = copy_file(from, fresh, 0600);
    if (r < 0)
        return r;
    now_is = stat(from, &after) < 0 ? (FileIdentity){0} : file_identity(&after);
    if (file_identity_equal(&was, &now_is) && rename(fresh, path) == 0)
        return 0;
    (void)unlink(fresh);
    return -EAGAIN;
}
