/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process of microvmd@NAME.service: it tells systemd what microvmd says of one microVM, and microvmd when
 * systemd asks for its end. It decides nothing. There is one for each microVM that runs, so it depends on the
 * C library only, and takes nothing that a user may have few of: of connections to the bus one may have 256,
 * of inotify's watchers 128.
 */
#include "bus/handle-talk.h"

#include "base/macro.h"
#include "microvm/exit.h"
#include "microvm/names.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

enum {
    PATIENCE_MSEC = 10 * 1000, /* for a microvmd that is needed now, and not there */
};

typedef struct Mirror {
    const char *name;
    const char *directory; /* of its socket */
    const char *notify;    /* systemd's socket; NULL: none */
    const char *attach;    /* what a connection begins with */
    int microvmd, signals, listens;
    bool stopping;
    int64_t deadline_msec; /* for microvmd to be there; 0: any time will do */
} Mirror;

static char *socket_path; /* that it listens at; NULL: not yet */

static void remove_socket(void)
{
    (void)unlink(socket_path);
}

static int64_t now_msec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

_Noreturn static void give_up(int code, const char *format, ...) _printf_(2, 3);
_Noreturn static void give_up(int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(code);
}

static int make_address(const char *path, struct sockaddr_un *ret_address, socklen_t *ret_size)
{
    size_t length = strlen(path);

    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length >= sizeof(ret_address->sun_path))
        return -ENAMETOOLONG;
    memcpy(ret_address->sun_path, path, length);
    if (*path == '@') /* an abstract one: sd_notify(3) */
        ret_address->sun_path[0] = '\0';
    *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (*path != '@'));
    return 0;
}

/* `passed`: a descriptor that goes along; negative: none. */
static void notify_with(const Mirror *mirror, const char *text, int passed)
{
    struct sockaddr_un address;
    struct iovec words = {.iov_base = (char *)text, .iov_len = strlen(text)};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control = {0};
    struct msghdr message = {.msg_name = &address, .msg_iov = &words, .msg_iovlen = 1};
    int fd;

    if (!mirror->notify || make_address(mirror->notify, &address, &message.msg_namelen) < 0)
        return;
    if (passed >= 0) {
        control.aligned = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.aligned), &passed, sizeof(passed));
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
        fprintf(stderr, "systemd can't be told: %s\n", strerror(errno));
    safe_close(fd);
}

static void notify(const Mirror *mirror, const char *text)
{
    notify_with(mirror, text, -EBADF);
}

/*
 * systemd keeps a descriptor for the process that it starts itself in place of a killed one, and drops it
 * when the unit ends otherwise (FDSTORE= in sd_notify(3)): so that process knows that nobody has asked for
 * a start anew.
 */
static void leave_word(const Mirror *mirror)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        notify_with(mirror, "FDSTORE=1\nFDNAME=attached", fd);
    safe_close(fd);
}

/* The next process is a new wish, as after systemctl restart. */
static void take_back_word(const Mirror *mirror)
{
    notify(mirror, "FDSTOREREMOVE=1\nFDNAME=attached");
}

static bool word_was_left(void)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");

    return pid && n && strtol(pid, NULL, 10) == (long)getpid() && strtol(n, NULL, 10) > 0;
}

/* --- microvmd --- */

static bool say(const Mirror *mirror, const char *verb, const char *name)
{
    char message[HANDLE_MESSAGE_MAX];
    int n = snprintf(message, sizeof(message), "%s%s", verb, name);

    return n < (int)sizeof(message) && send(mirror->microvmd, message, (size_t)n, MSG_NOSIGNAL) == n;
}

static void disconnect(Mirror *mirror)
{
    mirror->microvmd = safe_close(mirror->microvmd);
}

/* microvmd is there. */
static void attach(Mirror *mirror)
{
    mirror->microvmd = accept4(mirror->listens, NULL, NULL, SOCK_CLOEXEC);
    if (mirror->microvmd < 0)
        return;
    if (!say(mirror, mirror->attach, mirror->name) || (mirror->stopping && !say(mirror, HANDLE_STOP, "")))
        disconnect(mirror);
    else
        mirror->deadline_msec = 0;
}

/* "CODE TEXT" */
_Noreturn static void end(const Mirror *mirror, const char *message)
{
    char status[HANDLE_MESSAGE_MAX + 16], *text;
    int code = (int)strtol(message, &text, 10);

    text += *text == ' ';
    snprintf(status, sizeof(status), "STATUS=%s", text);
    notify(mirror, status);
    take_back_word(mirror);
    if (code != 0)
        fprintf(stderr, "%s\n", text);
    exit(code);
}

static void listen_to_microvmd(Mirror *mirror)
{
    char message[HANDLE_MESSAGE_MAX + 1];
    ssize_t n = recv(mirror->microvmd, message, HANDLE_MESSAGE_MAX, 0);

    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        disconnect(mirror);
        notify(mirror, "STATUS=microvmd is away; the microVM goes on without it.");
        if (mirror->stopping)
            mirror->deadline_msec = now_msec() + PATIENCE_MSEC;
        return;
    }
    message[n] = '\0';
    if (strncmp(message, HANDLE_EXIT, strlen(HANDLE_EXIT)) == 0)
        end(mirror, message + strlen(HANDLE_EXIT));
    if (strcmp(mirror->attach, HANDLE_ATTACH) == 0) {
        mirror->attach = HANDLE_AGAIN;
        leave_word(mirror);
    }
    if (strncmp(message, "READY=1", strlen("READY=1")) == 0)
        mirror->attach = HANDLE_READY;
    notify(mirror, message);
}

/* --- the loop --- */

static void take_signal(Mirror *mirror)
{
    struct signalfd_siginfo info;

    if (read(mirror->signals, &info, sizeof(info)) != sizeof(info))
        return;
    mirror->stopping = true;
    take_back_word(mirror);
    if (mirror->microvmd >= 0 && !say(mirror, HANDLE_STOP, ""))
        disconnect(mirror);
    if (mirror->microvmd < 0)
        mirror->deadline_msec = now_msec() + PATIENCE_MSEC;
}

static void wait_once(Mirror *mirror)
{
    struct pollfd fds[] = {
        {.fd = mirror->signals, .events = POLLIN},
        {.fd = mirror->microvmd, .events = POLLIN}, /* negative: not looked at */
        {.fd = mirror->microvmd < 0 ? mirror->listens : -1, .events = POLLIN},
    };
    int64_t left = mirror->deadline_msec - now_msec();

    if (poll(fds, ELEMENTSOF(fds), mirror->deadline_msec == 0 ? -1 : (int)MAX(left, 0)) < 0) {
        if (errno != EINTR)
            give_up(EXIT_FAILURE, "Can't wait: %s", strerror(errno));
        return;
    }
    if (mirror->deadline_msec != 0 && now_msec() >= mirror->deadline_msec && mirror->microvmd < 0)
        give_up(MICROVM_EXIT_UNREACHABLE, "microvmd is not running%s. See: systemctl status " MICROVM_UNIT,
                mirror->stopping ? ", so that it can't stop the microVM" : "");
    if (fds[1].revents)
        listen_to_microvmd(mirror);
    if (fds[0].revents)
        take_signal(mirror);
    if (fds[2].revents)
        attach(mirror);
}

/* The name appears when there is somebody who listens: microvmd watches the directory. */
static void listen_for_microvmd(Mirror *mirror)
{
    _cleanup_free_ char *temporary = NULL, *path = NULL;
    struct sockaddr_un address;
    socklen_t size;

    if (asprintf(&path, "%s/%s", mirror->directory, mirror->name) < 0 ||
        asprintf(&temporary, "%s/.%s", mirror->directory, mirror->name) < 0 ||
        make_address(temporary, &address, &size) < 0)
        give_up(EXIT_FAILURE, "%s is too long for a socket.", mirror->directory);
    (void)unlink(temporary);
    mirror->listens = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (mirror->listens < 0 || bind(mirror->listens, (const struct sockaddr *)&address, size) < 0 ||
        listen(mirror->listens, 4) < 0 || rename(temporary, path) < 0)
        give_up(EXIT_FAILURE, "Can't listen at %s: %s", path, strerror(errno));
    socket_path = TAKE_PTR(path);
    (void)atexit(remove_socket);
}

static void set_up(Mirror *mirror)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    mirror->signals = signalfd(-1, &signals, SFD_CLOEXEC);
    if (mirror->signals < 0)
        give_up(EXIT_FAILURE, "Can't wait for signals: %s", strerror(errno));
    umask(0077);
    (void)mkdir(mirror->directory, 0700); /* where it can't be made, the socket tells */
    listen_for_microvmd(mirror);
    mirror->deadline_msec = now_msec() + PATIENCE_MSEC;
}

int main(int argc, char *argv[])
{
    _cleanup_free_ char *directory = NULL;
    const char *runtime = MICROVM_RUNTIME_DIR;
    Mirror mirror = {.attach = HANDLE_ATTACH, .microvmd = -EBADF, .notify = getenv("NOTIFY_SOCKET")};

    if (argc == 4 && streq(argv[1], "--runtime-dir"))
        runtime = argv[2];
    else if (argc != 2 || *argv[1] == '-' || *argv[1] == '.' || strchr(argv[1], '/'))
        give_up(MICROVM_EXIT_USAGE, "Usage: microvmd-handle [--runtime-dir DIR] NAME\n"
                                    "systemd runs it, as microvmd@NAME.service. See microvmd(8).");
    mirror.name = argv[argc - 1];
    if (word_was_left())
        mirror.attach = HANDLE_AGAIN;
    if (asprintf(&directory, "%s/" HANDLE_SOCKET_DIR, runtime) < 0)
        give_up(EXIT_FAILURE, "Out of memory.");
    mirror.directory = directory;
    set_up(&mirror);
    for (;;)
        wait_once(&mirror);
}
