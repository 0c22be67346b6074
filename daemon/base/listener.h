/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A socket that listens, served by the event loop. */
#ifndef BASE_LISTENER_H
#define BASE_LISTENER_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct Listener Listener;

/*
 * Calls `accepted` with each connection, which is non-blocking and the callee's; that does not free the
 * listener. When microvmd or the host has no descriptor left, connections wait in the kernel's queue, and the
 * loop is woken for them a few times a second only; the log then says that `what` ("Notifications of guests")
 * wait. `fd` is taken, in any case.
 */
int listener_new(sd_event *event, int fd, const char *what, void (*accepted)(int fd, void *userdata),
                 void *userdata, Listener **ret_listener);
Listener *listener_free(Listener *listener);
DEFINE_CLEANUP(Listener *, listener_free)

#endif
