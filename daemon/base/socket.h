/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UNIX stream sockets by directory and name. Paths may be longer than an address takes (108 bytes, unix(7)). */
#ifndef BASE_SOCKET_H
#define BASE_SOCKET_H

#include "base/macro.h"

/* Makes one that listens, in place of what was there; only its owner may connect. 0 or a negative errno. */
int socket_listen(const char *directory, const char *name, int *ret_fd);
/* Non-blocking. -ENOENT, -ECONNREFUSED: nobody listens; -EAGAIN: too many are waiting to be accepted. */
int socket_connect(const char *directory, const char *name, int *ret_fd);
void socket_remove(const char *directory, const char *name);

#endif
