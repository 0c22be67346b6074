/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* "%i" and its like in the strings of a definition, as in systemd's units. */
#ifndef SPEC_SPECIFIER_H
#define SPEC_SPECIFIER_H

#include "spec/table.h"

/*
 * Expands the specifiers in all strings of reader->document, but in scripts and in what is somebody else's
 * (KEY_JSON), for the microVM `name`: %n the name, %p what is before its '@', %i what is behind it, %h the
 * home directory of the user, %H the host's name, %m its machine ID, %% a percent sign. Anything else after a
 * '%' is a problem. 0 or -ENOMEM.
 */
int specifiers_expand(const TableReader *reader, JsonDocument *document, const KeyTable *table,
                      const char *name);

#endif
