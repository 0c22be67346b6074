/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /org/microvm1/vm/ID: one microVM. Its methods are in vm-methods.c. */
#include "bus/server.h"

#include "microvm/names.h"

const char *bus_vm_path(MicroVM *vm)
{
    if (!vm->object_path && sd_bus_path_encode(MICROVM_VM_PATH, vm->name, &vm->object_path) < 0)
        return NULL;
    return vm->object_path;
}

MicroVM *bus_find_vm(BusServer *server, const char *path)
{
    _cleanup_free_ char *name = NULL;

    if (sd_bus_path_decode(path, MICROVM_VM_PATH, &name) <= 0)
        return NULL;
    return manager_find(server->manager, name);
}

/* --- properties --- */

static const char *get_name(const MicroVM *vm)
{
    return vm->name;
}

static const char *get_state(const MicroVM *vm)
{
    return microvm_state_to_string(vm->record.state);
}

static const char *get_state_reason(const MicroVM *vm)
{
    return vm->record.reason;
}

static uint64_t get_state_timestamp(const MicroVM *vm)
{
    return vm->record.state_usec;
}

static const char *get_readiness(const MicroVM *vm)
{
    return microvm_readiness_to_string(vm->record.readiness.state);
}

static const char *get_readiness_reason(const MicroVM *vm)
{
    return vm->readiness_reason;
}

static const char *get_status_text(const MicroVM *vm)
{
    return vm->status_text;
}

static uint64_t get_kernel_timestamp(const MicroVM *vm)
{
    return vm->record.readiness.kernel.real_usec;
}

static const char *get_result(const MicroVM *vm)
{
    return microvm_result_to_string(vm->record.result);
}

static const char *get_last_stop(const MicroVM *vm)
{
    return microvm_last_stop_to_string(vm->record.last_stop);
}

static uint64_t get_job(const MicroVM *vm)
{
    return vm->job.id != 0 ? vm->job.id : vm->ready_job.id;
}

static const char *get_hypervisor(const MicroVM *vm)
{
    const VmSpec *spec = vm_current_spec(vm);

    return spec ? hypervisor_to_string(spec->hypervisor) : "";
}

static const char *get_driver(const MicroVM *vm)
{
    const VmSpec *spec = vm_current_spec(vm);

    return spec ? driver_kind_to_string(spec->driver) : "";
}

static uint64_t get_driver_online(const MicroVM *vm)
{
    return vm->driver_online;
}

static const char *get_accel(const MicroVM *vm)
{
    return vm->record.accel == ACCEL_AUTO ? "" : accel_to_string(vm->record.accel);
}

static const char *get_accel_reason(const MicroVM *vm)
{
    return vm->record.accel_reason;
}

static const char *get_unit(const MicroVM *vm)
{
    return vm->unit;
}

static uint64_t get_main_pid(const MicroVM *vm)
{
    return (uint64_t)vm->pid;
}

static const char *get_uuid(const MicroVM *vm)
{
    const VmSpec *spec = vm_current_spec(vm);

    return spec ? spec->machine_id : "";
}

static uint64_t get_vcpus(const MicroVM *vm)
{
    const VmSpec *spec = vm_current_spec(vm);

    return spec ? spec->vcpu : 0;
}

static uint64_t get_memory(const MicroVM *vm)
{
    const VmSpec *spec = vm_current_spec(vm);

    return spec ? spec->mem_mib << 20 : 0;
}

static uint64_t get_memory_actual(const MicroVM *vm)
{
    return vm->record.memory;
}

static uint64_t get_autostart(const MicroVM *vm)
{
    return vm->spec && (vm->spec->autostart || vm->enabled);
}

static const char *get_rival_unit(const MicroVM *vm)
{
    return vm->rival_unit;
}

static uint64_t get_start_timestamp(const MicroVM *vm)
{
    return vm->record.start_usec;
}

static uint64_t get_ready_timestamp(const MicroVM *vm)
{
    return vm->record.readiness.ready.real_usec;
}

static uint64_t get_restarts(const MicroVM *vm)
{
    return vm->record.n_restarts;
}

static uint64_t get_next_restart(const MicroVM *vm)
{
    uint64_t due = vm->record.next_restart_boot_usec;

    return due == 0 ? 0 : now_realtime_usec() + due - now_boottime_usec();
}

static uint64_t get_outdated(const MicroVM *vm)
{
    return vm->outdated != 0;
}

static uint64_t get_undeclared(const MicroVM *vm)
{
    return vm_is_undeclared(vm);
}

static const char *get_definition_path(const MicroVM *vm)
{
    return vm->definition_path;
}

static const char *get_definition_error(const MicroVM *vm)
{
    return vm->definition_error;
}

/* 'g': the generation, whose text is made on the fly; 'a', 'o', 'z': sources, reasons and parts, lists of
 * words; 'l': labels. */
static const struct {
    const char *name;
    char type;
    const char *(*text)(const MicroVM *vm);
    uint64_t (*number)(const MicroVM *vm);
} properties[] = {
    {"Name", 's', get_name, NULL},
    {"State", 's', get_state, NULL},
    {"StateReason", 's', get_state_reason, NULL},
    {"StateTimestamp", 't', NULL, get_state_timestamp},
    {"Readiness", 's', get_readiness, NULL},
    {"ReadinessReason", 's', get_readiness_reason, NULL},
    {"StatusText", 's', get_status_text, NULL},
    {"KernelTimestamp", 't', NULL, get_kernel_timestamp},
    {"Result", 's', get_result, NULL},
    {"LastStop", 's', get_last_stop, NULL},
    {"Job", 't', NULL, get_job},
    {"Hypervisor", 's', get_hypervisor, NULL},
    {"Driver", 's', get_driver, NULL},
    {"DriverOnline", 'b', NULL, get_driver_online},
    {"Accel", 's', get_accel, NULL},
    {"AccelReason", 's', get_accel_reason, NULL},
    {"Unit", 's', get_unit, NULL},
    {"MainPID", 'u', NULL, get_main_pid},
    {"UUID", 's', get_uuid, NULL},
    {"Generation", 'g', NULL, NULL},
    {"VCPUs", 'u', NULL, get_vcpus},
    {"MemoryBytes", 't', NULL, get_memory},
    {"MemoryActualBytes", 't', NULL, get_memory_actual},
    {"Autostart", 'b', NULL, get_autostart},
    {"AutostartSources", 'a', NULL, NULL},
    {"RivalUnit", 's', get_rival_unit, NULL},
    {"StartTimestamp", 't', NULL, get_start_timestamp},
    {"ReadyTimestamp", 't', NULL, get_ready_timestamp},
    {"NRestarts", 'u', NULL, get_restarts},
    {"NextRestartTimestamp", 't', NULL, get_next_restart},
    {"Outdated", 'b', NULL, get_outdated},
    {"OutdatedReasons", 'o', NULL, NULL},
    {"Undeclared", 'b', NULL, get_undeclared},
    {"DefinitionPath", 's', get_definition_path, NULL},
    {"DefinitionError", 's', get_definition_error, NULL},
    {"Loosened", 'z', NULL, NULL},
    {"Labels", 'l', NULL, NULL},
};

static int append_generation(sd_bus_message *reply, const MicroVM *vm)
{
    char text[SD_ID128_STRING_MAX];

    return sd_bus_message_append(
        reply, "s",
        sd_id128_is_null(vm->record.generation) ? "" : sd_id128_to_string(vm->record.generation, text));
}

static int append_labels(sd_bus_message *reply, const MicroVM *vm)
{
    int r;

    r = sd_bus_message_open_container(reply, 'a', "{ss}");
    for (size_t i = 0; vm->spec && i < vm->spec->n_labels && r >= 0; i++)
        r = sd_bus_message_append(reply, "{ss}", vm->spec->labels[i].name, vm->spec->labels[i].value);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_autostart(sd_bus_message *reply, const MicroVM *vm)
{
    const char *sources[3] = {NULL};
    size_t n = 0;

    if (vm->spec && vm->spec->autostart)
        sources[n++] = "definition";
    if (vm->spec && vm->enabled)
        sources[n++] = "systemd";
    return sd_bus_message_append_strv(reply, (char **)sources);
}

static int append_reasons(sd_bus_message *reply, const MicroVM *vm)
{
    int r = sd_bus_message_open_container(reply, 'a', "s");

    for (MicrovmOutdated reason = 0; reason < MICROVM_OUTDATED_MAX && r >= 0; reason++)
        if (vm->outdated & OUTDATED(reason))
            r = sd_bus_message_append(reply, "s", microvm_outdated_to_string(reason));
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_loosened(sd_bus_message *reply, const MicroVM *vm)
{
    const char *parts[SANDBOX_PARTS + 1] = {NULL};
    const VmSpec *spec = vm_current_spec(vm);

    if (spec)
        vm_spec_loosened(spec, parts);
    return sd_bus_message_append_strv(reply, (char **)parts);
}

static int get_property(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    const MicroVM *vm = userdata;

    for (size_t i = 0; i < ELEMENTSOF(properties); i++) {
        if (!streq(properties[i].name, property))
            continue;
        if (properties[i].type == 'g')
            return append_generation(reply, vm);
        if (properties[i].type == 'l')
            return append_labels(reply, vm);
        if (properties[i].type == 'a')
            return append_autostart(reply, vm);
        if (properties[i].type == 'o')
            return append_reasons(reply, vm);
        if (properties[i].type == 'z')
            return append_loosened(reply, vm);
        if (properties[i].type == 's') {
            const char *text = properties[i].text(vm);
            return sd_bus_message_append(reply, "s", text ? text : "");
        }
        if (properties[i].type == 't')
            return sd_bus_message_append(reply, "t", properties[i].number(vm));
        /* "u" and "b" are 32 bits on the bus */
        return sd_bus_message_append(reply, (char[]){properties[i].type, '\0'},
                                     (uint32_t)properties[i].number(vm));
    }
    return -EINVAL;
}

int bus_emit_vm_changed(BusServer *server, MicroVM *vm)
{
    static const char *names[ELEMENTSOF(properties) + 1];
    const char *path = bus_vm_path(vm);

    /* The name never changes; everything else is small and from memory. */
    for (size_t i = 1; i < ELEMENTSOF(properties) && !names[i - 1]; i++)
        names[i - 1] = properties[i].name;
    return path ? sd_bus_emit_properties_changed_strv(server->bus, path, MICROVM_VM_INTERFACE, (char **)names)
                : -ENOMEM;
}

/* --- the object --- */

static int on_method(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    MicroVM *vm = userdata;
    Manager *manager = vm->host->userdata;

    return bus_dispatch(manager->observer.userdata, bus_vm_methods, bus_n_vm_methods, message, true, error);
}

#define PROPERTY(name, type) SD_BUS_PROPERTY(name, type, get_property, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
#define JOB_METHOD(name)                                                                                     \
    SD_BUS_METHOD_WITH_ARGS(name, SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("t", job), on_method,         \
                            SD_BUS_VTABLE_UNPRIVILEGED)
#define PLAIN_METHOD(name)                                                                                   \
    SD_BUS_METHOD_WITH_ARGS(name, SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, on_method,                \
                            SD_BUS_VTABLE_UNPRIVILEGED)

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Name", "s", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    PROPERTY("State", "s"),
    PROPERTY("StateReason", "s"),
    PROPERTY("StateTimestamp", "t"),
    PROPERTY("Readiness", "s"),
    PROPERTY("ReadinessReason", "s"),
    PROPERTY("StatusText", "s"),
    PROPERTY("KernelTimestamp", "t"),
    PROPERTY("Result", "s"),
    PROPERTY("LastStop", "s"),
    PROPERTY("Job", "t"),
    PROPERTY("Hypervisor", "s"),
    PROPERTY("Driver", "s"),
    PROPERTY("DriverOnline", "b"),
    PROPERTY("Accel", "s"),
    PROPERTY("AccelReason", "s"),
    PROPERTY("Unit", "s"),
    PROPERTY("MainPID", "u"),
    PROPERTY("UUID", "s"),
    PROPERTY("Generation", "s"),
    PROPERTY("VCPUs", "u"),
    PROPERTY("MemoryBytes", "t"),
    PROPERTY("MemoryActualBytes", "t"),
    PROPERTY("Autostart", "b"),
    PROPERTY("AutostartSources", "as"),
    PROPERTY("RivalUnit", "s"),
    PROPERTY("StartTimestamp", "t"),
    PROPERTY("ReadyTimestamp", "t"),
    PROPERTY("NRestarts", "u"),
    PROPERTY("NextRestartTimestamp", "t"),
    PROPERTY("Outdated", "b"),
    PROPERTY("OutdatedReasons", "as"),
    PROPERTY("Undeclared", "b"),
    PROPERTY("DefinitionPath", "s"),
    PROPERTY("DefinitionError", "s"),
    PROPERTY("Loosened", "as"),
    PROPERTY("Labels", "a{ss}"),
    JOB_METHOD("Start"),
    JOB_METHOD("Stop"),
    JOB_METHOD("Restart"),
    SD_BUS_METHOD_WITH_ARGS("Kill", SD_BUS_ARGS("i", signal), SD_BUS_NO_RESULT, on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    PLAIN_METHOD("Pause"),
    PLAIN_METHOD("Resume"),
    SD_BUS_METHOD_WITH_ARGS("SetMemory", SD_BUS_ARGS("t", bytes), SD_BUS_NO_RESULT, on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ResetFailed", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("OpenConsole", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("h", console),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("OpenLog", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("h", log), on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetDefinition", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", definition),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Cat", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(ss)", files), on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ForgetVolume", SD_BUS_ARGS("s", image), SD_BUS_NO_RESULT, on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListFiles", SD_BUS_NO_ARGS, SD_BUS_RESULT("as", files), on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListCrashes", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a(tss)", crashes),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetCrash", SD_BUS_ARGS("t", crash), SD_BUS_RESULT("s", report), on_method,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Qmp", SD_BUS_ARGS("s", command, "a{sv}", options), SD_BUS_RESULT("s", answer),
                            on_method, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

static int find_object(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                       sd_bus_error *error)
{
    MicroVM *vm = bus_find_vm(userdata, path);

    if (!vm)
        return 0;
    *ret_found = vm;
    return 1;
}

static int list_objects(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                        sd_bus_error *error)
{
    BusServer *server = userdata;
    char **nodes = calloc(server->manager->n_vms + 1, sizeof(*nodes));

    if (!nodes)
        return -ENOMEM;
    for (size_t i = 0; i < server->manager->n_vms; i++) {
        const char *path = bus_vm_path(server->manager->vms[i]);
        if (!path || !(nodes[i] = strdup(path))) {
            while (i-- > 0)
                free(nodes[i]);
            free(nodes);
            return -ENOMEM;
        }
    }
    *ret_nodes = nodes;
    return 0;
}

int bus_publish_vms(BusServer *server)
{
    int r;

    r = sd_bus_add_fallback_vtable(server->bus, NULL, MICROVM_VM_PATH, MICROVM_VM_INTERFACE, vtable,
                                   find_object, server);
    if (r >= 0)
        r = sd_bus_add_node_enumerator(server->bus, NULL, MICROVM_VM_PATH, list_objects, server);
    return r;
}
