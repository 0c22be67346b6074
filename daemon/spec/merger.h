/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the merge of documents: what it works on, and the places of values. */
#ifndef SPEC_MERGER_H
#define SPEC_MERGER_H

#include "base/json-scan.h"

typedef struct Merger {
    JsonDocument *lower; /* becomes the result */
    const JsonDocument *upper;
    const char *file; /* the lower document's own copy of the upper file's name */
    ProblemList *problems;
    JsonPlace *added; /* to the lower document, in the end */
    size_t n_added, room;
} Merger;

/* A place at `pointer`, where `from` (NULL: it is not known) says; `removed`: of a null. 0 or -ENOMEM. */
int merger_add_place(Merger *m, const char *pointer, const JsonPlace *from, bool removed);
/* The places of the upper value at `from`, and of what is in it, are those of `to`. 0 or -ENOMEM. */
int merger_graft_places(Merger *m, const char *from, const char *to);
/* The lower value at `pointer`, and what is in it, is gone. */
void merger_cut_places(Merger *m, const char *pointer);
/* An object or list that goes on being there is where the upper file has it. 0 or -ENOMEM. */
int merger_move_place(Merger *m, const char *from, const char *to);
/* Puts what was added into the lower document, and takes out what was cut. 0 or -ENOMEM. */
int merger_finish_places(Merger *m);

#endif
