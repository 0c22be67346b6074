/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /org/microvm1: the manager. */
#include "bus/server.h"

#include "microvm/names.h"

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    return sd_bus_message_append(reply, "s", MICROVMD_VERSION);
}

static int get_host_role(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    BusServer *server = userdata;

    return sd_bus_message_append(reply, "s", microvm_host_role_to_string(server->manager->role));
}

static int get_drivers(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    BusServer *server = userdata;
    int r;

    r = sd_bus_message_open_container(reply, 'a', "(sbs)");
    for (DriverKind kind = 0; kind < DRIVER_KIND_MAX && r >= 0; kind++) {
        const DriverSlot *slot = &server->manager->drivers[kind];
        r = sd_bus_message_append(reply, "(sbs)", driver_kind_to_string(kind), slot->online,
                                  slot->reason ? slot->reason
                                  : slot->online && kind == DRIVER_KIND_LIBVIRT
                                      ? server->manager->config.libvirt_uri
                                      : "");
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_counts(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    BusServer *server = userdata;
    uint32_t counts[MICROVM_STATE_MAX] = {0};
    int r;

    for (size_t i = 0; i < server->manager->n_vms; i++)
        counts[server->manager->vms[i]->record.state]++;
    r = sd_bus_message_open_container(reply, 'a', "{su}");
    if (r >= 0)
        r = sd_bus_message_append(reply, "{su}", "total", (uint32_t)server->manager->n_vms);
    for (MicrovmState state = 0; state < MICROVM_STATE_MAX && r >= 0; state++)
        r = sd_bus_message_append(reply, "{su}", microvm_state_to_string(state), counts[state]);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_directories(sd_bus *bus, const char *path, const char *interface, const char *property,
                           sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    const ManagerSettings *settings = &((BusServer *)userdata)->manager->settings;
    int r;

    r = sd_bus_message_open_container(reply, 'a', "s");
    for (size_t i = 0; i < settings->n_directories && r >= 0; i++)
        r = sd_bus_message_append(reply, "s", settings->directories[i]);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

MicroVM *bus_find_named(BusServer *server, const char *name, sd_bus_error *error)
{
    MicroVM *vm = manager_find(server->manager, name);
    char text[MICROVM_NAME_MAX + 64];

    snprintf(text, sizeof(text), "No microVM is called \"%.*s\".", MICROVM_NAME_MAX, name);
    if (!vm)
        bus_error_set(error, -ENOENT, text);
    return vm;
}

int bus_read_microvm(BusServer *server, sd_bus_message *message, MicroVM **ret_vm, sd_bus_error *error)
{
    const char *name;
    MicroVM *vm;
    int r;

    r = sd_bus_message_read(message, "s", &name);
    if (r < 0)
        return r;
    vm = bus_find_named(server, name, error);
    if (!vm)
        return -ENOENT;
    *ret_vm = vm;
    return 0;
}

static int method_get(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    const char *path;
    MicroVM *vm;
    int r;

    r = bus_read_microvm(server, message, &vm, error);
    if (r < 0)
        return r;
    path = bus_vm_path(vm);
    return path ? sd_bus_reply_method_return(message, "o", path) : -ENOMEM;
}

static int append_row(sd_bus_message *reply, const void *items, size_t index)
{
    MicroVM *vm = ((MicroVM *const *)items)[index];
    const VmSpec *spec = vm_current_spec(vm);
    const char *path = bus_vm_path(vm);

    if (!path)
        return -ENOMEM;
    return sd_bus_message_append(reply, "(sossssu)", vm->name, path,
                                 microvm_state_to_string(vm->record.state),
                                 microvm_readiness_to_string(vm->record.readiness.state),
                                 spec ? hypervisor_to_string(spec->hypervisor) : "",
                                 spec ? driver_kind_to_string(spec->driver) : "", (uint32_t)vm->pid);
}

static int method_list(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    int r = bus_read_options(message, NULL, 0, error);

    return r < 0 ? r
                 : bus_reply_list(message, "(sossssu)", server->manager->n_vms, append_row,
                                  server->manager->vms);
}

static int append_change(sd_bus_message *reply, const void *items, size_t index)
{
    const ReloadChange *change = (const ReloadChange *)items + index;

    return sd_bus_message_append(reply, "(ss)", change->name, change->change);
}

static int method_reload(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    _cleanup_free_ char *text = NULL;
    int r;

    r = bus_read_options(message, NULL, 0, error);
    if (r < 0)
        return r;
    r = manager_reload(server->manager, &changes, &text);
    return r < 0 ? bus_error_set(error, r, text)
                 : bus_reply_list(message, "(ss)", changes.count, append_change, changes.items);
}

static int method_validate(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
    const char *json;
    int r;

    r = sd_bus_message_read(message, "s", &json);
    if (r < 0)
        return r;
    r = definition_load_text("validate", json, &server->manager->config.defaults, &problems, &spec);
    if (r < 0 && r != -EBADMSG)
        return r;
    return bus_reply_problems(message, &problems);
}

static int get_draining(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    BusServer *server = userdata;

    return sd_bus_message_append(reply, "b", server->manager->drain.on);
}

static const BusMethod methods[] = {
    {"GetMicroVM", NULL, method_get},
    {"ListMicroVMs", NULL, method_list},
    {"Reload", MICROVM_POLKIT_MANAGE, method_reload},
    {"StopMicroVMs", MICROVM_POLKIT_MANAGE, bus_method_stop_microvms},
    {"Drain", MICROVM_POLKIT_MANAGE, bus_method_drain},
    {"Undrain", MICROVM_POLKIT_MANAGE, bus_method_undrain},
    {"ListLeaks", MICROVM_POLKIT_INSPECT, bus_method_list_leaks},
    {"Plan", MICROVM_POLKIT_INSPECT, bus_method_plan},
    {"Apply", MICROVM_POLKIT_MANAGE, bus_method_apply},
    {"ApplyAndPurge", MICROVM_POLKIT_DEFINE, bus_method_apply_and_purge},
    {"CancelApply", MICROVM_POLKIT_MANAGE, bus_method_cancel_apply},
    {"Validate", NULL, method_validate},
    {"Explain", NULL, bus_method_explain},
};

static int on_method(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    return bus_dispatch(userdata, methods, ELEMENTSOF(methods), message, false, error);
}

static int on_define(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    return bus_dispatch(userdata, bus_define_methods, bus_n_define_methods, message, false, error);
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("HostRole", "s", get_host_role, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Drivers", "a(sbs)", get_drivers, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Draining", "b", get_draining, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Counts", "a{su}", get_counts, 0, 0),
    SD_BUS_PROPERTY("DefinitionDirectories", "as", get_directories, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_METHOD_WITH_ARGS("GetMicroVM", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", microvm), on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListMicroVMs", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("a(sossssu)", microvms), on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(ss)", changes),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("StopMicroVMs", SD_BUS_ARGS("as", names, "a{sv}", options),
                            SD_BUS_RESULT("a(sosts)", jobs), on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Drain", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(sosts)", jobs),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Undrain", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(sosts)", jobs),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListLeaks", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(ssss)", leaks),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Plan", SD_BUS_ARGS("as", names, "a{sv}", options),
                            SD_BUS_RESULT("a(sssa(ssss))", plan), on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Apply", SD_BUS_ARGS("as", names, "a{sv}", options), SD_BUS_RESULT("t", id),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ApplyAndPurge", SD_BUS_ARGS("as", names, "as", files, "a{sv}", options),
                            SD_BUS_RESULT("t", id), on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("CancelApply", SD_BUS_ARGS("t", id), SD_BUS_NO_RESULT, on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Validate", SD_BUS_ARGS("s", json), SD_BUS_RESULT("a(sssuu)", problems),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Explain", SD_BUS_ARGS("s", name, "a{sv}", options),
                            SD_BUS_RESULT("a{sv}", facts), on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Define", SD_BUS_ARGS("s", name, "s", content, "a{sv}", options),
                            SD_BUS_RESULT("a(sssuu)", problems), on_define, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("CreateTransient", SD_BUS_ARGS("s", name, "s", content, "a{sv}", options),
                            SD_BUS_RESULT("o", microvm), on_define, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Undefine", SD_BUS_ARGS("s", name, "a{sv}", options),
                            SD_BUS_RESULT("as", removed), on_define, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Mask", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT, on_define,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Unmask", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT, on_define,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetDefinitionState", SD_BUS_ARGS("s", name), SD_BUS_RESULT("s", state),
                            on_define, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL_WITH_ARGS("JobRemoved",
                            SD_BUS_ARGS("t", id, "s", name, "s", verb, "s", result, "s", reason), 0),
    SD_BUS_SIGNAL_WITH_ARGS("ApplyProgress",
                            SD_BUS_ARGS("t", id, "s", name, "s", action, "s", how, "s", text), 0),
    SD_BUS_SIGNAL_WITH_ARGS("ApplyRemoved", SD_BUS_ARGS("t", id, "s", result, "s", reason), 0),
    SD_BUS_VTABLE_END,
};

int bus_publish_manager(BusServer *server)
{
    int r;

    r = sd_bus_add_object_vtable(server->bus, NULL, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE, vtable,
                                 server);
    if (r >= 0)
        r = sd_bus_add_object_manager(server->bus, NULL, MICROVM_MANAGER_PATH);
    return r;
}
