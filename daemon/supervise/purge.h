/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files of a state directory: to name them, and to remove those that a person gave up. */
#ifndef SUPERVISE_PURGE_H
#define SUPERVISE_PURGE_H

#include "base/worker.h"

/*
 * Removes `files` (which ends with NULL; each below `state_dir`), then the directory if nothing else is in
 * it. In a worker, which says what went wrong.
 */
int purge_files(Workers *workers, const char *state_dir, char *const *files);

/* `files` is sorted, ends with NULL and is the caller's; NULL after an error. */
typedef void (*listed_fn)(int error, char **files, void *userdata);

/* Names all files below `state_dir`, in a worker; `done` is called in any case, unless an error is returned.
 */
int list_files(Workers *workers, const char *state_dir, listed_fn done, void *userdata);

#endif
