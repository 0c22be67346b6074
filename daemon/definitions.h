/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definitions of a host: from directories, layer over layer, to checked specs. */
#ifndef DEFINITIONS_H
#define DEFINITIONS_H

#include "definition.h"
#include "host/memory.h"

typedef struct Definition {
    char *name;
    char *path;       /* of the definition itself */
    VmSpec *read;     /* what its files say; NULL: they have errors */
    VmSpec *spec;     /* the same, if it goes together with all others; else NULL */
    char *error;      /* why it has no spec, one sentence; NULL: it has one */
    VmSpec *rival;    /* that a microVM runs with which has what it asks for; NULL: none does */
    LayerFiles files; /* that it was read from */
    bool reusable;    /* nothing was said of its files: they need not be read again while they are the same */
} Definition;

/* Sorted by name. */
typedef struct Definitions {
    Definition *items;
    size_t count;
    LayerFiles below;    /* the files that are below every definition */
    SpecContext context; /* that it was read against */
} Definitions;

void definition_clear(Definition *definition);
void definitions_clear(Definitions *definitions);

/* A microVM that runs, or is about to. */
typedef struct Run {
    const char *name;
    VmSpec *spec;     /* that it was started with */
    const char *path; /* where its definition was, if it is gone; NULL: not known */
} Run;

/* What definitions are looked at with. All is the caller's. */
typedef struct Surroundings {
    const char *state_dir; /* of all microVMs: relative images are there */
    const Run *runs;
    size_t n_runs;
    HostMemory memory;
    uint64_t memory_reserve_mib;
    bool incomplete; /* there are more definitions: a name that nobody has says nothing */
} Surroundings;

/*
 * Loads all microVMs of the directories, each from its layers: what is at context->defaults_path, the
 * definition of the highest directory, the drop-ins of all directories. A definition that has errors, or that
 * its driver refuses, is in the result without a spec. What did not change since `before` (may be NULL) is
 * taken from there; and who was good in it, keeps what he has (see definitions-across.h). Returns 0 or
 * -ENOMEM.
 */
int definitions_load(const char *const *directories, size_t n_directories, const SpecContext *context,
                     const Definitions *before, const Surroundings *around, ProblemList *problems,
                     Definitions *ret_definitions);

/* Looks again which ones go together, when something runs no longer: reads no definition. 0 or -ENOMEM. */
int definitions_judge_again(Definitions *definitions, const SpecContext *context, const Surroundings *around,
                            ProblemList *problems);

/* The one of that name; NULL: there is none. */
const Definition *definitions_find(const Definitions *definitions, const char *name);

#endif
