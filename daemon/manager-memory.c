/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory for starts. A guest takes its memory bit by bit after its start, so what it may take is promised to
 * it for a while. */
#include "manager.h"

#include "base/log.h"

#define USEC_PER_SEC UINT64_C(1000000)
#define BOOT_USEC    (10 * USEC_PER_SEC) /* in which a guest's kernel takes what it needs */

enum {
    LOOK_AGAIN_SEC = 1, /* while somebody waits for memory: nothing tells when it becomes available */
};

static bool has_just_started(const MicroVM *vm)
{
    MicrovmState state = vm->record.state;

    return state == MICROVM_PREPARING || state == MICROVM_STARTING ||
           (state_is_up(state) && vm->record.start_boot_usec + BOOT_USEC > now_boottime_usec());
}

static uint64_t promised_mib(const Manager *manager, bool huge)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < manager->n_vms; i++) {
        const MicroVM *vm = manager->vms[i];
        if (vm->booted && vm->booted->hugepage_mem == huge && has_just_started(vm))
            sum += vm->booted->mem_mib;
    }
    return sum;
}

static int on_memory_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    Manager *manager = userdata;

    manager->memory_timer = sd_event_source_disable_unref(manager->memory_timer);
    manager_run_later(manager);
    return 0;
}

static void look_again(Manager *manager)
{
    int r = manager->memory_timer
                ? 0
                : sd_event_add_time_relative(manager->event, &manager->memory_timer, CLOCK_MONOTONIC,
                                             LOOK_AGAIN_SEC * USEC_PER_SEC, 0, on_memory_timer, manager);

    if (r < 0)
        log_error_errno(r, "Can't time a look at the memory that is available: %m");
}

int manager_check_memory(Manager *manager, const MicroVM *vm, char **ret_reason)
{
    const VmSpec *spec = vm_next_spec(vm);
    HostMemory memory = manager->memory();
    MemoryNeed need = {.mib = spec->mem_mib,
                       .reserve_mib = manager->config.memory_reserve_mib,
                       .promised_mib = promised_mib(manager, spec->hugepage_mem),
                       .huge = spec->hugepage_mem};
    int r = host_memory_admits(&memory, &need, ret_reason);

    if (r == 0)
        look_again(manager);
    return r;
}
