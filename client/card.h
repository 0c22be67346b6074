/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A card about one microVM: a title, and lines with labels. */
#ifndef CLIENT_CARD_H
#define CLIENT_CARD_H

#include "json.h"

enum {
    CARD_LABEL = 12, /* columns of a label */
};

/* "● NAME - WORD RELATION TIME", coloured as the state or result `word`; `usec` 0: without the time. */
void print_title(const char *name, const char *word, const char *relation, uint64_t usec);
/* "      Label: text", the text made harmless; an empty label continues the line before. */
void print_line(const char *label, const char *format, ...) _printf_(2, 3);

/* Of a run that has ended, by Explain or by a crash report: how long it ran, the process's end, its unit's
 * result, its memory. */
void print_process(const cJSON *end);
/* The last `most` of a list of { Timestamp, Kind, Text }. */
void print_events(const cJSON *events, int most);
/* Lines of somebody else's, below a heading; nothing if there are none. `most` lines. */
void print_quoted(const char *heading, const char *text, uint64_t most);

#endif
