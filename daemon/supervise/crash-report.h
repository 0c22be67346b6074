/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reports of runs that ended badly: files "crash-NUMBER.json" in a microVM's state directory, NUMBER being
 * when that was in microseconds since the epoch. Only root can read them, for they hold what the guest said.
 * The newest CRASH_REPORTS_MAX are kept. What is said here of files blocks: for workers.
 */
#ifndef SUPERVISE_CRASH_REPORT_H
#define SUPERVISE_CRASH_REPORT_H

#include "supervise/past.h"

enum {
    CRASH_REPORTS_MAX = 10,
    CRASH_REPORT_SIZE_MAX = 256 * 1024, /* bytes a file */
    CRASH_CONSOLE_MAX = 64 * 1024,      /* of the console's last words; less where that is too much */
    CRASH_OUTPUT_MAX = 16 * 1024,       /* of those of the hypervisor itself */
};

/* All that a report is made of; borrowed. Text may be NULL. */
typedef struct CrashFacts {
    const char *name;
    const VmPast *past; /* its `end` is that of the run */
    const char *driver, *hypervisor, *accel, *unit, *generation;
    pid_t pid;
    uint64_t n_restarts;
    const char *command; /* arguments, each ended by NUL */
    size_t command_size;
    char *console, *output; /* they are made UTF-8, in place */
    size_t console_size, output_size;
    const char *see; /* where there is more, outside of microvmd */
} CrashFacts;

/* NULL: out of memory. */
cJSON *crash_report_new(CrashFacts *facts);

/* Writes it, not longer than it may be, and removes what is older than those that are kept. */
int crash_report_write(const char *state_dir, uint64_t usec, cJSON *report);

typedef struct CrashRow {
    uint64_t usec; /* its number, and when it was */
    MicrovmResult result;
    char *reason;
} CrashRow;

typedef struct CrashRows {
    CrashRow items[CRASH_REPORTS_MAX];
    size_t count;
} CrashRows;

void crash_rows_clear(CrashRows *rows);
/* Those that there are, the newest first; what is none is left out. */
int crash_report_list(const char *state_dir, CrashRows *ret_rows);
/* The text of one, JSON. -ENOENT; -EBADMSG: it is none. */
int crash_report_read(const char *state_dir, uint64_t usec, char **ret_text);

#endif
