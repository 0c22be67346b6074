/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Explain: why a microVM is as it is. For everyone, so without a word of its guest. */
#include "bus/server.h"

#include "manager-explain.h"

#include <signal.h>

/* --- members of an a{sv}; what is empty or 0 is left out --- */

static int add_text(sd_bus_message *reply, const char *key, const char *text)
{
    return isempty(text) ? 0 : sd_bus_message_append(reply, "{sv}", key, "s", text);
}

static int add_number(sd_bus_message *reply, const char *key, uint64_t number)
{
    return number == 0 ? 0 : sd_bus_message_append(reply, "{sv}", key, "t", number);
}

typedef int (*fill_fn)(sd_bus_message *reply, const void *what);

/* KEY: a variant of `type`, whose contents `fill` appends: members of a dictionary, or items of a list. */
static int add_container(sd_bus_message *reply, const char *key, const char *type, fill_fn fill,
                         const void *what)
{
    int r;

    r = sd_bus_message_open_container(reply, 'e', "sv");
    if (r >= 0)
        r = sd_bus_message_append(reply, "s", key);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'v', type);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', type + 1);
    if (r >= 0)
        r = fill(reply, what);
    for (int level = 0; level < 3 && r >= 0; level++)
        r = sd_bus_message_close_container(reply);
    return r;
}

/* --- what is told --- */

static int fill_asked(sd_bus_message *reply, const void *what)
{
    const Asked *asked = what;
    int r;

    r = add_text(reply, "Verb", microvm_job_verb_to_string(asked->verb));
    if (r >= 0)
        r = add_text(reply, "By", microvm_asked_by_to_string(asked->by));
    if (r >= 0)
        r = add_number(reply, "Timestamp", asked->usec);
    if (r >= 0 && asked->caller.known)
        r = sd_bus_message_append(reply, "{sv}", "UID", "u", (uint32_t)asked->caller.uid);
    if (r >= 0 && asked->caller.pid > 0)
        r = sd_bus_message_append(reply, "{sv}", "PID", "u", (uint32_t)asked->caller.pid);
    if (r >= 0)
        r = add_text(reply, "Process", asked->caller.process);
    return r < 0 ? r : add_text(reply, "For", asked->whom);
}

static const char *code_word(int code)
{
    return code == CLD_EXITED   ? "exited"
           : code == CLD_KILLED ? "killed"
           : code == CLD_DUMPED ? "dumped"
                                : NULL;
}

static int fill_end(sd_bus_message *reply, const void *what)
{
    const LastEnd *end = what;
    int r;

    r = add_number(reply, "Timestamp", end->usec);
    if (r >= 0)
        r = add_text(reply, "Result", microvm_result_to_string(end->result));
    if (r >= 0)
        r = add_text(reply, "Reason", end->text);
    if (r >= 0)
        r = add_number(reply, "StartTimestamp", end->start_usec);
    if (r >= 0 && end->cause != END_MAX)
        r = add_text(reply, "Cause", end_cause_to_string(end->cause));
    if (r >= 0)
        r = add_text(reply, "ExitCode", code_word(end->details.code));
    if (r >= 0 && code_word(end->details.code))
        r = sd_bus_message_append(reply, "{sv}", "ExitStatus", "i", (int32_t)end->details.status);
    if (r >= 0)
        r = add_text(reply, "UnitResult", end->details.unit_result);
    if (r >= 0)
        r = add_number(reply, "MemoryPeak", end->memory_peak);
    return r < 0 ? r : add_number(reply, "Crash", end->crash_usec);
}

static int fill_events(sd_bus_message *reply, const void *what)
{
    const Trail *trail = what;
    int r = 0;

    for (unsigned i = 0; i < trail->count && r >= 0; i++) {
        const TrailEntry *entry = trail_get(trail, i);
        r = sd_bus_message_append(reply, "(tss)", entry->usec, microvm_event_to_string(entry->kind),
                                  entry->text);
    }
    return r;
}

typedef struct Chain {
    const MicroVM *items[CHAIN_MAX];
    size_t count;
} Chain;

static int fill_chain(sd_bus_message *reply, const void *what)
{
    const Chain *chain = what;
    int r = 0;

    for (size_t i = 0; i < chain->count && r >= 0; i++)
        r = sd_bus_message_append(reply, "(sss)", chain->items[i]->name,
                                  microvm_state_to_string(chain->items[i]->record.state),
                                  chain->items[i]->record.reason);
    return r;
}

typedef struct AdviceList {
    Advice items[ADVICE_MAX];
    int count;
} AdviceList;

static int fill_advice(sd_bus_message *reply, const void *what)
{
    const AdviceList *advice = what;
    int r = 0;

    for (int i = 0; i < advice->count && r >= 0; i++)
        r = sd_bus_message_append(reply, "(ss)", advice->items[i].command, advice->items[i].text);
    return r;
}

static int add_state(sd_bus_message *reply, const MicroVM *vm)
{
    int r;

    r = add_text(reply, "Name", vm->name);
    if (r >= 0)
        r = add_text(reply, "State", microvm_state_to_string(vm->record.state));
    if (r >= 0)
        r = add_text(reply, "StateReason", vm->record.reason);
    if (r >= 0 && vm->record.state == MICROVM_WAITING)
        r = add_text(reply, "HeldBy", microvm_hold_to_string(vm->held_by));
    if (r >= 0)
        r = add_number(reply, "StateTimestamp", vm->record.state_usec);
    if (r >= 0)
        r = add_text(reply, "Readiness", microvm_readiness_to_string(vm->record.readiness.state));
    return r < 0 ? r : add_text(reply, "DriverReason", vm->driver_online ? NULL : vm->driver_reason);
}

static int add_restarts(sd_bus_message *reply, const MicroVM *vm)
{
    const VmSpec *spec = vm_current_spec(vm);
    uint64_t due = vm->record.next_restart_boot_usec;
    int r;

    r = add_text(reply, "RestartPolicy", spec ? restart_policy_to_string(spec->restart_policy) : NULL);
    if (r >= 0)
        r = add_number(reply, "NRestarts", vm->record.n_restarts);
    return r < 0 || due == 0
               ? r
               : add_number(reply, "NextRestartTimestamp", now_realtime_usec() + due - now_boottime_usec());
}

static int append_all(sd_bus_message *reply, const MicroVM *vm, const Chain *chain, const AdviceList *advice)
{
    const VmPast *past = &vm->record.past;
    int r;

    r = sd_bus_message_open_container(reply, 'a', "{sv}");
    if (r >= 0)
        r = add_state(reply, vm);
    if (r >= 0 && past->asked.by != MICROVM_ASKED_BY_NOBODY)
        r = add_container(reply, "Asked", "a{sv}", fill_asked, &past->asked);
    if (r >= 0)
        r = add_container(reply, "WaitsFor", "a(sss)", fill_chain, chain);
    if (r >= 0)
        r = add_restarts(reply, vm);
    if (r >= 0 && past->end.usec > 0)
        r = add_container(reply, "LastEnd", "a{sv}", fill_end, &past->end);
    if (r >= 0)
        r = add_container(reply, "Events", "a(tss)", fill_events, &past->trail);
    if (r >= 0)
        r = add_container(reply, "Advice", "a(ss)", fill_advice, advice);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

int bus_method_explain(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    sd_bus_message *reply = NULL;
    AdviceList advice = {0};
    Chain chain;
    MicroVM *vm;
    int r;

    r = bus_read_microvm(server, message, &vm, error);
    if (r >= 0)
        r = bus_read_options(message, NULL, 0, error);
    if (r < 0)
        return r;
    chain.count = manager_chain(server->manager, vm, chain.items);
    advice.count = manager_advise(server->manager, vm, advice.items);
    if (advice.count < 0)
        return advice.count;
    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = append_all(reply, vm, &chain, &advice);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    advice_clear(advice.items, (size_t)advice.count);
    return r < 0 ? r : 1;
}
