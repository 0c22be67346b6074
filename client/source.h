/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A place in a file, shown as a compiler shows it. */
#ifndef CLIENT_SOURCE_H
#define CLIENT_SOURCE_H

#include <stddef.h>

/* Prints the line (from 1) and a caret below the column (in bytes, from 1); nothing where there is no such
 * line. */
void source_show(const char *text, size_t size, unsigned line, unsigned column);

#endif
