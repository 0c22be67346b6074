/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the scanner: what json-scan.c and json-string.c share. */
#ifndef BASE_JSON_SCANNER_H
#define BASE_JSON_SCANNER_H

#include "base/json-scan.h"

typedef struct Scanner {
    const char *text;
    size_t size, at;
    unsigned line;
    size_t line_start;
    char *clean;   /* the text without comments and trailing commas: what cJSON gets */
    char *pointer; /* to the present value */
    size_t pointer_length, pointer_room;
    unsigned depth;
    const char *file;
    ProblemList *problems;
    JsonDocument *document;
    size_t room;          /* for places */
    size_t pointer_bytes; /* of all places */
    bool flawed;          /* the present string has a mistake in it */
    bool unusable;        /* there will be no tree, but the scan goes on to tell of more problems */
    int error;            /* not 0: the scan is over */
} Scanner;

/* Of the present byte, from 1. */
unsigned scan_column(const Scanner *s);
void scan_complain(Scanner *s, const char *text);
/* After a mistake in the structure everything further would be a guess. */
void scan_give_up(Scanner *s, const char *text);
/* The present byte; -1 at the end. */
int scan_peek(const Scanner *s);
void scan_advance(Scanner *s);
/* The pointer to the present value. */
void scan_pointer_cut(Scanner *s, size_t length);
void scan_pointer_add(Scanner *s, char c);
/* From the opening quote to behind the closing one. A key is appended to the pointer, unescaped. */
void scan_string(Scanner *s, bool key);

#endif
