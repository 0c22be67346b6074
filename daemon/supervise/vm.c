/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/vm.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/say.h"
#include "microvm/messages.h"
#include "spec/diff.h"
#include "supervise/vm-past.h"

#include <stdarg.h>
#include <time.h>

#define SAVE_AGAIN_USEC (5 * UINT64_C(1000000)) /* after the record could not be written */

uint64_t now_realtime_usec(void)
{
    return now_usec(CLOCK_REALTIME);
}

uint64_t now_boottime_usec(void)
{
    return now_usec(CLOCK_BOOTTIME);
}

static void load_recorded_spec(MicroVM *vm, const char *text, VmSpec **ret_spec)
{
    _cleanup_problems_ ProblemList problems = {0};
    SpecContext defaults = {.driver = vm->record.driver, .recorded = true};
    int r;

    if (!text)
        return;
    r = vm_spec_parse(vm->name, NULL, text, strlen(text), &defaults, &problems, ret_spec);
    if (r < 0)
        log_full(LOG_WARNING, vm->name, r, "The definition in %s can't be used: %m", vm->record_path);
}

static void load_record(MicroVM *vm)
{
    int r;

    write_file_forget(vm->record_path);
    r = vm_record_read(vm->record_path, &vm->record);

    if (r == -ENOENT)
        return;
    if (r < 0) {
        log_full(LOG_WARNING, vm->name, r, "Its run-time record %s can't be used (%m); going on without it.",
                 vm->record_path);
        return;
    }
    load_recorded_spec(vm, vm->record.definition, &vm->booted);
    load_recorded_spec(vm, vm->record.fallback, &vm->fallback);
}

/* What a daemon was writing there when it was killed. No volume can have such a name. */
static void forget_unfinished_writes(const MicroVM *vm)
{
    static const char *const names[] = {"state.json", "console.log.*", "hypervisor.log.*", "crash-*.json"};

    for (size_t i = 0; i < ELEMENTSOF(names); i++) {
        _cleanup_free_ char *path = say("%s/%s", vm->state_dir, names[i]);
        if (path)
            write_file_forget(path);
    }
}

int vm_new(VmHost *host, const char *name, MicroVM **ret_vm)
{
    _cleanup_(vm_freep)
    MicroVM *vm = calloc(1, sizeof(*vm));

    if (!vm)
        return -ENOMEM;
    vm->host = host;
    vm->name = strdup(name);
    if (!vm->name || asprintf(&vm->state_dir, "%s/vm/%s", host->state_dir, name) < 0)
        return -ENOMEM;
    if (asprintf(&vm->runtime_dir, "%s/vm/%s", host->runtime_dir, name) < 0)
        return -ENOMEM;
    if (asprintf(&vm->record_path, "%s/record.json", vm->runtime_dir) < 0)
        return -ENOMEM;
    load_record(vm);
    forget_unfinished_writes(vm);
    if (!vm->record.reason && free_and_strdup(&vm->record.reason, "not started since the host booted") < 0)
        return -ENOMEM;
    *ret_vm = TAKE_PTR(vm);
    return 0;
}

MicroVM *vm_free(MicroVM *vm)
{
    if (!vm)
        return NULL;
    sd_event_source_disable_unref(vm->stop_timer);
    sd_event_source_disable_unref(vm->restart_timer);
    sd_event_source_disable_unref(vm->settle_timer);
    sd_event_source_disable_unref(vm->save_timer);
    vm_logs_free(vm->logs);
    vm_readiness_end(vm);
    vm_notify_end(vm);
    console_free(vm->console);
    if (vm->waiter.done)
        vm->waiter.done(-ESHUTDOWN, "microvmd is ending", vm->waiter.userdata);
    vm_record_clear(&vm->record);
    vm_spec_unref(vm->spec);
    vm_spec_unref(vm->booted);
    vm_spec_unref(vm->fallback);
    free(vm->definition_error);
    free(vm->definition_path);
    free(vm->former_path);
    free(vm->driver_reason);
    free(vm->block_volumes);
    free(vm->unit);
    free(vm->rival_unit);
    free(vm->end_text);
    free(vm->seen.unit);
    free(vm->seen.command);
    free(vm->state_dir);
    free(vm->runtime_dir);
    free(vm->record_path);
    free(vm->object_path);
    free(vm->name);
    free(vm);
    return NULL;
}

static void update_outdated(MicroVM *vm)
{
    vm->outdated = 0;
    if (!state_is_alive(vm->record.state))
        return;
    vm->outdated = vm->outdated_files;
    if (vm->spec && vm->booted && !vm_spec_equal(vm->spec, vm->booted))
        vm->outdated |= OUTDATED(MICROVM_OUTDATED_DEFINITION);
}

void vm_set_enabled(MicroVM *vm, bool enabled)
{
    if (vm->enabled == enabled)
        return;
    vm->enabled = enabled;
    vm->host->changed(vm, vm->host->userdata);
}

void vm_set_rival(MicroVM *vm, const char *unit)
{
    if (streq(vm->rival_unit, unit))
        return;
    if (free_and_strdup(&vm->rival_unit, unit) < 0) {
        log_oom();
        return;
    }
    if (unit)
        log_vm_warning(
            vm->name,
            "%s of MicroVM.nix is a microVM of the same name on this host. microvmd leaves it alone, and "
            "does not start its own while that one runs.",
            unit);
    vm->host->changed(vm, vm->host->userdata);
}

void vm_set_outdated_files(MicroVM *vm, unsigned outdated)
{
    unsigned before = vm->outdated;

    vm->outdated_files = outdated;
    update_outdated(vm);
    if (vm->outdated != before)
        vm->host->changed(vm, vm->host->userdata);
}

int vm_apply_live(MicroVM *vm)
{
    VmSpec *taken;
    char *text;
    int r;

    r = vm_spec_take_live(vm->booted, vm->spec, &taken);
    if (r < 0)
        return r;
    text = vm_spec_to_json(taken);
    if (!text) {
        vm_spec_unref(taken);
        return -ENOMEM;
    }
    vm_spec_unref(vm->booted);
    vm->booted = taken;
    free(vm->record.definition);
    vm->record.definition = text;
    update_outdated(vm);
    vm_save(vm);
    return 0;
}

/* Who gave up gets a new chance. */
static void take_new_chance(MicroVM *vm)
{
    _cleanup_free_ char *reason = NULL;

    if (vm->record.result == MICROVM_RESULT_CONFIG)
        vm_reset_failed(vm, "not running; its definition was mended");
    else if ((reason = say("its definition changed since it failed: %s", vm->record.reason)))
        vm_reset_failed(vm, reason);
}

/* Whether what it failed by is no more. A new daemon knows that, too, of one that reached its start limit. */
static bool deserves_new_chance(const MicroVM *vm, const VmSpec *before)
{
    MicrovmResult result = vm->record.result;

    if (vm->record.state != MICROVM_FAILED || before == vm->spec)
        return false;
    return before || result == MICROVM_RESULT_CONFIG ||
           (result == MICROVM_RESULT_START_LIMIT && vm->booted && !vm->fallback &&
            !vm_spec_equal(vm->booted, vm->spec));
}

void vm_set_definition(MicroVM *vm, VmSpec *spec, const char *path, const char *error)
{
    bool changed = !vm->spec != !spec || (spec && !vm_spec_equal(vm->spec, spec));
    VmSpec *before = vm->spec;
    bool new_chance;

    vm->spec = spec ? vm_spec_ref(spec) : NULL;
    /* What was fallen back from is no more. What a new daemon reads first is no change. */
    if (vm->fallback && before && spec && changed) {
        vm_drop_fallback(vm);
        vm_save(vm);
    }
    new_chance = spec && changed && deserves_new_chance(vm, before);
    vm_spec_unref(before);
    if (vm->definition_path || path) {
        free(vm->former_path);
        vm->former_path = path ? NULL : TAKE_PTR(vm->definition_path);
    }
    if (path)
        vm->unlearns = false;
    if (free_and_strdup(&vm->definition_path, path) < 0 || free_and_strdup(&vm->definition_error, error) < 0)
        log_oom();
    update_outdated(vm);
    /* A broken one is shown as what it is, but not told again at each reload. */
    if (error && (vm->record.state == MICROVM_INACTIVE || vm->record.state == MICROVM_FAILED)) {
        bool known = vm->record.state == MICROVM_FAILED && streq(vm->record.reason, error);
        vm->record.result = MICROVM_RESULT_CONFIG;
        if (!known)
            vm_event(vm, VM_EVENT_BROKEN, "%s", error);
    } else if (new_chance) {
        take_new_chance(vm);
    }
    vm->host->changed(vm, vm->host->userdata);
}

bool vm_is_undeclared(const MicroVM *vm)
{
    return !vm->definition_path;
}

bool vm_is_gone(const MicroVM *vm)
{
    return vm_is_undeclared(vm) && vm->chores == 0 &&
           (vm->record.state == MICROVM_INACTIVE || vm->record.state == MICROVM_FAILED);
}

const VmSpec *vm_current_spec(const MicroVM *vm)
{
    return state_is_alive(vm->record.state) && vm->booted ? vm->booted : vm->spec ? vm->spec : vm->booted;
}

VmSpec *vm_held_spec(const MicroVM *vm)
{
    MicrovmState state = vm->record.state;

    if (state_is_alive(state) || state == MICROVM_PREPARING)
        return vm->booted;
    if (state != MICROVM_WAITING && state != MICROVM_BACKOFF)
        return NULL;
    /* It is going to start by its definition; before that was read, what it ran with tells best. */
    return vm->fallback ? vm->fallback : vm->spec ? NULL : vm->booted;
}

VmSpec *vm_next_spec(const MicroVM *vm)
{
    return vm->fallback ? vm->fallback : vm->spec;
}

void vm_drop_fallback(MicroVM *vm)
{
    vm->fallback = vm_spec_unref(vm->fallback);
    free(vm->record.fallback);
    vm->record.fallback = NULL;
}

/* The disk may have room again. */
static int on_save_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    vm_save(userdata);
    return 0;
}

void vm_save(MicroVM *vm)
{
    int r = vm_record_write(vm->record_path, vm->name, &vm->record);

    /* The runtime directory appears with the first start: before it there is nothing to remember, unless
     * somebody has said that it is to stay off. */
    if (r == -ENOENT && vm->record.state == MICROVM_INACTIVE && !vm->record.decided)
        r = 0;
    else if (r == -ENOENT && (r = mkdir_parents(vm->runtime_dir, 0711)) >= 0)
        r = vm_record_write(vm->record_path, vm->name, &vm->record);
    if (r < 0 && !vm->save_timer)
        log_full(LOG_ERR, vm->name, r, "Can't write %s: %m; a restart of microvmd would not know its state.",
                 vm->record_path);
    else if (r >= 0 && vm->save_timer)
        log_vm_info(vm->name, "%s could be written again.", vm->record_path);
    vm->save_timer = sd_event_source_disable_unref(vm->save_timer);
    if (r < 0)
        r = sd_event_add_time_relative(vm->host->event, &vm->save_timer, CLOCK_MONOTONIC, SAVE_AGAIN_USEC, 0,
                                       on_save_timer, vm);
    if (r < 0)
        log_full(LOG_ERR, vm->name, r, "Can't time another try: %m");
    vm->host->changed(vm, vm->host->userdata);
}

void vm_leave(MicroVM *vm)
{
    int r = remove_tree(vm->runtime_dir);

    if (r >= 0 && vm->record.decided && !vm->unlearns) {
        vm_drop_fallback(vm);
        free(vm->record.definition); /* it is long, and of a run that is over */
        vm->record.definition = NULL;
        r = mkdir_parents(vm->runtime_dir, 0711);
        if (r >= 0)
            r = vm_record_write(vm->record_path, vm->name, &vm->record);
    }
    if (r < 0)
        log_full(LOG_WARNING, vm->name, r, "Can't clear %s: %m", vm->runtime_dir);
}

void vm_set_reason(MicroVM *vm, const char *reason)
{
    if (streq(reason, vm->record.reason))
        return;
    if (free_and_strdup(&vm->record.reason, reason) < 0)
        log_oom();
    vm_save(vm);
}

static void finish_job(MicroVM *vm, Job *finished, MicrovmJobResult result, const char *reason)
{
    Job job = *finished;

    if (job.id == 0)
        return;
    *finished = (Job){0};
    vm->host->job_removed(vm, job, result, reason, vm->host->userdata);
    vm->host->changed(vm, vm->host->userdata);
}

void vm_finish_job(MicroVM *vm, MicrovmJobResult result, const char *reason)
{
    finish_job(vm, &vm->job, result, reason);
}

void vm_finish_ready_job(MicroVM *vm, MicrovmJobResult result, const char *reason)
{
    finish_job(vm, &vm->ready_job, result, reason);
}

/* A start is done at running; a stop when nothing runs; both are over when it turned out otherwise. */
static void settle_job(MicroVM *vm, MicrovmState state)
{
    bool starting = vm->job.verb != MICROVM_JOB_STOP;

    if (state == MICROVM_INACTIVE || state == MICROVM_FAILED || state == MICROVM_BACKOFF)
        vm_finish_ready_job(vm, MICROVM_JOB_FAILED, vm->record.reason);
    if (vm->job.id == 0)
        return;
    if (state_is_up(state) && starting)
        vm_finish_job(vm, MICROVM_JOB_DONE, vm->record.reason);
    else if (state == MICROVM_INACTIVE || state == MICROVM_FAILED || state == MICROVM_BACKOFF)
        vm_finish_job(vm, starting ? MICROVM_JOB_FAILED : MICROVM_JOB_DONE, vm->record.reason);
}

static void log_change(MicroVM *vm, MicrovmState before)
{
    MicrovmState after = vm->record.state;
    int level = after == MICROVM_FAILED || after == MICROVM_BACKOFF ? LOG_WARNING : LOG_INFO;
    char state_field[64], old_field[64], generation_field[64], generation[SD_ID128_STRING_MAX];
    _cleanup_free_ char *reason = say(MICROVM_LOG_REASON "=%s", vm->record.reason);
    const char *id = after == MICROVM_FAILED    ? "MESSAGE_ID=" MICROVM_MESSAGE_FAILED
                     : after == MICROVM_BACKOFF ? "MESSAGE_ID=" MICROVM_MESSAGE_BACKOFF
                                                : "MESSAGE_ID=" MICROVM_MESSAGE_STATE;
    const char *fields[] = {id, state_field, old_field, generation_field, reason, NULL};
    const char *state = microvm_state_to_string(after), *old = microvm_state_to_string(before);

    snprintf(state_field, sizeof(state_field), MICROVM_LOG_STATE "=%s", state ? state : "");
    snprintf(old_field, sizeof(old_field), MICROVM_LOG_OLD_STATE "=%s", old ? old : "");
    snprintf(generation_field, sizeof(generation_field), MICROVM_LOG_GENERATION "=%s",
             sd_id128_to_string(vm->record.generation, generation));
    /* What is wrong with a definition was told, all of it, when it was read. */
    if (after == MICROVM_FAILED && vm->record.result == MICROVM_RESULT_CONFIG)
        level = LOG_DEBUG;
    log_fields(level, vm->name, 0, fields, "%s → %s: %s", microvm_state_to_string(before),
               microvm_state_to_string(after), vm->record.reason);
}

static void cancel_timers(MicroVM *vm)
{
    if (vm->record.state != MICROVM_STOPPING) {
        vm->stop_timer = sd_event_source_disable_unref(vm->stop_timer);
        vm->record.stop_deadline_boot_usec = 0;
        vm->record.stop_asked = STOP_NOT_ASKED;
        vm->record.stop = (StopLadder){0};
    }
    if (!state_is_up(vm->record.state))
        vm->record.stop_held = false;
    if (vm->record.state != MICROVM_BACKOFF) {
        vm->restart_timer = sd_event_source_disable_unref(vm->restart_timer);
        vm->record.next_restart_boot_usec = 0;
    }
    if (!state_is_alive(vm->record.state)) {
        vm->settle_timer = sd_event_source_disable_unref(vm->settle_timer);
        vm->logs = vm_logs_end(vm->logs);
        vm->settling = false;
        vm->pid = 0;
        vm_readiness_end(vm);
        vm_notify_end(vm);
        vm->record.keeps_alive = vm->record.hangs = false;
        vm->record.memory = 0;
        vm->record.words = (GuestWords){0};
        free(vm->record.trouble);
        vm->record.trouble = NULL;
        readiness_clear(&vm->record.readiness);
        condemned_clear(&vm->record.condemned);
        vm->record.generation = SD_ID128_NULL;
        vm->console = console_free(vm->console);
    }
}

bool vm_event(MicroVM *vm, VmEvent event, const char *reason, ...)
{
    MicrovmState before = vm->record.state;
    VmTransition transition = vm_transition(before, event);
    va_list arguments;
    char *text;

    if (!transition.accepted) {
        log_vm_debug(vm->name, "%s means nothing while it is %s.", vm_event_to_string(event),
                     microvm_state_to_string(before));
        return false;
    }
    va_start(arguments, reason);
    if (vasprintf(&text, reason, arguments) < 0)
        text = NULL;
    va_end(arguments);
    if (text) {
        free(vm->record.reason);
        vm->record.reason = text;
    }
    vm->record.state = transition.next;
    if (transition.next != before)
        vm->record.state_usec = now_realtime_usec();
    /* The wish to start again after an end is fulfilled, or given up, as soon as there is nothing to end. */
    if (!state_is_alive(transition.next))
        vm->record.again = false;
    if (event == VM_EVENT_ENDED_OFF)
        vm->record.wanted = false;
    cancel_timers(vm);
    if (state_is_alive(transition.next))
        vm_readiness_follow(vm);
    if (before == MICROVM_PAUSED && transition.next == MICROVM_RUNNING)
        vm_notify_resumed(vm);
    update_outdated(vm);
    if (transition.next != before)
        log_change(vm, before);
    vm_note_change(vm, before);
    vm_save(vm);
    settle_job(vm, transition.next);
    vm_act(vm, transition.actions);
    return true;
}
