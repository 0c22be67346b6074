/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/libvirt/xml.h"

#include <inttypes.h>

typedef struct Writer {
    FILE *stream;
    bool invalid; /* something that XML can't hold was to be written */
} Writer;

/* Text or an attribute's value. XML 1.0 has no control characters but tab and line ends; we want none of
 * them. */
static void put_escaped(Writer *w, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", w->stream);
            break;
        case '<':
            fputs("&lt;", w->stream);
            break;
        case '>':
            fputs("&gt;", w->stream);
            break;
        case '\'':
            fputs("&apos;", w->stream);
            break;
        case '"':
            fputs("&quot;", w->stream);
            break;
        default:
            if ((unsigned char)*text < 0x20 || *text == 0x7f)
                w->invalid = true;
            fputc(*text, w->stream);
        }
    }
}

static void put_element(Writer *w, const char *indent, const char *name, const char *text)
{
    fprintf(w->stream, "%s<%s>", indent, name);
    put_escaped(w, text);
    fprintf(w->stream, "</%s>\n", name);
}

/* " NAME='VALUE'" */
static void put_attribute(Writer *w, const char *name, const char *value)
{
    fprintf(w->stream, " %s='", name);
    put_escaped(w, value);
    fputc('\'', w->stream);
}

static void put_mmio_address(Writer *w)
{
    fputs("      <address type='virtio-mmio'/>\n", w->stream);
}

static void put_header(Writer *w, const StartRequest *request, const DomainTarget *target)
{
    const VmSpec *spec = request->spec;
    char generation[SD_ID128_STRING_MAX];
    const char *kind = target->type == DOMAIN_TEST ? "test" : request->accel == ACCEL_KVM ? "kvm" : "qemu";

    fprintf(w->stream, "<domain type='%s'%s>\n", kind,
            target->type == DOMAIN_QEMU && spec->n_forward_ports > 0
                ? " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
                : "");
    put_element(w, "  ", "name", spec->name);
    put_element(w, "  ", "uuid", spec->machine_id);
    fprintf(w->stream,
            "  <metadata>\n    <microvmd:run xmlns:microvmd='%s' generation='%s'/>\n  </metadata>\n"
            "  <memory unit='MiB'>%" PRIu64 "</memory>\n  <vcpu>%" PRIu64 "</vcpu>\n",
            DOMAIN_METADATA_URI, sd_id128_to_string(request->generation, generation), spec->mem_mib,
            spec->vcpu);
}

static void put_boot(Writer *w, const StartRequest *request, const DomainTarget *target)
{
    fputs("  <os>\n", w->stream);
    fprintf(w->stream, "    <type%s>hvm</type>\n",
            target->type == DOMAIN_TEST ? "" : " arch='x86_64' machine='microvm'");
    put_element(w, "    ", "kernel", request->kernel);
    if (request->initrd)
        put_element(w, "    ", "initrd", request->initrd);
    put_element(w, "    ", "cmdline", request->cmdline);
    /* With ACPI the machine has a power button, which a graceful stop presses, and 24 virtio-mmio slots. */
    fputs("  </os>\n  <features>\n    <acpi/>\n  </features>\n", w->stream);
    if (target->type == DOMAIN_QEMU && request->accel == ACCEL_KVM)
        fputs(target->no_arch_capabilities ? "  <cpu mode='host-passthrough'>\n    <feature policy='disable' "
                                             "name='arch-capabilities'/>\n  </cpu>\n"
                                           : "  <cpu mode='host-passthrough'/>\n",
              w->stream);
    /* A reset ends the run at that very point, when the disks are at rest; microvmd starts the next one. */
    fputs("  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>destroy</on_reboot>\n  "
          "<on_crash>destroy</on_crash>\n",
          w->stream);
}

static bool is_foreign(const char *path, const char *state_dir)
{
    size_t length = strlen(state_dir);

    return strncmp(path, state_dir, length) != 0 || path[length] != '/' || strstr(path, "/../");
}

/* Foreign files stay foreign: libvirt would change owner and label of what it opens. Ends the <source>. */
static void put_no_relabel(Writer *w, const DomainTarget *target, bool foreign)
{
    if (!foreign || !(target->dac || target->selinux)) {
        fputs("/>\n", w->stream);
        return;
    }
    fputs(">\n", w->stream);
    if (target->dac)
        fputs("        <seclabel model='dac' relabel='no'/>\n", w->stream);
    if (target->selinux)
        fputs("        <seclabel model='selinux' relabel='no'/>\n", w->stream);
    fputs("      </source>\n", w->stream);
}

static void put_disk(Writer *w, const StartRequest *request, const DomainTarget *target, size_t index)
{
    const VolumeSpec *volume = &request->spec->volumes[index];
    _cleanup_free_ char *path = NULL;
    char device[16] = "vda";

    if (asprintf(&path, "%s%s%s", volume->image[0] == '/' ? "" : request->state_dir,
                 volume->image[0] == '/' ? "" : "/", volume->image) < 0) {
        path = NULL;
        w->invalid = true;
        return;
    }
    if (index < 26)
        device[2] = (char)('a' + index);
    else
        snprintf(device, sizeof(device), "vd%c%c", (char)('a' + index / 26 - 1), (char)('a' + index % 26));
    fputs("    <disk type='file' device='disk'>\n", w->stream);
    fprintf(w->stream, "      <driver name='qemu' type='%s'/>\n      <source",
            image_type_to_string(volume->image_type));
    put_attribute(w, "file", path);
    put_no_relabel(w, target, is_foreign(path, request->state_dir));
    fprintf(w->stream, "      <target dev='%s' bus='virtio'/>\n", device);
    if (volume->read_only)
        fputs("      <readonly/>\n", w->stream);
    if (volume->serial)
        put_element(w, "      ", "serial", volume->serial);
    put_mmio_address(w);
    fputs("    </disk>\n", w->stream);
}

static void put_interface(Writer *w, const InterfaceSpec *interface)
{
    fputs("    <interface type='user'>\n      <mac", w->stream);
    put_attribute(w, "address", interface->mac);
    fputs("/>\n      <model type='virtio'/>\n", w->stream);
    put_mmio_address(w);
    fputs("    </interface>\n", w->stream);
}

static void put_console(Writer *w, const StartRequest *request)
{
    fputs("    <serial type='pty'>\n      <log", w->stream);
    put_attribute(w, "file", request->console_log);
    fputs(" append='on'/>\n      <target type='isa-serial' port='0'/>\n    </serial>\n"
          "    <console type='pty'>\n      <target type='serial' port='0'/>\n    </console>\n",
          w->stream);
}

/* libvirt forwards ports by passt only (from 9.0 on); those of QEMU's own user network it can't express. */
static bool has_forwards(const VmSpec *spec, size_t interface)
{
    if (spec->n_forward_ports == 0 || spec->interfaces[interface].type != INTERFACE_USER)
        return false;
    for (size_t i = 0; i < interface; i++)
        if (spec->interfaces[i].type == INTERFACE_USER)
            return false; /* the first one has them */
    return true;
}

static void put_devices(Writer *w, const StartRequest *request, const DomainTarget *target)
{
    const VmSpec *spec = request->spec;

    fputs("  <devices>\n    <controller type='usb' model='none'/>\n", w->stream);
    for (size_t i = 0; i < spec->n_volumes; i++)
        put_disk(w, request, target, i);
    for (size_t i = 0; i < spec->n_interfaces; i++)
        if (target->type == DOMAIN_TEST || !has_forwards(spec, i))
            put_interface(w, &spec->interfaces[i]);
    put_console(w, request);
    fputs("    <memballoon model='none'/>\n  </devices>\n", w->stream);
}

/* In QEMU's option strings a comma in a value is doubled (qemu(1)). Addresses and MACs hold none; ids may not
 * either. */
static void put_option_value(Writer *w, const char *value)
{
    for (char one[2] = ""; *value; value++) {
        if (*value == ',')
            fputc(',', w->stream);
        one[0] = *value;
        put_escaped(w, one);
    }
}

static void put_forward(Writer *w, const ForwardSpec *forward)
{
    if (forward->from == FORWARD_FROM_HOST) {
        fprintf(w->stream, ",hostfwd=%s:", forward_proto_to_string(forward->proto));
        put_option_value(w, forward->host_address);
        fprintf(w->stream, ":%" PRIu64 "-", forward->host_port);
        if (forward->guest_address)
            put_option_value(w, forward->guest_address);
        fprintf(w->stream, ":%" PRIu64, forward->guest_port);
        return;
    }
    fputs(",guestfwd=tcp:", w->stream);
    put_option_value(w, forward->guest_address ? forward->guest_address : "10.0.2.100");
    fprintf(w->stream, ":%" PRIu64 "-tcp:", forward->guest_port);
    put_option_value(w, forward->host_address);
    fprintf(w->stream, ":%" PRIu64, forward->host_port);
}

static void put_forwarding_interface(Writer *w, const VmSpec *spec)
{
    for (size_t i = 0; i < spec->n_interfaces; i++) {
        if (!has_forwards(spec, i))
            continue;
        fputs("  <qemu:commandline>\n    <qemu:arg value='-netdev'/>\n    <qemu:arg value='user,id=forward",
              w->stream);
        for (size_t k = 0; k < spec->n_forward_ports; k++)
            put_forward(w, &spec->forward_ports[k]);
        fputs("'/>\n    <qemu:arg value='-device'/>\n    <qemu:arg "
              "value='virtio-net-device,netdev=forward,mac=",
              w->stream);
        put_option_value(w, spec->interfaces[i].mac);
        fputs("'/>\n  </qemu:commandline>\n", w->stream);
    }
}

int domain_xml(const StartRequest *request, const DomainTarget *target, char **ret_xml)
{
    _cleanup_free_ char *xml = NULL;
    size_t size;
    Writer writer = {.stream = open_memstream(&xml, &size)};

    if (!writer.stream)
        return -ENOMEM;
    put_header(&writer, request, target);
    put_boot(&writer, request, target);
    put_devices(&writer, request, target);
    if (target->type == DOMAIN_QEMU)
        put_forwarding_interface(&writer, request->spec);
    fputs("</domain>\n", writer.stream);
    if (fclose(writer.stream) != 0)
        return -ENOMEM;
    if (writer.invalid)
        return -EINVAL;
    *ret_xml = TAKE_PTR(xml);
    return 0;
}

/* --- what libvirt says --- */

/* The value of the attribute that follows `words`, up to its quote. */
static char *attribute_after(const char *xml, const char *words)
{
    const char *at = strstr(xml, words), *end;
    char quote;

    if (!at)
        return NULL;
    at += strlen(words);
    quote = *at++;
    if (quote != '\'' && quote != '"')
        return NULL;
    end = strchr(at, quote);
    return end ? strndup(at, (size_t)(end - at)) : NULL;
}

int domain_generation_parse(const char *metadata, sd_id128_t *ret_generation)
{
    _cleanup_free_ char *text = attribute_after(metadata, "generation=");

    return text && sd_id128_from_string(text, ret_generation) >= 0 ? 0 : -EBADMSG;
}

char *domain_console_path(const char *xml)
{
    const char *serial = strstr(xml, "<serial type=");

    return serial ? attribute_after(serial, "<source path=") : NULL;
}

Accel domain_accel(const char *xml)
{
    _cleanup_free_ char *type = attribute_after(xml, "<domain type=");

    return streq(type, "kvm") ? ACCEL_KVM : ACCEL_TCG;
}

int capabilities_owner(const char *xml, uid_t *ret_uid, gid_t *ret_gid)
{
    const char *dac = strstr(xml, "<model>dac</model>"), *label;
    unsigned uid, gid;

    label = dac ? strstr(dac, "<baselabel type='") : NULL;
    label = label ? strchr(label, '>') : NULL;
    if (!label || sscanf(label, ">+%u:+%u<", &uid, &gid) != 2)
        return -ENOENT;
    *ret_uid = uid;
    *ret_gid = gid;
    return 0;
}

bool capabilities_has_security(const char *xml, const char *model)
{
    char element[64];

    snprintf(element, sizeof(element), "<model>%s</model>", model);
    for (const char *at = xml; (at = strstr(at, "<secmodel>")); at++) {
        const char *end = strstr(at, "</secmodel>"), *found = strstr(at, element);
        if (found && end && found < end)
            return true;
    }
    return false;
}
