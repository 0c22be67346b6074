/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Deaths at will, for tests. */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

/*
 * A moment between two steps, at which the daemon could be killed: with $MICROVMD_FAULT=N in its environment it
 * kills itself (SIGKILL) at the Nth one that it comes to, in whatever thread. So a test needs not to know them.
 */
void fault_point(const char *where);

#endif
