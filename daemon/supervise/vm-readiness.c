/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looks for the readiness of a run, and does what its definition wants when it does not come. */
#include "supervise/vm.h"

#include "base/log.h"
#include "base/say.h"
#include "base/utf8.h"

enum {
    STATUS_MAX = 256, /* bytes of what a guest says of itself */
};

struct VmReadiness {
    MicroVM *vm;
    sd_event_source *deadline;
};

static Instant now_instant(void)
{
    return (Instant){.boot_usec = now_boottime_usec(), .real_usec = now_realtime_usec()};
}

/* --- what is told --- */

void vm_readiness_tell(MicroVM *vm)
{
    _cleanup_free_ char *reason = readiness_say(&vm->record.readiness, vm->booted, vm->readiness_detail);

    if (!reason) {
        log_oom();
        return;
    }
    if (streq(reason, vm->readiness_reason ? vm->readiness_reason : ""))
        return;
    free(vm->readiness_reason);
    vm->readiness_reason = TAKE_PTR(reason);
    vm->host->changed(vm, vm->host->userdata);
}

void vm_readiness_detail(MicroVM *vm, const char *detail)
{
    if (free_and_strdup(&vm->readiness_detail, detail) < 0)
        log_oom();
    vm_readiness_tell(vm);
}

/* Who waits for it to be ready waits no longer. */
static void finish_waiting(MicroVM *vm)
{
    if (vm->record.readiness.state == MICROVM_READINESS_READY)
        vm_finish_ready_job(vm, MICROVM_JOB_DONE, vm->readiness_reason);
    else if (vm->record.readiness.state != MICROVM_READINESS_WAITING &&
             vm->record.readiness.deadline_boot_usec == 0)
        vm_finish_ready_job(vm, MICROVM_JOB_TIMEOUT, vm->readiness_reason);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata);

static void arm_deadline(MicroVM *vm)
{
    VmReadiness *readiness = vm->readiness;
    uint64_t due = readiness_due(&vm->record.readiness);
    int r = 0;

    readiness->deadline = sd_event_source_disable_unref(readiness->deadline);
    if (due > 0 && state_is_up(vm->record.state))
        r = sd_event_add_time(vm->host->event, &readiness->deadline, CLOCK_BOOTTIME, due, 0, on_deadline, vm);
    if (r < 0)
        log_full(LOG_ERR, vm->name, r, "Its readiness can't be timed: %m");
}

/* Brings what looks for it in line with what there is to look for. */
static void look(MicroVM *vm)
{
    if (!vm->readiness)
        return;
    arm_deadline(vm);
}

static void take(MicroVM *vm, ReadinessEvent event, const char *text)
{
    ReadinessRules rules;
    ReadinessVerdict verdict;

    if (!vm->booted || (!state_is_up(vm->record.state) && vm->record.state != MICROVM_STARTING))
        return;
    rules = readiness_rules(vm->booted);
    verdict = readiness_take(&vm->record.readiness, &rules, event, text, now_instant());
    if (verdict == READINESS_SAME)
        return;
    vm_readiness_tell(vm);
    if (verdict == READINESS_CHANGED && event == READINESS_IS_READY)
        log_vm_info(vm->name, "Ready: %s.", vm->readiness_reason);
    else if (event == READINESS_IS_NOT || event == READINESS_DEADLINE)
        log_full(LOG_WARNING, vm->name, 0, "The guest is %s.", vm->readiness_reason);
    vm_save(vm);
    look(vm);
    finish_waiting(vm);
    if (verdict == READINESS_RESTART || verdict == READINESS_FAIL) {
        _cleanup_free_ char *why = say("the guest was %s", vm->readiness_reason);
        vm_condemn(vm, MICROVM_RESULT_TIMEOUT, verdict == READINESS_FAIL, false,
                   why ? why : "the guest was not ready in time");
    }
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
    MicroVM *vm = userdata;

    vm->readiness->deadline = sd_event_source_disable_unref(vm->readiness->deadline);
    /* Of one whose driver is away nobody knows how it is: at its return this is armed again. */
    if (vm->driver_online)
        take(vm, READINESS_DEADLINE, NULL);
    return 0;
}

/* --- what is heard --- */

void vm_kernel_up(MicroVM *vm)
{
    take(vm, READINESS_KERNEL_UP, NULL);
}

void vm_guest_ready(MicroVM *vm, const char *how)
{
    take(vm, READINESS_IS_READY, how);
}

void vm_guest_not_ready(MicroVM *vm, const char *why)
{
    take(vm, READINESS_IS_NOT, why);
}

void vm_guest_status(MicroVM *vm, const char *text)
{
    char status[STATUS_MAX + 1] = "";

    if (text) {
        snprintf(status, sizeof(status), "%s", text);
        utf8_make_printable(status);
    }
    if (streq(status, vm->status_text ? vm->status_text : ""))
        return;
    if (free_and_strdup(&vm->status_text, *status ? status : NULL) < 0)
        log_oom();
    if (*status)
        take(vm, READINESS_SPOKE, NULL);
    vm->host->changed(vm, vm->host->userdata);
}

/* --- from the beginning to the end of a run --- */

void vm_readiness_reset(MicroVM *vm)
{
    ReadinessRules rules = readiness_rules(vm->booted);

    vm_readiness_end(vm);
    readiness_begin(&vm->record.readiness, &rules, now_boottime_usec());
    vm_readiness_tell(vm);
}

void vm_readiness_begin(MicroVM *vm)
{
    if (!vm->booted || vm->booted->readiness_type == READINESS_NONE)
        return;
    if (vm->record.readiness.begun_boot_usec == 0)
        vm_readiness_reset(vm); /* its start is not on record */
    if (!vm->readiness) {
        vm->readiness = calloc(1, sizeof(*vm->readiness));
        if (!vm->readiness) {
            log_oom();
            return;
        }
        vm->readiness->vm = vm;
    }
    vm_readiness_tell(vm);
    look(vm);
    finish_waiting(vm);
}

void vm_readiness_follow(MicroVM *vm)
{
    bool paused = vm->record.state == MICROVM_PAUSED;

    take(vm, paused ? READINESS_PAUSED : READINESS_RESUMED, NULL);
    look(vm);
    if (vm->readiness && state_is_up(vm->record.state))
        finish_waiting(vm); /* it may have been quicker than the driver's answer to its start */
}

void vm_readiness_end(MicroVM *vm)
{
    VmReadiness *readiness = vm->readiness;

    vm->readiness = NULL;
    if (readiness) {
        sd_event_source_disable_unref(readiness->deadline);
        free(readiness);
    }
    free(vm->readiness_detail);
    free(vm->readiness_reason);
    free(vm->status_text);
    vm->readiness_detail = vm->readiness_reason = vm->status_text = NULL;
}
