/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much memory this host has. */
#ifndef HOST_MEMORY_H
#define HOST_MEMORY_H

#include "base/macro.h"

/* In MiB; total_mib 0: not known. */
typedef struct HostMemory {
    uint64_t total_mib;
    uint64_t huge_mib;   /* of it, in huge pages of all sizes, which serve nothing else */
    uint64_t guests_mib; /* of these, in those of the default size, which guests get */
} HostMemory;

/* From the text of /proc/meminfo. */
HostMemory host_memory_parse(const char *meminfo);
HostMemory host_memory(void);

#endif
