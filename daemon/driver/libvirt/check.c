/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of a definition libvirt and QEMU's machine can't do, beside what a capability says. */
#include "driver/libvirt/internal.h"

enum {
    /*
     * QEMU's machine "microvm" has 24 with ACPI, but a Linux guest that has a device in every one hangs
     * before its init says a word (seen with QEMU 7.2 and Linux 6.1, under TCG); with 23 it runs.
     */
    MMIO_SLOTS = 23,
};

static void check_slots(const VmSpec *spec, const TableReader *reader)
{
    size_t slots =
        spec->n_volumes + spec->n_interfaces + spec->n_shares + (spec->vsock_cid > 0) + spec->balloon;
    const char *most = "/volumes";

    if (spec->qemu_machine != QEMU_MACHINE_MICROVM || slots <= MMIO_SLOTS)
        return;
    if (spec->n_interfaces > spec->n_volumes)
        most = "/interfaces";
    if (spec->n_shares > MAX(spec->n_volumes, spec->n_interfaces))
        most = "/shares";
    table_problem(
        reader, PROBLEM_ERROR, most, true,
        "%zu devices (volumes, interfaces, shares, vsock, balloon) are more than a guest can use on "
        "QEMU's machine \"microvm\" (%d); " WITH_PCI,
        slots, MMIO_SLOTS);
}

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

static void check_shares(const VmSpec *spec, const Runner *runner, const TableReader *reader)
{
    char pointer[64];

    for (size_t i = 0; i < spec->n_shares; i++) {
        const ShareSpec *share = &spec->shares[i];
        if (share->proto != SHARE_VIRTIOFS)
            continue;
        snprintf(pointer, sizeof(pointer), "/shares/%zu/readOnly", i);
        if (share->read_only)
            table_refuse(reader, pointer, CAP_VIRTIOFS_READ_ONLY, runner);
    }
}

static void check_hotplug(const VmSpec *spec, const TableReader *reader)
{
    if (spec->hotplug_mem_mib % VIRTIO_MEM_BLOCK_MIB != 0)
        table_problem(reader, PROBLEM_ERROR, "/hotplugMem", false, "it must be a multiple of %d MiB",
                      VIRTIO_MEM_BLOCK_MIB);
    if (spec->hotplugged_mem_mib % VIRTIO_MEM_BLOCK_MIB != 0)
        table_problem(reader, PROBLEM_ERROR, "/hotpluggedMem", false, "it must be a multiple of %d MiB",
                      VIRTIO_MEM_BLOCK_MIB);
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

static void check_root_ports(const VmSpec *spec, const TableReader *reader)
{
    for (size_t i = 0; i < spec->n_qemu_root_ports; i++)
        for (size_t k = 0; k < i; k++) {
            const RootPortSpec *port = &spec->qemu_root_ports[i], *other = &spec->qemu_root_ports[k];
            char pointer[64];
            snprintf(pointer, sizeof(pointer), "/qemu/pcieRootPorts/%zu", i);
            if (streq(port->id, other->id))
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "id %s is that of /qemu/pcieRootPorts/%zu, too", port->id, k);
            if (port->chassis > 0 && port->chassis == other->chassis && port->slot == other->slot)
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "it has the chassis and slot of /qemu/pcieRootPorts/%zu", k);
        }
}

void libvirt_check(const VmSpec *spec, const Runner *runner, const TableReader *reader)
{
    check_slots(spec, reader);
    check_interfaces(spec, reader);
    check_shares(spec, runner, reader);
    check_hotplug(spec, reader);
    check_placement(spec, reader);
    check_root_ports(spec, reader);
}
