/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definition directories of a host: which file counts for which name. */
#ifndef DEFINITIONS_H
#define DEFINITIONS_H

#include "spec/loader.h"

typedef struct Definition {
    char *name;
    char *path;
    VmSpec *spec; /* NULL: it has errors */
    char *error;  /* one sentence; NULL: none */
} Definition;

/* Sorted by name. */
typedef struct Definitions {
    Definition *items;
    size_t count;
} Definitions;

void definitions_clear(Definitions *definitions);

/*
 * Loads NAME.json of all `directories`, highest precedence first; an empty file or a link to /dev/null masks
 * the lower ones. A definition that has errors, or that its driver refuses, is in the result without a spec.
 * A directory that does not exist holds nothing. Returns 0 or -ENOMEM.
 */
int definitions_load(const char *const *directories, size_t n_directories, const SpecContext *defaults,
                     ProblemList *problems, Definitions *ret_definitions);

/* Loads one file, as a definition of `name`, with all checks. */
int definition_load_file(const char *name, const char *path, const SpecContext *defaults,
                         ProblemList *problems, VmSpec **ret_spec);

/* The same for text. */
int definition_load_text(const char *name, const char *text, const SpecContext *defaults,
                         ProblemList *problems, VmSpec **ret_spec);

#endif
