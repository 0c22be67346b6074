/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which file a path leads to, be it there or not. */
#ifndef BASE_FILE_PLACE_H
#define BASE_FILE_PLACE_H

#include "base/macro.h"

/*
 * Paths of equal places are one file, or would become one: through links and hard links, "//", "." and "..";
 * two nodes of one block device are one, too.
 */
typedef struct FilePlace {
    uint64_t device, inode; /* of the file, or of the nearest directory above it that there is */
    char *rest;             /* what is missing below that, without "." and ".."; NULL: nothing, it is there */
} FilePlace;

/* Directories that were looked at lately: many paths are below the same ones. All zero: none. For a moment
 * only: what changes meanwhile is not seen. */
typedef struct FilePlaces {
    struct FilePlaceKnown {
        char *path;
        int found;
        uint64_t device, inode;
    } known[8]; /* the one that was asked for last first */
} FilePlaces;

void file_places_clear(FilePlaces *places);

/* A relative path starts from the working directory. The rest is the caller's. 0 or -ENOMEM. */
int file_place(FilePlaces *places, const char *path, FilePlace *ret_place);

#endif
