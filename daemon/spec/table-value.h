/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the settings tables: single values. */
#ifndef SPEC_TABLE_VALUE_H
#define SPEC_TABLE_VALUE_H

#include "spec/table.h"

/* Reads one value into its field; problems are told. 0 or -ENOMEM. */
int table_read_value(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                     void *target);
/* Sets the field to the row's default, if it has one. */
int table_set_default(const KeyRow *row, void *target);
/* What a number means in the stored unit, from its text: a double would lose digits. -EINVAL, -ERANGE. */
int table_parse_number(const KeyRow *row, const char *text, uint64_t *ret_value);

/* Whether a problem with the value itself has been told by the scanner: what the tree holds is a filler. */
bool table_is_flawed(const TableReader *reader, const char *pointer);
void table_wrong_type(const TableReader *reader, const cJSON *json, const char *pointer, const char *wanted);

#endif
