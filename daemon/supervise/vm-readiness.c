/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looks for the readiness of a run, and does what its definition wants when it does not come. */
#include "supervise/vm.h"

#include "base/log.h"
#include "base/say.h"
#include "base/utf8.h"
#include "launch/errand.h"
#include "supervise/console-watch.h"
#include "supervise/probe.h"
#include "supervise/vm-past.h"

enum {
    STATUS_MAX = 256, /* bytes of what a guest says of itself */
};

/* How long one try may take, by its type, and the pause before the next one: see microvm-definition(5). */
#define TRY_TCP_USEC     (UINT64_C(2) * 1000000)
#define TRY_HTTP_USEC    (UINT64_C(5) * 1000000)
#define TRY_COMMAND_USEC (UINT64_C(30) * 1000000)
#define PAUSE_USEC       (UINT64_C(500) * 1000)
#define LATE_PAUSE_USEC  (UINT64_C(5) * 1000000) /* of one that is late: it may never come */

/* In the state directory: what the command said at its last try. */
#define COMMAND_OUTPUT "readiness.log"

struct VmReadiness {
    sd_event_source *deadline, *again;
    ConsoleWatch *console;
    bool heard_all; /* of the console: nothing more is to be heard */
    Probe *probe;
    Errand *errand;
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

static void take(MicroVM *vm, ReadinessEvent event, const char *text);

/* --- the console --- */

static void on_heard(bool matched, void *userdata)
{
    MicroVM *vm = userdata;
    VmReadiness *readiness = vm->readiness;
    bool listens_on = vm->booted->readiness_type == READINESS_CONSOLE && !matched;

    if (!listens_on) {
        readiness->console = console_watch_free(readiness->console);
        readiness->heard_all = true;
    }
    take(vm, READINESS_KERNEL_UP, NULL);
    if (matched)
        take(vm, READINESS_IS_READY, "a line on its console matched");
}

/* Whether its console is to be listened on: for the first word of its kernel, or for the one that counts. */
static bool wants_console(const MicroVM *vm)
{
    const Readiness *readiness = &vm->record.readiness;

    if (vm->readiness->heard_all || !vm->booted->qemu_serial_console || !state_is_up(vm->record.state))
        return false;
    return vm->booted->readiness_type == READINESS_CONSOLE ? readiness_is_open(readiness)
                                                           : readiness->kernel.boot_usec == 0;
}

static void listen_on_console(MicroVM *vm)
{
    VmReadiness *readiness = vm->readiness;
    int r;

    if (!wants_console(vm)) {
        readiness->console = console_watch_free(readiness->console);
        return;
    }
    if (readiness->console)
        return;
    r = console_watch_new(vm->host->event, vm->state_dir, vm->booted->readiness_pattern, on_heard, vm,
                          &readiness->console);
    if (r < 0) {
        readiness->heard_all = true;
        log_full(LOG_WARNING, vm->name, r, "Its console can't be listened on: %m");
    }
}

/* --- tries --- */

static bool wants_tries(const MicroVM *vm)
{
    ReadinessType type = vm->booted->readiness_type;

    return (type == READINESS_TCP || type == READINESS_HTTP || type == READINESS_COMMAND) &&
           vm->record.state == MICROVM_RUNNING && !vm->settling && readiness_is_open(&vm->record.readiness);
}

static void end_try(VmReadiness *readiness)
{
    readiness->again = sd_event_source_disable_unref(readiness->again);
    readiness->probe = probe_free(readiness->probe);
    errand_forget(readiness->errand);
    readiness->errand = NULL;
}

static void look(MicroVM *vm);

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
    MicroVM *vm = userdata;

    vm->readiness->again = sd_event_source_disable_unref(vm->readiness->again);
    look(vm);
    return 0;
}

static void on_tried(const char *why, void *userdata)
{
    MicroVM *vm = userdata;
    bool late;

    end_try(vm->readiness);
    if (!why) {
        take(vm, READINESS_IS_READY,
             vm->booted->readiness_type == READINESS_COMMAND ? "its command succeeded"
                                                             : "the guest answered");
        return;
    }
    late = vm->record.readiness.state == MICROVM_READINESS_TIMED_OUT;
    if (sd_event_add_time_relative(vm->host->event, &vm->readiness->again, CLOCK_MONOTONIC,
                                   late ? LATE_PAUSE_USEC : PAUSE_USEC, 0, on_again, vm) < 0)
        log_oom();
    vm_readiness_detail(vm, why);
}

static int try_port(MicroVM *vm)
{
    const VmSpec *spec = vm->booted;
    const ForwardSpec *forward = vm_spec_forward_to(spec, spec->readiness_port);
    bool http = spec->readiness_type == READINESS_HTTP;
    const char *path = spec->readiness_path ? spec->readiness_path : "/";
    ProbeTarget target = {.address = spec->readiness_address,
                          .port = (uint16_t)spec->readiness_port,
                          .routed = spec->readiness_address,
                          .path = http ? path : NULL};

    if (!target.routed && !forward)
        return -EDESTADDRREQ;
    if (!target.routed) {
        target.address = forward->host_address;
        target.port = (uint16_t)forward->host_port;
    }
    return probe_new(vm->host->event, &target, http ? TRY_HTTP_USEC : TRY_TCP_USEC, on_tried, vm,
                     &vm->readiness->probe);
}

static void on_command_done(int error, const char *text, void *userdata)
{
    MicroVM *vm = userdata;

    vm->readiness->errand = NULL;
    on_tried(error < 0 ? (text ? text : strerror(-error)) : NULL, vm);
}

static int try_command(MicroVM *vm)
{
    _cleanup_free_ char *output = NULL;

    if (asprintf(&output, "%s/" COMMAND_OUTPUT, vm->state_dir) < 0) {
        output = NULL;
        return -ENOMEM;
    }
    return errand_run(&(ErrandRequest){.event = vm->host->event,
                                       .workers = vm->host->files,
                                       .name = vm->name,
                                       .runtime_dir = vm->runtime_dir,
                                       .generation = vm->record.generation,
                                       .pid = vm->pid,
                                       .argv = vm->booted->readiness_command,
                                       .output = output,
                                       .output_anew = true,
                                       .uid_dir = vm->host->uid_dir,
                                       .first_uid = vm->host->first_uid,
                                       .timeout_usec = TRY_COMMAND_USEC},
                      on_command_done, vm, &vm->readiness->errand);
}

static void try_it(MicroVM *vm)
{
    VmReadiness *readiness = vm->readiness;
    int r;

    if (!wants_tries(vm)) {
        end_try(readiness);
        return;
    }
    if (readiness->again || readiness->probe || readiness->errand)
        return;
    r = vm->booted->readiness_type == READINESS_COMMAND ? try_command(vm) : try_port(vm);
    if (r < 0)
        on_tried(strerror(-r), vm);
}

/* Brings what looks for it in line with what there is to look for. */
static void look(MicroVM *vm)
{
    if (!vm->readiness)
        return;
    arm_deadline(vm);
    listen_on_console(vm);
    try_it(vm);
}

/* (Of a silent guest, of which nothing is claimed, the end of its time is no news.) */
static void note_news(MicroVM *vm, ReadinessEvent event)
{
    bool expected = vm->record.readiness.state != MICROVM_READINESS_NONE;

    if (expected && vm->readiness_reason &&
        (event == READINESS_IS_READY || event == READINESS_IS_NOT || event == READINESS_DEADLINE))
        vm_note_readiness(vm, vm->readiness_reason);
}

static void take(MicroVM *vm, ReadinessEvent event, const char *text)
{
    ReadinessRules rules;
    ReadinessVerdict verdict;

    if (!vm->booted || vm->settling ||
        (!state_is_up(vm->record.state) && vm->record.state != MICROVM_STARTING))
        return;
    rules = readiness_rules(vm->booted);
    verdict = readiness_take(&vm->record.readiness, &rules, event, text, now_instant());
    if (verdict == READINESS_SAME)
        return;
    vm_readiness_tell(vm);
    note_news(vm, event);
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
        console_watch_free(readiness->console);
        end_try(readiness);
        free(readiness);
    }
    free(vm->readiness_detail);
    free(vm->readiness_reason);
    free(vm->status_text);
    vm->readiness_detail = vm->readiness_reason = vm->status_text = NULL;
}
