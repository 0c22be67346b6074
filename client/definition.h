/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definitions: their text, what is wrong with it, and their way into microvmd. */
#ifndef CLIENT_DEFINITION_H
#define CLIENT_DEFINITION_H

#include "bus.h"

#include <stdio.h>

/* --- definition.c --- */

typedef struct Tally {
    size_t errors;
    cJSON *list; /* with --json */
    FILE *to;    /* without */
} Tally;

/* A file, or "-", standard input, which may be a pipe. 0 or a negative errno. */
int definition_read(const char *path, char **ret_text, size_t *ret_size);
/* Says that the file holds a NUL byte, where it would end for C and D-Bus; returns the exit code. */
int fail_nul(const char *path);
/* D-Bus carries neither what is not UTF-8 nor NUL bytes: the first such byte is told. Columns are in bytes,
 * as microvmd's. */
bool problem_tell_no_text(Ctl *ctl, Tally *tally, const char *path, const char *text, size_t size);
/* All that are in a reply, a(sssuu). An exit code. */
int problems_tell(Ctl *ctl, Tally *tally, const char *path, sd_bus_message *reply);

/* --- define.c --- */

typedef struct DefineCall {
    const char *name, *content;
    const char *file;     /* that the content is from, for messages */
    const char *drop_in;  /* NULL: the definition itself */
    const char *expected; /* NULL: whatever */
    bool no_autostart, prune;
    bool transient; /* by CreateTransient; nothing of the above then */
} DefineCall;

/* Installs it, or tells all that is wrong with it (MICROVM_EXIT_FAILURE). An exit code. */
int define_call(Ctl *ctl, const DefineCall *call);
/* Where microvmd writes definitions: the first of its directories. An exit code. */
int define_directory(Ctl *ctl, char **ret_directory);
/* The file of a template, in the first directory that has one. An exit code. */
int define_template_path(Ctl *ctl, const char *name, char **ret_path);
/* "enabled", "disabled", "masked"...; NULL, and no word: there is none. An exit code. */
int define_state(Ctl *ctl, const char *name, char **ret_state);
/* Undefine; *ret_paths: a list of what was removed, or would be. An exit code. */
int define_remove(Ctl *ctl, const char *name, bool purge, bool dry_run, cJSON **ret_paths);
/* The same for the drop-in of `call`, if it is as expected. An exit code. */
int define_remove_drop_in(Ctl *ctl, const DefineCall *call);
/* "yes" from a terminal; anything else is no. */
bool define_ask(const char *question);

#endif
