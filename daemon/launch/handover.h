/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What microvmd and microvmd-exec say to each other, on a UNIX stream socket that is the latter's standard
 * input. Both are of one build; there is no other version to talk to.
 *
 *   microvmd-exec  HandoverHello; the socket tells who says it (SO_PASSCRED, see unix(7))
 *   microvmd       HandoverHeader, with which comes the writing end of a pipe (SCM_RIGHTS); then bytes that
 *                  carry the descriptors, HANDOVER_FDS_AT_ONCE with each; then the arguments, then what is
 *                  added to the environment, each with its NUL
 *   microvmd-exec  in the pipe: nothing, and its end: it has become the hypervisor; or an errno as int32_t
 *
 * The socket itself does not end then: systemd keeps what it gave a unit as standard input.
 */
#ifndef LAUNCH_HANDOVER_H
#define LAUNCH_HANDOVER_H

#include <stdint.h>

enum {
    HANDOVER_FDS_AT_ONCE = 250, /* SCM_MAX_FD is 253 */
    HANDOVER_FDS_MAX = 4096,
    HANDOVER_ARGUMENTS_MAX = 2 * 1024 * 1024, /* what Linux takes for one process, about */
    HANDOVER_FIRST_FD = 3,                    /* the descriptors are numbered from here on */
    HANDOVER_ANSWER_MSEC = 10000, /* executing a program does not take that long, even from a slow disk */
    HANDOVER_NOTHING_RUN = 199, /* exit status of a microvmd-exec that has not become a hypervisor: none that
                                   the LSB, systemd.exec(5) or a shell has a meaning for */
};

typedef struct HandoverHello {
    char invocation[33]; /* $INVOCATION_ID, systemd.exec(5); "": none */
} HandoverHello;

typedef struct HandoverHeader {
    uint32_t n_fds;
    uint32_t uid, gid;  /* whom to become */
    uint32_t extra_gid; /* one supplementary group; `gid`: none */
    uint32_t arguments_size;
    uint32_t environment_size; /* of what is added to its environment */
} HandoverHeader;

#endif
