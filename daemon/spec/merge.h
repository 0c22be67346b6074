/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Layers of a definition: one JSON document over another, with the place that each value came from. */
#ifndef SPEC_MERGE_H
#define SPEC_MERGE_H

#include "spec/table.h"

/*
 * `upper`, of the file `file`, as a merge patch (RFC 7396) over `lower` (NULL: nothing): objects are merged,
 * null removes, everything else replaces. With a `table` also: "KEY+" appends to the list KEY, other names of
 * a key are that key, and lists of objects with a merge key are merged by it; an object of somebody else's
 * (KEY_JSON) is merged without that. The places of the result name their files. 0 or -ENOMEM.
 */
int json_merge(const KeyTable *table, const JsonDocument *lower, const JsonDocument *upper, const char *file,
               ProblemList *problems, JsonDocument *ret_document);

#endif
