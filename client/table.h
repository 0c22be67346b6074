/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A table that fits the terminal. Cells are escaped. */
#ifndef CLIENT_TABLE_H
#define CLIENT_TABLE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Table Table;

/* `headers` is not copied. NULL: out of memory. */
Table *table_new(const char *const *headers, size_t n_columns);
void table_freep(Table **table);
/* A row; `state` colours its cell in the column "STATE". -ENOMEM. */
int table_add(Table *table, const char *const *cells, const char *state);
/* Columns as wide as they must be, cut to the terminal's width; `legend`: with the headers. */
void table_print(const Table *table, bool legend);

/* Columns that a text takes on a terminal. */
size_t text_width(const char *text);

#endif
