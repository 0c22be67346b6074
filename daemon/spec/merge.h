/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Layers of a configuration: one JSON document over another, with the place that each value came from. */
#ifndef SPEC_MERGE_H
#define SPEC_MERGE_H

#include "spec/table.h"

/*
 * Puts `upper`, of the file `file`, as a merge patch (RFC 7396) over `lower` (which may be without a root:
 * nothing): objects are merged, null removes, everything else replaces. With a `table` also: "KEY+" appends
 * to the list KEY, other names of a key are that key, and lists of objects with a merge key are merged by it;
 * an object of somebody else's (KEY_JSON) is merged without that. `lower` becomes the result, whose places
 * name their files; `upper` is used up. 0 or -ENOMEM.
 */
int json_merge(const KeyTable *table, JsonDocument *lower, JsonDocument *upper, const char *file,
               ProblemList *problems);

#endif
