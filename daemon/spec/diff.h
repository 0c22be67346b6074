/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What differs between two definitions, and what each difference takes. Pure. */
#ifndef SPEC_DIFF_H
#define SPEC_DIFF_H

#include "spec/spec.h"
#include "spec/table.h"

typedef struct SpecChange {
    char *key; /* "mem", "labels[tier]", "volumes[data.img].readOnly", "forwardPorts[0].host.port" */
    char *before, *after; /* JSON; NULL: not there */
    KeyChange change;
} SpecChange;

typedef struct SpecChanges {
    SpecChange *items;
    size_t count;
} SpecChanges;

void spec_changes_clear(SpecChanges *changes);

/*
 * All differences from `before` to `after`, in the order of the table. Elements of a list belong together by
 * the key that merging goes by, else by their place. Returns 0 or -ENOMEM.
 */
int vm_spec_diff(const VmSpec *before, const VmSpec *after, SpecChanges *ret_changes);

/* Whether there is one that takes `change`. */
bool spec_changes_have(const SpecChanges *changes, KeyChange change);

/* What is `booted`, but where a change takes effect at once, what is `wanted`: a new reference. 0 or -ENOMEM.
 */
int vm_spec_take_live(const VmSpec *booted, const VmSpec *wanted, VmSpec **ret_spec);

#endif
