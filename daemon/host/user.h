/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Users of the host. */
#ifndef HOST_USER_H
#define HOST_USER_H

#include <sys/types.h>

typedef struct HostUser {
    uid_t uid;
    gid_t gid; /* its main group */
} HostUser;

/* Looks in the user database, which may ask the network: for workers. -ENOENT: there is none of that name. */
int host_user_find(const char *name, HostUser *ret_user);

#endif
