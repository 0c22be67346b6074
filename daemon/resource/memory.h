/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must be remembered of a microVM over reboots of the host, in its state directory. */
#ifndef RESOURCE_MEMORY_H
#define RESOURCE_MEMORY_H

#include "base/macro.h"

typedef struct VmMemory {
    bool had_kvm;   /* it has run under KVM */
    char **volumes; /* images, as written in the definition, that have been there */
    size_t n_volumes;
} VmMemory;

void vm_memory_clear(VmMemory *memory);

/* Reads STATE_DIR/state.json; none: empty. -EBADMSG: damaged, so that nothing can be concluded. */
int vm_memory_read(const char *state_dir, VmMemory *ret_memory);
int vm_memory_write(const char *state_dir, const VmMemory *memory);

bool vm_memory_has_volume(const VmMemory *memory, const char *image);
int vm_memory_add_volume(VmMemory *memory, const char *image);
/* Whether it was there. */
bool vm_memory_forget_volume(VmMemory *memory, const char *image);

#endif
