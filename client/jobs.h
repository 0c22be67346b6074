/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that give jobs, and waiting for these. */
#ifndef CLIENT_JOBS_H
#define CLIENT_JOBS_H

#include "bus.h"

/* One microVM whose job is asked for. */
typedef struct Job {
    struct Jobs *jobs;
    const VmRow *row;
    sd_bus_slot *call; /* until it is answered */
    uint64_t id;       /* 0: not accepted */
    uint64_t early_id; /* of a job of that microVM that ended before we were answered */
    bool over;
    int code; /* exit code, when it is over */
    char *result, *reason;
} Job;

typedef struct Jobs {
    Ctl *ctl;
    const char *member; /* Start, Stop, Restart */
    bool wait;
    Job *items;
    size_t count, open;       /* open: those that are not over */
    size_t asked, unanswered; /* how many of them were asked for, from the first on */
    bool daemon_gone;
    uint64_t since_usec; /* when the wait for them began */
    sd_bus_slot *look;   /* at `looked`, while it is under way */
    const Job *looked;
    char *waits;    /* why that one waits before it begins; NULL: it does not */
    VmRows rows;    /* of jobs_run_call() */
    char *required; /* why it was refused: others that run require one of them; NULL: it was not */
} Jobs;

/* Runs `member` for all rows, and tells what failed; an exit code. `ret_jobs` is the caller's to clear,
 * always. */
int jobs_run(Ctl *ctl, const char *member, const VmRows *rows, Jobs *ret_jobs);
/*
 * The same for one call of the manager, which answers with jobs of its choice, a(sosts). `member` is what
 * they do: Start or Stop.
 */
int jobs_run_call(Ctl *ctl, const char *member, sd_bus_message *call, Jobs *ret_jobs);
void jobs_clear(Jobs *jobs);

/*
 * stop.c: stops them, in order, as the options of the command line say. Where others that run require one of
 * them, a person at a terminal is asked whether these are to be stopped, too.
 */
int jobs_stop(Ctl *ctl, const VmRows *rows, Jobs *ret_jobs);
/* The options that the verb was given, a{sv}. */
int jobs_append_options(const Ctl *ctl, sd_bus_message *call);

#endif
