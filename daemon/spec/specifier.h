/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* "%i" and its like in the strings of a definition, as in systemd's units. */
#ifndef SPEC_SPECIFIER_H
#define SPEC_SPECIFIER_H

#include "spec/table.h"

/*
 * Expands the specifiers in the strings of reader->document, of one layer or of all together, for the microVM
 * `name`: %n the name, %p what is before its '@', %i what is behind it, %h the home directory of the user,
 * %H the host's name, %m its machine ID, %% a percent sign. Anything else after a '%' is a problem. 0 or
 * -ENOMEM.
 */
int specifiers_expand(const TableReader *reader, JsonDocument *document, const KeyTable *table,
                      const char *name);

/* The way back: what is expanded to the strings as they are now, whatever the name. 0 or -ENOMEM. */
int specifiers_escape(cJSON *json, const KeyTable *table);

/* Whether they are expanded in what a key holds: not in words that are chosen from, percentages, scripts and
 * what is somebody else's. */
bool specifiers_count(const KeyRow *row);

#endif
