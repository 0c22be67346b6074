/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "term.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t pager;
static void (*interrupted)(int);

bool on_terminal(void)
{
    static int known = -1;

    if (known < 0)
        known = isatty(STDOUT_FILENO);
    return known;
}

bool colours(void)
{
    const char *terminal = getenv("TERM"), *none = getenv("NO_COLOR");

    return on_terminal() && !(none && *none) && terminal && strcmp(terminal, "dumb") != 0;
}

unsigned terminal_width(void)
{
    static unsigned known;
    const char *columns = getenv("COLUMNS");
    struct winsize size;

    if (known == 0 && columns)
        known = (unsigned)strtoul(columns, NULL, 10);
    if (known == 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        known = size.ws_col;
    if (known < 20 || known > 10000)
        known = 80;
    return known;
}

const char *paint(const char *state)
{
    static const struct {
        const char *word, *sequence;
    } paints[] = {
        {"running", "\033[0;32m"}, {"failed", "\033[1;31m"}, {"error", "\033[1;31m"},
        {"inactive", "\033[2m"},   {"paused", "\033[0;36m"},
    };

    if (!colours())
        return "";
    for (size_t i = 0; i < sizeof(paints) / sizeof(paints[0]); i++)
        if (strcmp(paints[i].word, state) == 0)
            return paints[i].sequence;
    return "\033[1;33m"; /* on its way somewhere, or a warning */
}

const char *paint_off(void)
{
    return colours() ? "\033[0m" : "";
}

const char *paint_bold(void)
{
    return colours() ? "\033[1m" : "";
}

const char *paint_dim(void)
{
    return colours() ? "\033[2m" : "";
}

/* A pager that is not there must not swallow the output. */
static void run_pager(const char *command)
{
    static const char script[] = "%s\n[ $? != 127 ] || exec cat";
    const char *options = getenv("SYSTEMD_LESS");
    char *line = NULL;

    setenv("LESS", options ? options : "FRSX", 1);
    if (getenv("SUDO_UID"))
        setenv("LESSSECURE", "1", 1); /* a pager of root's is no shell for who may only call us */
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    if (asprintf(&line, script, command) > 0)
        execl("/bin/sh", "sh", "-c", line, NULL);
    execlp("cat", "cat", NULL);
    _exit(127);
}

void pager_open(bool allowed)
{
    const char *command = getenv("SYSTEMD_PAGER");
    int ends[2];

    if (!command)
        command = getenv("PAGER");
    if (!command)
        command = "less 2>/dev/null";
    if (!allowed || pager > 0 || !on_terminal() || !*command || strcmp(command, "cat") == 0)
        return;
    terminal_width(); /* known from the terminal, while it is standard output */
    fflush(stdout);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    interrupted = signal(SIGINT, SIG_IGN); /* Ctrl-C is for the pager, which we outlive */
    pager = fork();
    if (pager == 0) {
        dup2(ends[0], STDIN_FILENO);
        run_pager(command);
    }
    if (pager > 0)
        dup2(ends[1], STDOUT_FILENO);
    else
        signal(SIGINT, interrupted);
    close(ends[0]);
    close(ends[1]);
}

void pager_close(void)
{
    int status;

    if (pager <= 0)
        return;
    fflush(stdout);
    close(STDOUT_FILENO); /* the pager's end of file */
    while (waitpid(pager, &status, 0) < 0 && errno == EINTR)
        ;
    pager = 0;
    if (open("/dev/null", O_WRONLY | O_CLOEXEC) >=
        0) /* becomes standard output: nothing else must get that number */
        signal(SIGINT, interrupted);
}
