/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starting hypervisor processes, which outlive the daemon. */
#ifndef LAUNCH_LAUNCH_H
#define LAUNCH_LAUNCH_H

#include "base/macro.h"

#include <sys/types.h>

/* Which process it is: numbers are used again, so its start time belongs to it. */
typedef struct ProcessId {
    pid_t pid;
    uint64_t start_ticks; /* since the host booted: field 22 of /proc/PID/stat, proc(5) */
} ProcessId;

/* Opens a pidfd of the very process. -ESRCH: it has ended. */
int process_open(const ProcessId *id, int *ret_pidfd);

typedef struct LaunchRequest {
    char *const *argv; /* argv[0] is the program, absolute */
    const int *fds;    /* become 3, 4, … of the process */
    size_t n_fds;
    int output; /* its standard output and error */
    uid_t uid;  /* whom it runs as, if we are root; 0: as we do */
    gid_t gid, extra_gid;
} LaunchRequest;

/*
 * Starts the process. `prepared` is called between its creation and its first step as a hypervisor, to put it
 * on record; when it fails, or the daemon dies there, nothing has been run. Blocks for some milliseconds: for
 * workers. Errors: -ELIBACC (microvmd-exec, which does it, is not where it was installed),
 * -ENOENT, -EACCES, -ENOEXEC and others of execve(2) for the program; those of `prepared`.
 */
int launch_fork(const LaunchRequest *request, int (*prepared)(const ProcessId *id, void *userdata),
                void *userdata, ProcessId *ret_id, int *ret_pidfd);

#endif
