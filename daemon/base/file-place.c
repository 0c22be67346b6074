/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/file-place.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
    LINKS_MAX = 40, /* as the kernel */
};

typedef enum Found {
    FOUND_NOTHING,
    FOUND_LINK, /* that leads nowhere */
    FOUND_FILE,
} Found;

/* Without asking a server that may not answer for what is known, and without mounting anything. */
static bool look_with(const char *path, int flags, struct statx *st)
{
    return statx(AT_FDCWD, path, flags | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO, st) ==
           0;
}

static Found look(const char *path, FilePlace *place)
{
    struct statx st;

    if (!look_with(path, AT_SYMLINK_NOFOLLOW, &st))
        return FOUND_NOTHING;
    if (S_ISLNK(st.stx_mode) && !look_with(path, 0, &st))
        return FOUND_LINK;
    if (S_ISBLK(st.stx_mode)) { /* the device counts, not its node */
        place->device = makedev(st.stx_rdev_major, st.stx_rdev_minor);
        place->inode = UINT64_MAX;
    } else {
        place->device = makedev(st.stx_dev_major, st.stx_dev_minor);
        place->inode = st.stx_ino;
    }
    return FOUND_FILE;
}

/* --- directories --- */

void file_places_clear(FilePlaces *places)
{
    for (size_t i = 0; i < ELEMENTSOF(places->known); i++)
        free(places->known[i].path);
    *places = (FilePlaces){0};
}

static Found look_at_directory(FilePlaces *places, const char *path, FilePlace *place)
{
    size_t last = ELEMENTSOF(places->known) - 1, i = 0;
    struct FilePlaceKnown known;

    while (i < last && !streq(places->known[i].path, path))
        i++;
    known = places->known[i];
    if (!streq(known.path, path)) {
        free(known.path);
        known = (struct FilePlaceKnown){.path = strdup(path), .found = look(path, place)};
        known.device = place->device;
        known.inode = place->inode;
    }
    memmove(&places->known[1], &places->known[0], i * sizeof(known));
    places->known[0] = known;
    place->device = known.device;
    place->inode = known.inode;
    return (Found)known.found;
}

/* --- one path --- */

/* A path that is walked from its end, to what there is. */
typedef struct Walk {
    char *path;
    char *rest;  /* behind it, not there; NULL: nothing */
    unsigned up; /* ".." that take the next parts away */
    unsigned links;
} Walk;

static void walk_clear(Walk *walk)
{
    free(walk->path);
    free(walk->rest);
}

/* With one behind it, a link is not seen as such. */
static void strip_slashes(char *path)
{
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
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

/* To where a link leads: who makes what is missing makes it there. 1, 0: it can't be followed, -ENOMEM. */
static int follow(Walk *walk)
{
    const char *slash = strrchr(walk->path, '/');
    char target[PATH_MAX], *path;
    ssize_t n = walk->links < LINKS_MAX ? readlink(walk->path, target, sizeof(target) - 1) : -1;

    if (n <= 0)
        return 0;
    target[n] = '\0';
    walk->links++;
    if (asprintf(&path, "%.*s%s", target[0] == '/' || !slash ? 0 : (int)(slash + 1 - walk->path), walk->path,
                 target) < 0)
        return -ENOMEM;
    free(walk->path);
    walk->path = path;
    strip_slashes(path);
    return 1;
}

int file_place(FilePlaces *places, const char *path, FilePlace *ret_place)
{
    _cleanup_(walk_clear)
    Walk walk = {.path = strdup(path)};
    FilePlace place = {0};
    Found found;
    int r = walk.path ? 1 : -ENOMEM;

    if (r < 0)
        return r;
    strip_slashes(walk.path);
    found = look(walk.path, &place);
    while (r > 0 && found != FOUND_FILE) {
        r = found == FOUND_LINK ? follow(&walk) : 0;
        if (r == 0)
            r = cut(&walk);
        if (r > 0)
            found = look_at_directory(places, walk.path, &place);
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
