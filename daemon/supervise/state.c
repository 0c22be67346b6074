/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/state.h"

typedef struct Row {
    bool accepted;
    MicrovmState next;
    unsigned actions;
} Row;

#define TO(state, actions)                                                                                   \
    {                                                                                                        \
        true, state, actions                                                                                 \
    }

/* A pair that is not here means nothing: the state stays. */
static const Row table[MICROVM_STATE_MAX][VM_EVENT_MAX] =
    {
        [MICROVM_INACTIVE] =
            {
                [VM_EVENT_START] = TO(MICROVM_WAITING, VM_ACTION_ADMIT),
                [VM_EVENT_ADOPTED] = TO(MICROVM_RUNNING, 0),
                [VM_EVENT_BROKEN] = TO(MICROVM_FAILED, 0),
            },
        [MICROVM_WAITING] =
            {
                [VM_EVENT_GO] = TO(MICROVM_PREPARING, VM_ACTION_PREPARE),
                [VM_EVENT_GIVE_UP] = TO(MICROVM_FAILED, 0),
                [VM_EVENT_STOP] = TO(MICROVM_INACTIVE, 0),
                [VM_EVENT_FORCE] = TO(MICROVM_INACTIVE, 0),
                [VM_EVENT_ADOPTED] = TO(MICROVM_RUNNING, 0),
            },
        [MICROVM_PREPARING] =
            {
                /* What it has made is undone first: the start may yet be called off. */
                [VM_EVENT_INTERRUPTED] = TO(MICROVM_WAITING, VM_ACTION_CLEAN | VM_ACTION_ADMIT),
                [VM_EVENT_PREPARED] = TO(MICROVM_STARTING, VM_ACTION_LAUNCH),
                [VM_EVENT_GIVE_UP] = TO(MICROVM_FAILED, VM_ACTION_CLEAN),
                /* The preparation runs in another thread and is let finish; what it made is then undone. */
                [VM_EVENT_STOP] = TO(MICROVM_STOPPING, 0),
                [VM_EVENT_FORCE] = TO(MICROVM_STOPPING, 0),
            },
        [MICROVM_STARTING] =
            {
                [VM_EVENT_LAUNCHED] = TO(MICROVM_RUNNING, 0),
                [VM_EVENT_PAUSED] = TO(MICROVM_PAUSED, 0),
                /* There is no guest yet that could be asked: as soon as the launch answers, it is ended. That
                   may take as long as a hypervisor may be silent, for which force does not wait. */
                [VM_EVENT_STOP] = TO(MICROVM_STOPPING, 0),
                [VM_EVENT_FORCE] = TO(MICROVM_STOPPING, VM_ACTION_FORCE),
                [VM_EVENT_ENDED_OFF] = TO(MICROVM_INACTIVE, VM_ACTION_CLEAN),
                [VM_EVENT_ENDED_FAILED] = TO(MICROVM_FAILED, VM_ACTION_CLEAN),
                [VM_EVENT_ENDED_RETRY] = TO(MICROVM_BACKOFF, VM_ACTION_CLEAN | VM_ACTION_DELAY),
                [VM_EVENT_ENDED_AGAIN] = TO(MICROVM_WAITING, VM_ACTION_CLEAN | VM_ACTION_ADMIT),
            },
        [MICROVM_RUNNING] =
            {
                [VM_EVENT_PAUSED] = TO(MICROVM_PAUSED, 0),
                [VM_EVENT_STOP] = TO(MICROVM_STOPPING, VM_ACTION_ASK),
                [VM_EVENT_FORCE] = TO(MICROVM_STOPPING, VM_ACTION_FORCE),
                [VM_EVENT_ENDED_OFF] = TO(MICROVM_INACTIVE, VM_ACTION_CLEAN),
                [VM_EVENT_ENDED_FAILED] = TO(MICROVM_FAILED, VM_ACTION_CLEAN),
                [VM_EVENT_ENDED_RETRY] = TO(MICROVM_BACKOFF, VM_ACTION_CLEAN | VM_ACTION_DELAY),
                [VM_EVENT_ENDED_AGAIN] = TO(MICROVM_WAITING, VM_ACTION_CLEAN | VM_ACTION_ADMIT),
            },
        [MICROVM_PAUSED] =
            {
                [VM_EVENT_RESUMED] = TO(MICROVM_RUNNING, 0),
                [VM_EVENT_STOP] = TO(MICROVM_STOPPING, VM_ACTION_RESUME | VM_ACTION_ASK),
                [VM_EVENT_FORCE] = TO(MICROVM_STOPPING, VM_ACTION_FORCE),
                [VM_EVENT_ENDED_OFF] = TO(MICROVM_INACTIVE, VM_ACTION_CLEAN),
                [VM_EVENT_ENDED_FAILED] = TO(MICROVM_FAILED, VM_ACTION_CLEAN),
                [VM_EVENT_ENDED_RETRY] = TO(MICROVM_BACKOFF, VM_ACTION_CLEAN | VM_ACTION_DELAY),
                [VM_EVENT_ENDED_AGAIN] = TO(MICROVM_WAITING, VM_ACTION_CLEAN | VM_ACTION_ADMIT),
            },
        [MICROVM_STOPPING] =
            {
                [VM_EVENT_LAUNCHED] = TO(MICROVM_STOPPING, VM_ACTION_FORCE),
                /* An earlier stop asked nicely; a second one only asks again by force. */
                [VM_EVENT_FORCE] = TO(MICROVM_STOPPING, VM_ACTION_FORCE),
                [VM_EVENT_ENDED_OFF] = TO(MICROVM_INACTIVE, VM_ACTION_CLEAN),
                [VM_EVENT_ENDED_FAILED] = TO(MICROVM_FAILED, VM_ACTION_CLEAN),
                /* It was stopped by microvmd itself, to be started again. */
                [VM_EVENT_ENDED_RETRY] = TO(MICROVM_BACKOFF, VM_ACTION_CLEAN | VM_ACTION_DELAY),
                [VM_EVENT_ENDED_AGAIN] = TO(MICROVM_WAITING, VM_ACTION_CLEAN | VM_ACTION_ADMIT),
            },
        [MICROVM_BACKOFF] =
            {
                [VM_EVENT_DUE] = TO(MICROVM_WAITING, VM_ACTION_ADMIT),
                [VM_EVENT_START] = TO(MICROVM_WAITING, VM_ACTION_ADMIT),
                [VM_EVENT_STOP] = TO(MICROVM_INACTIVE, 0),
                [VM_EVENT_FORCE] = TO(MICROVM_INACTIVE, 0),
                [VM_EVENT_RESET_FAILED] = TO(MICROVM_INACTIVE, 0),
                [VM_EVENT_ADOPTED] = TO(MICROVM_RUNNING, 0),
            },
        [MICROVM_FAILED] =
            {
                /* A stop leaves it failed, as systemd does: the reason stays to be read. */
                [VM_EVENT_BROKEN] = TO(MICROVM_FAILED, 0),
                [VM_EVENT_START] = TO(MICROVM_WAITING, VM_ACTION_ADMIT),
                [VM_EVENT_RESET_FAILED] = TO(MICROVM_INACTIVE, 0),
                [VM_EVENT_ADOPTED] = TO(MICROVM_RUNNING, 0),
            },
};

VmTransition vm_transition(MicrovmState state, VmEvent event)
{
    const Row *row = &table[state][event];

    if (!row->accepted)
        return (VmTransition){.next = state};
    return (VmTransition){.next = row->next, .actions = row->actions, .accepted = true};
}
