/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a handle, microvmd@NAME.service, is to do, and what it is told. Pure. */
#ifndef BUS_HANDLE_WORDS_H
#define BUS_HANDLE_WORDS_H

#include "base/macro.h"
#include "microvm/states.h"

/* What a microVM's state means to its handle. */
typedef enum HandlePhase {
    HANDLE_OFF,
    HANDLE_FAILED,
    HANDLE_COMING, /* it is to run, and does not yet, or not now */
    HANDLE_UP,
    HANDLE_STOPPING,
} HandlePhase;

/* `again`: it starts again when it has stopped. */
HandlePhase handle_phase(MicrovmState state, MicrovmReadiness readiness, bool again);

/* The handle is to be active. */
static inline bool handle_is_wanted(HandlePhase phase)
{
    return phase == HANDLE_COMING || phase == HANDLE_UP;
}

/* One microVM's handle, as far as microvmd knows. */
typedef struct HandleLook {
    bool told;      /* systemd was told, or has told us, that it is to be active */
    bool due;       /* it is to be told in a moment */
    bool starts;    /* a start of it that we have asked for is under way */
    bool connected; /* its process is */
    bool ready;     /* and has told systemd so */
} HandleLook;

typedef enum HandleOrder {
    HANDLE_NO_ORDER,
    HANDLE_ORDER_LATER, /* a start, in a moment */
    HANDLE_ORDER_START,
    HANDLE_ORDER_STOP,
} HandleOrder;

/*
 * What systemd is to be told. `now`: a start is told at once, otherwise when the hypervisor no longer needs
 * systemd for its own start.
 */
HandleOrder handle_order(HandlePhase phase, const HandleLook *look, bool now);

/* One handle's process, from one connection to its end. */
typedef struct HandleTalk {
    bool ready, reloading; /* as systemd was told */
    bool told_ready;       /* on this connection */
    bool leaving;          /* its end was asked for: it goes as soon as the run is over */
    bool asked;            /* systemd has told the process so, by SIGTERM */
} HandleTalk;

typedef struct HandleWords {
    const char *notify; /* NULL: nothing but the status */
    int code;           /* it is to exit with; -1: it stays */
} HandleWords;

/* What it is told now; `talk` is brought up to that. */
HandleWords handle_words(HandlePhase phase, HandleTalk *talk);

#endif
