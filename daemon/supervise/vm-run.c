/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a run: admission, preparation, launch, end. */
#include "supervise/vm.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/say.h"
#include "microvm/messages.h"
#include "resource/console-log.h"
#include "supervise/vm-past.h"

#include <sys/random.h>

enum {
    CONSOLE_TAIL = 64 * 1024, /* of the log, to find out how a run ended */
};

/* The console log is written by another process (virtlogd): what a dying guest said may arrive after its end.
 */
#define SETTLE_USEC (250 * UINT64_C(1000))

void vm_admit(MicroVM *vm)
{
    _cleanup_free_ char *reason = NULL;
    int r;

    if (vm->record.state != MICROVM_WAITING)
        return;
    vm->held_by = MICROVM_HOLD_NONE;
    if (vm->chores > 0) {
        vm->held_by = MICROVM_HOLD_CLEANUP;
        vm_set_reason(vm, "cleaning up after its last run");
        return;
    }
    r = vm->host->admit(vm, &reason, vm->host->userdata);
    if (r > 0) {
        vm_event(vm, VM_EVENT_GO, "preparing its volumes and boot files");
    } else if (r == 0) {
        vm_set_reason(vm, reason ? reason : "held");
    } else {
        vm->record.result = r == -EBADMSG ? MICROVM_RESULT_CONFIG : MICROVM_RESULT_RESOURCES;
        vm_event(vm, VM_EVENT_GIVE_UP, "%s", reason ? reason : strerror(-r));
    }
}

/* --- what follows an end --- */

static RestartRules restart_rules(const VmSpec *spec)
{
    return (RestartRules){.policy = spec->restart_policy,
                          .on_reboot = spec->on_reboot,
                          .on_poweroff = spec->on_poweroff,
                          .delay_usec = spec->restart_delay_usec,
                          .max_delay_usec = spec->restart_max_delay_usec,
                          .factor = spec->restart_factor,
                          .start_limit = spec->restart_start_limit,
                          .limit_interval_usec = spec->restart_limit_interval_usec};
}

/* microvmd ended it itself: that it did as it was told does not make it a success. */
static void apply_condemned(const Condemned *condemned, Ending *ending)
{
    if (!condemned->text)
        return;
    ending->kind = ENDING_FAILURE;
    ending->result = condemned->result;
    if (free_and_strdup(&ending->text, condemned->text) < 0)
        log_oom();
}

/* Whether its definition wants it off after such an end. */
static void judge(MicroVM *vm, const Ending *ending)
{
    Condemned *condemned = &vm->record.condemned;
    bool panic =
        ending->result == MICROVM_RESULT_GUEST_PANIC && vm->booted && vm->booted->on_panic == ON_PANIC_FAIL;
    bool hung = ending->result == MICROVM_RESULT_WATCHDOG && vm->booted &&
                vm->booted->watchdog_action == ON_TIMEOUT_FAIL;

    if (ending->kind != ENDING_FAILURE || condemned->text || !(panic || hung))
        return;
    *condemned = (Condemned){
        .result = ending->result, .for_good = true, .text = strdup(ending->text ? ending->text : "")};
}

/* For a delay; one to which chance adds nothing is no harm. */
static uint32_t throw_dice(void)
{
    uint32_t chance;

    return getrandom(&chance, sizeof(chance), GRND_NONBLOCK) == sizeof(chance) ? chance : 0;
}

static void decide(MicroVM *vm, const Ending *ending, EndCause cause, uint64_t ran_usec)
{
    static const VmEvent events[] = {
        [RESTART_VERDICT_OFF] = VM_EVENT_ENDED_OFF,
        [RESTART_VERDICT_FAILED] = VM_EVENT_ENDED_FAILED,
        [RESTART_VERDICT_RETRY] = VM_EVENT_ENDED_RETRY,
        [RESTART_VERDICT_AGAIN] = VM_EVENT_ENDED_AGAIN,
    };
    uint64_t now = now_boottime_usec();
    const VmSpec *spec = vm_current_spec(vm);
    RestartRules rules = spec ? restart_rules(spec) : (RestartRules){0};
    RestartVerdict verdict;

    if (!vm->spec)
        rules = (RestartRules){.never = "it has no definition any more"};
    else if (vm->record.condemned.for_good)
        rules.never = "its definition wants it given up then";
    verdict = restart_decide(ending, &rules, vm->record.again && vm->spec, ran_usec, now, throw_dice(),
                             &vm->record.history);
    vm->record.result = verdict.result;
    vm->record.last_stop = ending->last_stop;
    vm_note_end(vm, ending, cause);
    if (verdict.kind == RESTART_VERDICT_RETRY)
        vm->record.next_restart_boot_usec = now + verdict.delay_usec;
    if (ending->kind == ENDING_REBOOT && verdict.kind == RESTART_VERDICT_AGAIN)
        vm->record.n_restarts++;
    vm_event(vm, events[verdict.kind], "%s", verdict.text ? verdict.text : "ended");
    free(verdict.text);
}

/* --- launch --- */

void vm_accel_facts(const MicroVM *vm, const RunUser *user, AccelFacts *ret_facts)
{
    vm->driver->ops->accel_facts(vm->driver, ret_facts);
    if (user->named)
        ret_facts->device_error = user->kvm_error;
}

static int choose_accel(MicroVM *vm, const AccelFacts *facts, char **ret_error)
{
    _cleanup_free_ char *reason = NULL;
    Accel accel;
    int r;

    r = accel_choose(vm->booted->accel, facts, vm->had_kvm, &accel, &reason);
    if (r < 0) {
        *ret_error = TAKE_PTR(reason);
        return r;
    }
    if (vm->record.accel != accel || !streq(vm->record.accel_reason, reason))
        log_vm_info(vm->name, "Running under %s: %s.", accel_to_string(accel), reason ? reason : "");
    vm->record.accel = accel;
    free(vm->record.accel_reason);
    vm->record.accel_reason = TAKE_PTR(reason);
    return 0;
}

/* What the plan has put in place for the hypervisor. */
typedef struct RunFiles {
    char *kernel, *initrd, *console_log, *notify;
    unsigned notify_port;
    char **credentials;
    size_t n_credentials;
} RunFiles;

static void run_files_clear(RunFiles *files)
{
    for (size_t i = 0; i < files->n_credentials; i++)
        free(files->credentials[i]);
    free(files->credentials);
    free(files->kernel);
    free(files->initrd);
    free(files->console_log);
    free(files->notify);
}

/* -ENOMEM leaves what can be cleared. */
static int run_files_find(const MicroVM *vm, RunFiles *files)
{
    const VmSpec *spec = vm->booted;

    files->console_log = console_log_path(vm->state_dir, 0, -1);
    files->credentials = calloc(spec->n_credentials + 1, sizeof(*files->credentials));
    if (!files->console_log || !files->credentials)
        return -ENOMEM;
    if (vm_spec_wants_notify(spec) && asprintf(&files->notify, "%s/" NOTIFY_SOCKET, vm->runtime_dir) < 0)
        return -ENOMEM;
    files->notify_port = files->notify ? vm->host->notify_vsock_port : 0;
    if (spec->kernel && asprintf(&files->kernel, "%s/kernel", vm->runtime_dir) < 0)
        return -ENOMEM;
    if (spec->initrd && asprintf(&files->initrd, "%s/initrd", vm->runtime_dir) < 0)
        return -ENOMEM;
    for (; files->n_credentials < spec->n_credentials; files->n_credentials++) {
        char *path = credential_copy_path(vm->runtime_dir, spec->credentials[files->n_credentials].name);
        if (!path)
            return -ENOMEM;
        files->credentials[files->n_credentials] = path;
    }
    return 0;
}

static int start_driver(MicroVM *vm, char **ret_error)
{
    _cleanup_(run_files_clear)
    RunFiles files = {0};
    _cleanup_free_ char *cmdline = NULL;
    AccelFacts facts;
    int r;

    vm_accel_facts(vm, &vm->user, &facts);
    r = choose_accel(vm, &facts, ret_error);
    if (r < 0)
        return r;
    cmdline = kernel_command_line(vm->booted, vm->record.accel == ACCEL_TCG ? facts.tsc_khz : 0);
    r = cmdline ? run_files_find(vm, &files) : -ENOMEM;
    if (r >= 0)
        r = sd_id128_randomize(&vm->record.generation);
    if (r < 0)
        return r;
    vm->record.driver = vm->driver->kind;
    vm->record.start_usec = now_realtime_usec();
    vm->record.start_boot_usec = now_boottime_usec();
    vm_readiness_reset(vm);
    fault_point("before the start is on record");
    vm_save(vm); /* the generation must be on record before there is anything that carries it */
    fault_point("after the start is on record");
    vm->prepared_usec = now_boottime_usec();
    return vm->driver->ops->start(vm->driver, &(StartRequest){
                                                  .spec = vm->booted,
                                                  .generation = vm->record.generation,
                                                  .accel = vm->record.accel,
                                                  .kernel = files.kernel,
                                                  .initrd = files.initrd,
                                                  .cmdline = cmdline,
                                                  .credentials = files.credentials,
                                                  .console_log = files.console_log,
                                                  .state_dir = vm->state_dir,
                                                  .block_volumes = vm->block_volumes,
                                                  .user = vm->user.named ? &vm->user.ids : NULL,
                                                  .notify_socket = files.notify,
                                                  .notify_vsock_port = files.notify_port,
                                              });
}

/* A start that failed follows the restart policy as a failure of its own kind; one that was ended is none. */
static void start_failed(MicroVM *vm, const char *text)
{
    bool stopping = vm->record.state == MICROVM_STOPPING;
    Ending ending = {.kind = stopping ? ENDING_STOPPED : ENDING_FAILURE,
                     .result = MICROVM_RESULT_RESOURCES,
                     .last_stop = vm->record.last_stop,
                     .text = (char *)(text ? text : "the hypervisor could not be started")};

    if (stopping && vm->record.stop_asked == STOP_ASKED_FORCE) {
        ending.result = MICROVM_RESULT_SUCCESS;
        ending.last_stop = MICROVM_LAST_STOP_FORCED;
        ending.text = (char *)"stopped by force before the guest had started";
    }
    decide(vm, &ending, END_MAX, 0);
}

static void launch(MicroVM *vm)
{
    _cleanup_free_ char *error = NULL;
    int r;

    r = start_driver(vm, &error);
    if (r == -EHOSTDOWN)
        return; /* it went away this moment: its return tells what there is (vm_driver_synced) */
    if (r == -EOPNOTSUPP && vm->user.named)
        error = say("its hypervisor can't run as user %s: this libvirt runs all of them as itself; see "
                    "\"libvirt\" in "
                    "host.json",
                    vm->booted->user);
    if (r < 0)
        start_failed(vm, error ? error : strerror(-r));
}

/* --- end --- */

static int on_settled(sd_event_source *source, uint64_t usec, void *userdata)
{
    MicroVM *vm = userdata;
    _cleanup_free_ char *tail = NULL, *detail = NULL,
                        *climbed = stop_ladder_tell_end(&vm->record.stop, vm->end_boot_usec);
    uint64_t now = now_boottime_usec(), ran = 0;
    size_t size = 0;
    EndingFacts facts = {.cause = vm->end_cause,
                         .driver_text = vm->end_text,
                         .asked = vm->record.stop_held ? STOP_ASKED : vm->record.stop_asked,
                         .climbed = climbed};
    Ending ending;

    vm->settle_timer = sd_event_source_disable_unref(vm->settle_timer);
    vm->settling = false;
    vm->console = console_free(vm->console);
    if (console_log_tail(vm->state_dir, CONSOLE_TAIL, &tail, &size) >= 0)
        facts.evidence = console_evidence(tail, size, &detail);
    /* A guest's own words are not for everyone, whom the reason of a state is for: the journal has readers of
     * its own. */
    if (detail)
        log_fields(LOG_WARNING, vm->name, 0, (const char *[]){"MESSAGE_ID=" MICROVM_MESSAGE_PANIC, NULL},
                   "The guest's kernel panicked: %s", detail);
    ending = ending_classify(&facts);
    judge(vm, &ending);
    apply_condemned(&vm->record.condemned, &ending);
    if (vm->record.start_boot_usec > 0 && now > vm->record.start_boot_usec)
        ran = now - vm->record.start_boot_usec;
    decide(vm, &ending, vm->end_cause, ran);
    free(ending.text);
    return 0;
}

/* Whether the console's last words may change what the driver said. */
static bool console_matters(EndCause cause)
{
    return cause == END_REBOOT || cause == END_SHUTDOWN || cause == END_LOST || cause == END_PANIC;
}

void vm_ended(MicroVM *vm, EndCause cause, const char *text)
{
    _cleanup_free_ char *tail = NULL, *detail = NULL;
    size_t size = 0;
    bool said;

    if (vm->settling)
        return;
    vm->settling = true;
    vm->end_cause = cause;
    vm->end_boot_usec = now_boottime_usec();
    vm->pid = 0;
    free(vm->unit);
    vm->unit = NULL;
    if (free_and_strdup(&vm->end_text, text) < 0)
        log_oom();
    said = console_log_tail(vm->state_dir, CONSOLE_TAIL, &tail, &size) >= 0 &&
           console_evidence(tail, size, &detail) != EVIDENCE_NONE;
    if (console_matters(cause) && cause != END_LOST && !said &&
        !(vm->driver && !vm->driver->rotates_console) &&
        sd_event_add_time_relative(vm->host->event, &vm->settle_timer, CLOCK_MONOTONIC, SETTLE_USEC, 0,
                                   on_settled, vm) >= 0)
        return;
    on_settled(NULL, 0, vm);
}

/* --- what the driver says --- */

void vm_run_beside(MicroVM *vm, bool adopted)
{
    int r;

    vm_readiness_begin(vm);
    vm_notify_begin(vm);
    if (!vm->driver || vm->logs)
        return;
    r = vm_logs_new(vm, adopted, &vm->logs);
    if (r < 0)
        log_full(LOG_WARNING, vm->name, r, "Its logs in %s are not looked after: %m", vm->state_dir);
}

static void started(MicroVM *vm, const DriverEvent *event)
{
    fault_point("before it counts as started");
    vm->pid = event->run.pid;
    if (free_and_strdup(&vm->unit, event->run.unit) < 0)
        log_oom();
    program_file_take(&vm->record.files.hypervisor, vm->pid);
    program_file_take(&vm->record.files.helper, event->run.helper);
    vm_note_process(vm);
    vm_run_beside(vm, false);
    if (vm->launch_usec > 0) /* by this daemon */
        log_vm_debug(vm->name, "Started in %.1f ms: %.1f ms to prepare it, %.1f ms in the driver's own call.",
                     (double)(now_boottime_usec() - vm->launch_usec) / 1000,
                     (double)(vm->prepared_usec - vm->launch_usec) / 1000, (double)event->call_usec / 1000);
    vm_clean(vm, true);
    vm_event(vm, VM_EVENT_LAUNCHED, "the guest is running");
    if (event->run.paused) /* somebody was quicker than the answer to our call */
        vm_event(vm, VM_EVENT_PAUSED, "%s", vm_doing(vm, true));
}

static void answer_waiter(MicroVM *vm, int error, const char *text)
{
    vm_done_fn done = vm->waiter.done;

    vm->waiter.done = NULL;
    if (done)
        done(error, text, vm->waiter.userdata);
}

static void answer_done(MicroVM *vm, DriverEventType event)
{
    if (vm->waiter.event == event)
        answer_waiter(vm, 0, NULL);
}

static void call_failed(MicroVM *vm, const DriverEvent *event)
{
    log_full(LOG_WARNING, vm->name, event->error, "%s",
             event->text ? event->text : "The driver failed: no reason given.");
    answer_waiter(vm, event->error, event->text);
    if (vm->record.state == MICROVM_STARTING ||
        (vm->record.state == MICROVM_STOPPING && !stop_ladder_forces(&vm->record.stop)))
        vm_set_reason(vm, event->text ? event->text : "its driver failed; waiting");
    /* It may yet come up; whoever waits for that is not to wait for ever. */
    if (vm->record.state == MICROVM_STARTING)
        vm_finish_job(vm, MICROVM_JOB_TIMEOUT, vm->record.reason);
}

void vm_driver_event(MicroVM *vm, const DriverEvent *event)
{
    if (!sd_id128_equal(event->generation, vm->record.generation)) {
        log_vm_debug(vm->name, "Dropped an event of a former run.");
        return;
    }
    vm_note_driver_event(vm, event);
    switch (event->type) {
    case DRIVER_STARTED:
        started(vm, event);
        break;
    case DRIVER_START_FAILED:
        start_failed(vm, event->text ? event->text : strerror(-event->error));
        break;
    case DRIVER_PAUSED:
        vm_event(vm, VM_EVENT_PAUSED, "the guest is paused");
        answer_done(vm, event->type);
        break;
    case DRIVER_RESUMED:
        vm_event(vm, VM_EVENT_RESUMED, "%s", vm_doing(vm, false));
        answer_done(vm, event->type);
        break;
    case DRIVER_MEMORY_SET:
        answer_done(vm, event->type);
        break;
    case DRIVER_MEMORY_IS:
        vm->record.memory = event->memory;
        vm_save(vm);
        vm->host->changed(vm, vm->host->userdata);
        break;
    case DRIVER_ENDED:
        answer_waiter(vm, -ESRCH, "it ended");
        vm_ended(vm, event->cause, event->text);
        break;
    case DRIVER_CALL_FAILED:
        call_failed(vm, event);
        break;
    case DRIVER_STOP_REFUSED:
        log_vm_warning(vm->name, "%s.", event->text ? event->text : "The guest refuses to shut down");
        vm_stop_refused(vm, event->action);
        break;
    default:
        break;
    }
}

/* --- what the door asks for --- */

static int on_restart_due(sd_event_source *source, uint64_t usec, void *userdata)
{
    MicroVM *vm = userdata;

    vm->restart_timer = sd_event_source_disable_unref(vm->restart_timer);
    vm->record.n_restarts++;
    vm_event(vm, VM_EVENT_DUE, "restarting");
    return 0;
}

static void arm_restart_timer(MicroVM *vm)
{
    int r;

    vm->restart_timer = sd_event_source_disable_unref(vm->restart_timer);
    r = sd_event_add_time(vm->host->event, &vm->restart_timer, CLOCK_BOOTTIME,
                          vm->record.next_restart_boot_usec, 0, on_restart_due, vm);
    if (r < 0)
        log_full(LOG_ERR, vm->name, r, "Can't time its restart: %m");
}

void vm_act(MicroVM *vm, unsigned actions)
{
    if (actions & VM_ACTION_CLEAN)
        vm_clean(vm, false);
    if (actions & VM_ACTION_DELAY)
        arm_restart_timer(vm);
    if (actions & VM_ACTION_RESUME)
        vm->driver->ops->set_paused(vm->driver, vm->name, vm->record.generation, false);
    if (actions & VM_ACTION_ASK)
        vm_stop_ask(vm);
    if (actions & VM_ACTION_FORCE)
        vm_stop_force(vm);
    if (actions & VM_ACTION_ADMIT)
        vm_admit(vm);
    if (actions & VM_ACTION_PREPARE)
        vm_prepare(vm);
    if (actions & VM_ACTION_LAUNCH)
        launch(vm);
}
