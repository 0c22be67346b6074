/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both launchers have in common: the hand-over, and what is undone when it fails. */
#include "launch/internal.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/say.h"
#include "launch/handover.h"

#include <limits.h>
#include <poll.h>
#include <systemd/sd-daemon.h>

enum {
    DECISION_STEP_MSEC = 10,
};

int launcher_choose(const char *kind, Launcher *ret_launcher)
{
    bool booted = sd_booted() > 0, root = geteuid() == 0;
    int r = streq(kind, "auto") ? (int)(booted && root ? LAUNCHER_SYSTEMD : LAUNCHER_FORK)
                                : launcher_from_string(kind);

    if (r < 0)
        return -EINVAL;
    if (r == LAUNCHER_SYSTEMD && !booted)
        return -ENOSYS;
    if (r == LAUNCHER_SYSTEMD && !root)
        return -EPERM;
    *ret_launcher = (Launcher)r;
    return 0;
}

static Launcher in_use = LAUNCHER_FORK;

void launcher_use(Launcher launcher)
{
    in_use = launcher;
}

Launcher launcher_in_use(void)
{
    return in_use;
}

static int say_missing(char **ret_text)
{
    return say_why(ret_text, -ELIBACC,
                   "microvmd-exec, a part of microvmd, is missing; install microvmd again");
}

/* Where it was installed to, or beside the daemon, in a build tree. $MICROVMD_LIBEXECDIR is for tests. */
int helper_find(char **ret_path, char **ret_text)
{
    const char *given = getenv("MICROVMD_LIBEXECDIR");
    char self[PATH_MAX / 2], path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (length < 0)
        return -errno;
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    if (given)
        snprintf(path, sizeof(path), "%s/microvmd-exec", given);
    else
        snprintf(path, sizeof(path), "%s/" MICROVMD_SBIN_TO_LIBEXEC "/microvmd-exec", self);
    if (!given && access(path, X_OK) < 0)
        snprintf(path, sizeof(path), "%s/microvmd-exec", self);
    if (access(path, X_OK) < 0)
        return say_missing(ret_text);
    *ret_path = strdup(path);
    return *ret_path ? 0 : -ENOMEM;
}

/* From the first word of microvmd-exec to the hypervisor. *ret_silent: there was no word. */
static int hand_over(const LaunchRequest *request, int stream, launch_prepared_fn prepared, void *userdata,
                     Launched *launched, int *ret_pidfd, bool *ret_silent)
{
    sd_id128_t invocation;
    int r;

    r = handover_hear(stream, &launched->id.pid, &invocation);
    *ret_silent = r < 0;
    if (r < 0)
        return r;
    fault_point("after the first word of microvmd-exec");
    /* A child inherits that of the daemon. */
    if (request->launcher == LAUNCHER_SYSTEMD)
        launched->invocation = invocation;
    r = process_hold(&launched->id, ret_pidfd);
    if (r >= 0)
        r = prepared(launched, userdata);
    fault_point("before the hand-over");
    if (r >= 0)
        r = handover_make(stream, request);
    return r;
}

void launch_undo(const LaunchRequest *request, const Launched *launched)
{
    if (request->launcher == LAUNCHER_SYSTEMD)
        unit_undo(request, NULL);
    else
        fork_undo(launched->id.pid);
}

/* By the file that it executes, which no program can choose: proc(5). True of one that is ending, too. */
static bool is_helper(pid_t pid)
{
    char path[32], file[PATH_MAX];
    const char *name;
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    length = readlink(path, file, sizeof(file) - 1);
    if (length < 0)
        return errno == ENOENT || errno == ESRCH; /* it executes nothing any more: wait for its end */
    file[length] = '\0';
    name = strrchr(file, '/');
    return name && (streq(name, "/microvmd-exec") || streq(name, "/microvmd-exec (deleted)")); /* upgraded */
}

int launch_decide(const ProcessId *id, int pidfd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    for (int msec = 0; is_helper(id->pid); msec += DECISION_STEP_MSEC) {
        if (msec >= HANDOVER_ANSWER_MSEC)
            process_kill(pidfd);
        if (msec >= HANDOVER_ANSWER_MSEC || poll(&ended, 1, DECISION_STEP_MSEC) > 0)
            return -ESRCH;
    }
    return poll(&ended, 1, 0) > 0 ? -ESRCH : 0;
}

int launch_process(const LaunchRequest *request, launch_prepared_fn prepared, void *userdata,
                   Launched *ret_launched, int *ret_pidfd, char **ret_text)
{
    _cleanup_close_ int ours = -EBADF, theirs = -EBADF, pidfd = -EBADF;
    Launched launched = {0};
    bool silent;
    int r;

    if (access(request->helper, X_OK) < 0) /* systemd would say "exit status 203" */
        return say_missing(ret_text);
    r = handover_open(&ours, &theirs);
    fault_point("before microvmd-exec is made");
    if (r >= 0)
        r = request->launcher == LAUNCHER_SYSTEMD ? unit_start(request, theirs, ret_text)
                                                  : fork_start(request, theirs, &launched.id.pid);
    if (r < 0)
        return r;
    theirs = safe_close(theirs);
    fault_point("after microvmd-exec is made");
    r = hand_over(request, ours, prepared, userdata, &launched, &pidfd, &silent);
    if (r >= 0) {
        *ret_launched = launched;
        *ret_pidfd = TAKE_FD(pidfd);
        return 0;
    }
    ours = safe_close(ours); /* whatever it still waits for, it does not come */
    if (request->launcher == LAUNCHER_SYSTEMD) {
        if (pidfd >= 0)
            process_kill(pidfd);
        unit_undo(request, silent ? ret_text : NULL);
        return r;
    }
    fork_undo(launched.id.pid);
    return silent ? say_why(ret_text, r, "microvmd-exec, which is to execute it, has ended") : r;
}
