/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of a definition libvirt and QEMU's machine can't do, beside what a capability says. */
#include "driver/libvirt/internal.h"
#include "driver/qemu-common.h"

/* libvirt takes such names for its own and gives others. */
static void check_interfaces(const VmSpec *spec, const TableReader *reader)
{
    static const char *const taken[INTERFACE_TYPE_MAX][2] = {
        [INTERFACE_TAP] = {"vnet", "vif"},
        [INTERFACE_BRIDGE] = {"vnet", "vif"},
        [INTERFACE_MACVTAP] = {"macvtap", "macvlan"},
    };

    for (size_t i = 0; i < spec->n_interfaces; i++) {
        const InterfaceSpec *interface = &spec->interfaces[i];
        for (size_t k = 0; k < ELEMENTSOF(taken[0]) && interface->id; k++) {
            const char *prefix = taken[interface->type][k];
            char pointer[64];
            snprintf(pointer, sizeof(pointer), "/interfaces/%zu/id", i);
            if (prefix && strncmp(interface->id, prefix, strlen(prefix)) == 0)
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "libvirt gives names that begin with \"%s\" itself and would take another one; "
                              "choose one that begins otherwise",
                              prefix);
        }
    }
}

static bool is_root_port(const VmSpec *spec, const char *bus)
{
    for (size_t i = 0; i < spec->n_qemu_root_ports; i++)
        if (streq(spec->qemu_root_ports[i].id, bus))
            return true;
    return false;
}

static void check_placement(const VmSpec *spec, const TableReader *reader)
{
    for (size_t i = 0; i < spec->n_devices; i++) {
        const DeviceSpec *device = &spec->devices[i];
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/devices/%zu/qemu/id", i);
        if (device->qemu_id && strncmp(device->qemu_id, "ua-", 3) != 0)
            table_problem(reader, PROBLEM_ERROR, pointer, false,
                          "libvirt takes only ids that begin with \"ua-\": \"ua-%s\"", device->qemu_id);
        snprintf(pointer, sizeof(pointer), "/devices/%zu/qemu/bus", i);
        if (!device->qemu_bus)
            continue;
        if (device->bus == DEVICE_USB)
            table_problem(reader, PROBLEM_ERROR, pointer, true,
                          "libvirt chooses where a USB device is plugged in; remove the key");
        else if (!is_root_port(spec, device->qemu_bus))
            table_problem(reader, PROBLEM_ERROR, pointer, false,
                          "there is no PCIe root port of that name; add \"qemu\": { \"pcieRootPorts\": [{ "
                          "\"id\": \"%s\" }] }",
                          device->qemu_bus);
        for (size_t k = 0; k < i; k++)
            if (streq(spec->devices[k].qemu_bus, device->qemu_bus))
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "a PCIe root port has room for one device, and /devices/%zu is in it", k);
    }
}

static void check_device_options(const VmSpec *spec, const TableReader *reader)
{
    for (size_t i = 0; i < spec->n_devices; i++) {
        const char *at = spec->devices[i].qemu_extra_args;
        QemuOption option;
        char pointer[64];
        int r = 0;
        while (at && (r = qemu_option_take(&at, &option)) > 0)
            qemu_option_clear(&option);
        snprintf(pointer, sizeof(pointer), "/devices/%zu/qemu/deviceExtraArgs", i);
        if (r == -EINVAL)
            table_problem(
                reader, PROBLEM_ERROR, pointer, false,
                "libvirt takes properties one by one: \"name=value,name=value\", where a comma inside a "
                "value is doubled");
    }
}

/* The state directory is not QEMU's user's, so it could not make its socket there. */
static void check_control_socket(const VmSpec *spec, const TableReader *reader)
{
    if (spec->socket && spec->socket[0] != '/')
        table_problem(
            reader, PROBLEM_ERROR, "/socket", false,
            "with libvirt this must be an absolute path, in a directory that QEMU's user may write to");
}

void libvirt_check(const VmSpec *spec, const Runner *runner, const TableReader *reader)
{
    qemu_check(spec, 0, runner, reader);
    check_interfaces(spec, reader);
    check_placement(spec, reader);
    check_device_options(spec, reader);
    check_control_socket(spec, reader);
}
