/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads for what may block (file work, libvirt calls), so that the event loop never does. */
#ifndef BASE_WORKER_H
#define BASE_WORKER_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct Workers Workers;

/*
 * One piece of work. `run` is called in a worker thread and must touch nothing but its argument; `done` then
 * on the loop thread, and owns the argument. When the pool goes away first, `discard` frees it instead.
 */
typedef struct Work {
    void (*run)(void *argument);
    void (*done)(void *argument);
    void (*discard)(void *argument);
    void *argument;
} Work;

/* Makes a pool of up to `threads` threads named `name` (15 bytes at most); a thread starts when work needs
 * it. */
int workers_new(sd_event *event, const char *name, unsigned threads, Workers **ret_workers);
/*
 * Takes no more work, drops what has not begun and waits for what has, at most `grace_usec`. Threads that
 * hang in a call past that are left behind with their argument: the process is ending.
 */
Workers *workers_stop(Workers *workers, uint64_t grace_usec);

/* Queues a piece of work; first in, first out. On an error the argument stays the caller's. */
int workers_submit(Workers *workers, const Work *work);

#endif
