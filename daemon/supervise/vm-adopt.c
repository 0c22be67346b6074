/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding one's way again: after a restart of the daemon, and when a driver went away and came back. */
#include "supervise/vm.h"

#include "base/log.h"
#include "supervise/vm-past.h"

#include <time.h>

void vm_restore(MicroVM *vm)
{
    vm_readiness_tell(vm);
    /* The daemon may have died between the end of its last run and the end of cleaning up after it. */
    if (vm->booted && !state_is_alive(vm->record.state) && vm->record.state != MICROVM_PREPARING)
        vm_clean(vm, false);
    switch (vm->record.state) {
    case MICROVM_WAITING:
        vm_admit(vm);
        break;
    case MICROVM_PREPARING:
        /* Nothing had been launched: the record says "starting" before that is done. Preparing is idempotent.
         */
        vm_event(vm, VM_EVENT_INTERRUPTED, "starting it was interrupted by a restart of microvmd");
        break;
    case MICROVM_BACKOFF:
        vm_act(vm, VM_ACTION_DELAY);
        break;
    case MICROVM_STARTING:
    case MICROVM_STOPPING:
        /* The generation is on record before a driver is asked: none of them knows of this start. */
        if (sd_id128_is_null(vm->record.generation))
            vm_never_launched(vm);
        break;
    default:
        break;
    }
}

/* What is shown of a run whose driver is away: what was last known, and since when. */
static void say_last_known(MicroVM *vm, const char *why)
{
    _cleanup_free_ char *reason = NULL;
    time_t now = time(NULL);
    struct tm broken_down;
    char since[32] = "";

    if (localtime_r(&now, &broken_down))
        strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S", &broken_down);
    if (asprintf(&reason, "last known to be %s; its driver is away since %s: %s",
                 microvm_state_to_string(vm->record.state), since, why ? why : "no reason given") >= 0)
        vm_set_reason(vm, reason);
}

void vm_driver_offline(MicroVM *vm, const char *reason)
{
    if (state_is_alive(vm->record.state) && vm->driver_online)
        say_last_known(vm, reason);
    vm->driver_online = false;
    vm->found = false;
    if (free_and_strdup(&vm->driver_reason, reason) < 0)
        log_oom();
    vm->host->changed(vm, vm->host->userdata);
}

void vm_driver_online(MicroVM *vm)
{
    vm->driver_online = true;
    vm->found = false;
    free(vm->driver_reason);
    vm->driver_reason = NULL;
    vm->host->changed(vm, vm->host->userdata);
}

/* A run of ours that the record knows nothing of: the runtime directory was lost. It is taken as it is. */
static void adopt_unknown(MicroVM *vm, const DriverEvent *event)
{
    if (!vm->booted && vm->spec)
        vm->booted = vm_spec_ref(vm->spec);
    vm_event(vm, VM_EVENT_ADOPTED, "running; adopted without a record of its start");
    vm->record.generation = event->generation;
    vm->record.start_usec = now_realtime_usec();
    vm->record.start_boot_usec = now_boottime_usec();
}

void vm_driver_found(MicroVM *vm, const DriverEvent *event)
{
    bool paused = event->run.paused || (event->run.pause_unknown && vm->record.state == MICROVM_PAUSED);
    const char *doing = vm_doing(vm, paused);

    vm->found = true;
    if (!sd_id128_equal(event->generation, vm->record.generation))
        adopt_unknown(vm, event);
    vm->pid = event->run.pid;
    if (free_and_strdup(&vm->unit, event->run.unit) < 0)
        log_oom();
    vm_note_process(vm);
    if (event->run.accel != ACCEL_AUTO)
        vm->record.accel = event->run.accel;
    if (file_stamp_is_null(&vm->record.files.hypervisor.file))
        program_file_take(&vm->record.files.hypervisor, vm->pid);
    if (file_stamp_is_null(&vm->record.files.helper.file))
        program_file_take(&vm->record.files.helper, event->run.helper);
    if (!event->run.starting)
        vm_run_beside(vm, true);
    if (vm->record.state == MICROVM_STARTING && event->run.starting)
        vm_set_reason(vm, "its hypervisor was found; waiting for it to say that the guest runs");
    else if (vm->record.state == MICROVM_STARTING)
        vm_event(vm, paused ? VM_EVENT_PAUSED : VM_EVENT_LAUNCHED, "%s", doing);
    else if (vm->record.state == MICROVM_STOPPING)
        vm_stop_continue(vm);
    else if (!vm_event(vm, paused ? VM_EVENT_PAUSED : VM_EVENT_RESUMED, "%s", doing))
        vm_set_reason(vm, doing);
    vm_save(vm);
}

void vm_driver_synced(MicroVM *vm)
{
    if (state_is_alive(vm->record.state) && !vm->found && !sd_id128_is_null(vm->record.generation) &&
        !vm->settling)
        vm_ended(vm, END_LOST,
                 vm->record.state == MICROVM_STARTING ? "its start was cut off, and nothing of it is left"
                                                      : NULL);
}
