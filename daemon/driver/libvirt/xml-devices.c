/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/libvirt/xml-writer.h"
#include "driver/qemu-common.h"

/* Without an address libvirt finds one on PCI, or says that there is no PCI bus. */
static void put_address(Writer *w)
{
    if (!qemu_has_pci(w->request->spec))
        xml_put(w, "      <address type='virtio-mmio'/>\n");
}

/* --- disks --- */

static bool is_foreign(const char *path, const char *state_dir)
{
    size_t length = strlen(state_dir);

    return strncmp(path, state_dir, length) != 0 || path[length] != '/' || strstr(path, "/../");
}

/* Foreign files stay foreign: libvirt would change owner and label of what it opens. Ends the <source>. */
static void put_no_relabel(Writer *w, bool foreign)
{
    if (!foreign || !(w->target->dac || w->target->selinux)) {
        xml_put(w, "/>\n");
        return;
    }
    xml_put(w, ">\n");
    if (w->target->dac)
        xml_put(w, "        <seclabel model='dac' relabel='no'/>\n");
    if (w->target->selinux)
        xml_put(w, "        <seclabel model='selinux' relabel='no'/>\n");
    xml_put(w, "      </source>\n");
}

static void put_disk(Writer *w, size_t index)
{
    const StartRequest *request = w->request;
    const VolumeSpec *volume = &request->spec->volumes[index];
    _cleanup_free_ char *path = volume_path(volume, request->state_dir);
    bool is_device = request->block_volumes && request->block_volumes[index];
    char device[16] = "vda";

    if (!path) {
        w->invalid = true;
        return;
    }
    if (index < 26)
        device[2] = (char)('a' + index);
    else
        snprintf(device, sizeof(device), "vd%c%c", (char)('a' + index / 26 - 1), (char)('a' + index % 26));
    xml_put(w, "    <disk type='%s' device='disk'>\n      <driver name='qemu' type='%s'%s/>\n      <source",
            is_device ? "block" : "file", qemu_image_format(volume->image_type),
            volume->direct ? " cache='none'" : "");
    xml_attribute(w, is_device ? "dev" : "file", path);
    put_no_relabel(w, is_device || is_foreign(path, request->state_dir)); /* a link may lead to a device */
    /* It leans on no other file, whatever is written in it: volume_ensure() has seen to that. */
    if (volume->image_type != IMAGE_RAW)
        xml_put(w, "      <backingStore/>\n");
    xml_put(w, "      <target dev='%s' bus='virtio'/>\n", device);
    if (volume->read_only)
        xml_put(w, "      <readonly/>\n");
    if (volume->serial)
        xml_element(w, "      ", "serial", volume->serial);
    if (index == 0 && request->spec->boot == BOOT_DISK)
        xml_put(w, "      <boot order='1'/>\n");
    put_address(w);
    xml_put(w, "    </disk>\n");
}

/* --- network cards --- */

static void put_connection(Writer *w, const InterfaceSpec *interface)
{
    static const char *const modes[MACVTAP_MODE_MAX] = {[MACVTAP_PRIVATE] = "private",
                                                        [MACVTAP_VEPA] = "vepa",
                                                        [MACVTAP_BRIDGE] = "bridge",
                                                        [MACVTAP_PASSTHRU] = "passthrough"};

    if (interface->type == INTERFACE_BRIDGE) {
        xml_put(w, "      <source");
        xml_attribute(w, "bridge", interface->bridge);
        xml_put(w, "/>\n");
    } else if (interface->type == INTERFACE_MACVTAP) {
        if (!modes[interface->macvtap_mode]) {
            w->invalid = true; /* "source": refused by its capability */
            return;
        }
        xml_put(w, "      <source");
        xml_attribute(w, "dev", interface->macvtap_link);
        xml_put(w, " mode='%s'/>\n", modes[interface->macvtap_mode]);
    }
    xml_put(w, "      <target");
    xml_attribute(w, "dev", interface->id);
    xml_put(w, "/>\n");
}

static void put_interface(Writer *w, const InterfaceSpec *interface)
{
    static const char *const types[INTERFACE_TYPE_MAX] = {[INTERFACE_USER] = "user",
                                                          [INTERFACE_TAP] = "ethernet",
                                                          [INTERFACE_MACVTAP] = "direct",
                                                          [INTERFACE_BRIDGE] = "bridge"};
    uint64_t n = qemu_queues(w->request->spec, interface);

    xml_put(w, "    <interface type='%s'>\n      <mac", types[interface->type]);
    xml_attribute(w, "address", interface->mac);
    xml_put(w, "/>\n");
    if (interface->type != INTERFACE_USER)
        put_connection(w, interface);
    xml_put(w, "      <model type='virtio'/>\n");
    if (interface->type != INTERFACE_USER) {
        xml_put(w, "      <driver name='%s'", interface->tap_vhost ? "vhost" : "qemu");
        if (n > 1)
            xml_put(w, " queues='%" PRIu64 "'", n);
        xml_put(w, "/>\n");
    }
    put_address(w);
    xml_put(w, "    </interface>\n");
}

/* --- shared directories --- */

static void put_virtiofs(Writer *w, const ShareSpec *share)
{
    uint64_t threads = w->request->spec->virtiofsd_threads;
    /* "auto" is virtiofsd's own default; "metadata" is refused by its capability. */
    const char *cache = share->cache == SHARE_CACHE_ALWAYS  ? "always"
                        : share->cache == SHARE_CACHE_NEVER ? "none"
                                                            : NULL;

    xml_put(w, "    <filesystem type='mount'>\n      <driver type='virtiofs' queue='%d'/>\n", VIRTIOFS_QUEUE);
    if (share->socket) {
        xml_put(w, "      <source");
        xml_attribute(w, "socket", share->socket);
        xml_put(w, "/>\n");
        return;
    }
    if (cache || threads > 0) {
        xml_put(w, "      <binary>\n");
        if (cache)
            xml_put(w, "        <cache mode='%s'/>\n", cache);
        if (threads > 0)
            xml_put(w, "        <thread_pool size='%" PRIu64 "'/>\n", threads);
        xml_put(w, "      </binary>\n");
    }
    xml_put(w, "      <source");
    xml_attribute(w, "dir", share->source);
    xml_put(w, "/>\n");
}

static void put_9p(Writer *w, const ShareSpec *share)
{
    /* libvirt's "squash" is QEMU's "none". "mapped-file" is refused by its capability. */
    static const char *const modes[SECURITY_MODEL_MAX] = {
        [SECURITY_PASSTHROUGH] = "passthrough", [SECURITY_NONE] = "squash", [SECURITY_MAPPED] = "mapped"};

    if (!modes[share->security_model]) {
        w->invalid = true;
        return;
    }
    xml_put(w, "    <filesystem type='mount' accessmode='%s'>\n      <source", modes[share->security_model]);
    xml_attribute(w, "dir", share->source);
    xml_put(w, "/>\n");
}

static void put_share(Writer *w, const ShareSpec *share)
{
    if (share->proto == SHARE_VIRTIOFS)
        put_virtiofs(w, share);
    else
        put_9p(w, share);
    xml_put(w, "      <target");
    xml_attribute(w, "dir", share->tag);
    xml_put(w, "/>\n");
    if (share->read_only)
        xml_put(w, "      <readonly/>\n");
    put_address(w);
    xml_put(w, "    </filesystem>\n");
}

/* --- devices of the host --- */

/* Buses are numbers in libvirt: 0 is the machine's own, then come ours, then those that libvirt adds. */
static void put_root_port(Writer *w, size_t index)
{
    const RootPortSpec *port = &w->request->spec->qemu_root_ports[index];

    xml_put(w, "    <controller type='pci' index='%zu' model='pcie-root-port'>\n", index + 1);
    if (port->chassis > 0)
        xml_put(w, "      <target chassis='%" PRIu64 "'/>\n", port->chassis);
    xml_put(w, "      <alias name='" ROOT_PORT_ALIAS "%zu'/>\n    </controller>\n", index);
}

static void put_placement(Writer *w, size_t index)
{
    const VmSpec *spec = w->request->spec;
    const DeviceSpec *device = &spec->devices[index];

    if (device->qemu_id) {
        xml_put(w, "      <alias");
        xml_attribute(w, "name", device->qemu_id);
        xml_put(w, "/>\n");
    } else if (device->qemu_extra_args) {
        xml_put(w, "      <alias name='" DEVICE_ALIAS "%zu'/>\n", index);
    }
    for (size_t i = 0; device->qemu_bus && i < spec->n_qemu_root_ports; i++)
        if (streq(device->qemu_bus, spec->qemu_root_ports[i].id))
            xml_put(w, "      <address type='pci' domain='0' bus='%zu' slot='0' function='0'/>\n", i + 1);
}

static void put_passed_through(Writer *w, size_t index)
{
    const DeviceSpec *device = &w->request->spec->devices[index];
    PciAddress at;
    UsbId id;

    xml_put(w, "    <hostdev mode='subsystem' type='%s' managed='yes'>\n      <source>\n",
            device_bus_to_string(device->bus));
    if (qemu_usb_id(device, &id))
        xml_put(w, "        <vendor id='0x%04x'/>\n        <product id='0x%04x'/>\n", id.vendor, id.product);
    else if (qemu_pci_address(device, &at))
        xml_put(w, "        <address domain='0x%04x' bus='0x%02x' slot='0x%02x' function='0x%x'/>\n",
                at.domain, at.bus, at.slot, at.function);
    else
        w->invalid = true;
    xml_put(w, "      </source>\n");
    put_placement(w, index);
    xml_put(w, "    </hostdev>\n");
}

/* --- the rest --- */

static void put_console(Writer *w)
{
    if (!w->request->spec->qemu_serial_console)
        return;
    xml_put(w, "    <serial type='pty'>\n      <log");
    xml_attribute(w, "file", w->request->console_log);
    xml_put(w, " append='on'/>\n      <target type='isa-serial' port='0'/>\n    </serial>\n"
               "    <console type='pty'>\n      <target type='serial' port='0'/>\n    </console>\n");
}

static void put_memory_devices(Writer *w)
{
    const VmSpec *spec = w->request->spec;

    if (spec->hotplug_mem_mib > 0)
        xml_put(w,
                "    <memory model='virtio-mem'>\n      <target>\n        <size unit='MiB'>%" PRIu64
                "</size>\n        <node>0</node>\n        <block unit='MiB'>%d</block>\n"
                "        <requested unit='MiB'>%" PRIu64 "</requested>\n      </target>\n    </memory>\n",
                spec->hotplug_mem_mib, VIRTIO_MEM_BLOCK_MIB, spec->hotplugged_mem_mib);
    if (!spec->balloon) {
        xml_put(w, "    <memballoon model='none'/>\n");
        return;
    }
    xml_put(w, "    <memballoon model='virtio'%s freePageReporting='on'>\n",
            spec->deflate_on_oom ? " autodeflate='on'" : "");
    put_address(w);
    xml_put(w, "    </memballoon>\n");
}

/* Nobody listens: who may use libvirt gets at it by that (virt-viewer --attach). */
static void put_display(Writer *w)
{
    if (w->request->spec->graphics)
        xml_put(w, "    <graphics type='vnc'>\n      <listen type='none'/>\n    </graphics>\n"
                   "    <video>\n      <model type='virtio'/>\n    </video>\n");
}

static void put_serial_ports(Writer *w)
{
    NotifyWay way = xml_notify_way(w);
    unsigned ports = qemu_serial_ports(w->request->spec, way);

    /* libvirt's test driver makes none. */
    if (ports == 0 || w->target->type != DOMAIN_QEMU)
        return;
    xml_put(w, "    <controller type='virtio-serial' index='0' ports='%u'>\n", ports);
    put_address(w);
    xml_put(w, "    </controller>\n");
    if (way == NOTIFY_BY_PORT) {
        xml_put(w, "    <channel type='unix'>\n      <source mode='bind'");
        xml_attribute(w, "path", w->request->notify_socket);
        xml_put(w, "/>\n      <target type='virtio' name='" NOTIFY_PORT_NAME "'/>\n    </channel>\n");
    }
    /* Its socket is where libvirt wants it: libvirt itself talks to an agent. */
    if (qemu_has_agent(w->request->spec))
        xml_put(w, "    <channel type='unix'>\n      <target type='virtio' name='" AGENT_PORT_NAME
                   "'/>\n    </channel>\n");
}

/* libvirt's test driver knows machines of neither kind. */
static void put_guards(Writer *w)
{
    const VmSpec *spec = w->request->spec;

    if (spec->watchdog_type == WATCHDOG_DEVICE)
        xml_put(w, "    <watchdog model='i6300esb' action='%s'/>\n", qemu_watchdog_action(spec));
    /* On other machines a panic is told by the console. */
    if (spec->qemu_machine == QEMU_MACHINE_Q35 && w->target->type == DOMAIN_QEMU)
        xml_put(w, "    <panic model='isa'/>\n");
}

void xml_devices(Writer *w)
{
    const VmSpec *spec = w->request->spec;
    /* QEMU's own words for it; libvirt's test driver has the interface as any other. */
    const InterfaceSpec *elsewhere = w->target->type == DOMAIN_QEMU ? qemu_forwarding_interface(spec) : NULL;

    xml_put(w, "  <devices>\n    <controller type='usb' model='%s'/>\n",
            qemu_has_usb(spec) ? "qemu-xhci" : "none");
    for (size_t i = 0; i < spec->n_qemu_root_ports; i++)
        put_root_port(w, i);
    for (size_t i = 0; i < spec->n_volumes; i++)
        put_disk(w, i);
    for (size_t i = 0; i < spec->n_interfaces; i++)
        if (&spec->interfaces[i] != elsewhere)
            put_interface(w, &spec->interfaces[i]);
    for (size_t i = 0; i < spec->n_shares; i++)
        put_share(w, &spec->shares[i]);
    for (size_t i = 0; i < spec->n_devices; i++)
        put_passed_through(w, i);
    put_console(w);
    put_display(w);
    if (spec->vsock_cid > 0) {
        xml_put(w, "    <vsock model='virtio'>\n      <cid auto='no' address='%" PRIu64 "'/>\n",
                spec->vsock_cid);
        put_address(w);
        xml_put(w, "    </vsock>\n");
    }
    put_serial_ports(w);
    put_guards(w);
    put_memory_devices(w);
    xml_put(w, "  </devices>\n");
}
