/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Becomes a hypervisor: takes its descriptors, its arguments and whom to run as from microvmd, on standard
 * input, and executes it. A process of its own, because systemd can't hand descriptors to a transient unit
 * before version 253, and because nothing runs before microvmd has put its number on record: when microvmd
 * dies on the way, the stream ends, and so does this.
 */
#include "launch/handover.h"

#include "base/macro.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Where the answer goes: a pipe that closes, which is the answer, when the hypervisor is executed. */
static int answer = -EBADF;

_Noreturn static void fail(int error)
{
    int32_t number = error;

    signal(SIGPIPE, SIG_IGN); /* nobody may be there any more */
    (void)!write(answer, &number, sizeof(number));
    _exit(HANDOVER_NOTHING_RUN);
}

/* Whoever hears it knows by the socket which process this is. */
static void say_hello(void)
{
    const char *invocation = getenv("INVOCATION_ID");
    HandoverHello hello = {{0}};

    if (invocation && strlen(invocation) == sizeof(hello.invocation) - 1)
        memcpy(hello.invocation, invocation, sizeof(hello.invocation) - 1);
    if (send(STDIN_FILENO, &hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello))
        _exit(HANDOVER_NOTHING_RUN); /* nobody is there any more */
}

static void read_all(void *target, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(STDIN_FILENO, (char *)target + done, size - done);
        if (n == 0)
            _exit(HANDOVER_NOTHING_RUN); /* nobody is there any more */
        if (n < 0 && errno != EINTR)
            fail(errno);
        done += n > 0 ? (size_t)n : 0;
    }
}

/* Takes `size` bytes, which come in one message, and the descriptors with them, at most HANDOVER_FDS_AT_ONCE.
 */
static void receive_fds(void *data, size_t size, int *fds, size_t n)
{
    union {
        char bytes[CMSG_SPACE(HANDOVER_FDS_AT_ONCE * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec vector = {data, size};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    struct cmsghdr *head;
    ssize_t received = recvmsg(STDIN_FILENO, &message, MSG_CMSG_CLOEXEC);

    if (received == 0)
        _exit(HANDOVER_NOTHING_RUN); /* nobody is there any more */
    if (received != (ssize_t)size)
        fail(EPIPE);
    head = CMSG_FIRSTHDR(&message);
    if (!head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(n * sizeof(int)))
        fail(EBADMSG);
    memcpy(fds, CMSG_DATA(head), n * sizeof(int));
}

/* Out of the way of all numbers that are to be used. */
static int move_up(int fd, int above)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, above);

    if (high < 0)
        fail(errno);
    close(fd);
    return high;
}

/* Descriptors get their numbers. */
static void place_fds(const HandoverHeader *header)
{
    int *fds = calloc(header->n_fds + 1, sizeof(int));
    int above = HANDOVER_FIRST_FD + (int)header->n_fds;
    char byte;

    if (!fds)
        fail(ENOMEM);
    for (size_t i = 0; i < header->n_fds; i += HANDOVER_FDS_AT_ONCE)
        receive_fds(&byte, 1, fds + i, MIN((size_t)HANDOVER_FDS_AT_ONCE, header->n_fds - i));
    for (size_t i = 0; i < header->n_fds; i++)
        fds[i] = move_up(fds[i], above);
    for (size_t i = 0; i < header->n_fds; i++)
        if (dup2(fds[i], HANDOVER_FIRST_FD + (int)i) < 0)
            fail(errno);
    free(fds);
}

/* Nothing that is executed later can get them back. Needs CAP_SETPCAP, so it goes before the change of user.
 */
static void empty_bounding_set(void)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EPERM)
            fail(errno);
}

static void become(const HandoverHeader *header)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    gid_t extra = header->extra_gid;

    if (geteuid() == 0 && header->uid != 0) {
        empty_bounding_set();
        if (setgroups(header->extra_gid != header->gid, &extra) < 0 ||
            setresgid(header->gid, header->gid, header->gid) < 0 ||
            setresuid(header->uid, header->uid, header->uid) < 0 || syscall(SYS_capset, &head, none) < 0)
            fail(errno);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        fail(errno);
    umask(0077);
}

static char **split(char *text, size_t size)
{
    size_t n = 0, at = 0;
    char **argv;

    if (size == 0 || text[size - 1] != '\0')
        fail(EBADMSG);
    for (size_t i = 0; i < size; i++)
        n += text[i] == '\0';
    argv = calloc(n + 1, sizeof(*argv));
    if (!argv)
        fail(ENOMEM);
    for (size_t i = 0; i < n; at += strlen(text + at) + 1)
        argv[i++] = text + at;
    return argv;
}

/* Texts of together `size` bytes, each with its NUL. */
static char **read_texts(size_t size)
{
    char *text = malloc(size + 1);

    if (!text)
        fail(ENOMEM);
    read_all(text, size);
    return split(text, size);
}

static void add_to_environment(char **variables)
{
    for (; *variables; variables++)
        if (putenv(*variables) != 0)
            fail(errno);
}

int main(void)
{
    HandoverHeader header;
    char **argv;
    int nothing;
    sigset_t none;

    /* What the daemon blocks and ignores is not the hypervisor's affair. */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);

    /* Nor are descriptors of whoever started the daemon. */
    if (close_range(HANDOVER_FIRST_FD, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return HANDOVER_NOTHING_RUN;

    say_hello();
    receive_fds(&header, sizeof(header), &answer, 1);
    if (header.n_fds > HANDOVER_FDS_MAX || header.arguments_size > HANDOVER_ARGUMENTS_MAX ||
        header.environment_size > HANDOVER_ARGUMENTS_MAX)
        fail(EBADMSG);
    answer = move_up(answer, HANDOVER_FIRST_FD + (int)header.n_fds);
    place_fds(&header);
    argv = read_texts(header.arguments_size);
    if (header.environment_size > 0)
        add_to_environment(read_texts(header.environment_size));
    nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing < 0)
        fail(errno);
    become(&header);
    if (dup2(nothing, STDIN_FILENO) < 0)
        fail(errno);
    execv(argv[0], argv);
    fail(errno);
}
