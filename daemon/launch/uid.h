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

#endif
