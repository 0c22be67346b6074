/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definitions of a host: from directories, layer over layer, to checked specs. */
#ifndef DEFINITIONS_H
#define DEFINITIONS_H

#include "definition-files.h"
#include "spec/loader.h"

typedef struct Definition {
    char *name;
    char *path;       /* of the definition itself */
    VmSpec *spec;     /* NULL: it has errors */
    char *error;      /* one sentence; NULL: none */
    LayerFiles files; /* that it was read from */
    bool reusable;    /* nothing was said of it: it need not be read again while its files are the same */
} Definition;

/* Sorted by name. */
typedef struct Definitions {
    Definition *items;
    size_t count;
    LayerFiles below;    /* the files that are below every definition */
    SpecContext context; /* that it was read against */
} Definitions;

void definitions_clear(Definitions *definitions);

/*
 * Loads all microVMs of the directories, each from its layers: what is at context->defaults_path, the
 * definition of the highest directory, the drop-ins of all directories. A definition that has errors, or that
 * its driver refuses, is in the result without a spec. What did not change since `before` (may be NULL) is
 * taken from there. Returns 0 or -ENOMEM.
 */
int definitions_load(const char *const *directories, size_t n_directories, const SpecContext *context,
                     const Definitions *before, ProblemList *problems, Definitions *ret_definitions);

/* The one of that name; NULL: there is none. */
const Definition *definitions_find(const Definitions *definitions, const char *name);

/* "The definition can't be used: FIRST ERROR, and N more", of the problems from number `first` on; NULL: out
 * of memory. */
char *definition_summarize(const ProblemList *problems, size_t first);

/* What is possible for a definition of this driver, hypervisor and machine. */
CapabilitySet definition_capabilities(const VmSpec *spec);

/* Loads a definition of `name` from text, above the defaults, with all checks. */
int definition_load_text(const char *name, const char *text, const SpecContext *context,
                         ProblemList *problems, VmSpec **ret_spec);

/* The same from files. */
int definition_load_files(const char *name, LayerFiles *files, const SpecContext *context,
                          ProblemList *problems, VmSpec **ret_spec);

/* Tells what is wrong with the keys of a layer that is no complete definition. 0, -EBADMSG or -ENOMEM. */
int definition_check_layer(const char *path, ProblemList *problems);

/* The files of one definition as they are now, those below every definition first. 0, -ENOENT or -ENOMEM. */
int definition_find(const char *const *directories, size_t n_directories, const char *name,
                    const SpecContext *context, ProblemList *problems, LayerFiles *ret_files);

/*
 * As JSON text: {"definition": what all files say together, "origins": {"/pointer": "FILE:LINE"}}, an origin
 * for each value that is no object or list. 0, -EBADMSG (with what is wrong in `problems`), -ENOMEM.
 */
int definition_origins(const char *name, LayerFiles *files, ProblemList *problems, char **ret_json);

#endif
