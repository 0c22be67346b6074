/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is known of a microVM's past, for those who ask why: who asked for what, how the last run ended, what
 * happened lately. A part of its record. It never holds a guest's own words: everyone may read it.
 */
#ifndef SUPERVISE_PAST_H
#define SUPERVISE_PAST_H

#include "driver/driver.h"
#include "microvm/names.h"
#include "microvm/states.h"

#include <cjson/cJSON.h>

/* Who calls, as far as the bus tells; text that is too long is cut. */
typedef struct Caller {
    bool known;
    bool apply;    /* through an apply, which goes on when its caller has left */
    bool handle;   /* through systemd, by a job of its handle; nobody is known then */
    bool shutdown; /* the host's, by MICROVM_SHUTDOWN_UNIT; likewise */
    uid_t uid;
    pid_t pid;        /* 0: not known */
    char process[32]; /* its name, proc(5), /proc/PID/comm; "": not known */
} Caller;

/* The last wish that it start or stop; the restart policy's own starts are none. */
typedef struct Asked {
    MicrovmAskedBy by; /* MICROVM_ASKED_BY_NOBODY: nothing was asked for in this boot */
    MicrovmJobVerb verb;
    uint64_t usec;                   /* since the epoch */
    Caller caller;                   /* of MICROVM_ASKED_BY_CALLER and _APPLY */
    char whom[MICROVM_NAME_MAX + 1]; /* of MICROVM_ASKED_BY_DEPENDENCY: the microVM that needs it */
} Asked;

/* How the last run ended. */
typedef struct LastEnd {
    uint64_t usec; /* since the epoch; 0: none has in this boot */
    uint64_t start_usec;
    MicrovmResult result;
    EndCause cause; /* END_MAX: it has not come to run */
    EndDetails details;
    uint64_t memory_peak; /* bytes that the hypervisor had at least; 0: not known */
    uint64_t crash_usec;  /* of its crash report; 0: there is none */
    char text[256];       /* one sentence */
} LastEnd;

enum {
    TRAIL_LENGTH = 24,
    TRAIL_TEXT_MAX = 160,
};

typedef struct TrailEntry {
    uint64_t usec; /* since the epoch */
    MicrovmEvent kind;
    char text[TRAIL_TEXT_MAX];
} TrailEntry;

/* The last things that happened, the oldest first; when it is full, each new one drops the oldest. */
typedef struct Trail {
    TrailEntry entries[TRAIL_LENGTH];
    unsigned first, count;
} Trail;

/* As much of it as fits, in whole characters. */
void past_copy_text(char *to, size_t size, const char *text);

/* Text that is too long is cut. */
void trail_add(Trail *trail, uint64_t usec, MicrovmEvent kind, const char *text);
/* The `i`th oldest of `count`. */
const TrailEntry *trail_get(const Trail *trail, unsigned i);

typedef struct VmPast {
    Asked asked;
    LastEnd end;
    Trail trail;
} VmPast;

/* "uid 1000 (microvmctl, pid 4242)" */
char *caller_describe(const Caller *caller);
/* "start asked for by uid 1000 (microvmctl, pid 4242)" in a sentence without its full stop. */
char *asked_describe(const Asked *asked);

/* As a member "past" of the record; false: out of memory. Reading takes what it knows and leaves the rest. */
bool past_write(cJSON *record, const VmPast *past);
void past_read(const cJSON *record, VmPast *ret_past);

#endif
