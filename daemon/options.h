/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line of microvmd. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "manager.h"

typedef enum OptionsMode {
    MODE_RUN,
    MODE_CHECK,
    MODE_SCHEMA,
    MODE_QUEUE_AUTOSTART,
    MODE_DONE, /* --help, --version: already answered */
} OptionsMode;

typedef struct Options {
    OptionsMode mode;
    ManagerSettings settings;
    const char *bus;
    const char *schema; /* "vm" or "host" */
    char *const *files; /* after --check */
    size_t n_files;
} Options;

/* Returns 0, or -EINVAL after the mistake was said on standard error. Strings are borrowed from `argv`. */
int options_parse(int argc, char *argv[], Options *ret_options);

/* --check: prints every problem to standard output; returns the exit code. */
int check_run(const Options *options);

/* --queue-autostart: queues the handles of what will start with the host; returns the exit code. */
int autostart_queue(const Options *options);
/* Those, as far as can be known before microvmd is there, ended by NULL; none when they have been started in
 * this boot, or microvmd must not run. The list is the caller's. 0 or negative errno. */
int autostart_list(const ManagerSettings *settings, char ***ret_names);

/* --dump-schema: prints it; returns the exit code. */
int schema_print(const char *what);

#endif
