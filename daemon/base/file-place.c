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

/* --- directories --- */

void file_places_clear(FilePlaces *places)
{
    for (size_t i = 0; i < ELEMENTSOF(places->known); i++)
        free(places->known[i].path);
    *places = (FilePlaces){0};
}

/* Makes what is known of a directory the first; false: that was nothing. */
static bool recall(FilePlaces *places, const char *path)
{
    size_t last = ELEMENTSOF(places->known) - 1, i = 0;
    typeof(places->known[0]) found;

    while (i < last && !streq(places->known[i].path, path))
        i++;
    found = places->known[i];
    memmove(&places->known[1], &places->known[0], i * sizeof(found));
    places->known[0] = found;
    if (streq(found.path, path))
        return true;
    free(found.path);
    memset(&places->known[0], 0, sizeof(found));
    places->known[0].path = strdup(path);
    return false;
}

static bool look_at_directory(FilePlaces *places, const char *path, FilePlace *place)
{
    if (!recall(places, path)) {
        places->known[0].there = look(path, place);
        places->known[0].device = place->device;
        places->known[0].inode = place->inode;
    }
    place->device = places->known[0].device;
    place->inode = places->known[0].inode;
    return places->known[0].there;
}

/* --- one path --- */

/* A path that is walked from its end. */
typedef struct Walk {
    FilePlaces *places;
    char *path;
    char *rest;  /* behind it, not there; NULL: nothing */
    unsigned up; /* ".." that take the next parts away */
} Walk;

static void walk_clear(Walk *walk)
{
    free(walk->path);
    free(walk->rest);
}

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

/* To the nearest directory that there is. 0 or -ENOMEM. */
static int walk_up(Walk *walk, FilePlace *place)
{
    bool there;
    int r = 1;

    strip_slashes(walk->path);
    there = look(walk->path, place);
    while (!there && (r = cut(walk)) > 0)
        there = look_at_directory(walk->places, walk->path, place);
    for (; r >= 0 && walk->up > 0; walk->up--) {
        char *above;
        if (asprintf(&above, "%s/..", walk->path) < 0)
            return -ENOMEM;
        free(walk->path);
        walk->path = above;
        (void)look(walk->path, place);
    }
    return MIN(r, 0);
}

/* What is missing may be behind a link that leads nowhere: who makes it, makes it where that leads. 1, 0:
 * there is no link, -ENOMEM. */
static int follow(Walk *walk)
{
    int first = (int)strcspn(walk->rest, "/");
    const char *behind = walk->rest + first;
    _cleanup_free_ char *link = NULL;
    char target[PATH_MAX], *path;
    ssize_t n;

    if (asprintf(&link, "%s/%.*s", walk->path, first, walk->rest) < 0)
        return -ENOMEM;
    if (*behind && recall(walk->places, link) && walk->places->known[0].no_link)
        return 0;
    n = readlink(link, target, sizeof(target) - 1);
    if (*behind)
        walk->places->known[0].no_link = n <= 0;
    if (n <= 0)
        return 0;
    target[n] = '\0';
    if (asprintf(&path, "%s%s%s%s", target[0] == '/' ? "" : walk->path, target[0] == '/' ? "" : "/", target,
                 behind) < 0)
        return -ENOMEM;
    walk_clear(walk);
    *walk = (Walk){.places = walk->places, .path = path};
    return 1;
}

int file_place(FilePlaces *places, const char *path, FilePlace *ret_place)
{
    _cleanup_(walk_clear)
    Walk walk = {.places = places, .path = strdup(path)};
    FilePlace place = {0};
    int r = walk.path ? walk_up(&walk, &place) : -ENOMEM;

    for (int links = 0; r >= 0 && walk.rest && links < LINKS_MAX; links++) {
        r = follow(&walk);
        if (r <= 0)
            break;
        r = walk_up(&walk, &place);
    }
    if (r < 0)
        return r;
    place.rest = TAKE_PTR(walk.rest);
    *ret_place = place;
    return 0;
}
