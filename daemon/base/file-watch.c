/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/file-watch.h"

#include <sys/inotify.h>

#define ACCURACY_USEC UINT64_C(1000)

struct FileWatch {
    sd_event *event;
    char *directory, *path;
    uint64_t pace_usec;
    void (*changed)(void *userdata);
    void *userdata;
    sd_event_source *content, *names; /* NULL: not armed, or there is no such file yet */
    sd_event_source *pause;           /* after a change */
};

FileWatch *file_watch_free(FileWatch *watch)
{
    if (!watch)
        return NULL;
    sd_event_source_disable_unref(watch->content);
    sd_event_source_disable_unref(watch->names);
    sd_event_source_disable_unref(watch->pause);
    sd_event_unref(watch->event);
    free(watch->directory);
    free(watch->path);
    free(watch);
    return NULL;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
    FileWatch *watch = userdata;

    watch->pause = sd_event_source_disable_unref(watch->pause);
    watch->changed(watch->userdata);
    return 0;
}

/* What is written to at each byte would wake us at each byte: nothing is heard of it until the pause is over.
 */
static int on_change(sd_event_source *source, const struct inotify_event *change, void *userdata)
{
    FileWatch *watch = userdata;

    watch->content = sd_event_source_disable_unref(watch->content);
    watch->names = sd_event_source_disable_unref(watch->names);
    return sd_event_add_time_relative(watch->event, &watch->pause, CLOCK_MONOTONIC, watch->pace_usec,
                                      ACCURACY_USEC, on_pause_over, watch);
}

int file_watch_arm(FileWatch *watch)
{
    int r = 0;

    if (watch->pause || watch->names)
        return 0;
    r = sd_event_add_inotify(watch->event, &watch->names, watch->directory,
                             IN_CREATE | IN_MOVED_TO | IN_ONLYDIR, on_change, watch);
    if (r >= 0)
        r = sd_event_add_inotify(watch->event, &watch->content, watch->path, IN_MODIFY | IN_DONT_FOLLOW,
                                 on_change, watch);
    return r == -ENOENT && watch->names ? 0 : r;
}

int file_watch_new(sd_event *event, const char *directory, const char *name, uint64_t pace_usec,
                   void (*changed)(void *userdata), void *userdata, FileWatch **ret_watch)
{
    _cleanup_(file_watch_freep)
    FileWatch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return -ENOMEM;
    watch->event = sd_event_ref(event);
    watch->pace_usec = pace_usec;
    watch->changed = changed;
    watch->userdata = userdata;
    watch->directory = strdup(directory);
    if (asprintf(&watch->path, "%s/%s", directory, name) < 0)
        watch->path = NULL;
    if (!watch->directory || !watch->path)
        return -ENOMEM;
    *ret_watch = TAKE_PTR(watch);
    return 0;
}

static int on_held(sd_event_source *source, const struct inotify_event *change, void *userdata)
{
    return 0;
}

int file_watch_hold(sd_event *event, sd_event_source **ret_hold)
{
    /* A watch of the loop's own, of what does not happen. */
    return sd_event_add_inotify(event, ret_hold, "/", IN_MOVE_SELF | IN_ONLYDIR, on_held, NULL);
}
