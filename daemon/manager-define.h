/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definitions that are written for those who ask for it. Nothing broken is installed, and no change of others
 * undone. */
#ifndef MANAGER_DEFINE_H
#define MANAGER_DEFINE_H

#include "manager.h"

typedef struct DefineOptions {
    const char *drop_in;  /* file in NAME.json.d; NULL: the definition itself */
    const char *expected; /* what the file holds now; "": nothing, or there is none; NULL: whatever */
    bool transient;       /* in the run directory */
    bool no_autostart;    /* content that says nothing of it gets "autostart": false */
    bool prune;           /* a drop-in that changes nothing is removed instead */
} DefineOptions;

/* What became of a definition that was looked at. */
typedef struct DefineCheck {
    ProblemList problems; /* those of other files name them */
    const char *unsafe;   /* a key that reaches further than before; NULL: none */
    bool redundant;       /* a drop-in that changes nothing */
} DefineCheck;

void define_check_clear(DefineCheck *check);

/*
 * Reads `content` as it would be read if it were installed, with all checks; changes nothing. -EBADMSG: there
 * are errors, -EINVAL: the name, -ENOENT: a drop-in of nothing, -EOPNOTSUPP: there is no such directory.
 */
int manager_check_definition(Manager *manager, const char *name, const char *content,
                             const DefineOptions *options, DefineCheck *ret_check, char **ret_error);

/*
 * Told when files have been changed and definitions read anew, or not (error: negative errno, with a
 * sentence). `paths`: what was removed; NULL-terminated.
 */
typedef void (*define_done_fn)(int error, const char *text, char *const *paths, void *userdata);

/*
 * The changes themselves: made by a worker, one after the other, atomically and synced. On a negative return
 * nothing is under way, *ret_error says why and `done` is not called.
 */
int manager_define(Manager *manager, const char *name, const char *content, const DefineOptions *options,
                   define_done_fn done, void *userdata, char **ret_error);
int manager_remove_drop_in(Manager *manager, const char *name, const DefineOptions *options,
                           define_done_fn done, void *userdata, char **ret_error);

typedef struct UndefineOptions {
    bool purge;   /* the files in its state directory, too */
    bool dry_run; /* only tells what would go */
} UndefineOptions;

/* Removes definition and drop-ins that are in /etc or /run. -EBUSY: it runs; -EOPNOTSUPP: they are elsewhere.
 */
int manager_undefine(Manager *manager, const char *name, const UndefineOptions *options, define_done_fn done,
                     void *userdata, char **ret_error);

int manager_mask(Manager *manager, const char *name, bool mask, define_done_fn done, void *userdata,
                 char **ret_error);

/* "enabled", "disabled", "masked", "transient", "template", "invalid", "undeclared"; NULL: not found. */
const char *manager_definition_state(Manager *manager, const char *name);

/* --- inside --- */

/* "DIRECTORY/NAME.json", or a drop-in of it; NULL: out of memory. */
char *define_file_path(const char *directory, const char *name, const char *drop_in);
/* The directory that a definition goes into. -EINVAL, -EOPNOTSUPP. */
int define_check_target(Manager *manager, const char *name, const DefineOptions *options,
                        const char **ret_directory, char **ret_error);

#endif
