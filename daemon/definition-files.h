/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which files make up a definition: directories, masks, drop-ins and templates, as with systemd's units. */
#ifndef DEFINITION_FILES_H
#define DEFINITION_FILES_H

#include "base/file.h"
#include "base/problem.h"

#define SUFFIX         ".json"
#define DROP_IN_SUFFIX ".json.d"

typedef struct LayerFile {
    char *path;
    FileIdentity identity; /* all zero: it can't be known whether it changed */
} LayerFile;

/* Lowest first. */
typedef struct LayerFiles {
    LayerFile *items;
    size_t count;
    size_t main; /* the definition itself; what follows are drop-ins */
} LayerFiles;

void layer_files_clear(LayerFiles *files);
/* Whether these are the same files with the same content. */
bool layer_files_equal(const LayerFiles *a, const LayerFiles *b);
/* Appends a file; one that is masked (empty, or /dev/null) only with `even_masked`. 0 or -ENOMEM. */
int layer_files_add(LayerFiles *files, const char *path, bool even_masked);
/* Puts the files of `lower`, which is empty afterwards, below. 0 or -ENOMEM. */
int layer_files_prepend(LayerFiles *files, LayerFiles *lower);
/* Appends what is in the drop-in directories `paths` (highest precedence first; may not exist). 0 or -ENOMEM.
 */
int layer_files_add_drop_ins(LayerFiles *files, const char *const *paths, size_t n, ProblemList *problems);

bool has_suffix(const char *text, const char *suffix);

/* Highest precedence first. */
typedef struct Directories {
    const char *const *paths;
    size_t count;
} Directories;

enum {
    DIRECTORIES_MAX = 8
};

/* A name and where there is something of it. */
typedef struct DefinitionName {
    char *name;               /* of a template: with '@' at the end */
    unsigned files, drop_ins; /* bits by directory: NAME.json, NAME.json.d */
} DefinitionName;

/* Sorted by name. */
typedef struct DefinitionNames {
    DefinitionName *items;
    size_t count;
} DefinitionNames;

void definition_names_clear(DefinitionNames *names);

/*
 * All names in the directories, of templates too, but without those that can't be one or that differ only in
 * case from another: these are problems. A directory that does not exist holds nothing. 0 or -ENOMEM.
 */
int definition_names_list(Directories directories, ProblemList *problems, DefinitionNames *ret_names);
const DefinitionName *definition_names_find(const DefinitionNames *names, const char *name);

/* "web@1" → "web@", the template that it is an instance of; NULL: none, or out of memory. */
char *template_of(const char *name);
bool is_template(const char *name);
/* Whether a microVM, or a template, can be called so. */
bool definition_name_valid(const char *name);

/*
 * The files of a definition; `template` may be NULL. 0; -ENOENT: there is none, or it is masked; -ENOMEM.
 * Files that can't be read are in it all the same: who reads them will say so.
 */
int definition_files_find(Directories directories, const DefinitionName *name, const DefinitionName *template,
                          ProblemList *problems, LayerFiles *ret_files);
/* The drop-ins of `name`, over the definition `path`, whichever counts otherwise. The same results. */
int definition_files_over(Directories directories, const char *name, const char *path, ProblemList *problems,
                          LayerFiles *ret_files);
/* definition_files_find() for one name, without a look at the others. */
int definition_files_look_up(Directories directories, const char *name, ProblemList *problems,
                             LayerFiles *ret_files);

#endif
