/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a run ended: what the driver saw, what the console said, and what was asked for. Pure. */
#ifndef SUPERVISE_ENDING_H
#define SUPERVISE_ENDING_H

#include "driver/driver.h"
#include "microvm/states.h"

/* What the last lines of a guest's console give away. */
typedef enum ConsoleEvidence {
    EVIDENCE_NONE,
    EVIDENCE_PANIC,
    EVIDENCE_POWEROFF,
    EVIDENCE_REBOOT,
} ConsoleEvidence;

/*
 * Finds the latest of the kernel's words (kernel/panic.c, kernel/reboot.c of Linux) in `text`, which may hold
 * anything. For a panic *ret_detail gets its message, printable characters only, the caller's; else NULL.
 */
ConsoleEvidence console_evidence(const char *text, size_t size, char **ret_detail);

typedef enum EndingKind {
    ENDING_STOPPED,  /* we were asked to stop it */
    ENDING_MANUAL,   /* somebody else stopped it on purpose */
    ENDING_POWEROFF, /* the guest's own */
    ENDING_REBOOT,   /* the guest's own */
    ENDING_FAILURE,
} EndingKind;

#define STOP_ASKED_LIST(X)                                                                                   \
    X(STOP_NOT_ASKED, "no")                                                                                  \
    X(STOP_ASKED, "graceful")                                                                                \
    X(STOP_ASKED_FORCE, "force")     /* from the start */                                                    \
    X(STOP_ASKED_TIMEOUT, "timeout") /* gracefully, then by force */
MICROVM_STRING_TABLE(StopAsked, stop_asked, STOP_ASKED, STOP_ASKED_LIST)

typedef struct EndingFacts {
    EndCause cause;
    const char *driver_text; /* how it ended, or NULL: libvirt says no more than the cause */
    StopAsked asked;
    ConsoleEvidence evidence;
    const char *climbed; /* what a stop took: stop_ladder_tell_end(); or NULL */
} EndingFacts;

typedef struct Ending {
    EndingKind kind;
    MicrovmResult result;
    MicrovmLastStop last_stop;
    char *text; /* one sentence without its full stop; NULL: out of memory */
} Ending;

Ending ending_classify(const EndingFacts *facts);

#endif
