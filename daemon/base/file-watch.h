/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file that others write to, rename and replace, watched without a wake-up while nothing happens to it. */
#ifndef BASE_FILE_WATCH_H
#define BASE_FILE_WATCH_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct FileWatch FileWatch;

/*
 * Watches the file `name` in `directory`, which may come later. Nothing is told before it is armed. `changed`
 * is called `pace_usec` after the first change since then, once; it may free the watch.
 */
int file_watch_new(sd_event *event, const char *directory, const char *name, uint64_t pace_usec,
                   void (*changed)(void *userdata), void *userdata, FileWatch **ret_watch);
FileWatch *file_watch_free(FileWatch *watch);
DEFINE_CLEANUP(FileWatch *, file_watch_free)

/*
 * Keeps the loop's inotify descriptor open as long as *ret_hold is. sd-event closes it with the last watch,
 * and that waits until the kernel is sure that nobody looks at it any more: more than 10 ms in which the loop
 * stands still.
 */
int file_watch_hold(sd_event *event, sd_event_source **ret_hold);

/* Arms it, if it is not. What has changed before is not told: look at the file after this. */
int file_watch_arm(FileWatch *watch);

#endif
