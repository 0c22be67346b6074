/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What /proc tells of a process that lives: proc(5). */
#ifndef RESOURCE_PROCESS_LOOK_H
#define RESOURCE_PROCESS_LOOK_H

#include "base/macro.h"

#include <sys/types.h>

/* The most memory that it has had so far, in bytes; 0: not known, or it has ended. */
uint64_t process_memory_peak(pid_t pid);

/* Its arguments, each ended by NUL, the caller's; NULL: not known. */
char *process_command(pid_t pid, size_t *ret_size);

/* Its name, at most 15 bytes; "" when that is not known. */
void process_name(pid_t pid, char *ret_name, size_t size);

#endif
