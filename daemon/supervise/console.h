/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The serial console of a running microVM, shared by everyone who is attached: any number of readers, of whom
 * one may write, too.
 *
 * What is read comes from the console log, for each from a place of its own in it. So the last lines of
 * before and what comes then fit together, whoever is slow keeps its place and neither memory nor the guest
 * is in its way, and readers have no part of the hypervisor. That is opened for the writer only; what it says
 * to us there is thrown away, since it is in the log.
 */
#ifndef SUPERVISE_CONSOLE_H
#define SUPERVISE_CONSOLE_H

#include "base/quota.h"

#include <systemd/sd-event.h>

typedef struct Console Console;

/* When the last one detaches, `idle` is called, which may free the console. */
int console_new(sd_event *event, const char *state_dir, void (*idle)(void *userdata), void *userdata,
                Console **ret_console);
/* Everyone attached gets what the guest has said, as far as it fits into its socket, and sees the end. */
Console *console_free(Console *console);
DEFINE_CLEANUP(Console *, console_free)

bool console_is_idle(const Console *console); /* nobody is attached */
bool console_has_writer(const Console *console);
/* Whether there is anybody to write to; console_connect() says to whom: `fd` is non-blocking and taken. */
bool console_is_connected(const Console *console);
int console_connect(Console *console, int fd);

/*
 * *ret_fd is one end of a new stream socket pair, the caller's; the last `lines` lines of the log come first.
 * With `writes` it becomes the writer, and who was it before a reader, which is told so in its text. The
 * socket of who does not write, or no longer, is shut for writing: even an empty send(2) fails with EPIPE.
 * `caller` is taken in case of success, and given back when it detaches. -ENOENT: there is no log.
 */
int console_attach(Console *console, bool writes, uint64_t lines, QuotaUser *caller, int *ret_fd);

#endif
