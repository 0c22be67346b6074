/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A user of its own for each microVM's hypervisor, from a range that is ours. */
#ifndef LAUNCH_UID_H
#define LAUNCH_UID_H

#include "base/macro.h"

#include <sys/types.h>

enum {
    UIDS = 65536, /* of the range */
};

/*
 * The one of `name`, which it keeps: `directory` (made if missing) has a link for each that is in use, named
 * after the user, which leads to the name. -ENOSPC: all are in use. Safe against others who do the same.
 */
int uid_allot(const char *directory, const char *name, uid_t first, uid_t *ret_uid);

/* Gives back what `name` has in `directory`: nothing may be left that its user owns. None: 0. */
int uid_release(const char *directory, const char *name);

typedef void (*uid_fn)(const char *link, const char *name, void *userdata);

/* Calls `each` for all that somebody has: the path of the link and the microVM's name. None: 0. */
int uid_each(const char *directory, uid_fn each, void *userdata);

#endif
