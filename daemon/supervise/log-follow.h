/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A reader's place in a console log: over the parts of a series, and on as it grows, is rotated or begun
 * anew. */
#ifndef SUPERVISE_LOG_FOLLOW_H
#define SUPERVISE_LOG_FOLLOW_H

#include "base/macro.h"

#include <sys/types.h>
#include <systemd/sd-event.h>

typedef struct LogFollow LogFollow;

/* Where somebody was, over restarts of the daemon; inode 0: nowhere yet. */
typedef struct LogPlace {
    uint64_t inode, offset;
} LogPlace;

typedef struct LogFollowOptions {
    unsigned boot;        /* 0: this boot, or the last one; 1: the one before... */
    uint64_t lines;       /* begins with the last ones of what is there; UINT64_MAX: all */
    bool follow;          /* goes on over rotations and further boots */
    const LogPlace *from; /* begins here instead, also where there is no log yet; valid during the call */
} LogFollowOptions;

/*
 * `changed` is called, at most once in `pace_usec`, when there may be more after log_follow_read() returned
 * 0; it may free the follower. -ENOENT: there is no log of that boot.
 */
int log_follow_new(sd_event *event, const char *state_dir, const LogFollowOptions *options,
                   uint64_t pace_usec, void (*changed)(void *userdata), void *userdata,
                   LogFollow **ret_follow);
LogFollow *log_follow_free(LogFollow *follow);
DEFINE_CLEANUP(LogFollow *, log_follow_free)

/* Bytes read; 0: nothing now, -ENODATA: nothing ever, or another negative errno. */
ssize_t log_follow_read(LogFollow *follow, char *buffer, size_t size);

/* Behind what was read last. */
void log_follow_place(const LogFollow *follow, LogPlace *ret_place);

#endif
