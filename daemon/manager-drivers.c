/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drivers of a manager: their comings and goings, and what they and the host allow to start. */
#include "manager-plan.h"

#include "base/log.h"

#include <stdarg.h>

#define HOST_STATE_FRESH_USEC UINT64_C(1000000)

static DriverSlot *slot_of(Manager *manager, Driver *driver)
{
    return &manager->drivers[driver->kind];
}

static bool uses(const MicroVM *vm, const Driver *driver)
{
    return vm->driver == driver;
}

static void tell_changed(Manager *manager)
{
    if (manager->observer.changed)
        manager->observer.changed(manager, manager->observer.userdata);
    manager_run_later(manager);
}

static void driver_online(Manager *manager, Driver *driver)
{
    DriverSlot *slot = slot_of(manager, driver);

    log_info("Driver %s is online.", driver_kind_to_string(driver->kind));
    slot->online = slot->ever_online = true;
    slot->synced = false;
    free(slot->reason);
    slot->reason = NULL;
    for (size_t i = 0; i < manager->n_vms; i++)
        if (uses(manager->vms[i], driver))
            vm_driver_online(manager->vms[i]);
    tell_changed(manager);
}

static void driver_offline(Manager *manager, Driver *driver, const char *text)
{
    DriverSlot *slot = slot_of(manager, driver);

    if (slot->online || !slot->answered)
        log_warning("Driver %s is away: %s%s", driver_kind_to_string(driver->kind),
                    text ? text : "no reason given", slot->online ? "; its microVMs go on running" : "");
    slot->online = slot->synced = false;
    slot->answered = true;
    if (free_and_strdup(&slot->reason, text) < 0)
        log_oom();
    for (size_t i = 0; i < manager->n_vms; i++)
        if (uses(manager->vms[i], driver))
            vm_driver_offline(manager->vms[i], text);
    manager_check_ready(manager);
    tell_changed(manager);
}

static void driver_synced(Manager *manager, Driver *driver)
{
    DriverSlot *slot = slot_of(manager, driver);
    int r;

    slot->synced = slot->answered = true;
    for (size_t i = 0; i < manager->n_vms; i++)
        if (uses(manager->vms[i], driver))
            vm_driver_synced(manager->vms[i]);
    r = manager_look(manager, NULL, NULL);
    if (r < 0)
        log_warning_errno(r, "Can't look whether microVMs run with other files than there are now: %m");
    manager_check_ready(manager);
    tell_changed(manager);
}

static void driver_found(Manager *manager, const DriverEvent *event)
{
    MicroVM *vm = vm_name_valid(event->name) ? manager_get(manager, event->name) : NULL;

    if (!vm) {
        log_error("A running microVM called \"%s\" can't be adopted.", event->name);
        return;
    }
    vm_driver_found(vm, event);
}

static void on_driver_event(Driver *driver, const DriverEvent *event, void *userdata)
{
    Manager *manager = userdata;
    MicroVM *vm;

    switch (event->type) {
    case DRIVER_ONLINE:
        driver_online(manager, driver);
        return;
    case DRIVER_OFFLINE:
        driver_offline(manager, driver, event->text);
        return;
    case DRIVER_SYNCED:
        driver_synced(manager, driver);
        return;
    case DRIVER_FOUND:
        driver_found(manager, event);
        return;
    default:
        break;
    }
    vm = manager_find(manager, event->name);
    if (vm)
        vm_driver_event(vm, event);
}

int manager_open_drivers(Manager *manager)
{
    DriverSetup setup = {
        .event = manager->event,
        .config = &manager->config,
        .runtime_dir = manager->settings.runtime_dir,
        .handler = on_driver_event,
        .userdata = manager,
    };
    int r;

    for (DriverKind kind = 0; kind < DRIVER_KIND_MAX; kind++) {
        r = driver_new(kind, &setup, &manager->drivers[kind].driver);
        if (r < 0)
            return log_error_errno(r, "Can't set up the driver %s: %m", driver_kind_to_string(kind));
    }
    return 0;
}

void manager_close_drivers(Manager *manager)
{
    for (DriverKind kind = 0; kind < DRIVER_KIND_MAX; kind++) {
        manager->drivers[kind].driver = driver_free(manager->drivers[kind].driver);
        free(manager->drivers[kind].reason);
        manager->drivers[kind].reason = NULL;
    }
}

/* --- what may start --- */

static int say(char **ret_text, int result, const char *format, ...) _printf_(3, 4);
static int say(char **ret_text, int result, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(ret_text, format, arguments) < 0)
        *ret_text = NULL;
    va_end(arguments);
    return result;
}

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
    const DriverSlot *slot = vm->driver ? slot_of(manager, vm->driver) : NULL;

    if (manager->role == MICROVM_HOST_ROLE_CONFLICT)
        return say(ret_error, -EUCLEAN, "nothing starts on this host until its configuration is mended. %s",
                   manager->role_reason ? manager->role_reason : "");
    if (manager->host_stopping) {
        /* Whoever said so may have been wrong; then the next try goes through. */
        (void)host_state_known(manager);
        return say(ret_error, -ESHUTDOWN, "the host is shutting down: nothing starts any more");
    }
    if (slot && slot->answered && !slot->online && !slot->ever_online)
        return say(ret_error, -EHOSTDOWN, "%s", slot->reason ? slot->reason : "its driver can't be reached");
    return 0;
}

void manager_host_state(Manager *manager, bool stopping)
{
    manager->host_state_asked = false;
    manager->host_state_usec = now_boottime_usec();
    if (stopping && !manager->host_stopping)
        log_notice("The host is shutting down: nothing starts any more.");
    manager->host_stopping = stopping;
    manager_run_later(manager);
}

static uint64_t concurrent_starts(const Manager *manager)
{
    uint64_t n = 0;

    for (size_t i = 0; i < manager->n_vms; i++)
        if (manager->vms[i]->record.state == MICROVM_PREPARING ||
            manager->vms[i]->record.state == MICROVM_STARTING)
            n++;
    return n;
}

static uint64_t max_concurrent_starts(const Manager *manager)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (manager->config.max_concurrent_starts > 0)
        return manager->config.max_concurrent_starts;
    return cores > 2 ? 2 * (uint64_t)cores : 4;
}

int manager_admit(MicroVM *vm, char **ret_reason, void *userdata)
{
    Manager *manager = userdata;
    bool host_known = host_state_known(manager);
    const DriverSlot *slot;

    if (vm->definition_error)
        return say(ret_reason, -EBADMSG, "%s", vm->definition_error);
    if (!vm->spec)
        return say(ret_reason, -EBADMSG, "it has no definition any more");
    if (manager->role == MICROVM_HOST_ROLE_CONFLICT)
        return say(ret_reason, 0, "held: the host's configuration enables guest mode, or disables host mode");
    if (manager->host_stopping)
        return say(ret_reason, 0, "held: the host is shutting down");
    slot = &manager->drivers[vm->spec->driver];
    vm->driver = slot->driver;
    vm->driver_online = slot->online;
    if (slot->answered && !slot->online)
        return say(ret_reason, 0, "held: its driver is away: %s",
                   slot->reason ? slot->reason : "no reason given");
    if (!slot->synced)
        return say(ret_reason, 0, "held: the driver is asked what runs already");
    if (!host_known)
        return say(ret_reason, 0, "held: systemd is asked whether the host is shutting down");
    if (concurrent_starts(manager) >= max_concurrent_starts(manager))
        return say(ret_reason, 0, "held: enough others are starting");
    return 1;
}
