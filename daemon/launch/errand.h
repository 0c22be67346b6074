/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A program that is run for a microVM, as the user of its hypervisor, and is waited for. Never blocks. */
#ifndef LAUNCH_ERRAND_H
#define LAUNCH_ERRAND_H

#include "base/worker.h"

#include <sys/types.h>
#include <systemd/sd-id128.h>

typedef struct Errand Errand;

/* Copied, but for event and workers. */
typedef struct ErrandRequest {
    sd_event *event;
    Workers *workers;
    const char *name; /* of the microVM */
    const char
        *runtime_dir; /* of the microVM; with the generation it marks the process: see launch/marked.h */
    sd_id128_t generation;
    pid_t pid;           /* of its hypervisor; 0: none */
    char *const *argv;   /* argv[0] is absolute. It has $MICROVM_NAME and $MICROVM_PID */
    const char *output;  /* file for its standard output and error, made if missing */
    bool output_anew;    /* what was in it goes first; else it is appended to */
    const char *uid_dir; /* whom it runs as, if we are root: see launch/uid.h */
    uid_t first_uid;
    uint64_t timeout_usec; /* then it is killed, with its session */
} ErrandRequest;

/* error: 0, -EPROTO (it did not end with 0, or in time) or another negative errno, with one sentence. */
typedef void (*errand_done_fn)(int error, const char *text, void *userdata);

/* `done` is called once, never from within, unless errand_forget() comes first; then the errand is gone. */
int errand_run(const ErrandRequest *request, errand_done_fn done, void *userdata, Errand **ret_errand);
/* Kills it; nobody is told any more. Accepts NULL. */
void errand_forget(Errand *errand);

/*
 * Kills errands that a daemon which was killed has left behind, with the processes that they have started.
 * `directory` is as for marked_each(). Before the first errand of this daemon. Blocks.
 */
void errand_sweep(const char *directory);

#endif
