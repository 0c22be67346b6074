/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is wrong with a file that a person wrote: every problem, each with its place. */
#ifndef BASE_PROBLEM_H
#define BASE_PROBLEM_H

#include "base/macro.h"

typedef enum ProblemSeverity {
    PROBLEM_WARNING,
    PROBLEM_ERROR,
} ProblemSeverity;

typedef struct Problem {
    ProblemSeverity severity;
    char *file;      /* path, or NULL for text that came over D-Bus */
    char *pointer;   /* RFC 6901; "" is the whole document */
    char *text;      /* what is wrong and what to do, one sentence, no full stop */
    unsigned line;   /* from 1; 0: not known (the file could not be read) */
    unsigned column; /* from 1, in bytes */
} Problem;

typedef struct ProblemList {
    Problem *items;
    size_t count;
    size_t same_file; /* how many more the last one's file had */
} ProblemList;

void problem_list_clear(ProblemList *list);
#define _cleanup_problems_ _cleanup_(problem_list_clear)

/*
 * Appends; all strings are copied, what is not printable UTF-8 as '?'. Memory running out drops the text,
 * never the fact: errors stay countable. Some 200 problems in a row from one file are kept.
 */
void problem_add(ProblemList *list, ProblemSeverity severity, const char *file, const char *pointer,
                 unsigned line, unsigned column, const char *format, ...) _printf_(7, 8);

/*
 * Moves all of `from` to the end of `list`, but for those that are there already in the same words. Problems
 * of the file `fresh` (may be NULL) can't be: for them nobody looks.
 */
void problem_list_move(ProblemList *list, ProblemList *from, const char *fresh);

/* Whether the next problem of the same file would only be counted: what is expensive to say needs no words.
 */
bool problem_list_is_full(const ProblemList *list);

size_t problem_count(const ProblemList *list, ProblemSeverity severity);

/* "FILE:LINE:COLUMN: error: TEXT (at /pointer)"; parts that are not known are left out. NULL: out of memory.
 */
char *problem_format(const Problem *problem);

#endif
