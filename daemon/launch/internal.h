/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the launchers. */
#ifndef LAUNCH_INTERNAL_H
#define LAUNCH_INTERNAL_H

#include "launch/launch.h"

#include <limits.h>

/* --- handover.c --- */
/* Two ends of a stream: ours, and that which is to be the standard input of microvmd-exec. On an error, too,
 * they are the caller's. */
int handover_open(int *ret_ours, int *ret_theirs);
/* Waits for the first word of microvmd-exec. -EPIPE: it has ended, or was never there. */
int handover_hear(int stream, pid_t *ret_pid, sd_id128_t *ret_invocation);
/* Gives it all that it needs, and waits until it has become the hypervisor; its errors, too. */
int handover_make(int stream, const LaunchRequest *request);

/* --- fork.c --- */
int fork_start(const LaunchRequest *request, int stream, pid_t *ret_pid);
/* Ends it and takes it away; it is left behind if it does not end in time: see process_kill(). */
void fork_undo(pid_t pid);

/* --- unit.c --- */
int unit_start(const LaunchRequest *request, int stream, char **ret_text);
/* Takes away the unit, which has no process any more. Why it never had one is said in *ret_text, if wanted.
 */
void unit_undo(const LaunchRequest *request, char **ret_text);

#endif
