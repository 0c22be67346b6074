/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files of a directory that a person gives up: named first, then those that were named are removed, and
 * no others. Waits for the disk: for workers. */
#ifndef RESOURCE_FILES_H
#define RESOURCE_FILES_H

#include "base/macro.h"

/* Errors come with a sentence in *ret_error (the caller's). */

/*
 * Appends the paths of all files at or below `path`, sorted, to a list that ends with NULL; links are not
 * followed. What is not there has none. -E2BIG: more than a person can be asked about.
 */
int files_list(const char *path, char ***paths, size_t *n, char **ret_error);

/*
 * Removes those of `paths` that are at or below `root`, then what directories are empty there, `root` itself
 * as well, and syncs. Goes on after a failure; the first one counts. What is gone already is as wanted.
 */
int files_remove(const char *root, char *const *paths, char **ret_error);

#endif
