/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may start, and in which order: what the host, the drivers and other microVMs allow. */
#include "manager.h"

#include "base/log.h"
#include "base/say.h"
#include "microvm/messages.h"

#define HOST_STATE_FRESH_USEC UINT64_C(1000000)

/* Whether it was asked lately that the host is shutting down; if not, it is asked now, and the answer tells
 * the held. */
static bool host_state_known(Manager *manager)
{
    if (!manager->observer.query_host_state)
        return true;
    if (manager->host_state_usec + HOST_STATE_FRESH_USEC > now_boottime_usec())
        return true;
    if (!manager->host_state_asked) {
        manager->host_state_asked = true;
        manager->observer.query_host_state(manager->observer.userdata);
    }
    return false;
}

int manager_may_start(Manager *manager, MicroVM *vm, char **ret_error)
{
    const DriverSlot *slot = vm->driver ? &manager->drivers[vm->driver->kind] : NULL;

    if (vm->rival_unit)
        manager->host_state_usec = 0; /* it may be gone: what is known of it comes with that answer */
    if (manager->role == MICROVM_HOST_ROLE_CONFLICT)
        return say_why(ret_error, -EUCLEAN,
                       "nothing starts on this host until its configuration is mended. %s",
                       manager->role_reason ? manager->role_reason : "");
    if (manager->host_stopping) {
        /* Whoever said so may have been wrong; then the next try goes through. */
        (void)host_state_known(manager);
        return say_why(ret_error, -ESHUTDOWN, "the host is shutting down: nothing starts any more");
    }
    if (manager->drain.on)
        return say_why(ret_error, -EUSERS,
                       "this host is drained for maintenance: nothing starts until: microvmctl undrain");
    if (slot && slot->answered && !slot->online && !slot->ever_online)
        return say_why(ret_error, -EHOSTDOWN, "%s",
                       slot->reason ? slot->reason : "its driver can't be reached");
    return 0;
}

void manager_host_state(Manager *manager, bool stopping)
{
    manager->host_state_asked = false;
    manager->host_state_usec = now_boottime_usec();
    if (stopping && !manager->host_stopping)
        log_fields(LOG_NOTICE, NULL, 0, (const char *[]){"MESSAGE_ID=" MICROVM_MESSAGE_STOPPING, NULL},
                   "The host is shutting down: nothing starts any more.");
    manager->host_stopping = stopping;
    manager_run_later(manager);
}

/* (One whose driver went away stands still, maybe for ever: it takes no place from those of the other.) */
static uint64_t concurrent_starts(const Manager *manager)
{
    uint64_t n = 0;

    for (size_t i = 0; i < manager->n_vms; i++)
        n += (manager->vms[i]->record.state == MICROVM_PREPARING ||
              manager->vms[i]->record.state == MICROVM_STARTING) &&
             manager->vms[i]->driver_online;
    return n;
}

static uint64_t max_concurrent_starts(const Manager *manager)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (manager->config.max_concurrent_starts > 0)
        return manager->config.max_concurrent_starts;
    return cores > 2 ? 2 * (uint64_t)cores : 4;
}

/* --- the order of starts --- */

bool manager_requires(const VmSpec *spec, const char *name)
{
    for (size_t i = 0; spec && i < spec->n_requires; i++)
        if (streq(spec->requires[i], name))
            return true;
    return false;
}

/* Starts whom it requires and wants; what is not possible for those that it only wants is their own affair.
 */
static int pull_in(Manager *manager, MicroVM *vm, char **ret_reason)
{
    const VmSpec *spec = vm->spec;

    vm->pulls_in = false; /* first, so that two who want each other come to an end */
    for (size_t i = 0; i < spec->n_requires + spec->n_wants; i++) {
        bool required = i < spec->n_requires;
        const char *name = required ? spec->requires[i] : spec->wants[i - spec->n_requires];
        MicroVM *other = manager_find(manager, name);
        _cleanup_free_ char *error = NULL;
        if (!other || vm_pull_in(other, vm, &error) >= 0)
            continue;
        if (required)
            return say_why(ret_reason, -ECANCELED, "it requires %s, which can't be started: %s", name,
                           error ? error : "out of memory");
        log_vm_info(vm->name, "It wants %s, which can't be started: %s", name,
                    error ? error : "out of memory");
    }
    return 0;
}

int manager_may_require(Manager *manager, const MicroVM *vm, char **ret_error)
{
    const VmSpec *spec = vm->spec;

    for (size_t i = 0; spec && i < spec->n_requires; i++) {
        MicroVM *other = manager_find(manager, spec->requires[i]);
        _cleanup_free_ char *error = NULL;
        if (other && (state_is_alive(other->record.state) || vm_may_start(other, &error) >= 0))
            continue;
        return say_why(ret_error, -ECANCELED, "it requires %s, which can't be started: %s", spec->requires[i],
                       error ? error : "no microVM is called so");
    }
    return 0;
}

/* It runs and is to tell when it is ready, which it is not, or no longer. */
static bool is_not_ready_yet(const MicroVM *other)
{
    MicrovmReadiness readiness = other->record.readiness.state;

    return state_is_up(other->record.state) && readiness != MICROVM_READINESS_READY &&
           readiness != MICROVM_READINESS_NONE;
}

const MicroVM *manager_waits_for(Manager *manager, const MicroVM *vm, bool *ret_ready)
{
    const VmSpec *spec = vm->spec;

    for (size_t i = 0; spec && i < spec->n_after; i++) {
        _cleanup_free_ char *name = strndup(spec->after[i], strcspn(spec->after[i], ":"));
        const MicroVM *other = name ? manager_find(manager, name) : NULL;
        /* Who was tried once and failed is not waited for, but by those that can't do without. */
        bool comes = other && (vm_is_coming(other) || (other->record.state == MICROVM_BACKOFF &&
                                                       manager_requires(spec, other->name)));
        if (comes || (other && strchr(spec->after[i], ':') && is_not_ready_yet(other))) {
            *ret_ready = !comes;
            return other;
        }
    }
    return NULL;
}

static int hold(MicroVM *vm, MicrovmHold by, char **ret_reason, const char *format, ...) _printf_(4, 5);
static int hold(MicroVM *vm, MicrovmHold by, char **ret_reason, const char *format, ...)
{
    va_list arguments;

    vm->held_by = by;
    va_start(arguments, format);
    *ret_reason = say_list(format, arguments);
    va_end(arguments);
    return 0;
}

/* As systemd: "requires" is about whether it starts, "after" about when, if the other one is starting, too.
 */
static int check_order(Manager *manager, MicroVM *vm, char **ret_reason)
{
    const VmSpec *spec = vm->spec;
    const MicroVM *first;
    bool to_be_ready;

    for (size_t i = 0; i < spec->n_requires; i++) {
        const MicroVM *other = manager_find(manager, spec->requires[i]);
        MicrovmState state = other ? other->record.state : MICROVM_INACTIVE;
        if (!other)
            return say_why(ret_reason, -ECANCELED, "it requires %s, and no microVM is called so",
                           spec->requires[i]);
        if (!state_is_up(state) && !vm_is_coming(other) && state != MICROVM_BACKOFF)
            return say_why(ret_reason, -ECANCELED, "it requires %s, which is %s: %s", other->name,
                           microvm_state_to_string(state), other->record.reason);
    }
    first = manager_waits_for(manager, vm, &to_be_ready);
    if (!first)
        return 1;
    if (!to_be_ready)
        return hold(vm, MICROVM_HOLD_DEPENDENCY, ret_reason, "waits for %s to run", first->name);
    return hold(vm, MICROVM_HOLD_DEPENDENCY, ret_reason, "waits for %s to be ready: %s", first->name,
                first->readiness_reason ? first->readiness_reason : "");
}

int manager_admit(MicroVM *vm, char **ret_reason, void *userdata)
{
    Manager *manager = userdata;
    bool host_known = host_state_known(manager);
    const DriverSlot *slot;
    int r;

    if (vm->definition_error)
        return say_why(ret_reason, -EBADMSG, "%s", vm->definition_error);
    if (!vm->spec)
        return say_why(ret_reason, -EBADMSG, "it has no definition any more");
    if (manager->role == MICROVM_HOST_ROLE_CONFLICT)
        return hold(vm, MICROVM_HOLD_HOST_ROLE, ret_reason,
                    "held: the host's configuration enables guest mode, or disables host mode");
    if (manager->host_stopping)
        return hold(vm, MICROVM_HOLD_SHUTDOWN, ret_reason, "held: the host is shutting down");
    if (manager->drain.on)
        return hold(vm, MICROVM_HOLD_DRAIN, ret_reason,
                    "held: this host is drained for maintenance, until: microvmctl undrain");
    slot = &manager->drivers[vm->spec->driver];
    vm->driver = slot->driver;
    vm->driver_online = slot->online;
    if (slot->answered && !slot->online)
        return hold(vm, MICROVM_HOLD_DRIVER, ret_reason, "held: its driver is away: %s",
                    slot->reason ? slot->reason : "no reason given");
    if (!slot->synced)
        return hold(vm, MICROVM_HOLD_LOOK, ret_reason, "held: the driver is asked what runs already");
    if (!host_known)
        return hold(vm, MICROVM_HOLD_LOOK, ret_reason,
                    "held: systemd is asked whether the host is shutting down");
    if (vm->rival_unit)
        return say_why(
            ret_reason, -EBUSY,
            "%s of MicroVM.nix runs it on this host: stop that (systemctl stop %s), or give this one "
            "another name",
            vm->rival_unit, vm->rival_unit);
    r = vm->pulls_in ? pull_in(manager, vm, ret_reason) : 0;
    if (r >= 0)
        r = check_order(manager, vm, ret_reason);
    if (r > 0 && concurrent_starts(manager) >= max_concurrent_starts(manager))
        return hold(vm, MICROVM_HOLD_CONCURRENCY, ret_reason, "held: enough others are starting");
    if (r <= 0)
        return r;
    r = manager_check_memory(manager, vm, ret_reason);
    if (r == 0)
        vm->held_by = MICROVM_HOLD_MEMORY;
    return r;
}

int manager_by_priority(const void *left, const void *right)
{
    const MicroVM *a = *(MicroVM *const *)left, *b = *(MicroVM *const *)right;
    uint64_t first = a->spec ? a->spec->priority : 0, second = b->spec ? b->spec->priority : 0;

    return first != second ? (first > second ? -1 : 1) : strcmp(a->name, b->name);
}

void manager_admit_waiting(Manager *manager)
{
    _cleanup_free_ MicroVM **waiting = malloc((manager->n_vms + 1) * sizeof(MicroVM *));
    size_t n = 0;

    if (!waiting) {
        log_oom();
        return;
    }
    /* Who is held for want of memory now sets it anew. */
    manager->memory_timer = sd_event_source_disable_unref(manager->memory_timer);
    for (size_t i = 0; i < manager->n_vms; i++)
        if (manager->vms[i]->record.state == MICROVM_WAITING)
            waiting[n++] = manager->vms[i];
    qsort(waiting, n, sizeof(MicroVM *), manager_by_priority);
    for (size_t i = 0; i < n; i++)
        vm_admit(waiting[i]);
}
