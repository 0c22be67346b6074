/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Listens on the console of a run, by its log and from its beginning: for a first word, and for a line. */
#ifndef SUPERVISE_CONSOLE_WATCH_H
#define SUPERVISE_CONSOLE_WATCH_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct ConsoleWatch ConsoleWatch;

/* Once when something was said, and once (maybe in the same call) when a line matched. It may free the watch.
 */
typedef void (*console_heard_fn)(bool matched, void *userdata);

/*
 * `pattern`: an extended regular expression (regex(7)) for one line, without its end, escape sequences and
 * control characters, of which what is longer than CONSOLE_LINE_MAX bytes is several; NULL: for none. A line
 * that has not ended, as "login: ", matches, too, though not its "$". Never calls from within.
 * -EINVAL: this is no regular expression.
 */
int console_watch_new(sd_event *event, const char *state_dir, const char *pattern, console_heard_fn heard,
                      void *userdata, ConsoleWatch **ret_watch);
ConsoleWatch *console_watch_free(ConsoleWatch *watch);
DEFINE_CLEANUP(ConsoleWatch *, console_watch_free)

#endif
