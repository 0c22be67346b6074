/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"
#include "remote.h"
#include "term.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
    TAIL_MAX = 64 * 1024,
    CHUNK = 16 * 1024,
    FOLLOW_LINES = 10, /* as journalctl -f and tail -f */
    PATIENCE_USEC = 5000000,
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static int append_options(const Ctl *ctl, sd_bus_message *call)
{
    int r;

    r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0 && ctl->boot != 0)
        r = sd_bus_message_append(call, "{sv}", "boot", "i", (int32_t)ctl->boot);
    if (r >= 0 && ctl->lines != UINT64_MAX)
        r = sd_bus_message_append(call, "{sv}", "lines", "t", ctl->lines);
    if (r >= 0 && (ctl->given & OPTION_FOLLOW))
        r = sd_bus_message_append(call, "{sv}", "follow", "b", 1);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

static int take_fd(sd_bus_message *reply, int *ret_fd)
{
    int fd, r;

    r = sd_bus_message_read(reply, "h", &fd);
    if (r < 0)
        return r;
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

static int open_log(Ctl *ctl, const VmRow *row, sd_bus_message **ret_reply, int *ret_fd)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    int code, r;

    code = ctl_new_call(ctl, row->path, "OpenLog", &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = append_options(ctl, call);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r));
    ctl_ask_password(ctl);
    code = ctl_send(ctl, call, row->name, ret_reply);
    ctl_stop_asking(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = take_fd(*ret_reply, ret_fd);
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

static bool is_refusal(const sd_bus_error *error)
{
    return sd_bus_error_has_names(error, SD_BUS_ERROR_ACCESS_DENIED,
                                  SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED);
}

static char *leave_out(const char *why, const char **ret_left_out)
{
    if (ret_left_out)
        *ret_left_out = why;
    return NULL;
}

char *log_tail(Ctl *ctl, const char *path, uint64_t lines, const char **ret_left_out)
{
    _cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
    _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
    _cleanup_close_ int fd = -EBADF;
    char *text;
    size_t used = 0;
    ssize_t n;

    /* Descriptors do not come from over there: whoever sends one gets no answer through. */
    if (ctl->host)
        return leave_out("from another host it is for logs to show: microvmctl -H HOST logs NAME",
                         ret_left_out);
    /* A look asks nobody for a password, and waits for no one. */
    if (ctl_new_call(ctl, path, "OpenLog", &call) != MICROVM_EXIT_OK ||
        sd_bus_message_set_allow_interactive_authorization(call, 0) < 0 ||
        sd_bus_message_append(call, "a{sv}", 1, "lines", "t", lines) < 0 ||
        sd_bus_call(ctl->bus, call, PATIENCE_USEC, &error, &reply) < 0 || take_fd(reply, &fd) < 0)
        return leave_out(is_refusal(&error) ? "it needs the polkit action " MICROVM_POLKIT_CONSOLE : NULL,
                         ret_left_out);
    text = malloc(TAIL_MAX + 1);
    if (!text)
        return NULL;
    while (used < TAIL_MAX && ((n = read(fd, text + used, TAIL_MAX - used)) > 0 || (n < 0 && errno == EINTR)))
        used += n > 0 ? (size_t)n : 0;
    for (size_t i = 0; i < used; i++)
        if (text[i] == '\0')
            text[i] = ' ';
    text[used] = '\0';
    return text;
}

/* What a guest said: harmless on a terminal, elsewhere as it is. */
static int put(char *text, size_t *size, bool last)
{
    _cleanup_free_ char *shown = NULL;
    size_t used;

    if (!on_terminal()) {
        used = fwrite(text, 1, *size, stdout);
        if (used < *size)
            return -EIO;
        *size = 0;
        return 0;
    }
    shown = escape_piece(text, *size, ESCAPE_COLOUR, last, &used);
    if (!shown || fputs(shown, stdout) < 0)
        return -EIO;
    *size -= used;
    memmove(text, text + used, *size);
    return 0;
}

/* -errno when nobody reads what we write. */
static int copy_log(int fd, bool follow)
{
    char chunk[CHUNK + ESCAPE_REST];
    size_t held = 0;
    ssize_t n;
    int r = 0;

    while (r == 0 && !interrupted) {
        n = read(fd, chunk + held, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        held += (size_t)n;
        r = put(chunk, &held, false);
        if (r == 0 && follow && fflush(stdout) != 0)
            r = -errno;
    }
    if (r == 0)
        r = put(chunk, &held, true);
    fputs(paint_off(), stdout); /* whatever colour the guest was in */
    return r;
}

/* Ctrl-C ends a follower; the colour that the guest was in must not stay. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

int verb_logs(Ctl *ctl)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    bool follow = ctl->given & OPTION_FOLLOW;
    _cleanup_close_ int fd = -EBADF;
    _cleanup_rows_ VmRows rows = {0};
    int code, r;

    if (ctl->host)
        return remote_exec(ctl, "logs");
    if (follow && ctl->lines == UINT64_MAX)
        ctl->lines = FOLLOW_LINES;
    code = ctl_one_name(ctl, "logs", &rows);
    if (code == MICROVM_EXIT_OK)
        code = open_log(ctl, &rows.items[0], &reply, &fd);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (follow)
        catch_signals();
    pager_open(!follow && !ctl->no_pager);
    r = copy_log(fd, follow);
    pager_close();
    if (interrupted) {
        fflush(stdout);
        signal(interrupted, SIG_DFL);
        raise(interrupted);
    }
    if (follow && r == 0 && !ctl_daemon_lives(ctl, reply))
        return fail(MICROVM_EXIT_UNREACHABLE,
                    "microvmd ended; %s goes on. When it is back: microvmctl logs -f %s", rows.items[0].name,
                    rows.items[0].name);
    return MICROVM_EXIT_OK;
}
