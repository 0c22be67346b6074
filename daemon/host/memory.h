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
    uint64_t available_mib,
        huge_available_mib; /* of total_mib without huge_mib, and of guests_mib: not in use */
} HostMemory;

/* From the text of /proc/meminfo. */
HostMemory host_memory_parse(const char *meminfo);
HostMemory host_memory(void);

/* What a start takes, and what is spoken for. */
typedef struct MemoryNeed {
    uint64_t mib;
    uint64_t reserve_mib;  /* kept for the host; not of huge pages */
    uint64_t promised_mib; /* to those that have just started, and have not taken it yet */
    bool huge;             /* from huge pages */
} MemoryNeed;

/* Whether there is memory for it: 1; 0: not now; -ENOMEM: never. Without a 1 *ret_reason gets one sentence.
 */
int host_memory_admits(const HostMemory *memory, const MemoryNeed *need, char **ret_reason);

#endif
