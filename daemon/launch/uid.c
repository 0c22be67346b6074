/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "launch/uid.h"

#include "base/file.h"

#include <inttypes.h>

enum {
    NAME_SIZE = 256,
};

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

/* Whose it is: 1 this one's, 0 somebody else's, -ENOENT nobody's. */
static int owns(const char *path, const char *name)
{
    char owner[NAME_SIZE];
    ssize_t length = readlink(path, owner, sizeof(owner) - 1);

    if (length < 0)
        return -errno;
    owner[length] = '\0';
    return streq(owner, name);
}

/* As in any open hash table: the first of them from the hash on that is its own, or free. */
static int find(const char *directory, const char *name, uid_t first, uid_t *ret_uid)
{
    uint32_t start = hash(name);

    for (uint32_t i = 0; i < UIDS; i++) {
        uid_t uid = first + (start + i) % UIDS;
        _cleanup_free_ char *path = link_path(directory, uid);
        int r = path ? owns(path, name) : -ENOMEM;
        if (r == -ENOENT)
            r = symlink(name, path) == 0 ? 1 : errno == EEXIST ? owns(path, name) : -errno;
        if (r == 0)
            continue;
        if (r < 0)
            return r;
        *ret_uid = uid;
        return 0;
    }
    return -ENOSPC;
}

int uid_allot(const char *directory, const char *name, uid_t first, uid_t *ret_uid)
{
    int r = mkdir_parents(directory, 0755);

    return r < 0 ? r : find(directory, name, first, ret_uid);
}
