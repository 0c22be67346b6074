/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/memory.h"

#include "base/file.h"
#include "base/say.h"

#include <inttypes.h>

/* The number of a line; 0: there is none. */
static uint64_t number_of(const char *meminfo, const char *key)
{
    size_t length = strlen(key);

    for (const char *line = meminfo; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, length) == 0 && line[length] == ':')
            return strtoull(line + length + 1, NULL, 10);
    return 0;
}

HostMemory host_memory_parse(const char *meminfo)
{
    /* All but the number of pages is in KiB. */
    return (HostMemory){
        .total_mib = number_of(meminfo, "MemTotal") >> 10,
        .huge_mib = number_of(meminfo, "Hugetlb") >> 10,
        .guests_mib = number_of(meminfo, "HugePages_Total") * number_of(meminfo, "Hugepagesize") >> 10,
        .available_mib = number_of(meminfo, "MemAvailable") >> 10,
        .huge_available_mib = number_of(meminfo, "HugePages_Free") * number_of(meminfo, "Hugepagesize") >> 10,
    };
}

HostMemory host_memory(void)
{
    _cleanup_free_ char *text = NULL;
    size_t size;

    if (read_file("/proc/meminfo", 64 * 1024, &text, &size) < 0)
        return (HostMemory){0};
    return host_memory_parse(text);
}

int host_memory_admits(const HostMemory *memory, const MemoryNeed *need, char **ret_reason)
{
    uint64_t taken = need->huge ? 0 : memory->huge_mib + need->reserve_mib;
    uint64_t has = need->huge ? memory->guests_mib : memory->total_mib;
    uint64_t available = need->huge ? memory->huge_available_mib : memory->available_mib;
    uint64_t spoken_for = need->promised_mib + (need->huge ? 0 : need->reserve_mib);
    const char *kind = need->huge ? " in huge pages of the default size" : "";

    if (memory->total_mib == 0) /* not known */
        return 1;
    if (need->mib > has - MIN(taken, has))
        return say_why(ret_reason, -ENOMEM,
                       "it needs %" PRIu64 " MiB of memory, and this host has %" PRIu64
                       " MiB%s for microVMs, whatever else runs",
                       need->mib, has - MIN(taken, has), kind);
    if (need->mib <= available - MIN(spoken_for, available))
        return 1;
    return say_why(ret_reason, 0,
                   "held: it needs %" PRIu64 " MiB of memory; %" PRIu64
                   " MiB%s are available, of which %" PRIu64 " MiB are for those that have just started%s",
                   need->mib, available, kind, need->promised_mib,
                   !need->huge && need->reserve_mib ? ", and the host.memoryReserve stays free" : "");
}
