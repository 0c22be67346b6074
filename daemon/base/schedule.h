/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef BASE_SCHEDULE_H
#define BASE_SCHEDULE_H

/*
 * Lets the calling thread, the event loop's, run as soon as it has something to do, however busy the
 * processors are: the lowest real-time priority (sched(7)). Threads and programs that it starts are ordinary
 * ones. -EPERM where that is not allowed; nothing depends on it.
 */
int schedule_promptly(void);

#endif
