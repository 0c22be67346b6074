/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "remote.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* ssh hands its words to a shell. */
static void put_quoted(FILE *line, const char *word)
{
    fputs(" '", line);
    for (; *word; word++) {
        if (*word == '\'')
            fputs("'\\''", line);
        else
            fputc(*word, line);
    }
    fputc('\'', line);
}

static char *remote_line(const Ctl *ctl, const char *verb)
{
    char *text = NULL;
    size_t size;
    FILE *line = open_memstream(&text, &size);

    if (!line)
        return NULL;
    fputs("microvmctl", line);
    if (ctl->no_pager)
        fputs(" --no-pager", line);
    if (ctl->quiet)
        fputs(" --quiet", line);
    if (ctl->json != JSON_OFF)
        fputs(ctl->json == JSON_PRETTY ? " --json=pretty" : " --json=short", line);
    if (ctl->no_ask_password)
        fputs(" --no-ask-password", line);
    if (ctl->given & OPTION_FOLLOW)
        fputs(" --follow", line);
    if (ctl->given & OPTION_FORCE)
        fputs(" --force", line);
    if (ctl->given & OPTION_READ_ONLY)
        fputs(" --read-only", line);
    if (ctl->lines != UINT64_MAX)
        fprintf(line, " --lines=%llu", (unsigned long long)ctl->lines);
    if (ctl->boot != 0)
        fprintf(line, " --boot=%d", ctl->boot);
    fprintf(line, " %s --", verb);
    for (size_t i = 0; i < ctl->n_names; i++)
        put_quoted(line, ctl->names[i]);
    if (fclose(line) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

int remote_exec(Ctl *ctl, const char *verb)
{
    _cleanup_free_ char *line = NULL;

    if (*ctl->host == '-') /* would be an option of ssh's */
        return fail(MICROVM_EXIT_USAGE, "\"%s\" is no host.", ctl->host);
    line = remote_line(ctl, verb);
    if (!line)
        return fail_oom();
    signal(SIGPIPE, SIG_DFL);
    execlp("ssh", "ssh", "-t", "--", ctl->host, line, NULL);
    return fail(MICROVM_EXIT_FAILURE, "ssh can't be run: %s. Install an ssh client.", strerror(errno));
}
