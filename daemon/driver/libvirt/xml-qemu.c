/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libvirt has no words for, in QEMU's own: arguments, and properties of devices
 * (https://libvirt.org/drvqemu.html, "Pass-through of arbitrary QEMU arguments", "QEMU device overrides").
 * Its test driver knows none of it.
 */
#include "driver/libvirt/xml-writer.h"
#include "driver/qemu-common.h"

#include <ctype.h>

/* --- arguments --- */

static bool has_arguments(const VmSpec *spec)
{
    return qemu_forwarding_interface(spec) || spec->n_qemu_args > 0 || spec->n_qemu_machine_opts > 0 ||
           spec->socket || qemu_adds_keyboard(spec);
}

static void put_argument(Writer *w, const char *text)
{
    xml_put(w, "    <qemu:arg");
    xml_attribute(w, "value", text);
    xml_put(w, "/>\n");
}

/* A value in QEMU's syntax, between the quotes of an attribute. */
static void put_value(Writer *w, const char *value)
{
    _cleanup_free_ char *quoted = qemu_option_value(value);

    if (quoted)
        xml_text(w, quoted);
    else
        w->invalid = true;
}

/* libvirt forwards ports by passt only (from 9.0 on); those of QEMU's own user network it can't express. */
static void put_forwarding_interface(Writer *w)
{
    const VmSpec *spec = w->request->spec;
    const InterfaceSpec *interface = qemu_forwarding_interface(spec);
    _cleanup_free_ char *forwards = NULL;

    if (!interface)
        return;
    forwards = qemu_forwards(spec);
    if (!forwards) {
        w->invalid = true;
        return;
    }
    put_argument(w, "-netdev");
    xml_put(w, "    <qemu:arg value='user,id=forward");
    xml_text(w, forwards);
    xml_put(w, "'/>\n");
    put_argument(w, "-device");
    xml_put(w, "    <qemu:arg value='%s,netdev=forward,mac=",
            qemu_has_pci(spec) ? "virtio-net-pci" : "virtio-net-device");
    put_value(w, interface->mac);
    xml_put(w, "'/>\n");
}

/* QEMU adds them to those that libvirt gives; of two that differ the later one counts. */
static void put_machine_options(Writer *w)
{
    const VmSpec *spec = w->request->spec;

    if (spec->n_qemu_machine_opts == 0)
        return;
    put_argument(w, "-machine");
    xml_put(w, "    <qemu:arg value='");
    for (size_t i = 0; i < spec->n_qemu_machine_opts; i++) {
        xml_put(w, i > 0 ? "," : "");
        put_value(w, spec->qemu_machine_opts[i].name);
        xml_put(w, "=");
        put_value(w, spec->qemu_machine_opts[i].value);
    }
    xml_put(w, "'/>\n");
}

/* A second monitor: libvirt has its own. */
static void put_control_socket(Writer *w)
{
    if (!w->request->spec->socket)
        return;
    put_argument(w, "-chardev");
    xml_put(w, "    <qemu:arg value='socket,id=own-control,server=on,wait=off,path=");
    put_value(w, w->request->spec->socket);
    xml_put(w, "'/>\n");
    put_argument(w, "-mon");
    put_argument(w, "chardev=own-control,mode=control");
}

/* libvirt takes it for granted that there is one where there may be. */
static void put_keyboard(Writer *w)
{
    if (!qemu_adds_keyboard(w->request->spec))
        return;
    put_argument(w, "-device");
    put_argument(w, "i8042");
}

static void put_arguments(Writer *w)
{
    const VmSpec *spec = w->request->spec;

    if (!has_arguments(spec))
        return;
    xml_put(w, "  <qemu:commandline>\n");
    put_forwarding_interface(w);
    put_machine_options(w);
    put_control_socket(w);
    put_keyboard(w);
    for (size_t i = 0; i < spec->n_qemu_args; i++)
        put_argument(w, spec->qemu_args[i]);
    xml_put(w, "  </qemu:commandline>\n");
}

/* --- properties of devices --- */

static bool has_overrides(const VmSpec *spec)
{
    bool any = false;

    for (size_t i = 0; i < spec->n_qemu_root_ports; i++)
        any |= spec->qemu_root_ports[i].slot > 0;
    for (size_t i = 0; i < spec->n_devices; i++)
        any |= spec->devices[i].qemu_extra_args != NULL;
    return any;
}

static void put_root_port_slot(Writer *w, size_t index)
{
    xml_put(w,
            "    <qemu:device alias='" ROOT_PORT_ALIAS "%zu'>\n      <qemu:frontend>\n"
            "        <qemu:property name='slot' type='unsigned' value='%" PRIu64 "'/>\n"
            "      </qemu:frontend>\n    </qemu:device>\n",
            index, w->request->spec->qemu_root_ports[index].slot);
}

static bool is_true(const char *value)
{
    return streq(value, "on") || streq(value, "yes") || streq(value, "true");
}

const char *xml_property_type(const char *name, const char *value)
{
    /* Of "vfio-pci" and "usb-host": words that include "on", and texts that may be numbers. */
    static const char *const texts[] = {
        "display",
        "x-msix-relocation",
        "x-pre-copy-dirty-page-tracking",
        "enable-migration",
        "failover_pair_id",
        "romfile",
        "sysfsdev",
        "host",
        "hostdevice",
        "hostport",
        "pcap",
        "port",
        "serial",
        "id",
        "bus",
    };
    bool negative = value[0] == '-';
    char *end;

    for (size_t i = 0; i < ELEMENTSOF(texts); i++)
        if (streq(name, texts[i]))
            return "string";
    if (is_true(value) || streq(value, "off") || streq(value, "no") || streq(value, "false"))
        return "bool";
    if (!isdigit((unsigned char)value[negative]))
        return "string";
    errno = 0;
    if (negative)
        strtoll(value, &end, 0);
    else
        strtoull(value, &end, 0);
    return *end || errno ? "string" : negative ? "signed" : "unsigned";
}

static void put_property(Writer *w, const QemuOption *option)
{
    const char *type = xml_property_type(option->name, option->value);

    xml_put(w, "        <qemu:property");
    xml_attribute(w, "name", option->name);
    xml_put(w, " type='%s'", type);
    if (streq(type, "bool"))
        xml_put(w, " value='%s'", is_true(option->value) ? "true" : "false");
    else if (streq(type, "unsigned"))
        xml_put(w, " value='%llu'", strtoull(option->value, NULL, 0)); /* libvirt takes no hexadecimal ones */
    else
        xml_attribute(w, "value", option->value);
    xml_put(w, "/>\n");
}

static void put_device_options(Writer *w, size_t index)
{
    const DeviceSpec *device = &w->request->spec->devices[index];
    const char *at = device->qemu_extra_args;
    QemuOption option;
    int r;

    xml_put(w, "    <qemu:device");
    if (device->qemu_id)
        xml_attribute(w, "alias", device->qemu_id);
    else
        xml_put(w, " alias='" DEVICE_ALIAS "%zu'", index);
    xml_put(w, ">\n      <qemu:frontend>\n");
    while ((r = qemu_option_take(&at, &option)) > 0) {
        put_property(w, &option);
        qemu_option_clear(&option);
    }
    w->invalid |= r < 0;
    xml_put(w, "      </qemu:frontend>\n    </qemu:device>\n");
}

static void put_overrides(Writer *w)
{
    const VmSpec *spec = w->request->spec;

    if (!has_overrides(spec))
        return;
    xml_put(w, "  <qemu:override>\n");
    for (size_t i = 0; i < spec->n_qemu_root_ports; i++)
        if (spec->qemu_root_ports[i].slot > 0)
            put_root_port_slot(w, i);
    for (size_t i = 0; i < spec->n_devices; i++)
        if (spec->devices[i].qemu_extra_args)
            put_device_options(w, i);
    xml_put(w, "  </qemu:override>\n");
}

bool xml_has_qemu_words(const Writer *w)
{
    const VmSpec *spec = w->request->spec;

    return w->target->type == DOMAIN_QEMU && (has_arguments(spec) || has_overrides(spec));
}

void xml_qemu_words(Writer *w)
{
    if (!xml_has_qemu_words(w))
        return;
    put_arguments(w);
    put_overrides(w);
}
