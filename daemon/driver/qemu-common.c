/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/qemu-common.h"

#include <inttypes.h>

bool qemu_has_pci(const VmSpec *spec)
{
    return spec->qemu_machine != QEMU_MACHINE_MICROVM;
}

static bool has_button(const VmSpec *spec)
{
    /* That of "virt" is a pin, not ACPI's. */
    return spec->qemu_machine == QEMU_MACHINE_VIRT || !streq(qemu_machine_option(spec, "acpi"), "off");
}

CapabilitySet qemu_stop_capabilities(const VmSpec *spec)
{
    return CAPABILITY(CAP_STOP_AGENT) | (has_button(spec) ? CAPABILITY(CAP_STOP_BUTTON) : 0) |
           (spec->qemu_machine != QEMU_MACHINE_VIRT ? CAPABILITY(CAP_STOP_KEYS) : 0);
}

static bool has_step(const VmSpec *spec, StopAction action)
{
    for (size_t i = 0; i < spec->n_stop_steps; i++)
        if (spec->stop_steps[i].action == action)
            return true;
    return false;
}

bool qemu_adds_keyboard(const VmSpec *spec)
{
    bool unasked = spec->n_stop_steps == 0 && !has_button(spec);

    return (unasked || has_step(spec, STOP_ACTION_CTRL_ALT_DEL)) &&
           spec->qemu_machine == QEMU_MACHINE_MICROVM;
}

bool qemu_has_agent(const VmSpec *spec)
{
    return has_step(spec, STOP_ACTION_AGENT);
}

bool qemu_has_usb(const VmSpec *spec)
{
    for (size_t i = 0; i < spec->n_devices; i++)
        if (spec->devices[i].bus == DEVICE_USB)
            return true;
    return false;
}

bool qemu_shares_memory(const VmSpec *spec)
{
    for (size_t i = 0; i < spec->n_shares; i++)
        if (spec->shares[i].proto == SHARE_VIRTIOFS)
            return true; /* virtiofsd does */
    return false;
}

const char *qemu_image_format(ImageType type)
{
    static const char *const formats[IMAGE_TYPE_MAX] = {
        [IMAGE_RAW] = "raw", [IMAGE_QCOW2] = "qcow2", [IMAGE_VHD] = "vpc", [IMAGE_VHDX] = "vhdx"};

    return formats[type];
}

/* --- network --- */

/*
 * A queue for each virtual CPU, where packets come through a tap device of its own. On a bridge inbound
 * connections stall with them, and virtio-mmio has no interrupts for them.
 */
uint64_t qemu_queues(const VmSpec *spec, const InterfaceSpec *interface)
{
    bool own = interface->type == INTERFACE_TAP || interface->type == INTERFACE_MACVTAP;

    return own && qemu_has_pci(spec) ? MIN(spec->vcpu, (uint64_t)QUEUES_MAX) : 1;
}

const InterfaceSpec *qemu_forwarding_interface(const VmSpec *spec)
{
    for (size_t i = 0; spec->n_forward_ports > 0 && i < spec->n_interfaces; i++)
        if (spec->interfaces[i].type == INTERFACE_USER)
            return &spec->interfaces[i];
    return NULL;
}

static void put_value(FILE *stream, const char *value)
{
    for (; *value; value++) {
        if (*value == ',')
            fputc(',', stream);
        fputc(*value, stream);
    }
}

/* What was written to a memory stream, the caller's; NULL: there was no memory. */
static char *finish(FILE *stream, char **text)
{
    if (fclose(stream) == 0)
        return *text;
    free(*text);
    return NULL;
}

char *qemu_option_value(const char *value)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return NULL;
    put_value(stream, value);
    return finish(stream, &text);
}

const char *qemu_machine_option(const VmSpec *spec, const char *name)
{
    for (size_t i = 0; i < spec->n_qemu_machine_opts; i++)
        if (streq(spec->qemu_machine_opts[i].name, name))
            return spec->qemu_machine_opts[i].value;
    return NULL;
}

void qemu_option_clear(QemuOption *option)
{
    free(option->name);
    free(option->value);
}

int qemu_option_take(const char **at, QemuOption *ret_option)
{
    size_t length = strcspn(*at, "=,");
    const char *rest = *at + length;
    QemuOption option;
    char *end;

    if (**at == '\0')
        return 0;
    if (length == 0)
        return -EINVAL;
    option.name = strndup(*at, length);
    option.value = end = *rest == '=' ? strdup(rest + 1) : strdup("on");
    if (!option.name || !option.value) {
        qemu_option_clear(&option);
        return -ENOMEM;
    }
    if (*rest == '=') {
        for (rest++; *rest && (*rest != ',' || rest[1] == ','); rest += *rest == ',' ? 2 : 1)
            *end++ = *rest;
        *end = '\0';
    }
    *at = *rest == ',' ? rest + 1 : rest;
    *ret_option = option;
    return 1;
}

static void put_forward(FILE *stream, const ForwardSpec *forward)
{
    if (forward->from == FORWARD_FROM_HOST) {
        fprintf(stream, ",hostfwd=%s:", forward_proto_to_string(forward->proto));
        put_value(stream, forward->host_address);
        fprintf(stream, ":%" PRIu64 "-", forward->host_port);
        if (forward->guest_address)
            put_value(stream, forward->guest_address);
        fprintf(stream, ":%" PRIu64, forward->guest_port);
        return;
    }
    fprintf(stream, ",guestfwd=tcp:");
    put_value(stream, forward->guest_address ? forward->guest_address : "10.0.2.100");
    fprintf(stream, ":%" PRIu64 "-tcp:", forward->guest_port);
    put_value(stream, forward->host_address);
    fprintf(stream, ":%" PRIu64, forward->host_port);
}

char *qemu_forwards(const VmSpec *spec)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return NULL;
    for (size_t i = 0; i < spec->n_forward_ports; i++)
        put_forward(stream, &spec->forward_ports[i]);
    return finish(stream, &text);
}

/* --- devices of the host --- */

/* The forms are take_device_path()'s, so that only numbers are taken out of it. */
bool qemu_pci_address(const DeviceSpec *device, PciAddress *ret_address)
{
    PciAddress at = {0};

    if (device->bus != DEVICE_PCI ||
        (sscanf(device->path, "%x:%x:%x.%x", &at.domain, &at.bus, &at.slot, &at.function) != 4 &&
         (at.domain = 0, sscanf(device->path, "%x:%x.%x", &at.bus, &at.slot, &at.function) != 3)))
        return false;
    *ret_address = at;
    return true;
}

bool qemu_usb_id(const DeviceSpec *device, UsbId *ret_id)
{
    UsbId id;

    if (device->bus != DEVICE_USB ||
        sscanf(device->path, "vendorid=%x,productid=%x", &id.vendor, &id.product) != 2)
        return false;
    *ret_id = id;
    return true;
}

/* --- what no QEMU can do --- */

/* Devices that a guest of this machine can use, and those that the definition has in so many words. */
static size_t slots_of(const VmSpec *spec)
{
    bool acpi = !streq(qemu_machine_option(spec, "acpi"), "off");

    if (spec->qemu_machine != QEMU_MACHINE_MICROVM)
        return PCI_SLOTS;
    return acpi ? MMIO_SLOTS : MMIO_SLOTS_WITHOUT_ACPI;
}

static size_t devices_of(const VmSpec *spec)
{
    return spec->n_volumes + spec->n_interfaces + spec->n_shares + (spec->vsock_cid > 0) + spec->balloon +
           qemu_has_agent(spec);
}

static bool has_credential(const VmSpec *spec, const char *name)
{
    for (size_t i = 0; i < spec->n_credentials; i++)
        if (streq(spec->credentials[i].name, name))
            return true;
    return false;
}

NotifyWay qemu_notify_way(const StartRequest *request, size_t own_slots)
{
    const VmSpec *spec = request->spec;

    /* Where the definition has one of its own, somebody else is to hear its systemd. */
    if (request->notify_vsock_port > 0 && spec->vsock_cid > 0 && !has_credential(spec, NOTIFY_CREDENTIAL))
        return NOTIFY_BY_VSOCK;
    if (!request->notify_socket)
        return NOTIFY_NOT;
    /* Where there is a port already, the device has room for another. */
    return qemu_has_agent(spec) || devices_of(spec) + own_slots < slots_of(spec) ? NOTIFY_BY_PORT
                                                                                 : NOTIFY_NOT;
}

unsigned qemu_serial_ports(const VmSpec *spec, NotifyWay way)
{
    unsigned n = (way == NOTIFY_BY_PORT) + qemu_has_agent(spec);

    return n > 0 ? n + 1 : 0;
}

/* A reset ends the run, also where microvmd is away at that moment. */
const char *qemu_watchdog_action(const VmSpec *spec)
{
    return spec->watchdog_action == ON_TIMEOUT_WAIT ? "none" : "reset";
}

static void check_slots(const VmSpec *spec, size_t own_slots, const TableReader *reader)
{
    size_t slots = slots_of(spec) - own_slots;
    bool notify = vm_spec_needs_notify(spec) && !qemu_has_agent(spec);
    size_t wanted = devices_of(spec) + notify;
    const char *most = "/volumes";

    if (spec->qemu_machine != QEMU_MACHINE_MICROVM || wanted <= slots)
        return;
    if (spec->n_interfaces > spec->n_volumes)
        most = "/interfaces";
    if (spec->n_shares > MAX(spec->n_volumes, spec->n_interfaces))
        most = "/shares";
    table_problem(
        reader, PROBLEM_ERROR, most, true,
        "%zu devices (volumes, interfaces, shares, vsock, balloon%s%s) are more than a guest can use on "
        "QEMU's machine \"microvm\" (%zu); " WITH_PCI,
        wanted, notify ? ", the port for notify" : "", qemu_has_agent(spec) ? ", that of the agent" : "",
        slots);
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

/* What has a key of its own, which other things depend on. */
static void check_machine_options(const VmSpec *spec, const TableReader *reader)
{
    if (qemu_machine_option(spec, "type"))
        table_problem(reader, PROBLEM_ERROR, "/qemu/machineOpts/type", false,
                      "the machine is chosen by \"qemu\": { \"machine\": ... }");
    if (qemu_machine_option(spec, "accel"))
        table_problem(reader, PROBLEM_ERROR, "/qemu/machineOpts/accel", false,
                      "this is chosen by \"accel\" at the top of the definition");
}

void qemu_check(const VmSpec *spec, size_t own_slots, const Runner *runner, const TableReader *reader)
{
    check_slots(spec, own_slots, reader);
    check_shares(spec, runner, reader);
    check_hotplug(spec, reader);
    check_root_ports(spec, reader);
    check_machine_options(spec, reader);
}
