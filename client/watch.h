/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens to microVMs, as the daemon tells it: first what there is, then each change, in order; over
 * restarts of the daemon. Between two signals that it sends, it may have done more than one thing.
 */
#ifndef CLIENT_WATCH_H
#define CLIENT_WATCH_H

#include "bus.h"

/* As it was told last. */
typedef struct Watched {
    char *path;
    cJSON *properties;
    bool listed; /* since the daemon is there */
} Watched;

typedef struct WatchHandlers {
    /* `before` NULL: it is new; `now` NULL: it is gone; else both are all its properties. `first`: it was
     * there. */
    void (*changed)(const char *name, const cJSON *before, const cJSON *now, bool first, void *userdata);
    /* A job is over; may be NULL. */
    void (*job)(uint64_t id, const char *name, const char *verb, const char *result, const char *reason,
                void *userdata);
    /* All that there is has been told (true), or the daemon has ended (false). */
    void (*daemon)(bool there, void *userdata);
    void *userdata;
} WatchHandlers;

typedef struct Watch {
    Ctl *ctl;
    WatchHandlers handlers;
    Watched *items;
    size_t count;
    bool told;  /* what there is, since the daemon is there */
    bool begun; /* that was so once */
    int failed; /* an exit code, when it can't go on */
    sd_bus_slot *listing;
} Watch;

/* Connects and listens; `watch` stays where it is until watch_clear(). An exit code. */
int watch_begin(Ctl *ctl, const WatchHandlers *handlers, Watch *watch);
/* Takes what there is, and if that is nothing waits for some, until CLOCK_MONOTONIC `deadline` (UINT64_MAX:
 * none). An exit code. */
int watch_step(Watch *watch, uint64_t deadline_usec);
void watch_clear(Watch *watch);

/* What is known of it last; NULL: nothing. */
const cJSON *watch_find(const Watch *watch, const char *name);

#endif
