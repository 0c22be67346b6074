/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When the guest of a run is ready, as pure functions: hypervisor up, then its kernel, then its own word or
 * what a probe finds. No clock, no socket.
 */
#ifndef SUPERVISE_READINESS_H
#define SUPERVISE_READINESS_H

#include "microvm/states.h"
#include "spec/spec.h"

/* What its definition says under "readiness". */
typedef struct ReadinessRules {
    ReadinessType type;
    uint64_t timeout_usec;
    OnTimeout on_timeout;
} ReadinessRules;

ReadinessRules readiness_rules(const VmSpec *spec);

/* A moment: CLOCK_BOOTTIME, and since the epoch, in µs. */
typedef struct Instant {
    uint64_t boot_usec, real_usec;
} Instant;

/* Of a run, kept over restarts of the daemon. All zeros: nothing is told of it. 0: not (yet). */
typedef struct Readiness {
    MicrovmReadiness state;
    uint64_t begun_boot_usec;    /* when the guest began to run */
    uint64_t deadline_boot_usec; /* it is late from then on; 0: it is late already, or never will be */
    uint64_t paused_boot_usec;   /* since when it is paused: that time does not count */
    Instant kernel, ready;       /* its kernel spoke; it became ready, last */
    char *text;                  /* how it became ready, or why it is not any more; NULL: neither */
} Readiness;

typedef enum ReadinessEvent {
    READINESS_KERNEL_UP,
    READINESS_SPOKE, /* the guest can tell: it said something else than that it is ready */
    READINESS_IS_READY,
    READINESS_IS_NOT, /* any more */
    READINESS_DEADLINE,
    READINESS_PAUSED,
    READINESS_RESUMED,
} ReadinessEvent;

/* What follows. */
typedef enum ReadinessVerdict {
    READINESS_SAME,    /* the event meant nothing */
    READINESS_CHANGED, /* what is shown has */
    READINESS_LATE,    /* has, too: it is not ready in time, and goes on */
    READINESS_RESTART, /* the same, but its definition wants it restarted, by its restart policy */
    READINESS_FAIL,    /* ... ended for good */
} ReadinessVerdict;

void readiness_clear(Readiness *readiness);

/* The guest begins to run. */
void readiness_begin(Readiness *readiness, const ReadinessRules *rules, uint64_t now_boot_usec);

/* `text` (copied; may be NULL) says how or why: of IS_READY and IS_NOT. */
ReadinessVerdict readiness_take(Readiness *readiness, const ReadinessRules *rules, ReadinessEvent event,
                                const char *text, Instant now);

/* When readiness_take() is to be told READINESS_DEADLINE; 0: not now. */
uint64_t readiness_due(const Readiness *readiness);

/* Whether it may yet become ready, and it is worth while to look now. */
bool readiness_is_open(const Readiness *readiness);

/*
 * One sentence, without its full stop: what is waited for and how far it is. `detail` is what the last try
 * came to, or NULL. Empty: nothing is claimed. The caller's; NULL: out of memory.
 */
char *readiness_say(const Readiness *readiness, const VmSpec *spec, const char *detail);

#endif
