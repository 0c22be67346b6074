/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starting hypervisor processes, which outlive the daemon. All of it blocks: for workers. */
#ifndef LAUNCH_LAUNCH_H
#define LAUNCH_LAUNCH_H

#include "base/macro.h"
#include "launch/unit-settings.h"
#include "microvm/states.h"

#include <limits.h>
#include <sys/types.h>
#include <systemd/sd-id128.h>

/* Who starts them. */
#define LAUNCHER_LIST(X)                                                                                     \
    X(LAUNCHER_FORK, "fork")       /* microvmd: its children, in its control group */                        \
    X(LAUNCHER_SYSTEMD, "systemd") /* systemd, as a transient service each: see launch/unit.h */
MICROVM_STRING_TABLE(Launcher, launcher, LAUNCHER, LAUNCHER_LIST)

/*
 * What --launcher means on this host: "auto" is systemd where it runs and we are root. -EINVAL: no such word;
 * for "systemd" -ENOSYS: it does not run here, -EPERM: it takes orders from root only.
 */
int launcher_choose(const char *kind, Launcher *ret_launcher);
/* That of this process: what a driver can do depends on it. Set once, before anything else; else "fork". */
void launcher_use(Launcher launcher);
Launcher launcher_in_use(void);

/* Where microvmd-exec is; the path is the caller's. -ELIBACC: nowhere, as *ret_text says, the caller's. */
int helper_find(char **ret_path, char **ret_text);

/* Which process it is: numbers are used again, so its start time belongs to it. */
typedef struct ProcessId {
    pid_t pid;
    uint64_t start_ticks; /* since the host booted: field 22 of /proc/PID/stat, proc(5) */
} ProcessId;

/* Opens a pidfd of the process that has the number now, and tells its start time. -ESRCH: there is none. */
int process_hold(ProcessId *id, int *ret_pidfd);
/* Opens a pidfd of the very process. -ESRCH: it has ended. */
int process_open(const ProcessId *id, int *ret_pidfd);

enum {
    PROCESS_KILL_MSEC = 5000,
};

/* SIGKILL; waits for the end, but not longer than PROCESS_KILL_MSEC (it hangs in the kernel, on a dead disk).
 * A child is to be waited for yet. */
void process_kill(int pidfd);

/* How a process ended, as far as can be known. */
typedef struct ProcessEnd {
    int code;             /* as in siginfo_t: CLD_EXITED, CLD_KILLED, CLD_DUMPED; 0: not known */
    int status;           /* exit status or signal */
    bool stopped;         /* because somebody stopped its unit */
    bool oom;             /* the kernel ended it, for want of memory */
    uint64_t memory_peak; /* bytes that it had at most; 0: not known */
    char unit_result[24]; /* of its unit, systemd.service(5), $SERVICE_RESULT; "": it had none */
} ProcessEnd;

typedef struct LaunchRequest {
    Launcher launcher;
    const char *helper; /* microvmd-exec: see helper_find() */
    const char *name;   /* of the microVM, after which its unit is called */
    sd_id128_t generation;
    uint64_t stop_usec;       /* systemd: how long it has to end after SIGTERM, when its unit is stopped */
    char *const *argv;        /* argv[0] is the program, absolute */
    char *const *environment; /* "NAME=value", added to what it has; NULL: nothing */
    const int *fds;           /* become 3, 4, … of the process */
    size_t n_fds;
    int output; /* its standard output and error */
    uid_t uid;  /* whom it runs as, if we are root; 0: as we do */
    gid_t gid, extra_gid;
    const UnitSettings *settings; /* systemd: further properties of the unit; NULL: none */
} LaunchRequest;

typedef struct Launched {
    ProcessId id;
    sd_id128_t invocation; /* of its unit, systemd.exec(5), $INVOCATION_ID; null: it has none */
} Launched;

typedef int (*launch_prepared_fn)(const Launched *launched, void *userdata);

/*
 * Starts the process. `prepared` is called between its creation and its first step as a hypervisor, to put it
 * on record; when it fails, or the daemon dies there, nothing has been run. After an error nothing is left.
 * Errors: -ELIBACC (microvmd-exec, which does it, is not there), -EBUSY (there is a unit of
 * that name), -ENOENT, -EACCES, -ENOEXEC and others of execve(2) for the program; those of `prepared`. Where
 * these do not tell it, *ret_text gets one sentence, the caller's.
 */
int launch_process(const LaunchRequest *request, launch_prepared_fn prepared, void *userdata,
                   Launched *ret_launched, int *ret_pidfd, char **ret_text);
/*
 * Of a process that an earlier daemon has put on record: while it still is microvmd-exec, that died in the
 * middle of the hand-over. Waits until it has become the hypervisor, or has ended, -ESRCH, and ends it if it
 * does neither.
 */
int launch_decide(const ProcessId *id, int pidfd);
/* Takes away what was launched, and has ended. */
void launch_undo(const LaunchRequest *request, const Launched *launched);

#endif
