/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * systemd, PID 1, as it is reached over the system bus: org.freedesktop.systemd1(5). Each thread has a
 * connection of its own, which is kept, so that a start costs one call. Nothing is ever sent on it unasked.
 */
#ifndef LAUNCH_SYSTEMD_H
#define LAUNCH_SYSTEMD_H

#include "base/macro.h"

#include <systemd/sd-bus.h>

#define SYSTEMD_BUS_NAME  "org.freedesktop.systemd1"
#define SYSTEMD_PATH      "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER   "org.freedesktop.systemd1.Manager"
#define SYSTEMD_UNIT_PATH "/org/freedesktop/systemd1/unit"

#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)
#define _cleanup_error_   _cleanup_(sd_bus_error_free)

typedef int (*systemd_call_fn)(sd_bus *bus, sd_bus_error *error, void *userdata);

/*
 * Does `call` on this thread's connection. While systemd is being executed anew, or the bus started again, it
 * is done again, for up to ten seconds: it must bear that. Returns what it returned; -EHOSTDOWN:
 * systemd can't be reached. An error has been put into *ret_text as one sentence (NULL: nobody wants it).
 */
int systemd_call(systemd_call_fn call, void *userdata, char **ret_text);

/* A connection of its own, the caller's, on which systemd tells of changes that one of `matches` fits, which
 * end with NULL: sd_bus_add_match(3). And that it is there again, after it was executed anew: what it said
 * meanwhile nobody heard. */
int systemd_listen(const char *const *matches, sd_bus **ret_bus);

#endif
