/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definition files, changed atomically and synced. Waits for the disk: for workers. */
#ifndef RESOURCE_DEFINITION_WRITER_H
#define RESOURCE_DEFINITION_WRITER_H

#include "base/macro.h"

/* Errors come with a sentence in *ret_error (the caller's). */

/*
 * Makes the file at `path`, and the directories above it, hold `content`. `expected`: what it must hold now,
 * "" for "there must be none, or an empty one", NULL for whatever; another content is -EBUSY. Links are not
 * followed, and masks not overwritten: -EOPNOTSUPP.
 */
int definition_file_write(const char *path, const char *content, const char *expected, char **ret_error);

/* Removes it, and its directory if that is one of drop-ins and empty now. None: 0. */
int definition_file_remove(const char *path, const char *expected, char **ret_error);

/* Makes the file a link to /dev/null, or removes it if it is one, or empty. Anything else there: -EBUSY. */
int definition_file_mask(const char *path, char **ret_error);
int definition_file_unmask(const char *path, char **ret_error);
bool definition_file_is_mask(const char *path);

#endif
