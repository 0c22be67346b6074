/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon's side of the hand-over: see launch/handover.h. */
#include "launch/handover.h"

#include "launch/internal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

enum {
    HELLO_MSEC = 60000, /* systemd may have much to do before it comes to our unit */
};

int handover_open(int *ret_ours, int *ret_theirs)
{
    int pair[2], yes = 1;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    *ret_ours = pair[0];
    *ret_theirs = pair[1];
    return setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) < 0 ? -errno : 0;
}

int handover_hear(int stream, pid_t *ret_pid, sd_id128_t *ret_invocation)
{
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    HandoverHello hello;
    struct iovec vector = {&hello, sizeof(hello)};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    struct pollfd wait = {.fd = stream, .events = POLLIN};
    const struct cmsghdr *head;
    struct ucred sender;
    ssize_t n;

    if (poll(&wait, 1, HELLO_MSEC) <= 0)
        return -ETIMEDOUT;
    n = recvmsg(stream, &message, MSG_CMSG_CLOEXEC);
    if (n <= 0)
        return n < 0 ? -errno : -EPIPE;
    head = CMSG_FIRSTHDR(&message);
    if (n != sizeof(hello) || !head || head->cmsg_type != SCM_CREDENTIALS ||
        head->cmsg_len != CMSG_LEN(sizeof(sender)))
        return -EBADMSG;
    memcpy(&sender, CMSG_DATA(head), sizeof(sender));
    hello.invocation[sizeof(hello.invocation) - 1] = '\0';
    if (sd_id128_from_string(hello.invocation, ret_invocation) < 0)
        *ret_invocation = SD_ID128_NULL;
    *ret_pid = sender.pid;
    return 0;
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

/* Bytes, few enough for one message, and the descriptors that come with them. */
static int send_fds(int stream, const void *data, size_t size, const int *fds, size_t n)
{
    union {
        char bytes[CMSG_SPACE(HANDOVER_FDS_AT_ONCE * sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec vector = {(void *)data, size};
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

static size_t size_of(char *const *texts)
{
    size_t size = 0;

    for (size_t i = 0; texts && texts[i]; i++)
        size += strlen(texts[i]) + 1;
    return size;
}

static char *put_texts(char *at, char *const *texts)
{
    for (size_t i = 0; texts && texts[i]; i++)
        at = stpcpy(at, texts[i]) + 1;
    return at;
}

static int tell(int stream, const LaunchRequest *request, int answer)
{
    size_t arguments = size_of(request->argv), environment = size_of(request->environment);
    HandoverHeader header = {.n_fds = (uint32_t)request->n_fds,
                             .arguments_size = (uint32_t)arguments,
                             .environment_size = (uint32_t)environment,
                             .uid = request->uid,
                             .gid = request->gid,
                             .extra_gid = request->extra_gid};
    _cleanup_free_ char *texts = NULL;
    int r;

    if (arguments + environment > HANDOVER_ARGUMENTS_MAX || request->n_fds > HANDOVER_FDS_MAX)
        return -E2BIG;
    texts = malloc(arguments + environment);
    if (!texts)
        return -ENOMEM;
    put_texts(put_texts(texts, request->argv), request->environment);
    r = send_fds(stream, &header, sizeof(header), &answer, 1);
    for (size_t i = 0; i < request->n_fds && r >= 0; i += HANDOVER_FDS_AT_ONCE)
        r = send_fds(stream, "", 1, request->fds + i, MIN((size_t)HANDOVER_FDS_AT_ONCE, request->n_fds - i));
    /* At once: each word by itself would wake the other side. */
    return r < 0 ? r : write_all(stream, texts, arguments + environment);
}

/* The end of the pipe is success; what comes before it is the error. */
static int read_answer(int pipe)
{
    struct pollfd wait = {.fd = pipe, .events = POLLIN};
    int32_t error;
    ssize_t n;

    if (poll(&wait, 1, HANDOVER_ANSWER_MSEC) <= 0)
        return -ETIMEDOUT;
    n = read(pipe, &error, sizeof(error));
    if (n == 0)
        return 0;
    return n == sizeof(error) && error > 0 ? -error : n < 0 ? -errno : -EBADMSG;
}

int handover_make(int stream, const LaunchRequest *request)
{
    _cleanup_close_ int answer = -EBADF, answered = -EBADF;
    int pair[2], r;

    if (pipe2(pair, O_CLOEXEC) < 0)
        return -errno;
    answer = pair[0];
    answered = pair[1];
    r = tell(stream, request, answered);
    answered = safe_close(answered);
    if (r >= 0 || r == -EPIPE || r == -ECONNRESET) {
        int error = read_answer(answer);
        r = error < 0 ? error : r;
    }
    return r;
}
