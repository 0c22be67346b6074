/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a microVM as a pure table: state × event → next state and what is to be done. */
#ifndef SUPERVISE_STATE_H
#define SUPERVISE_STATE_H

#include "base/macro.h"
#include "microvm/states.h"

#define VM_EVENT_LIST(X)                                                                                     \
    X(VM_EVENT_START, "start")     /* a start is wanted */                                                   \
    X(VM_EVENT_GO, "go")           /* nothing holds the start any more */                                    \
    X(VM_EVENT_GIVE_UP, "give-up") /* the start can't be: driver, preparation, configuration */              \
    X(VM_EVENT_PREPARED, "prepared")                                                                         \
    X(VM_EVENT_LAUNCHED, "launched") /* the hypervisor runs the guest */                                     \
    X(VM_EVENT_PAUSED, "paused")                                                                             \
    X(VM_EVENT_RESUMED, "resumed")                                                                           \
    X(VM_EVENT_STOP, "stop")                 /* asked for: gracefully */                                     \
    X(VM_EVENT_FORCE, "force")               /* asked for, or the graceful stop took too long: now */        \
    X(VM_EVENT_ENDED_OFF, "ended-off")       /* the run is over, and that is that */                         \
    X(VM_EVENT_ENDED_FAILED, "ended-failed") /* the run is over, and we give up */                           \
    X(VM_EVENT_ENDED_RETRY, "ended-retry")   /* the run is over, a restart is due later */                   \
    X(VM_EVENT_ENDED_AGAIN, "ended-again")   /* the run is over, the next one starts at once */              \
    X(VM_EVENT_DUE, "due")                   /* the restart delay is over */                                 \
    X(VM_EVENT_RESET_FAILED, "reset-failed")                                                                 \
    X(VM_EVENT_INTERRUPTED, "interrupted") /* the daemon was restarted during the preparation */             \
    X(VM_EVENT_ADOPTED, "adopted")         /* a run was found that nothing was known of */                   \
    X(VM_EVENT_BROKEN, "broken")           /* its definition can't be used */
MICROVM_STRING_TABLE(VmEvent, vm_event, VM_EVENT, VM_EVENT_LIST)

/* What a transition asks the supervisor to do, in this order. */
typedef enum VmAction {
    VM_ACTION_ADMIT = 1 << 0,   /* ask whether the start may go on; VM_EVENT_GO when it may */
    VM_ACTION_PREPARE = 1 << 1, /* run the plan */
    VM_ACTION_LAUNCH = 1 << 2,
    VM_ACTION_RESUME = 1 << 3, /* a paused guest can't react to a stop */
    VM_ACTION_ASK = 1 << 4,    /* ask the guest to shut down, and time it */
    VM_ACTION_FORCE = 1 << 5,  /* end the hypervisor */
    VM_ACTION_DELAY = 1 << 6,  /* arm the restart timer */
    VM_ACTION_CLEAN = 1 << 7,  /* undo what the run had prepared */
} VmAction;

typedef struct VmTransition {
    MicrovmState next;
    unsigned actions;
    bool accepted; /* false: the event means nothing in this state, which stays */
} VmTransition;

VmTransition vm_transition(MicrovmState state, VmEvent event);

/* Sets of states. */
static inline bool state_is_alive(MicrovmState state) /* a hypervisor may exist */
{
    return state == MICROVM_STARTING || state == MICROVM_RUNNING || state == MICROVM_PAUSED ||
           state == MICROVM_STOPPING;
}

static inline bool state_is_coming(MicrovmState state) /* on the way to running */
{
    return state == MICROVM_WAITING || state == MICROVM_PREPARING || state == MICROVM_STARTING;
}

static inline bool state_is_up(MicrovmState state)
{
    return state == MICROVM_RUNNING || state == MICROVM_PAUSED;
}

#endif
