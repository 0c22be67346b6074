/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of a definition reaches beyond the microVM: commands on the host, files outside the declared
 * directories. */
#ifndef SPEC_REACH_H
#define SPEC_REACH_H

#include "spec/spec.h"

/*
 * Whether `after` reaches where `before` (NULL: nothing) did not; files below `directories` are declared.
 * *ret_key: the key of the first such value (static), NULL: none. Returns 0 or -ENOMEM.
 */
int vm_spec_reaches_further(const VmSpec *before, const VmSpec *after, const char *const *directories,
                            size_t n_directories, const char **ret_key);

#endif
