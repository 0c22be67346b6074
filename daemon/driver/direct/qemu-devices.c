/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/direct/qemu.h"

#include "base/parse.h"
#include "driver/qemu-common.h"

#include <inttypes.h>

/* Opens a device: "virtio-blk-device" on virtio-mmio, "virtio-blk-pci" on PCI. */
static void put_device(Rendering *r, const char *model)
{
    command_add(r->command, "-device");
    command_add(r->command, "%s-%s", model, qemu_has_pci(r->spec) ? "pci" : "device");
}

/* --- disks --- */

/*
 * The image is a descriptor that was opened for it. What it is on top of it does not open: no other file is
 * named in it (volume_ensure() has seen to that), and no backing file is followed. In QEMU's JSON form, which
 * alone has null; nothing of it is from outside.
 */
static void put_volume(Rendering *r, size_t index)
{
    const VolumeSpec *volume = &r->spec->volumes[index];
    const char *read_only = volume->read_only ? "true" : "false";
    bool device = r->request->block_volumes && r->request->block_volumes[index];

    command_add(r->command, "-add-fd");
    command_add(r->command, "fd=%d,set=%zu", command_descriptor(r->command, DESCRIPTOR_VOLUME, index), index);
    command_add(r->command, "-blockdev");
    command_add(r->command,
                "{\"driver\":\"%s\",\"node-name\":\"file%zu\",\"filename\":\"/dev/fdset/%zu\","
                "\"read-only\":%s,\"cache\":{\"direct\":%s},\"discard\":\"unmap\"}",
                device ? "host_device" : "file", index, index, read_only, volume->direct ? "true" : "false");
    command_add(r->command, "-blockdev");
    command_add(r->command,
                "{\"driver\":\"%s\",\"node-name\":\"volume%zu\",\"file\":\"file%zu\","
                "\"read-only\":%s,\"discard\":\"unmap\"%s}",
                qemu_image_format(volume->image_type), index, index, read_only,
                volume->image_type == IMAGE_QCOW2 ? ",\"backing\":null" : "");
    put_device(r, "virtio-blk");
    command_put(r->command, ",drive=volume%zu", index);
    if (volume->serial) {
        command_put(r->command, ",serial=");
        command_put_option(r->command, volume->serial);
    }
    if (index == 0 && r->spec->boot == BOOT_DISK)
        command_put(r->command, ",bootindex=1");
}

/* --- network cards --- */

/* These are put into syntax that has no quotes. */
static bool forwards_are_valid(const VmSpec *spec)
{
    for (size_t i = 0; i < spec->n_forward_ports; i++) {
        const ForwardSpec *forward = &spec->forward_ports[i];
        if (!ipv4_valid(forward->host_address) ||
            (forward->guest_address && !ipv4_valid(forward->guest_address)))
            return false;
    }
    return true;
}

static void put_user_netdev(Rendering *r, size_t index)
{
    bool forwarding = &r->spec->interfaces[index] == qemu_forwarding_interface(r->spec);
    _cleanup_free_ char *forwards = forwarding ? qemu_forwards(r->spec) : NULL;

    command_add(r->command, "user,id=net%zu", index);
    if (forwards)
        command_put_text(r->command, forwards);
    r->command->oom |= forwarding && !forwards;
    r->invalid |= forwarding && !forwards_are_valid(r->spec);
}

static void put_tap_netdev(Rendering *r, size_t index, uint64_t queues)
{
    command_add(r->command, "tap,id=net%zu,vhost=%s,%s=", index,
                r->spec->interfaces[index].tap_vhost ? "on" : "off", queues > 1 ? "fds" : "fd");
    for (uint64_t queue = 0; queue < queues; queue++)
        command_put(r->command, "%s%d", queue > 0 ? ":" : "",
                    command_descriptor(r->command, DESCRIPTOR_TAP, index * QUEUES_MAX + queue));
}

static void put_interface(Rendering *r, size_t index)
{
    const InterfaceSpec *interface = &r->spec->interfaces[index];
    uint64_t queues = qemu_queues(r->spec, interface);

    command_add(r->command, "-netdev");
    if (interface->type == INTERFACE_USER)
        put_user_netdev(r, index);
    else
        put_tap_netdev(r, index, queues);
    put_device(r, "virtio-net");
    command_put(r->command, ",netdev=net%zu,mac=", index);
    command_put_option(r->command, interface->mac);
    if (queues > 1)
        command_put(r->command, ",mq=on");
    /* Nothing boots from the network. */
    if (qemu_has_pci(r->spec))
        command_put(r->command, ",romfile=");
}

/* --- shared directories --- */

static void put_virtiofs(Rendering *r, size_t index)
{
    const ShareSpec *share = &r->spec->shares[index];

    command_add(r->command, "-chardev");
    command_add(r->command, "socket,id=share%zu,", index);
    if (share->socket) {
        command_put(r->command, "path=");
        command_put_option(r->command, share->socket);
    } else {
        command_put(r->command, "fd=%d", command_descriptor(r->command, DESCRIPTOR_SHARE, index));
    }
    put_device(r, "vhost-user-fs");
    command_put(r->command, ",chardev=share%zu,queue-size=%d,tag=", index, VIRTIOFS_QUEUE);
    command_put_option(r->command, share->tag);
}

static void put_9p(Rendering *r, size_t index)
{
    const ShareSpec *share = &r->spec->shares[index];

    command_add(r->command, "-fsdev");
    command_add(r->command, "local,id=share%zu,security_model=%s%s,path=", index,
                security_model_to_string(share->security_model), share->read_only ? ",readonly=on" : "");
    command_put_option(r->command, share->source);
    put_device(r, "virtio-9p");
    command_put(r->command, ",fsdev=share%zu,mount_tag=", index);
    command_put_option(r->command, share->tag);
}

/* --- devices of the host, and where they are plugged into --- */

static void put_root_ports(Rendering *r)
{
    for (size_t i = 0; i < r->spec->n_qemu_root_ports; i++) {
        const RootPortSpec *port = &r->spec->qemu_root_ports[i];
        command_add(r->command, "-device");
        command_add(r->command, "pcie-root-port,chassis=%" PRIu64 ",slot=%" PRIu64 ",id=", port->chassis,
                    port->slot);
        command_put_option(r->command, port->id);
    }
}

static void put_passed_through(Rendering *r, const DeviceSpec *device)
{
    PciAddress at;
    UsbId id;

    command_add(r->command, "-device");
    if (qemu_usb_id(device, &id))
        command_add(r->command, "usb-host,vendorid=0x%04x,productid=0x%04x", id.vendor, id.product);
    else if (qemu_pci_address(device, &at))
        command_add(r->command, "vfio-pci,host=%04x:%02x:%02x.%x", at.domain, at.bus, at.slot, at.function);
    else
        r->invalid = true;
    if (device->qemu_id) {
        command_put(r->command, ",id=");
        command_put_option(r->command, device->qemu_id);
    }
    if (device->qemu_bus) {
        command_put(r->command, ",bus=");
        command_put_option(r->command, device->qemu_bus);
    }
    /* More properties are what it is for. */
    if (device->qemu_extra_args) {
        command_put(r->command, ",");
        command_put_text(r->command, device->qemu_extra_args);
    }
}

/* "q35" has a keyboard and a mouse as it is. */
static bool has_usb_input(const VmSpec *spec)
{
    return spec->graphics && spec->qemu_machine == QEMU_MACHINE_VIRT;
}

static void put_host_devices(Rendering *r)
{
    if (qemu_has_usb(r->spec) || has_usb_input(r->spec)) {
        command_add(r->command, "-device");
        command_add(r->command, "qemu-xhci,id=usb");
    }
    put_root_ports(r);
    for (size_t i = 0; i < r->spec->n_devices; i++)
        put_passed_through(r, &r->spec->devices[i]);
}

/* --- the rest --- */

static void put_vsock(Rendering *r)
{
    if (r->spec->vsock_cid == 0)
        return;
    put_device(r, "vhost-vsock");
    command_put(r->command, ",guest-cid=%" PRIu64 ",vhostfd=%d", r->spec->vsock_cid,
                command_descriptor(r->command, DESCRIPTOR_VSOCK, 0));
}

static void put_serial_port(Rendering *r, const char *id, const char *name, DescriptorKind kind)
{
    command_add(r->command, "-chardev");
    command_add(r->command, "socket,id=%s,fd=%d,server=on,wait=off", id,
                command_descriptor(r->command, kind, 0));
    command_add(r->command, "-device");
    command_add(r->command, "virtserialport,chardev=%s,name=%s", id, name);
}

static void put_serial_ports(Rendering *r)
{
    NotifyWay way = qemu_notify_way(r->request, OWN_SLOTS);
    unsigned ports = qemu_serial_ports(r->spec, way);

    if (ports == 0)
        return;
    put_device(r, "virtio-serial");
    command_put(r->command, ",max_ports=%u", ports);
    if (way == NOTIFY_BY_PORT)
        put_serial_port(r, "notify", NOTIFY_PORT_NAME, DESCRIPTOR_NOTIFY);
    if (qemu_has_agent(r->spec))
        put_serial_port(r, "agent", AGENT_PORT_NAME, DESCRIPTOR_AGENT);
}

static void put_watchdog(Rendering *r)
{
    if (r->spec->watchdog_type != WATCHDOG_DEVICE)
        return;
    command_add(r->command, "-device");
    command_add(r->command, "i6300esb");
    command_add(r->command, "-action");
    command_add(r->command, "watchdog=%s", qemu_watchdog_action(r->spec));
}

/* Shown nowhere, until QEMU is told where (QMP's display-update). */
static void put_display(Rendering *r)
{
    static const char *const input[] = {"usb-kbd,bus=usb.0", "usb-tablet,bus=usb.0"};

    if (!r->spec->graphics)
        return;
    command_add(r->command, "-vnc");
    command_add(r->command, "none");
    command_add(r->command, "-device");
    command_add(r->command, "%s",
                r->spec->qemu_machine == QEMU_MACHINE_Q35 ? "virtio-vga" : "virtio-gpu-pci");
    for (size_t i = 0; i < ELEMENTSOF(input) && has_usb_input(r->spec); i++) {
        command_add(r->command, "-device");
        command_add_text(r->command, input[i]);
    }
}

/* On other machines a panic is told by the console. */
static void put_panic_notifier(Rendering *r)
{
    if (r->spec->qemu_machine != QEMU_MACHINE_Q35)
        return;
    command_add(r->command, "-device");
    command_add(r->command, "pvpanic");
}

static void put_virtio_mem(Rendering *r)
{
    const VmSpec *spec = r->spec;

    if (spec->hotplug_mem_mib == 0)
        return;
    qemu_put_memory(r, "hotplug-memory", spec->hotplug_mem_mib);
    /* The host need not have it all as long as the guest has not. */
    if (!spec->hugepage_mem && !qemu_shares_memory(spec))
        command_put(r->command, ",reserve=off");
    put_device(r, "virtio-mem");
    command_put(r->command, ",id=hotplug,memdev=hotplug-memory,block-size=%dM,requested-size=%" PRIu64 "M",
                VIRTIO_MEM_BLOCK_MIB, spec->hotplugged_mem_mib);
    if (spec->hugepage_mem)
        command_put(r->command, ",prealloc=on");
}

void qemu_put_devices(Rendering *r)
{
    const VmSpec *spec = r->spec;

    for (size_t i = 0; i < spec->n_volumes; i++)
        put_volume(r, i);
    for (size_t i = 0; i < spec->n_interfaces; i++)
        put_interface(r, i);
    for (size_t i = 0; i < spec->n_shares; i++) {
        if (spec->shares[i].proto == SHARE_VIRTIOFS)
            put_virtiofs(r, i);
        else
            put_9p(r, i);
    }
    put_host_devices(r);
    put_display(r);
    put_vsock(r);
    put_serial_ports(r);
    put_watchdog(r);
    put_panic_notifier(r);
    put_virtio_mem(r);
    if (spec->balloon) {
        put_device(r, "virtio-balloon");
        command_put(r->command, ",id=balloon,free-page-reporting=on,deflate-on-oom=%s",
                    spec->deflate_on_oom ? "on" : "off");
    }
    /* An emulated CPU has no other source of random numbers. */
    command_add(r->command, "-object");
    command_add(r->command, "rng-builtin,id=entropy");
    put_device(r, "virtio-rng");
    command_put(r->command, ",rng=entropy");
}
