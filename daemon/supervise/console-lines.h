/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest says, in lines that others can read; and how many of them. Pure. */
#ifndef SUPERVISE_CONSOLE_LINES_H
#define SUPERVISE_CONSOLE_LINES_H

#include "base/macro.h"

enum {
    CONSOLE_LINE_MAX = 2048, /* bytes; what is longer becomes several lines */
};

typedef enum LineState {
    LINE_TEXT,
    LINE_ESCAPE,        /* after ESC */
    LINE_SEQUENCE,      /* ESC [, up to its letter */
    LINE_STRING,        /* ESC ] and the like, up to BEL or ESC \ */
    LINE_STRING_ESCAPE, /* an ESC in it */
} LineState;

/* All zeros at first. */
typedef struct LineCutter {
    LineState state;
    char text[CONSOLE_LINE_MAX + 1], line[CONSOLE_LINE_MAX + 1];
    size_t length; /* of text: what is begun */
    size_t raw;    /* bytes taken since the last line ended */
} LineCutter;

/*
 * Takes bytes up to the end of a line and returns how many. *ret_line is the line, good until the next call,
 * or NULL: all bytes are taken and no line is complete. Lines end with CR or LF, empty ones are left out;
 * escape sequences and control characters are, too, and what is no UTF-8 becomes "?".
 */
size_t line_cutter_take(LineCutter *cutter, const char *data, size_t size, const char **ret_line);
/* What is begun, as if it ended here; NULL: nothing. */
const char *line_cutter_end(LineCutter *cutter);

/* A bucket of so many lines, which fills again at that rate. All zeros at first. */
typedef struct LineRate {
    bool begun;
    uint64_t last_usec, credit_usec;
    uint64_t suppressed; /* lines that there was no room for, for who tells it to set to 0 */
} LineRate;

enum {
    LINE_RATE_BURST = 2000, /* a boot has some hundreds */
    LINE_RATE_PER_SECOND = 50,
};

/* Whether one more line may pass; else it is counted. `now_usec` is of a monotonic clock. */
bool line_rate_take(LineRate *rate, uint64_t now_usec);

#endif
