/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drivers of a manager: their comings and goings. */
#include "manager-plan.h"

#include "base/log.h"

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
        .state_dir = manager->settings.state_dir,
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
