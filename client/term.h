/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What standard output is: a terminal with its width and colours, a pager, or a file. */
#ifndef CLIENT_TERM_H
#define CLIENT_TERM_H

#include <stdbool.h>

/* Whether standard output was a terminal at the first call; a pager in between changes nothing. */
bool on_terminal(void);
/* Colours: on a terminal that has some, unless $NO_COLOR forbids them. */
bool colours(void);
/* Columns of the terminal. */
unsigned terminal_width(void);

/* The sequence that starts the colour of a state, or of "error" and "warning"; "" without colours. */
const char *paint(const char *state);
const char *paint_off(void);
const char *paint_bold(void);
const char *paint_dim(void);

/* From here to pager_close(), standard output goes through $SYSTEMD_PAGER, $PAGER or less, if that is a
 * terminal. */
void pager_open(bool allowed);
void pager_close(void);

#endif
