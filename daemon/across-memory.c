/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether all microVMs together ask for more memory than there is. */
#include "across.h"

#include <inttypes.h>

/* Of those that take memory from the same pages. */
typedef struct Demand {
    uint64_t mib, autostart_mib, most_mib;
    size_t count, autostart_count;
    const char *most; /* who asks for the most */
} Demand;

/* All that it may come to have. */
static uint64_t memory_of(const VmSpec *spec)
{
    return spec->mem_mib + spec->hotplug_mem_mib;
}

static void add(Demand *demand, const char *name, const VmSpec *spec, bool autostart)
{
    uint64_t mib = memory_of(spec);

    demand->count++;
    demand->mib += mib;
    demand->autostart_count += autostart;
    demand->autostart_mib += autostart ? mib : 0;
    if (mib > demand->most_mib) {
        demand->most_mib = mib;
        demand->most = name;
    }
}

static void tell(const Demand *demand, uint64_t has_mib, const char *has, ProblemList *problems)
{
    if (demand->mib <= has_mib)
        return;
    if (demand->count == 1)
        problem_add(problems, PROBLEM_WARNING, NULL, "", 0, 0,
                    "the microVM %s asks for %" PRIu64 " MiB of memory (\"mem\" and \"hotplugMem\"), and %s",
                    demand->most, demand->mib, has);
    else
        problem_add(problems, PROBLEM_WARNING, NULL, "", 0, 0,
                    "together, %zu microVMs ask for %" PRIu64
                    " MiB of memory (\"mem\" and \"hotplugMem\"; %" PRIu64
                    " MiB for the %zu with \"autostart\"; the "
                    "most, %" PRIu64 " MiB, is for %s), and %s",
                    demand->count, demand->mib, demand->autostart_mib, demand->autostart_count,
                    demand->most_mib, demand->most, has);
}

void across_check_memory(const Across *across, ProblemList *problems)
{
    const HostMemory *memory = &across->around->memory;
    uint64_t reserve = across->around->memory_reserve_mib, taken = memory->huge_mib + reserve;
    uint64_t plain_mib = memory->total_mib > taken ? memory->total_mib - taken : 0;
    Demand plain = {0}, huge = {0};
    char has[256];

    if (memory->total_mib == 0)
        return;
    for (size_t i = 0; i < across->definitions->count; i++) {
        const Definition *definition = &across->definitions->items[i];
        if (definition->spec)
            add(definition->spec->hugepage_mem ? &huge : &plain, definition->name, definition->spec,
                definition->spec->autostart);
    }
    for (size_t i = 0; i < across->around->n_runs; i++) {
        const Run *run = &across->around->runs[i];
        const Definition *its = definitions_find(across->definitions, run->name);
        if (!its || !its->spec) /* else it counts as it is going to be */
            add(run->spec->hugepage_mem ? &huge : &plain, run->name, run->spec, false);
    }
    snprintf(has, sizeof(has),
             "this host has %" PRIu64 " MiB for them (%" PRIu64 " MiB, less %" PRIu64
             " MiB of huge pages and the host.memoryReserve of %" PRIu64 " MiB)",
             plain_mib, memory->total_mib, memory->huge_mib, reserve);
    tell(&plain, plain_mib, has, problems);
    snprintf(has, sizeof(has),
             "this host has %" PRIu64
             " MiB in huge pages of the default size for them (\"hugepageMem\"): sysctl vm.nr_hugepages",
             memory->guests_mib);
    tell(&huge, memory->guests_mib, has, problems);
}
