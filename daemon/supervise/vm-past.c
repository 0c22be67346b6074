/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/vm-past.h"

#include "base/log.h"
#include "base/say.h"
#include "microvm/messages.h"
#include "resource/console-log.h"
#include "resource/process-look.h"

#include <inttypes.h>

/* Field by field, for the journal; what is NULL is left out. */
#define JOURNAL_FIELD(name, ...) say(name "=" __VA_ARGS__)

/* --- what was asked for --- */

static void log_asked(const MicroVM *vm, const Asked *asked)
{
    _cleanup_free_ char *text = asked_describe(asked), *verb = NULL, *by = NULL, *uid = NULL, *pid = NULL;
    const char *fields[6] = {"MESSAGE_ID=" MICROVM_MESSAGE_REQUEST};
    size_t n = 1;

    verb = JOURNAL_FIELD(MICROVM_LOG_VERB, "%s", microvm_job_verb_to_string(asked->verb));
    by = JOURNAL_FIELD(MICROVM_LOG_ASKED_BY, "%s", microvm_asked_by_to_string(asked->by));
    if (asked->caller.known)
        uid = JOURNAL_FIELD(MICROVM_LOG_CALLER_UID, "%u", (unsigned)asked->caller.uid);
    if (asked->caller.known && asked->caller.pid > 0)
        pid = JOURNAL_FIELD(MICROVM_LOG_CALLER_PID, "%d", (int)asked->caller.pid);
    for (size_t i = 0; i < 4; i++) {
        const char *field = (const char *[]){verb, by, uid, pid}[i];
        if (field)
            fields[n++] = field;
    }
    log_fields(LOG_INFO, vm->name, 0, fields, "%s", text ? text : "something was asked for");
}

void vm_note_asked(MicroVM *vm, MicrovmJobVerb verb, MicrovmAskedBy by, const char *whom)
{
    const Caller *caller = vm->host->caller;
    Asked *asked = &vm->record.past.asked;
    _cleanup_free_ char *text = NULL;

    *asked = (Asked){.by = by, .verb = verb, .usec = now_realtime_usec()};
    if (by == MICROVM_ASKED_BY_CALLER && caller) {
        asked->caller = *caller;
        asked->by = caller->apply      ? MICROVM_ASKED_BY_APPLY
                    : caller->handle   ? MICROVM_ASKED_BY_HANDLE
                    : caller->shutdown ? MICROVM_ASKED_BY_SHUTDOWN
                                       : MICROVM_ASKED_BY_CALLER;
    }
    if (whom)
        snprintf(asked->whom, sizeof(asked->whom), "%s", whom);
    text = asked_describe(asked);
    if (text)
        trail_add(&vm->record.past.trail, asked->usec, MICROVM_EVENT_REQUEST, text);
    log_asked(vm, asked);
}

/* --- what happens --- */

static void add_event(MicroVM *vm, MicrovmEvent kind, const char *text)
{
    trail_add(&vm->record.past.trail, now_realtime_usec(), kind, text);
}

void vm_note_signal(MicroVM *vm, int signal)
{
    static const Caller nobody;
    _cleanup_free_ char *who = caller_describe(vm->host->caller ? vm->host->caller : &nobody),
                        *text = say("signal %d for its hypervisor asked for by %s", signal, who ? who : "?");

    if (text)
        add_event(vm, MICROVM_EVENT_REQUEST, text);
    vm_save(vm);
    log_vm_info(vm->name, "Sent signal %d to its hypervisor (pid %d), asked for by %s.", signal, (int)vm->pid,
                who ? who : "?");
}

static bool is_repeated(const MicroVM *vm, const char *text)
{
    const Trail *trail = &vm->record.past.trail;

    return trail->count > 0 && streq(trail_get(trail, trail->count - 1)->text, text);
}

void vm_note_change(MicroVM *vm, MicrovmState before)
{
    const char *after = microvm_state_to_string(vm->record.state);
    _cleanup_free_ char *text =
        vm->record.state == before
            ? say("%s: %s", after, vm->record.reason)
            : say("%s → %s: %s", microvm_state_to_string(before), after, vm->record.reason);

    if (text)
        add_event(vm, MICROVM_EVENT_STATE, text);
}

void vm_note_readiness(MicroVM *vm, const char *text)
{
    MicrovmReadiness readiness = vm->record.readiness.state;
    bool ready = readiness == MICROVM_READINESS_READY;
    const char *word = microvm_readiness_to_string(readiness);
    const char *id = ready                                      ? "MESSAGE_ID=" MICROVM_MESSAGE_GUEST_READY
                     : readiness == MICROVM_READINESS_TIMED_OUT ? "MESSAGE_ID=" MICROVM_MESSAGE_GUEST_LATE
                                                                : "MESSAGE_ID=" MICROVM_MESSAGE_GUEST_LOST;
    _cleanup_free_ char *event = say("%s: %s", word, text);
    _cleanup_free_ char *field = JOURNAL_FIELD(MICROVM_LOG_READINESS, "%s", word),
                        *reason = JOURNAL_FIELD(MICROVM_LOG_REASON, "%s", text);

    if (!event || !field || !reason) {
        log_oom();
        return;
    }
    add_event(vm, MICROVM_EVENT_READINESS, event);
    log_fields(ready ? LOG_INFO : LOG_WARNING, vm->name, 0, (const char *[]){id, field, reason, NULL},
               "%s%s.", ready ? "Ready: " : "The guest is ", text);
}

/* What a process has had at most is gone with it: it is looked at when there is something to hear of it. */
static void look_at_memory(MicroVM *vm)
{
    vm->seen.memory = MAX(vm->seen.memory, process_memory_peak(vm->pid));
}

void vm_note_driver_event(MicroVM *vm, const DriverEvent *event)
{
    /* A guest can have its hypervisor say the same again and again; it is on record with the next change. */
    if (event->type == DRIVER_HEARD && is_repeated(vm, event->text))
        return;
    if (event->type == DRIVER_HEARD)
        add_event(vm, MICROVM_EVENT_HYPERVISOR, event->text);
    look_at_memory(vm);
    if (event->type == DRIVER_ENDED || event->type == DRIVER_START_FAILED)
        vm->seen.end = event->details;
    if (event->type == DRIVER_START_FAILED && event->argv) {
        FILE *stream;
        free(vm->seen.command);
        vm->seen.command = NULL;
        stream = open_memstream(&vm->seen.command, &vm->seen.command_size);
        for (char *const *word = event->argv; stream && *word; word++)
            fwrite(*word, 1, strlen(*word) + 1, stream);
        if (stream)
            fclose(stream);
    }
}

static void forget_process(MicroVM *vm)
{
    free(vm->seen.command);
    free(vm->seen.unit);
    vm->seen = (ProcessSeen){0};
}

void vm_note_process(MicroVM *vm)
{
    forget_process(vm);
    vm->seen.command = process_command(vm->pid, &vm->seen.command_size);
    vm->seen.pid = vm->pid;
    if (free_and_strdup(&vm->seen.unit, vm->unit) < 0)
        log_oom();
    look_at_memory(vm);
}

/* --- what ended badly --- */

typedef struct Report {
    char *name, *state_dir;
    uint64_t usec;
    cJSON *json;
    int error;
} Report;

static void report_free(void *argument)
{
    Report *report = argument;

    free(report->name);
    free(report->state_dir);
    cJSON_Delete(report->json);
    free(report);
}

static void report_run(void *argument)
{
    Report *report = argument;

    report->error = crash_report_write(report->state_dir, report->usec, report->json);
}

static void report_done(void *argument)
{
    Report *report = argument;

    if (report->error < 0)
        log_full(LOG_WARNING, report->name, report->error,
                 "The report of its crash can't be written to %s: %m; what is in the journal is all.",
                 report->state_dir);
    report_free(report);
}

static void write_report(MicroVM *vm, CrashFacts *facts)
{
    Report *report = calloc(1, sizeof(*report));
    int r = -ENOMEM;

    if (!report) {
        log_oom();
        return;
    }
    *report = (Report){.name = strdup(vm->name),
                       .state_dir = strdup(vm->state_dir),
                       .usec = facts->past->end.crash_usec,
                       .json = crash_report_new(facts)};
    if (report->name && report->state_dir && report->json)
        r = workers_submit(vm->host->files, &(Work){report_run, report_done, report_free, report});
    if (r < 0) {
        report_free(report);
        log_full(LOG_WARNING, vm->name, r, "The report of its crash can't be made: %m");
    }
}

/* As lines; the caller's. */
static char *list_words(const char *words, size_t size)
{
    char *copy = malloc(size + 1);

    if (!copy)
        return NULL;
    memcpy(copy, words, size);
    copy[size] = '\0';
    for (size_t i = 0; i + 1 < size; i++)
        if (copy[i] == '\0')
            copy[i] = '\n';
    return copy;
}

static char *list_events(const Trail *trail)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return NULL;
    for (unsigned i = 0; i < trail->count; i++)
        fprintf(stream, "%s%" PRIu64 " %s", i > 0 ? "\n" : "", trail_get(trail, i)->usec,
                trail_get(trail, i)->text);
    return fclose(stream) == 0 ? text : NULL;
}

/* What journalctl takes for text: else it says no more than "blob data". */
static char *printable_tail(const char *text, size_t size)
{
    char *tail = strndup(text, size), *to = tail;

    if (!tail)
        return NULL;
    for (const char *at = tail; *at; at++)
        if (*at != '\r')
            *to++ = (unsigned char)*at < ' ' && *at != '\n' && *at != '\t' ? '?' : *at;
    *to = '\0';
    return tail;
}

/* The journal has readers of its own, to whom a guest's words are not kept secret. */
static void log_report(const MicroVM *vm, const CrashFacts *facts)
{
    enum {
        TAIL = 4096 /* of the console: the file has more */
    };
    const LastEnd *end = &facts->past->end;
    size_t size = MIN(facts->console_size, (size_t)TAIL), n = 0;
    _cleanup_free_ char *command = list_words(facts->command ? facts->command : "", facts->command_size),
                        *events = list_events(&facts->past->trail),
                        *tail = facts->console
                                    ? printable_tail(facts->console + (facts->console_size - size), size)
                                    : NULL;
    char *made[] = {
        say("MESSAGE_ID=" MICROVM_MESSAGE_CRASH),
        JOURNAL_FIELD(MICROVM_LOG_RESULT, "%s", microvm_result_to_string(end->result)),
        JOURNAL_FIELD(MICROVM_LOG_REASON, "%s", end->text),
        JOURNAL_FIELD(MICROVM_LOG_CRASH, "%" PRIu64, end->crash_usec),
        JOURNAL_FIELD(MICROVM_LOG_GENERATION, "%s", facts->generation),
        *end->details.unit_result ? JOURNAL_FIELD(MICROVM_LOG_UNIT_RESULT, "%s", end->details.unit_result)
                                  : NULL,
        end->memory_peak > 0 ? JOURNAL_FIELD(MICROVM_LOG_MEMORY_PEAK, "%" PRIu64, end->memory_peak) : NULL,
        command && *command ? JOURNAL_FIELD(MICROVM_LOG_COMMAND, "%s", command) : NULL,
        events ? JOURNAL_FIELD(MICROVM_LOG_EVENTS, "%s", events) : NULL,
        tail && *tail ? JOURNAL_FIELD(MICROVM_LOG_TAIL, "%s", tail) : NULL,
    };
    const char *fields[ELEMENTSOF(made) + 1] = {NULL};

    for (size_t i = 0; i < ELEMENTSOF(made); i++)
        if (made[i])
            fields[n++] = made[i];
    log_fields(LOG_ERR, vm->name, 0, fields, "It ended badly (%s): %s. More: microvmctl crashes %s 1",
               microvm_result_to_string(end->result), end->text, vm->name);
    for (size_t i = 0; i < ELEMENTSOF(made); i++)
        free(made[i]);
}

static void report_crash(MicroVM *vm)
{
    const VmSpec *spec = vm_current_spec(vm);
    _cleanup_free_ char *console = NULL, *output = NULL, *output_path = NULL, *see = NULL;
    char generation[SD_ID128_STRING_MAX];
    CrashFacts facts = {.name = vm->name,
                        .past = &vm->record.past,
                        .driver = driver_kind_to_string(vm->record.driver),
                        .hypervisor = spec ? hypervisor_to_string(spec->hypervisor) : NULL,
                        .accel = accel_to_string(vm->record.accel),
                        .unit = vm->seen.unit,
                        .generation = sd_id128_to_string(vm->record.generation, generation),
                        .pid = vm->seen.pid,
                        .n_restarts = vm->record.n_restarts,
                        .command = vm->seen.command,
                        .command_size = vm->seen.command_size};

    if (console_log_tail(vm->state_dir, CRASH_CONSOLE_MAX, &console, &facts.console_size) >= 0)
        facts.console = console;
    if (vm->driver && vm->driver->output_log)
        output_path = say("%s/%s", vm->state_dir, vm->driver->output_log);
    if (output_path && log_tail(output_path, CRASH_OUTPUT_MAX, &output, &facts.output_size) >= 0)
        facts.output = output;
    if (vm->record.driver == DRIVER_KIND_LIBVIRT)
        see = say("/var/log/libvirt/qemu/%s.log", vm->name);
    if (see && access(see, F_OK) == 0)
        facts.see = see;
    write_report(vm, &facts); /* makes text of what the guest said */
    log_report(vm, &facts);
}

/* What was to end is no crash, even if it took force; what fell over on its way is one. */
static bool ended_badly(const Ending *ending)
{
    return ending->kind == ENDING_FAILURE ||
           (ending->kind == ENDING_STOPPED && ending->result != MICROVM_RESULT_SUCCESS &&
            ending->result != MICROVM_RESULT_TIMEOUT);
}

void vm_note_end(MicroVM *vm, const Ending *ending, EndCause cause)
{
    LastEnd *end = &vm->record.past.end;

    *end = (LastEnd){.usec = now_realtime_usec(),
                     .start_usec = cause == END_MAX ? 0 : vm->record.start_usec,
                     .result = ending->result,
                     .cause = cause,
                     .details = vm->seen.end,
                     .memory_peak = MAX(vm->seen.end.memory_peak, vm->seen.memory)};
    past_copy_text(end->text, sizeof(end->text), ending->text ? ending->text : "ended");
    if (ending->kind == ENDING_MANUAL)
        vm_note_asked(vm, MICROVM_JOB_STOP, MICROVM_ASKED_BY_OUTSIDE, NULL);
    if (ended_badly(ending)) {
        end->crash_usec = end->usec;
        report_crash(vm);
    }
    forget_process(vm);
}
