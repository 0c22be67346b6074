/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The serial console. Whatever ends it (the key, the guest, the daemon, a signal), the terminal is put back
 * first. */
#include "bus.h"
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

enum {
    DETACH_KEY = 0x1d, /* Ctrl-] */
    CHUNK = 4096,
    LINES = 10, /* that came before, on a terminal */
};

typedef enum Outcome {
    GOES_ON,
    DETACHED,
    ENDED,     /* the console's side */
    HUNG_UP,   /* the terminal is gone */
    NO_OUTPUT, /* nobody reads what the guest says */
} Outcome;

typedef struct Bridge {
    int console, signals;
    bool terminal, input_open;
    char keys[CHUNK]; /* that the guest has yet to take: it may be slow, and the detach key must work all the
                         same */
    size_t n_keys;
    int signal; /* that ended it */
} Bridge;

static struct termios saved;
static volatile bool is_raw;

static void restore(void)
{
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
    is_raw = false;
}

static int make_raw(void)
{
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, &saved) < 0)
        return -errno;
    atexit(restore);
    raw = saved;
    cfmakeraw(&raw);
    is_raw = true;
    return tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) < 0 ? -errno : 0;
}

static int block_signals(sigset_t *ret_before)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    if (sigprocmask(SIG_BLOCK, &set, ret_before) < 0)
        return -errno;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* From the keyboard, up to the detach key. */
static Outcome take_keys(Bridge *bridge)
{
    char *at = bridge->keys + bridge->n_keys, *key;
    ssize_t n = read(STDIN_FILENO, at, sizeof(bridge->keys) - bridge->n_keys);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return GOES_ON;
    if (n <= 0) {
        /* The end of a file that was piped in is no wish to leave: the console is shown until it ends. */
        bridge->input_open = false;
        return bridge->terminal ? HUNG_UP : GOES_ON;
    }
    key = bridge->terminal ? memchr(at, DETACH_KEY, (size_t)n) : NULL;
    bridge->n_keys += key ? (size_t)(key - at) : (size_t)n;
    return key ? DETACHED : GOES_ON;
}

static void give_keys(Bridge *bridge)
{
    ssize_t n = send(bridge->console, bridge->keys, bridge->n_keys, MSG_NOSIGNAL);

    if (n > 0) {
        bridge->n_keys -= (size_t)n;
        memmove(bridge->keys, bridge->keys + n, bridge->n_keys);
    } else if (n < 0 && errno != EINTR && errno != EAGAIN) {
        bridge->n_keys =
            0; /* who only reads types in vain; that the console ended is seen where it is read */
    }
}

static int write_output(const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) { /* somebody else made the terminal non-blocking */
            struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
            poll(&out, 1, -1);
            continue;
        }
        if (n < 0)
            return -errno;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static Outcome show_output(Bridge *bridge)
{
    char text[CHUNK];
    ssize_t n = read(bridge->console, text, sizeof(text));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return GOES_ON;
    if (n <= 0)
        return ENDED;
    return write_output(text, (size_t)n) < 0 ? NO_OUTPUT : GOES_ON;
}

static Outcome bridge_run(Bridge *bridge)
{
    Outcome outcome = GOES_ON;

    while (outcome == GOES_ON) {
        bool room = bridge->n_keys < sizeof(bridge->keys);
        struct signalfd_siginfo info;
        struct pollfd polls[] = {
            {.fd = bridge->console, .events = (short)(POLLIN | (bridge->n_keys > 0 ? POLLOUT : 0))},
            {.fd = bridge->input_open && room ? STDIN_FILENO : -1, .events = POLLIN},
            {.fd = bridge->signals, .events = POLLIN},
        };
        if (poll(polls, ELEMENTSOF(polls), -1) < 0) {
            if (errno == EINTR)
                continue;
            return ENDED;
        }
        if (polls[2].revents && read(bridge->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            bridge->signal = (int)info.ssi_signo;
            return GOES_ON;
        }
        if (polls[0].revents & (POLLIN | POLLHUP | POLLERR))
            outcome = show_output(bridge);
        if (outcome == GOES_ON && polls[1].revents)
            outcome = take_keys(bridge);
        if (bridge->n_keys > 0)
            give_keys(bridge);
    }
    return outcome;
}

static int append_options(const Ctl *ctl, bool terminal, sd_bus_message *call)
{
    uint64_t lines = ctl->lines != UINT64_MAX ? ctl->lines : terminal ? LINES : 0;
    int r;

    r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0)
        r = sd_bus_message_append(call, "{sv}", "lines", "t", lines);
    if (r >= 0 && (ctl->given & OPTION_READ_ONLY))
        r = sd_bus_message_append(call, "{sv}", "read-only", "b", 1);
    if (r >= 0 && (ctl->given & OPTION_FORCE))
        r = sd_bus_message_append(call, "{sv}", "take-over", "b", 1);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

static int open_console(Ctl *ctl, bool terminal, const VmRow *row, sd_bus_message **ret_reply, int *ret_fd)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    int code, fd, r;

    code = ctl_new_call(ctl, row->path, "OpenConsole", &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = append_options(ctl, terminal, call);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r));
    ctl_ask_password(ctl);
    code = ctl_send(ctl, call, row->name, ret_reply);
    ctl_stop_asking(ctl); /* the keyboard is the guest's from here on */
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_read(*ret_reply, "h", &fd);
    if (r < 0)
        return ctl_bad_answer(r);
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        return fail(MICROVM_EXIT_FAILURE, "The console can't be used: %s", strerror(errno));
    *ret_fd = fd;
    return MICROVM_EXIT_OK;
}

/* Who only reads has a socket that is shut for writing, but not closed. */
static bool may_write(int console)
{
    struct pollfd end = {.fd = console};

    return send(console, "", 0, MSG_NOSIGNAL) >= 0 || errno != EPIPE || poll(&end, 1, 0) > 0;
}

/* Says who one is; input that somebody piped in must not be lost in silence. */
static int greet(const Ctl *ctl, const Bridge *bridge, const char *name)
{
    bool reads_only = !may_write(bridge->console), asked = ctl->given & OPTION_READ_ONLY;

    if (reads_only && !asked && !bridge->terminal)
        return fail(
            MICROVM_EXIT_FAILURE,
            "Somebody else writes to the console of %s. With --force you do instead; with --read-only you "
            "only look.",
            name);
    if (!bridge->terminal || ctl->quiet)
        return MICROVM_EXIT_OK;
    fprintf(stderr, "Attached to the console of %s%s. Detach with Ctrl-].\n", name,
            !reads_only ? ""
            : asked     ? ", to read only"
                        : ", to read only: somebody else writes; --force takes it over");
    return MICROVM_EXIT_OK;
}

/* Ends us as the signal would have, now that the terminal is what it was. */
static int die_of(int number, const sigset_t *before)
{
    signal(number, SIG_DFL);
    raise(number);
    sigprocmask(SIG_SETMASK, before, NULL);
    return 128 + number;
}

static int tell_outcome(Ctl *ctl, Outcome outcome, const char *name, sd_bus_message *reply)
{
    switch (outcome) {
    case DETACHED:
        if (!ctl->quiet)
            fprintf(stderr, "\nDetached from %s.\n", name);
        return MICROVM_EXIT_OK;
    case ENDED:
        if (!ctl_daemon_lives(ctl, reply))
            return fail(MICROVM_EXIT_UNREACHABLE,
                        "microvmd ended, and with it this view of the console; %s goes on.\n"
                        "When it is back: microvmctl console %s",
                        name, name);
        if (!ctl->quiet)
            fprintf(stderr, "\nThe console of %s was closed. See: microvmctl why %s\n", name, name);
        return MICROVM_EXIT_OK;
    default:
        return MICROVM_EXIT_FAILURE; /* there is nobody left to tell */
    }
}

int verb_console(Ctl *ctl)
{
    Bridge bridge = {.terminal = isatty(STDIN_FILENO), .input_open = true};
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_close_ int console = -EBADF, signals = -EBADF;
    _cleanup_rows_ VmRows rows = {0};
    sigset_t before;
    Outcome outcome;
    int code, r;

    if (ctl->host)
        return remote_exec(ctl, "console");
    if ((ctl->given & OPTION_READ_ONLY) && (ctl->given & OPTION_FORCE))
        return fail(MICROVM_EXIT_USAGE, "--read-only and --force exclude each other.");
    code = ctl_one_name(ctl, "console", &rows);
    if (code == MICROVM_EXIT_OK)
        code = open_console(ctl, bridge.terminal, &rows.items[0], &reply, &console);
    bridge.console = console;
    if (code == MICROVM_EXIT_OK)
        code = greet(ctl, &bridge, rows.items[0].name);
    if (code != MICROVM_EXIT_OK)
        return code;
    /* First the signals, then raw: there is no moment in which one could leave the terminal raw. */
    signals = block_signals(&before);
    if (signals < 0)
        return fail(MICROVM_EXIT_FAILURE, "Can't wait for signals: %s", strerror(-signals));
    r = bridge.terminal ? make_raw() : 0;
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "Can't set up the terminal: %s", strerror(-r));
    bridge.signals = signals;
    outcome = bridge_run(&bridge);
    restore();
    if (bridge.signal != 0)
        return die_of(bridge.signal, &before);
    return tell_outcome(ctl, outcome, rows.items[0].name, reply);
}
