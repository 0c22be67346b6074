/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of definitions_check_across(). */
#ifndef ACROSS_H
#define ACROSS_H

#include "definitions-across.h"

/* Found in definition number `index`, after `number` others. */
typedef struct Finding {
    size_t index, number;
    ProblemSeverity severity;
    char *pointer, *text;
} Finding;

typedef enum Verdict {
    VERDICT_NONE,
    VERDICT_OPEN, /* depends on that of another one, which is being found */
    VERDICT_GOOD,
    VERDICT_REFUSED,
} Verdict;

typedef struct Across {
    Definitions *definitions;
    const Surroundings *around;
    const VmSpec **before; /* by definition: what it said when it was accepted; NULL: it was not */
    bool *barred;          /* by definition: it can't be used, whoever has what it asks for */
    Verdict *verdicts;     /* by definition */
    Finding *findings;
    size_t n_findings;
    unsigned n_searches; /* for names that were meant */
    bool oom;
} Across;

/* Notes it; an error bars the definition. */
void across_find(Across *across, ProblemSeverity severity, size_t index, const char *pointer,
                 const char *format, ...) _printf_(5, 6);

/*
 * across-rivals.c: who may have what more than one wants; sets all verdicts. One that is refused keeps
 * nothing from anybody.
 */
typedef struct Rivals Rivals;

int rivals_new(Across *across, Rivals **ret_rivals);
Rivals *rivals_free(Rivals *rivals);
DEFINE_CLEANUP(Rivals *, rivals_free)
void rivals_decide(Rivals *rivals);
/* Notes who has what those that were refused ask for. */
void rivals_tell(Rivals *rivals);

/* across-order.c: names that nobody has; orders that go round in a circle, of those that are good so far. */
void across_check_names(Across *across);
/* Bars one of each circle, those first that were not in it before. Whether there were any. */
bool across_check_circles(Across *across);

/* across-memory.c */
void across_check_memory(const Across *across, ProblemList *problems);

#endif
