/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The serial console. Whatever ends it (the key, the guest, the daemon, a signal), the terminal is put back first. */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

enum {
    DETACH_KEY = 0x1d, /* Ctrl-] */
    CHUNK = 4096,
};

static struct termios saved;
static bool is_raw;

static void restore(void)
{
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
    is_raw = false;
}

static void make_raw(void)
{
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, &saved) < 0)
        return;
    atexit(restore);
    raw = saved;
    cfmakeraw(&raw);
    is_raw = tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) == 0;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

typedef enum Outcome {
    GOES_ON,
    DETACHED,
    ENDED,  /* the console's side */
    CLOSED, /* our input's side */
} Outcome;

/* From the keyboard to the guest, up to the detach key. */
static Outcome forward_input(int console, bool terminal)
{
    char keys[CHUNK], *key;
    ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return GOES_ON;
    if (n <= 0)
        return CLOSED;
    key = terminal ? memchr(keys, DETACH_KEY, (size_t)n) : NULL;
    if (write_all(console, keys, key ? (size_t)(key - keys) : (size_t)n) < 0)
        return ENDED;
    return key ? DETACHED : GOES_ON;
}

static Outcome forward_output(int console)
{
    char text[CHUNK];
    ssize_t n = read(console, text, sizeof(text));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return GOES_ON;
    return n <= 0 || write_all(STDOUT_FILENO, text, (size_t)n) < 0 ? ENDED : GOES_ON;
}

static int signals_open(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* Returns the number of the signal that ended it, or 0 with *ret_outcome. */
static int bridge(int console, bool terminal, Outcome *ret_outcome)
{
    int signals = signals_open();
    struct pollfd polls[] = {
        {.fd = console, .events = POLLIN},
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = signals, .events = POLLIN},
    };
    Outcome outcome = GOES_ON;
    struct signalfd_siginfo info = {0};

    while (outcome == GOES_ON) {
        if (poll(polls, ELEMENTSOF(polls), -1) < 0 && errno != EINTR)
            break;
        if ((polls[2].revents & POLLIN) && read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
            break;
        if (polls[0].revents)
            outcome = forward_output(console);
        if (outcome == GOES_ON && polls[1].revents)
            outcome = forward_input(console, terminal);
        /* The end of a file that was piped in is no wish to leave: the console is shown until it ends. */
        if (outcome == CLOSED && !terminal) {
            polls[1].fd = -1;
            outcome = GOES_ON;
        }
    }
    close(signals);
    *ret_outcome = outcome;
    return (int)info.ssi_signo;
}

int verb_console(Ctl *ctl)
{
    _cleanup_(vm_rows_clear) VmRows rows = {0};
    _cleanup_msg_ sd_bus_message *reply = NULL;
    bool terminal = isatty(STDIN_FILENO);
    Outcome outcome;
    int code, fd, number;

    if (ctl->host)
        return remote_exec(ctl);
    if (ctl->n_names != 1)
        return fail(MICROVM_EXIT_USAGE, "console takes the name of one microVM");
    code = ctl_targets(ctl, false, &rows);
    if (code == MICROVM_EXIT_OK)
        code = ctl_call(ctl, rows.items[0].path, "OpenConsole", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (sd_bus_message_read(reply, "h", &fd) < 0)
        return fail(MICROVM_EXIT_FAILURE, "microvmd's answer can't be read");
    if (terminal && !ctl->quiet)
        fprintf(stderr, "Attached to the console of %s. Detach with Ctrl-].\n", rows.items[0].name);
    if (terminal)
        make_raw();
    number = bridge(fd, terminal, &outcome);
    restore();
    if (number != 0) {
        signal(number, SIG_DFL);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, number);
        raise(number);
        sigprocmask(SIG_UNBLOCK, &set, NULL); /* ends us as the signal would have */
    }
    if (terminal && !ctl->quiet)
        fprintf(stderr, "\n%s\n", outcome == DETACHED ? "Detached." : "The console is closed: the microVM or microvmd ended.");
    return outcome == DETACHED || !terminal ? MICROVM_EXIT_OK : MICROVM_EXIT_FAILURE;
}
