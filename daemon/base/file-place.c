/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/file-place.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
    LINKS_MAX = 40, /* as the kernel */
};

/* Without asking a server that may not answer for what is known, and without mounting anything. */
static bool look(const char *path, FilePlace *place)
{
    struct statx st;

    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO, &st) < 0)
        return false;
    if (S_ISBLK(st.stx_mode)) { /* the device counts, not its node */
        place->device = makedev(st.stx_rdev_major, st.stx_rdev_minor);
        place->inode = UINT64_MAX;
    } else {
        place->device = makedev(st.stx_dev_major, st.stx_dev_minor);
        place->inode = st.stx_ino;
    }
    return true;
}

/* A path that still has to be walked, from its end. */
typedef struct Walk {
    char *path;
    char *rest;  /* behind it, or NULL */
    unsigned up; /* ".." that take the next parts away */
    unsigned links;
} Walk;

static void walk_clear(Walk *walk)
{
    free(walk->path);
    free(walk->rest);
}

/* With a slash behind it, a link is not seen as one. */
static void strip_slashes(char *path)
{
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
}

/* Where a link that leads nowhere leads: who makes the file makes it there. 1, 0: it is none, -ENOMEM. */
static int follow(Walk *walk)
{
    char target[PATH_MAX], *path;
    ssize_t n = walk->links < LINKS_MAX ? readlink(walk->path, target, sizeof(target) - 1) : -1;
    const char *slash = strrchr(walk->path, '/');

    if (n <= 0)
        return 0;
    target[n] = '\0';
    walk->links++;
    if (target[0] == '/' || !slash)
        path = strdup(target);
    else if (asprintf(&path, "%.*s%s", (int)(slash + 1 - walk->path), walk->path, target) < 0)
        path = NULL;
    if (!path)
        return -ENOMEM;
    free(walk->path);
    walk->path = path;
    return 1;
}

/* Takes the last part off the path. 1, 0: there is none, -ENOMEM. */
static int cut(Walk *walk)
{
    char *part, *longer;

    if (!*walk->path || streq(walk->path, "/") || streq(walk->path, "."))
        return 0;
    part = strrchr(walk->path, '/');
    part = part ? part + 1 : walk->path;
    if (streq(part, "..")) {
        walk->up++;
    } else if (!streq(part, ".") && walk->up > 0) {
        walk->up--;
    } else if (!streq(part, ".")) {
        if (asprintf(&longer, "%s%s%s", part, walk->rest ? "/" : "", walk->rest ? walk->rest : "") < 0)
            return -ENOMEM;
        free(walk->rest);
        walk->rest = longer;
    }
    if (part == walk->path)
        strcpy(walk->path, "."); /* no part is shorter */
    else
        *part = '\0';
    strip_slashes(walk->path);
    return 1;
}

int file_place(const char *path, FilePlace *ret_place)
{
    _cleanup_(walk_clear)
    Walk walk = {.path = strdup(path)};
    FilePlace place = {0};
    int r = walk.path ? 1 : -ENOMEM;

    if (r > 0)
        strip_slashes(walk.path);
    while (r > 0 && !look(walk.path, &place)) {
        r = follow(&walk);
        if (r == 0)
            r = cut(&walk);
    }
    for (; r >= 0 && walk.up > 0; walk.up--) {
        char *above;
        if (asprintf(&above, "%s/..", walk.path) < 0)
            return -ENOMEM;
        free(walk.path);
        walk.path = above;
        (void)look(walk.path, &place);
    }
    if (r < 0)
        return r;
    place.rest = TAKE_PTR(walk.rest);
    *ret_place = place;
    return 0;
}
