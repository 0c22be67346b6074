/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One definition: from its layers to a spec that its driver can run; where it says what, and what is wrong
 * with it. */
#ifndef DEFINITION_H
#define DEFINITION_H

#include "layers.h"
#include "spec/loader.h"

/* What is possible for a definition of this driver, hypervisor and machine. */
CapabilitySet definition_capabilities(const VmSpec *spec);

/* Loads a definition of `name` from text, above the defaults, with all checks. */
int definition_load_text(const char *name, const char *text, const SpecContext *context,
                         ProblemList *problems, VmSpec **ret_spec);

/* The same from files, above what is `below` (may be NULL: nothing). */
int definition_load_files(const char *name, const Layers *below, LayerFiles *files,
                          const SpecContext *context, ProblemList *problems, VmSpec **ret_spec);

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

/* "The definition can't be used: FIRST ERROR, and N more", of the problems from number `first` on; NULL: out
 * of memory. */
char *definition_summarize(const ProblemList *problems, size_t first);

#endif
