/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "launch/uid.h"

#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>

enum {
    NAME_SIZE = 256,
};
#define FORMER "-" /* instead of a name; no microVM is called so */

/* FNV-1a. It spreads names, so that looking for a free one seldom takes a second try. */
static uint32_t hash(const char *name)
{
    uint32_t value = 2166136261;

    for (; *name; name++)
        value = (value ^ (unsigned char)*name) * 16777619;
    return value;
}

static char *link_path(const char *directory, uid_t uid)
{
    char *path = NULL;

    return asprintf(&path, "%s/%" PRIu32, directory, (uint32_t)uid) < 0 ? NULL : path;
}

typedef enum Owner {
    OWNER_NOBODY,
    OWNER_FORMER, /* it was given back: nobody's, but those that were put behind it must be found */
    OWNER_ITSELF,
    OWNER_OTHER,
} Owner;

/* Or a negative errno. */
static int owner_of(const char *path, const char *name)
{
    char owner[NAME_SIZE];
    ssize_t length = readlink(path, owner, sizeof(owner) - 1);

    if (length < 0)
        return errno == ENOENT ? OWNER_NOBODY : -errno;
    owner[length] = '\0';
    return streq(owner, FORMER) ? OWNER_FORMER : streq(owner, name) ? OWNER_ITSELF : OWNER_OTHER;
}

/* In one step, so that at no moment there is none, which would hide those behind it. */
static int set_owner(const char *path, const char *name)
{
    _cleanup_free_ char *fresh = NULL;

    if (asprintf(&fresh, "%s.new", path) < 0)
        return -ENOMEM;
    (void)unlink(fresh); /* of somebody who was killed here */
    return symlink(name, fresh) < 0 || rename(fresh, path) < 0 ? -errno : 0;
}

/* As in any open hash table: its own, which is before the first that never was anybody's; or the first that
 * can be had, then 1. */
static int find(const char *directory, const char *name, uid_t first, uid_t *ret_uid)
{
    uint32_t start = hash(name), chosen = UIDS;
    _cleanup_free_ char *path = NULL;
    int r;

    for (uint32_t i = 0; i < UIDS; i++) {
        free(path);
        path = link_path(directory, first + (start + i) % UIDS);
        r = path ? owner_of(path, name) : -ENOMEM;
        if (r < 0)
            return r;
        if (r == OWNER_ITSELF) {
            *ret_uid = first + (start + i) % UIDS;
            return 0;
        }
        if (r != OWNER_OTHER && chosen == UIDS)
            chosen = i;
        if (r == OWNER_NOBODY)
            break;
    }
    if (chosen == UIDS)
        return -ENOSPC;
    free(path);
    *ret_uid = first + (start + chosen) % UIDS;
    path = link_path(directory, *ret_uid);
    r = path ? set_owner(path, name) : -ENOMEM;
    return r < 0 ? r : 1;
}

/* One at a time changes what is there; the kernel drops the lock with the descriptor. */
static int lock(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 && flock(fd, LOCK_EX) == 0)
        return fd;
    safe_close(fd);
    return -errno;
}

int uid_allot(const char *directory, const char *name, uid_t first, uid_t *ret_uid)
{
    int r = mkdir_parents(directory, 0755);
    _cleanup_close_ int held = r < 0 ? r : lock(directory);

    r = held < 0 ? held : find(directory, name, first, ret_uid);
    /* Before there is a file of its own: after a power cut nobody else may be it. */
    return r > 0 && fsync(held) < 0 ? -errno : MIN(r, 0);
}

int uid_each(const char *directory, uid_fn each, void *userdata)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;

    if (!stream)
        return errno == ENOENT ? 0 : -errno;
    while ((entry = readdir(stream))) {
        _cleanup_free_ char *path = NULL;
        char name[NAME_SIZE];
        ssize_t length = readlinkat(dirfd(stream), entry->d_name, name, sizeof(name) - 1);
        if (length < 0)
            continue;
        name[length] = '\0';
        if (!streq(name, FORMER) && !strchr(entry->d_name, '.') &&
            asprintf(&path, "%s/%s", directory, entry->d_name) >= 0)
            each(path, name, userdata);
    }
    closedir(stream);
    return 0;
}

static void release(const char *link, const char *name, void *userdata)
{
    if (streq(name, userdata))
        (void)set_owner(link, FORMER);
}

int uid_release(const char *directory, const char *name)
{
    _cleanup_close_ int held = lock(directory);

    return held >= 0 ? uid_each(directory, release, (void *)name) : held == -ENOENT ? 0 : held;
}
