/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the programs of recipes are, known before a start needs them. */
#ifndef DRIVER_DIRECT_PROGRAMS_H
#define DRIVER_DIRECT_PROGRAMS_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct Programs Programs;

/* `path`: directories, as $PATH has them. What is not absolute is passed over: it would depend on where the
 * daemon was started. */
int programs_new(sd_event *event, const char *path, Programs **ret_programs);
Programs *programs_free(Programs *programs);
DEFINE_CLEANUP(Programs *, programs_free)

/*
 * Where execvp(3) would find it; NULL: nowhere. Valid until the loop runs again. It is looked for once, and
 * again when something of that name comes, goes or changes in one of the directories.
 */
const char *programs_find(Programs *programs, const char *name);
/* Looks for all of them now: one was not where it is said to be. */
void programs_look_again(Programs *programs);

#endif
