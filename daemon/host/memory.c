/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/memory.h"

#include "base/file.h"

#include <fcntl.h>

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
