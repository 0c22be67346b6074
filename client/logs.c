/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>

enum {
    TAIL_MAX = 64 * 1024,
};

static int open_log(Ctl *ctl, const char *vm, const char *about, bool quiet, int *ret_fd)
{
    _cleanup_err_ sd_bus_error error = SD_BUS_ERROR_NULL;
    _cleanup_msg_ sd_bus_message *call = NULL, *reply = NULL;
    int code, r, fd;

    code = ctl_new_call(ctl, vm, "OpenLog", &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (quiet)
        sd_bus_message_set_allow_interactive_authorization(call, 0); /* nobody is asked for a password by a look */
    r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0 && ctl->boot != 0)
        r = sd_bus_message_append(call, "{sv}", "boot", "i", ctl->boot);
    if (r >= 0 && ctl->lines != UINT64_MAX)
        r = sd_bus_message_append(call, "{sv}", "lines", "t", ctl->lines);
    if (r >= 0 && ctl->follow)
        r = sd_bus_message_append(call, "{sv}", "follow", "b", 1);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r >= 0)
        r = sd_bus_call(ctl->bus, call, UINT64_MAX, &error, &reply);
    if (r < 0)
        return quiet ? MICROVM_EXIT_FAILURE : ctl_bus_error(ctl, &error, r, about);
    if (sd_bus_message_read(reply, "h", &fd) < 0 || (*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
        return quiet ? MICROVM_EXIT_FAILURE : fail(MICROVM_EXIT_FAILURE, "microvmd's answer can't be read");
    return MICROVM_EXIT_OK;
}

char *log_tail(Ctl *ctl, const char *vm, uint64_t lines)
{
    Ctl quiet = *ctl;
    char *text = calloc(1, TAIL_MAX + 1);
    size_t used = 0;
    ssize_t n;
    int fd;

    quiet.lines = lines;
    quiet.boot = 0;
    quiet.follow = false;
    quiet.no_ask_password = true;
    if (!text || open_log(&quiet, vm, NULL, true, &fd) != MICROVM_EXIT_OK) {
        free(text);
        return NULL;
    }
    while (used < TAIL_MAX && (n = read(fd, text + used, TAIL_MAX - used)) > 0)
        used += (size_t)n;
    close(fd);
    for (size_t i = 0; i < used; i++)
        if (text[i] == '\0')
            text[i] = ' ';
    return text;
}

/* What a guest said, made harmless for a terminal; elsewhere as it is. */
static int put(const char *text, size_t size)
{
    _cleanup_free_ char *copy = NULL, *shown = NULL;

    if (!isatty(STDOUT_FILENO) && !colours())
        return fwrite(text, 1, size, stdout) == size ? 0 : -EIO;
    copy = strndup(text, size);
    for (size_t i = 0; copy && i < size; i++)
        if (text[i] == '\0')
            copy[i] = ' ';
    shown = copy ? escape(copy, true) : NULL;
    return shown && fputs(shown, stdout) >= 0 ? 0 : -EIO;
}

int verb_logs(Ctl *ctl)
{
    _cleanup_(vm_rows_clear) VmRows rows = {0};
    char chunk[16384];
    ssize_t n;
    int code, fd;

    if (ctl->host)
        return remote_exec(ctl);
    if (ctl->n_names != 1)
        return fail(MICROVM_EXIT_USAGE, "logs takes the name of one microVM");
    if (ctl->follow && ctl->lines == UINT64_MAX)
        ctl->lines = 10; /* as journalctl -f and tail -f */
    code = ctl_targets(ctl, false, &rows);
    if (code == MICROVM_EXIT_OK)
        code = open_log(ctl, rows.items[0].path, rows.items[0].name, false, &fd);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (!ctl->follow)
        pager_open(ctl);
    while ((n = read(fd, chunk, sizeof(chunk))) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0 && put(chunk, (size_t)n) < 0)
            break;
        if (ctl->follow && fflush(stdout) != 0)
            break;
    }
    close(fd);
    pager_close();
    return MICROVM_EXIT_OK;
}

int remote_exec(Ctl *ctl)
{
    const char **argv = calloc((size_t)ctl->argc + 4, sizeof(*argv));
    int n = 0;

    if (!argv)
        return fail(MICROVM_EXIT_FAILURE, "out of memory");
    argv[n++] = "ssh";
    argv[n++] = "-t";
    argv[n++] = ctl->host;
    argv[n++] = "microvmctl";
    for (int i = 1; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        if (strcmp(word, "-H") == 0 || strcmp(word, "--host") == 0)
            i++;
        else if (strncmp(word, "--host=", 7) != 0 && strncmp(word, "-H", 2) != 0)
            argv[n++] = word;
    }
    execvp("ssh", (char *const *)argv);
    free(argv);
    return fail(MICROVM_EXIT_FAILURE, "ssh can't be run: %s", strerror(errno));
}
