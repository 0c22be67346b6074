/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The console log of a run, copied to the journal line by line. A copy that is behind waits in the log:
 * neither the guest nor the daemon waits for the journal.
 */
#ifndef SUPERVISE_CONSOLE_JOURNAL_H
#define SUPERVISE_CONSOLE_JOURNAL_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct ConsoleJournal ConsoleJournal;

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

typedef struct ConsoleJournalOptions {
    const char *name;      /* of the microVM */
    const char *state_dir; /* where its log is */
    const char *place;     /* file that remembers, over restarts of the daemon, what has been copied */
    bool resume;           /* goes on from there; else with the beginning of the log */
    const char *socket;    /* JOURNAL_SOCKET */
} ConsoleJournalOptions;

/* The strings are copied. */
int console_journal_new(sd_event *event, const ConsoleJournalOptions *options, ConsoleJournal **ret_journal);
/* The daemon ends: the next one goes on. */
ConsoleJournal *console_journal_free(ConsoleJournal *journal);
DEFINE_CLEANUP(ConsoleJournal *, console_journal_free)
/* The run is over: the guest's last words are copied, if need be later, and the journal frees itself. */
void console_journal_end(ConsoleJournal *journal);

#endif
