/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mark that all processes which are launched for a run have in their environment, and who has it. */
#ifndef LAUNCH_MARKED_H
#define LAUNCH_MARKED_H

#include "base/macro.h"

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-id128.h>

/* The variable: "MICROVMD_RUN=DIRECTORY GENERATION", the caller's. `directory` is the runtime one of the
 * microVM. NULL: out of memory. */
char *mark_of_run(const char *directory, sd_id128_t generation);

/* Beside it, for a program that a microvmd runs for itself (launch/errand.h): its successor has no use for
 * it. */
#define MARK_OF_ERRAND "MICROVMD_ERRAND=1"

/* `errand`: it has that mark, too. */
typedef void (*marked_fn)(pid_t pid, const char *microvm, sd_id128_t generation, bool errand, void *userdata);

/* Calls `each` for all processes whose mark is of a microVM below `directory` (RUNTIME_DIR/vm), as far as
 * their environment can be read: proc(5). Blocks. */
int marked_each(const char *directory, marked_fn each, void *userdata);

#endif
