/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The serial console of a running microVM, shared by everyone who is attached. */
#ifndef SUPERVISE_CONSOLE_H
#define SUPERVISE_CONSOLE_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct Console Console;

/*
 * Bridges `fd` (non-blocking, taken) to the attached ones: what it says goes to all, what any of them says
 * goes to it. Who reads too slowly loses output, never holds up the guest. When the last one detaches, or the
 * descriptor ends, `idle` is called, which may free the console.
 */
int console_new(sd_event *event, int fd, void (*idle)(void *userdata), void *userdata, Console **ret_console);
/* Everyone attached sees the end. */
Console *console_free(Console *console);
DEFINE_CLEANUP(Console *, console_free)

/* One end of a new stream socket pair, the caller's. */
int console_attach(Console *console, int *ret_fd);

#endif
