/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Layer over layer: the files of a definition as one document. */
#ifndef LAYERS_H
#define LAYERS_H

#include "base/json-scan.h"
#include "definition-files.h"

/* What is below every definition. */
typedef struct Layers {
    LayerFiles files;
    JsonDocument document; /* without a root: nothing is */
    bool broken;           /* a file can't be read: nothing above it can be used */
} Layers;

void layers_clear(Layers *layers);

/* The files at `defaults_path` (NULL: there are none) and its drop-ins. 0 or -ENOMEM. */
int layers_find_below(const char *defaults_path, ProblemList *problems, LayerFiles *ret_files);
/* The same, read. 0, -EBADMSG, -ENOMEM; also in the second case `ret_below` has the files, and what could be
 * read. */
int layers_load_below(const char *defaults_path, ProblemList *problems, Layers *ret_below);

/*
 * The files over what is below (NULL: nothing), specifiers expanded for the microVM `name`; `files` then has
 * the identities of what was read. 0; -EBADMSG: a file can't be read, and of the others it has been told what
 * is wrong with their values; -ENOMEM; -ESTALE: a file is gone since it was found, find them anew.
 */
int layers_merge(const char *name, const Layers *below, LayerFiles *files, ProblemList *problems,
                 JsonDocument *ret_document);
/* The same for one text. */
int layers_merge_text(const char *name, const Layers *below, const char *text, size_t size,
                      ProblemList *problems, JsonDocument *ret_document);

#endif
