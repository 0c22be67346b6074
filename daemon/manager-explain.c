/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager-explain.h"

#include "base/say.h"

size_t manager_chain(Manager *manager, const MicroVM *vm, const MicroVM *ret_chain[static CHAIN_MAX])
{
    const MicroVM *at = vm;
    bool to_be_ready;
    size_t n = 0;

    while (n < CHAIN_MAX && at->record.state == MICROVM_WAITING &&
           (at = manager_waits_for(manager, at, &to_be_ready))) {
        bool seen = at == vm;
        for (size_t i = 0; i < n; i++)
            seen = seen || ret_chain[i] == at;
        if (seen)
            break;
        ret_chain[n++] = at;
    }
    return n;
}

void advice_clear(Advice *advice, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(advice[i].command);
}

typedef struct Adviser {
    Advice *list;
    int n; /* -ENOMEM */
} Adviser;

/* `command` has the name of the microVM that it is about in place of "%s". */
static void add(Adviser *adviser, const char *name, const char *command, const char *text)
{
    const char *at = strstr(command, "%s");
    Advice *advice;

    if (adviser->n < 0 || adviser->n == ADVICE_MAX)
        return;
    advice = &adviser->list[adviser->n];
    advice->text = text;
    advice->command = at ? say("%.*s%s%s", (int)(at - command), command, name, at + 2) : strdup(command);
    if (advice->command) {
        adviser->n++;
        return;
    }
    advice_clear(adviser->list, (size_t)adviser->n);
    adviser->n = -ENOMEM;
}

static const char *mend_text(MicrovmResult result)
{
    switch (result) {
    case MICROVM_RESULT_OOM:
        return "start it again; it needs more memory than it may take (\"limits\"), or than the host has";
    case MICROVM_RESULT_RESOURCES:
        return "start it again, once what the reason names is mended";
    default:
        return "start it again";
    }
}

static void advise_failed(Adviser *adviser, const MicroVM *vm)
{
    if (vm->record.past.end.crash_usec > 0)
        add(adviser, vm->name, "microvmctl crashes %s 1", "what its last run ended with, in full");
    if (vm->record.result == MICROVM_RESULT_CONFIG) {
        if (vm->definition_path)
            add(adviser, vm->definition_path, "microvmctl validate %s", "all that is wrong with it");
        add(adviser, vm->name, "microvmctl edit %s",
            "mend its definition; it is read when you leave the editor");
        return;
    }
    if (vm->record.result == MICROVM_RESULT_START_LIMIT)
        add(adviser, vm->name, "microvmctl reset-failed %s", "let it start again, once the cause is mended");
    add(adviser, vm->name, "microvmctl start %s", mend_text(vm->record.result));
}

static void advise_waiting(Adviser *adviser, Manager *manager, const MicroVM *vm)
{
    const MicroVM *chain[CHAIN_MAX];
    size_t n = manager_chain(manager, vm, chain);

    if (n > 0)
        add(adviser, chain[n - 1]->name, "microvmctl why %s", "what all of them wait for");
    else if (!manager->drain.on && (!vm->driver_online || manager->role == MICROVM_HOST_ROLE_CONFLICT))
        add(adviser, vm->name, "microvmctl status", "how the host and its drivers are");
    add(adviser, vm->name, "microvmctl stop %s", "give this start up");
}

int manager_advise(Manager *manager, const MicroVM *vm, Advice ret_advice[static ADVICE_MAX])
{
    Adviser adviser = {.list = ret_advice};

    if (manager->drain.on && !state_is_alive(vm->record.state))
        add(&adviser, vm->name, "microvmctl undrain",
            "end the maintenance: until then nothing starts on this host");
    switch (vm->record.state) {
    case MICROVM_INACTIVE:
        if (vm_next_spec(vm))
            add(&adviser, vm->name, "microvmctl start %s", "start it");
        break;
    case MICROVM_WAITING:
        advise_waiting(&adviser, manager, vm);
        break;
    case MICROVM_STOPPING:
        add(&adviser, vm->name, "microvmctl stop --force %s", "end it now, without its guest");
        break;
    case MICROVM_BACKOFF:
        if (vm->record.past.end.crash_usec > 0)
            add(&adviser, vm->name, "microvmctl crashes %s 1", "what its last run ended with, in full");
        add(&adviser, vm->name, "microvmctl start %s", "start it now, instead of when it is due");
        add(&adviser, vm->name, "microvmctl stop %s", "give it up");
        break;
    case MICROVM_FAILED:
        advise_failed(&adviser, vm);
        break;
    case MICROVM_PAUSED:
        add(&adviser, vm->name, "microvmctl resume %s", "let its guest go on");
        break;
    default:
        if (!vm->driver_online)
            add(&adviser, vm->name, "microvmctl status", "how the host and its drivers are");
        else if (vm->record.state == MICROVM_RUNNING && vm->outdated != 0)
            add(&adviser, vm->name, "microvmctl plan %s", "what has changed since it was started");
        break;
    }
    return adviser.n;
}
