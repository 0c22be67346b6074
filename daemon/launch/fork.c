/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where no systemd is asked: a child of our own, in a session of its own. */
#include "launch/launch.h"

#include "base/file.h"
#include "launch/handover.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
    STAT_MAX = 4096,
    ANSWER_MSEC = 10000, /* executing a program does not take that long, even from a slow disk */
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

int process_open(const ProcessId *id, int *ret_pidfd)
{
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, id->pid, 0);
    struct pollfd ended = {.events = POLLIN};
    uint64_t ticks;
    int r;

    if (pidfd < 0)
        return -errno;
    /* First the handle, then the look: the process that is looked at is the one that is held. */
    r = read_start(id->pid, &ticks);
    if (r < 0)
        return r;
    ended.fd = pidfd;
    if (ticks != id->start_ticks || poll(&ended, 1, 0) != 0)
        return -ESRCH;
    *ret_pidfd = TAKE_FD(pidfd);
    return 0;
}

/* Where it was installed to, or beside the daemon, in a build tree. $MICROVMD_LIBEXECDIR is for tests. */
static int find_helper(char ret_path[static PATH_MAX])
{
    const char *given = getenv("MICROVMD_LIBEXECDIR");
    char self[PATH_MAX / 2];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (length < 0)
        return -errno;
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    if (given)
        snprintf(ret_path, PATH_MAX, "%s/microvmd-exec", given);
    else
        snprintf(ret_path, PATH_MAX, "%s/" MICROVMD_SBIN_TO_LIBEXEC "/microvmd-exec", self);
    if (!given && access(ret_path, X_OK) < 0)
        snprintf(ret_path, PATH_MAX, "%s/microvmd-exec", self);
    return access(ret_path, X_OK) < 0 ? -ELIBACC : 0;
}

static int spawn_helper(int stream, int output, pid_t *ret_pid)
{
    char helper[PATH_MAX], *argv[] = {(char *)"microvmd-exec", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int r;

    r = find_helper(helper);
    if (r < 0)
        return r;
    r = posix_spawn_file_actions_init(&actions);
    if (r != 0)
        return -r;
    r = posix_spawnattr_init(&attributes);
    if (r == 0) {
        r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        r = r ? r : posix_spawn_file_actions_adddup2(&actions, stream, STDIN_FILENO);
        r = r ? r : posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
        r = r ? r : posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
        r = r ? r : posix_spawn(ret_pid, helper, &actions, &attributes, argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

static int write_all(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = send(fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int send_fds(int stream, const int *fds, size_t n)
{
    union {
        char bytes[CMSG_SPACE(HANDOVER_FDS_AT_ONCE * sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec vector = {(char *)"", 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(head), fds, n * sizeof(int));
    return sendmsg(stream, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int hand_over(int stream, const LaunchRequest *request)
{
    HandoverHeader header = {.n_fds = (uint32_t)request->n_fds,
                             .uid = request->uid,
                             .gid = request->gid,
                             .extra_gid = request->extra_gid};
    int r;

    for (size_t i = 0; request->argv[i]; i++)
        header.arguments_size += (uint32_t)strlen(request->argv[i]) + 1;
    if (header.arguments_size > HANDOVER_ARGUMENTS_MAX || header.n_fds > HANDOVER_FDS_MAX)
        return -E2BIG;
    r = write_all(stream, &header, sizeof(header));
    for (size_t i = 0; i < request->n_fds && r >= 0; i += HANDOVER_FDS_AT_ONCE)
        r = send_fds(stream, request->fds + i, MIN((size_t)HANDOVER_FDS_AT_ONCE, request->n_fds - i));
    for (size_t i = 0; request->argv[i] && r >= 0; i++)
        r = write_all(stream, request->argv[i], strlen(request->argv[i]) + 1);
    return r;
}

/* The end of the stream is success; what comes before it is the error. */
static int read_answer(int stream)
{
    struct pollfd wait = {.fd = stream, .events = POLLIN};
    int32_t error;
    ssize_t n;

    if (poll(&wait, 1, ANSWER_MSEC) <= 0)
        return -ETIMEDOUT;
    n = recv(stream, &error, sizeof(error), 0);
    if (n == 0)
        return 0;
    return n == sizeof(error) && error > 0 ? -error : n < 0 ? -errno : -EBADMSG;
}

int launch_fork(const LaunchRequest *request, int (*prepared)(const ProcessId *id, void *userdata),
                void *userdata, ProcessId *ret_id, int *ret_pidfd)
{
    _cleanup_close_ int ours = -EBADF, theirs = -EBADF, pidfd = -EBADF;
    ProcessId id = {0};
    int pair[2], r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    ours = pair[0];
    theirs = pair[1];
    r = spawn_helper(theirs, request->output, &id.pid);
    if (r < 0)
        return r;
    theirs = safe_close(theirs);
    pidfd = (int)syscall(SYS_pidfd_open, id.pid, 0);
    r = pidfd < 0 ? -errno : read_start(id.pid, &id.start_ticks);
    if (r >= 0)
        r = prepared(&id, userdata);
    if (r >= 0)
        r = hand_over(ours, request);
    if (r >= 0 || r == -EPIPE || r == -ECONNRESET) {
        int answer = read_answer(ours);
        r = answer < 0 ? answer : r;
    }
    if (r < 0) {
        ours = safe_close(ours); /* whatever it still waits for, it does not come */
        if (pidfd >= 0)
            (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        (void)waitpid(id.pid, NULL, 0);
        return r;
    }
    *ret_id = id;
    *ret_pidfd = TAKE_FD(pidfd);
    return 0;
}
