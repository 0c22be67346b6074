/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people ask for. Jobs are as systemd's: the call returns when the job is accepted, the job outlives its
 * caller. */
#include "supervise/vm.h"

#include "base/log.h"
#include "base/say.h"
#include "supervise/vm-past.h"

#include <inttypes.h>

#define MEBIBYTE (UINT64_C(1) << 20)

static void supersede(MicroVM *vm, void (*finish)(MicroVM *, MicrovmJobResult, const char *),
                      MicrovmJobVerb verb)
{
    char reason[64];

    snprintf(reason, sizeof(reason), "a later %s took its place", microvm_job_verb_to_string(verb));
    finish(vm, MICROVM_JOB_SUPERSEDED, reason);
}

/*
 * The job for `verb`: the one there is if it is the same, else a new one, before which the old one gives way.
 */
static uint64_t take_job(MicroVM *vm, MicrovmJobVerb verb)
{
    if (vm->save_timer) /* what people want is not to be lost with what could not be written before */
        vm_save(vm);
    /* A restart starts it, too. */
    if (vm->ready_job.id != 0 && vm->ready_job.verb != verb && verb != MICROVM_JOB_START)
        supersede(vm, vm_finish_ready_job, verb);
    if (vm->job.id != 0 && vm->job.verb == verb)
        return vm->job.id;
    if (vm->job.id != 0)
        supersede(vm, vm_finish_job, verb);
    vm->job = (Job){++vm->host->last_job_id, verb};
    vm->host->changed(vm, vm->host->userdata);
    return vm->job.id;
}

int vm_may_start(MicroVM *vm, char **ret_error)
{
    if (vm->definition_error)
        return say_why(ret_error, -EBADMSG, "%s", vm->definition_error);
    if (!vm->spec)
        return say_why(ret_error, -EBADMSG, "%s has no definition any more: it can be stopped, not started",
                       vm->name);
    if (vm->record.state == MICROVM_FAILED && vm->record.result == MICROVM_RESULT_START_LIMIT)
        return say_why(ret_error, -ECANCELED,
                       "%s was started too often; find out why (microvmctl why %s), then run \"microvmctl "
                       "reset-failed %s\"",
                       vm->name, vm->name, vm->name);
    return 0;
}

/* While a run ends, or is being stopped, a start is noted down and happens after the end. */
static bool is_ending(const MicroVM *vm)
{
    return vm->record.state == MICROVM_STOPPING || vm->settling;
}

/* `fallback`: what it is to start with instead of its definition; NULL: its definition. */
static int take_fallback(MicroVM *vm, VmSpec *fallback)
{
    char *text;

    if (fallback == vm->fallback)
        return 0;
    text = fallback ? vm_spec_to_json(fallback) : NULL;
    if (fallback && !text)
        return -ENOMEM;
    vm_drop_fallback(vm);
    vm->fallback = vm_spec_ref(fallback);
    vm->record.fallback = text;
    return 0;
}

/* Accepts a start of what does not run; `why` is for people; `by`: the microVM that needs it, or NULL. */
static int accept_start(MicroVM *vm, VmSpec *fallback, const char *why, const MicroVM *by, uint64_t *ret_job,
                        char **ret_error)
{
    int r;

    r = vm_may_start(vm, ret_error);
    if (r >= 0)
        r = take_fallback(vm, fallback);
    if (r < 0)
        return r;
    vm->record.decided = vm->record.wanted = true;
    vm_note_asked(vm, MICROVM_JOB_START, by ? MICROVM_ASKED_BY_DEPENDENCY : MICROVM_ASKED_BY_CALLER,
                  by ? by->name : NULL);
    if (vm->job.id != 0 && vm->job.verb == MICROVM_JOB_RESTART)
        *ret_job = vm->job.id; /* a restart starts it, too */
    else
        *ret_job = take_job(vm, MICROVM_JOB_START);
    vm->pulls_in = true;
    if (is_ending(vm))
        vm->record.again = true;
    if (is_ending(vm) || !vm_event(vm, VM_EVENT_START, "%s", why))
        vm_save(vm); /* no change of state puts it on record */
    return 0;
}

/* Its guest knows nothing of that stop yet, so it can still be taken back. */
static void drop_held_stop(MicroVM *vm)
{
    vm->record.stop_held = false;
    vm->record.wanted = true;
    vm_set_reason(vm, vm_doing(vm, vm->record.state == MICROVM_PAUSED));
    vm_save(vm);
}

static int request_start(MicroVM *vm, VmSpec *fallback, uint64_t *ret_job, char **ret_error)
{
    if (state_is_up(vm->record.state) && !vm->settling) {
        *ret_job = take_job(vm, MICROVM_JOB_START);
        if (vm->record.stop_held)
            drop_held_stop(vm);
        vm_finish_job(vm, MICROVM_JOB_DONE, "it was running already");
        return 0;
    }
    return accept_start(vm, fallback, "start asked for", NULL, ret_job, ret_error);
}

int vm_request_start(MicroVM *vm, uint64_t *ret_job, char **ret_error)
{
    return request_start(vm, NULL, ret_job, ret_error);
}

int vm_may_wait_ready(const MicroVM *vm, MicrovmJobVerb verb, char **ret_error)
{
    bool runs = verb == MICROVM_JOB_START && state_is_up(vm->record.state);
    const VmSpec *spec = runs ? vm->booted : vm->spec;

    if (spec && spec->readiness_type == READINESS_NONE)
        return say_why(
            ret_error, -EOPNOTSUPP,
            "the definition that %s %s with has no \"readiness\", so that there is nothing to wait "
            "for",
            vm->name, runs ? "runs" : "starts");
    return 0;
}

uint64_t vm_wait_ready(MicroVM *vm, MicrovmJobVerb verb)
{
    uint64_t id;

    if (vm->ready_job.id == 0) {
        vm->ready_job = (Job){++vm->host->last_job_id, verb};
        vm->host->changed(vm, vm->host->userdata);
    }
    id = vm->ready_job.id;
    if (state_is_up(vm->record.state) && !vm->settling)
        vm_readiness_begin(vm); /* which may be over */
    return id;
}

int vm_request_autostart(MicroVM *vm, uint64_t *ret_job, char **ret_error)
{
    return request_start(vm, vm->fallback, ret_job, ret_error);
}

int vm_pull_in(MicroVM *vm, const MicroVM *by, char **ret_error)
{
    char why[128];
    uint64_t job;

    /* It is to stop, but only when others have: who needs it keeps it, as it does one that is stopping. */
    if (state_is_up(vm->record.state) && !vm->settling && vm->record.stop_held)
        return request_start(vm, vm->fallback, &job, ret_error);
    if ((state_is_up(vm->record.state) && !vm->settling) || vm_is_coming(vm) ||
        vm->record.state == MICROVM_BACKOFF)
        return 0;
    snprintf(why, sizeof(why), "started for %s", by->name);
    return accept_start(vm, vm->fallback, why, by, &job, ret_error);
}

bool vm_is_coming(const MicroVM *vm)
{
    return state_is_coming(vm->record.state) || (is_ending(vm) && vm->record.again);
}

static const char *why_away(const MicroVM *vm)
{
    return vm->driver_reason ? vm->driver_reason
                             : "microvmd has just begun and first asks what runs: try again in a moment";
}

static int may_stop(MicroVM *vm, char **ret_error)
{
    if (state_is_alive(vm->record.state) && !vm->driver_online)
        return say_why(ret_error, -EHOSTDOWN, "%s can't be stopped now: %s", vm->name, why_away(vm));
    return 0;
}

static void hold_stop(MicroVM *vm, const StopOptions *options)
{
    vm->record.held_boot_usec = now_boottime_usec();
    vm->record.held_timeout_usec = options->timeout_usec;
    vm->record.held_is_budget = options->timeout_is_budget;
    vm->record.stop_held = true;
    vm_save(vm);
}

static const char *why_stopped(const MicroVM *vm)
{
    return vm->record.past.asked.by == MICROVM_ASKED_BY_SHUTDOWN ? "the host is shutting down"
                                                                 : "stop asked for";
}

static void release_stop(MicroVM *vm, bool force)
{
    StopOptions options = {.force = force,
                           .timeout_usec = vm->record.held_timeout_usec,
                           .timeout_is_budget = vm->record.held_is_budget};
    uint64_t waited = now_boottime_usec() - vm->record.held_boot_usec;

    vm->record.stop_held = false;
    if (options.timeout_is_budget && options.timeout_usec != UINT64_MAX)
        options.timeout_usec -= MIN(waited, options.timeout_usec);
    vm_stop_begin(vm, &options, why_stopped(vm));
}

void vm_release_stop(MicroVM *vm)
{
    release_stop(vm, false);
}

int vm_request_stop(MicroVM *vm, const StopOptions *options, uint64_t *ret_job, char **ret_error)
{
    MicrovmState state = vm->record.state;
    int r;

    r = may_stop(vm, ret_error);
    if (r < 0)
        return r;
    *ret_job = take_job(vm, MICROVM_JOB_STOP);
    vm->record.again = vm->pulls_in = false;
    condemned_clear(&vm->record.condemned);
    vm_note_asked(vm, MICROVM_JOB_STOP, MICROVM_ASKED_BY_CALLER, NULL);
    vm->record.decided = true;
    vm->record.wanted = false;
    vm_save(vm);
    if (state == MICROVM_INACTIVE || state == MICROVM_FAILED)
        vm_finish_job(vm, MICROVM_JOB_DONE, "it was not running");
    else if (options->held && !options->force && state_is_up(state) && !vm->settling)
        hold_stop(vm, options);
    else
        vm_stop_begin(vm, options, why_stopped(vm));
    return 0;
}

void vm_condemn(MicroVM *vm, MicrovmResult result, bool for_good, bool force, const char *why)
{
    if (!state_is_up(vm->record.state) || vm->settling)
        return;
    if (vm->record.stop_held) { /* a person's stop, which no policy undoes: it only comes before its turn */
        release_stop(vm, force);
        return;
    }
    condemned_clear(&vm->record.condemned);
    vm->record.condemned = (Condemned){.result = result, .for_good = for_good, .text = strdup(why)};
    if (!vm->record.condemned.text) {
        log_oom();
        return;
    }
    vm_stop_begin(vm, &(StopOptions){.force = force, .timeout_usec = UINT64_MAX}, why);
}

static int request_restart(MicroVM *vm, VmSpec *fallback, const StopOptions *options, uint64_t *ret_job,
                           char **ret_error)
{
    int r;

    if (!state_is_alive(vm->record.state) && vm->record.state != MICROVM_PREPARING)
        return request_start(vm, fallback, ret_job, ret_error);
    r = vm_may_start(vm, ret_error);
    if (r >= 0)
        r = may_stop(vm, ret_error);
    if (r >= 0)
        r = take_fallback(vm, fallback);
    if (r < 0)
        return r;
    *ret_job = take_job(vm, MICROVM_JOB_RESTART);
    vm_note_asked(vm, MICROVM_JOB_RESTART, MICROVM_ASKED_BY_CALLER, NULL);
    vm->record.decided = vm->record.wanted = true;
    vm->pulls_in = true;
    vm->record.again = true;
    vm_stop_begin(vm, options,
                  fallback ? "going back to the definition that it ran with" : "restart asked for");
    return 0;
}

int vm_request_restart(MicroVM *vm, const StopOptions *options, uint64_t *ret_job, char **ret_error)
{
    return request_restart(vm, NULL, options, ret_job, ret_error);
}

int vm_request_fallback(MicroVM *vm, VmSpec *spec, uint64_t *ret_job, char **ret_error)
{
    /* It failed with what is given up now: that counts no more. */
    if (vm->record.state == MICROVM_FAILED)
        vm_request_reset_failed(vm);
    return request_restart(vm, spec, &(StopOptions){.timeout_usec = UINT64_MAX}, ret_job, ret_error);
}

static int must_run(MicroVM *vm, const char *verb, char **ret_error)
{
    if (!state_is_up(vm->record.state) && vm->record.state != MICROVM_STOPPING)
        return say_why(ret_error, -ESRCH, "%s is %s: there is nothing to %s", vm->name,
                       microvm_state_to_string(vm->record.state), verb);
    if (!vm->driver_online)
        return say_why(ret_error, -EHOSTDOWN, "%s: %s", vm->name, why_away(vm));
    return 0;
}

int vm_request_kill(MicroVM *vm, int signal, char **ret_error)
{
    int r;

    r = must_run(vm, "kill", ret_error);
    if (r < 0)
        return r;
    r = vm->driver->ops->kill(vm->driver, vm->name, vm->record.generation, signal);
    if (r < 0)
        return say_why(ret_error, r, "signal %d could not be sent to the hypervisor of %s: %s", signal,
                       vm->name, strerror(-r));
    vm_note_signal(vm, signal);
    return 0;
}

/* What the driver answers with an event: one at a time. */
static int may_wait(MicroVM *vm, const char *verb, char **ret_error)
{
    int r;

    r = must_run(vm, verb, ret_error);
    if (r < 0)
        return r;
    if (vm->record.state == MICROVM_STOPPING || vm->settling)
        return say_why(ret_error, -ESRCH, "%s is stopping", vm->name);
    if (vm->waiter.done)
        return say_why(ret_error, -EBUSY, "%s is being %s already; try again", vm->name,
                       vm->waiter.event == DRIVER_MEMORY_SET ? "told its memory" : "paused or resumed");
    return 0;
}

static void wait_for(MicroVM *vm, DriverEventType event, vm_done_fn done, void *userdata)
{
    vm->waiter.done = done;
    vm->waiter.userdata = userdata;
    vm->waiter.event = event;
}

int vm_request_memory(MicroVM *vm, uint64_t bytes, vm_done_fn done, void *userdata, char **ret_error)
{
    int r;

    r = may_wait(vm, "give memory to", ret_error);
    if (r < 0)
        return r;
    if (!vm->booted || !vm->booted->balloon)
        return say_why(
            ret_error, -EOPNOTSUPP,
            "%s runs without a memory balloon; give its definition \"balloon\": true, and restart it",
            vm->name);
    if (bytes < MEBIBYTE || bytes > vm->booted->mem_mib * MEBIBYTE)
        return say_why(ret_error, -ERANGE,
                       "%s can have from 1 to %" PRIu64 " MiB, what its definition gives it", vm->name,
                       vm->booted->mem_mib);
    r = vm->driver->ops->set_memory(vm->driver, vm->name, vm->record.generation, bytes);
    if (r < 0)
        return say_why(ret_error, r, "the balloon of %s can't be told: %s", vm->name, strerror(-r));
    wait_for(vm, DRIVER_MEMORY_SET, done, userdata);
    return 0;
}

int vm_request_pause(MicroVM *vm, bool pause, vm_done_fn done, void *userdata, char **ret_error)
{
    int r;

    r = may_wait(vm, pause ? "pause" : "resume", ret_error);
    if (r < 0)
        return r;
    if ((vm->record.state == MICROVM_PAUSED) == pause) {
        done(0, NULL, userdata);
        return 0;
    }
    r = vm->driver->ops->set_paused(vm->driver, vm->name, vm->record.generation, pause);
    if (r < 0)
        return say_why(ret_error, r, "%s could not be %s: %s", vm->name, pause ? "paused" : "resumed",
                       r == -EOPNOTSUPP ? "its hypervisor is a command" : strerror(-r));
    wait_for(vm, pause ? DRIVER_PAUSED : DRIVER_RESUMED, done, userdata);
    return 0;
}

void vm_reset_failed(MicroVM *vm, const char *reason)
{
    vm->record.history = (RestartHistory){0};
    vm->record.n_restarts = 0;
    if (vm->record.state == MICROVM_FAILED || vm->record.state == MICROVM_BACKOFF) {
        vm->record.result = MICROVM_RESULT_SUCCESS;
        vm_event(vm, VM_EVENT_RESET_FAILED, "%s", reason);
    } else {
        vm_save(vm);
    }
}

void vm_request_reset_failed(MicroVM *vm)
{
    vm_reset_failed(vm, "not running; its failure was reset");
}

void vm_autostart(MicroVM *vm)
{
    _cleanup_free_ char *ignored = NULL;

    if (vm->record.state != MICROVM_INACTIVE || vm_may_start(vm, &ignored) < 0)
        return;
    vm->record.decided = vm->record.wanted = true;
    vm->pulls_in = true;
    vm_note_asked(vm, MICROVM_JOB_START, MICROVM_ASKED_BY_AUTOSTART, NULL);
    vm_event(vm, VM_EVENT_START, "autostart at boot");
}

int vm_request_qmp(MicroVM *vm, const QmpCommand *command, uint64_t timeout_usec, driver_qmp_fn done,
                   void *userdata, char **ret_error)
{
    int r;

    r = must_run(vm, "ask", ret_error);
    if (r < 0)
        return r;
    if (!vm->driver->ops->qmp)
        return say_why(
            ret_error, -EOPNOTSUPP,
            "microvmd speaks QMP with the hypervisors that it runs itself, and %s is run by libvirt; "
            "use: virsh qemu-monitor-command %s '%s'",
            vm->name, vm->name, "{\"execute\": \"query-status\"}");
    r = vm->driver->ops->qmp(vm->driver, vm->name, vm->record.generation, command, timeout_usec, done,
                             userdata);
    if (r == -EOPNOTSUPP)
        return say_why(ret_error, r, "the hypervisor of %s is a command, which speaks no QMP", vm->name);
    if (r == -ENOTCONN)
        return say_why(ret_error, -EHOSTDOWN,
                       "the connection to the QEMU of %s has ended; it goes on without", vm->name);
    if (r == -EBUSY || r == -ENOBUFS)
        return say_why(ret_error, -EBUSY, "too many commands wait for the QEMU of %s", vm->name);
    return r;
}

static void on_console_idle(void *userdata)
{
    MicroVM *vm = userdata;

    vm->console = console_free(vm->console);
}

int vm_open_console(MicroVM *vm, const ConsoleOptions *options, QuotaUser *caller, int *ret_fd,
                    char **ret_error)
{
    const VmSpec *spec = vm_current_spec(vm);
    bool writes;
    int fd, r;

    r = must_run(vm, "attach to", ret_error);
    if (r < 0)
        return r;
    if (spec && !spec->qemu_serial_console)
        return say_why(ret_error, -EOPNOTSUPP,
                       "%s has no serial console (\"qemu\": { \"serialConsole\": false })", vm->name);
    if (!vm->console) {
        r = console_new(vm->host->event, vm->state_dir, on_console_idle, vm, &vm->console);
        if (r < 0)
            return r;
    }
    writes = !options->read_only && (options->take_over || !console_has_writer(vm->console));
    if (writes && !console_is_connected(vm->console)) {
        r = vm->driver->ops->open_console(vm->driver, vm->name, vm->record.generation, &fd);
        if (r >= 0)
            r = console_connect(vm->console, fd);
    }
    if (r >= 0)
        r = console_attach(vm->console, writes, options->lines, caller, ret_fd);
    if (r < 0 && console_is_idle(vm->console))
        vm->console = console_free(vm->console);
    if (r == -EOPNOTSUPP)
        return say_why(ret_error, r, "the console of %s takes no input: attach to read only (--read-only)",
                       vm->name);
    return r < 0 ? say_why(ret_error, r, "the console of %s can't be opened: %s", vm->name, strerror(-r)) : 0;
}
