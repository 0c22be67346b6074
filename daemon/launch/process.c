/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "launch/launch.h"

#include "base/file.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

enum {
    STAT_MAX = 4096,
};

static int read_start(pid_t pid, uint64_t *ret_ticks)
{
    _cleanup_free_ char *text = NULL;
    char path[64], *at;
    size_t size;
    int r;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    r = read_file(path, STAT_MAX, &text, &size);
    if (r < 0)
        return r == -ENOENT ? -ESRCH : r;
    at = strrchr(text, ')'); /* the name before it may hold anything */
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    if (!at)
        return -EBADMSG;
    *ret_ticks = strtoull(at, NULL, 10);
    return 0;
}

int process_hold(ProcessId *id, int *ret_pidfd)
{
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, id->pid, 0);
    int r;

    if (pidfd < 0)
        return -errno;
    r = read_start(id->pid, &id->start_ticks);
    if (r < 0)
        return r;
    *ret_pidfd = TAKE_FD(pidfd);
    return 0;
}

int process_open(const ProcessId *id, int *ret_pidfd)
{
    _cleanup_close_ int pidfd = -EBADF;
    struct pollfd ended = {.events = POLLIN};
    ProcessId there = {.pid = id->pid};
    int r;

    /* First the handle, then the look: the process that is looked at is the one that is held. */
    r = process_hold(&there, &pidfd);
    if (r < 0)
        return r;
    ended.fd = pidfd;
    if (there.start_ticks != id->start_ticks || poll(&ended, 1, 0) != 0)
        return -ESRCH;
    *ret_pidfd = TAKE_FD(pidfd);
    return 0;
}

void process_kill(int pidfd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) >= 0)
        (void)poll(&ended, 1, PROCESS_KILL_MSEC);
}
