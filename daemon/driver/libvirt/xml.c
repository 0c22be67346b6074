/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain around its devices. */
#include "driver/libvirt/xml-writer.h"
#include "driver/qemu-common.h"

enum {
    QUOTA_PERIOD_USEC = 100000,
};

static void put_header(Writer *w)
{
    const VmSpec *spec = w->request->spec;
    char generation[SD_ID128_STRING_MAX];
    const char *kind = w->target->type == DOMAIN_TEST   ? "test"
                       : w->request->accel == ACCEL_KVM ? "kvm"
                                                        : "qemu";

    xml_put(w, "<domain type='%s'%s>\n", kind,
            xml_has_qemu_words(w) ? " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'" : "");
    xml_element(w, "  ", "name", spec->name);
    xml_element(w, "  ", "uuid", spec->machine_id);
    if (spec->description)
        xml_element(w, "  ", "description", spec->description);
    xml_put(w, "  <metadata>\n    <microvmd:run xmlns:microvmd='%s' generation='%s'/>\n  </metadata>\n",
            DOMAIN_METADATA_URI, sd_id128_to_string(w->request->generation, generation));
}

static void put_memory_backing(Writer *w)
{
    const VmSpec *spec = w->request->spec;
    bool shared = qemu_shares_memory(spec);

    if (!shared && !spec->hugepage_mem)
        return;
    xml_put(w, "  <memoryBacking>\n");
    if (spec->hugepage_mem)
        xml_put(w, "    <hugepages/>\n");
    if (shared)
        xml_put(w, "    <source type='memfd'/>\n    <access mode='shared'/>\n");
    xml_put(w, "  </memoryBacking>\n");
}

static void put_memory(Writer *w)
{
    const VmSpec *spec = w->request->spec;
    uint64_t most = spec->mem_mib + spec->hotplug_mem_mib;

    /* One slot, for the virtio-mem device. */
    if (spec->hotplug_mem_mib > 0)
        xml_put(w, "  <maxMemory slots='1' unit='MiB'>%" PRIu64 "</maxMemory>\n", most);
    xml_put(w, "  <memory unit='MiB'>%" PRIu64 "</memory>\n", most);
    if (spec->balloon && spec->initial_balloon_mem_mib > 0)
        xml_put(w, "  <currentMemory unit='MiB'>%" PRIu64 "</currentMemory>\n",
                spec->mem_mib + spec->hotplugged_mem_mib - spec->initial_balloon_mem_mib);
    put_memory_backing(w);
}

static void put_limits(Writer *w)
{
    const VmSpec *spec = w->request->spec;

    xml_put(w, "  <vcpu");
    if (spec->limits_cpu_affinity)
        xml_attribute(w, "cpuset", spec->limits_cpu_affinity); /* of all of the hypervisor's threads */
    xml_put(w, ">%" PRIu64 "</vcpu>\n", spec->vcpu);
    if (spec->limits_cpu_quota > 0)
        xml_put(w,
                "  <cputune>\n    <global_period>%d</global_period>\n    <global_quota>%" PRIu64
                "</global_quota>\n  </cputune>\n",
                QUOTA_PERIOD_USEC, spec->limits_cpu_quota * QUOTA_PERIOD_USEC / 100);
    if (spec->limits_memory_max_mib > 0)
        xml_put(w, "  <memtune>\n    <hard_limit unit='MiB'>%" PRIu64 "</hard_limit>\n  </memtune>\n",
                spec->limits_memory_max_mib);
    if (spec->limits_io_weight > 0)
        xml_put(w, "  <blkiotune>\n    <weight>%" PRIu64 "</weight>\n  </blkiotune>\n",
                spec->limits_io_weight);
}

/* The contents are in files: neither this XML nor an argument of QEMU shows a secret. */
static void put_credentials(Writer *w)
{
    const VmSpec *spec = w->request->spec;
    bool notify = xml_notify_way(w) == NOTIFY_BY_VSOCK;

    if (spec->n_credentials == 0 && !notify)
        return;
    xml_put(w, "  <sysinfo type='fwcfg'>\n");
    for (size_t i = 0; i < spec->n_credentials; i++) {
        xml_put(w, "    <entry name='opt/io.systemd.credentials/");
        xml_text(w, spec->credentials[i].name);
        xml_put(w, "'");
        xml_attribute(w, "file", w->request->credentials[i]);
        xml_put(w, "/>\n");
    }
    if (notify)
        xml_put(w,
                "    <entry name='opt/io.systemd.credentials/" NOTIFY_CREDENTIAL "'>" NOTIFY_ADDRESS
                "</entry>\n",
                w->request->notify_vsock_port);
    xml_put(w, "  </sysinfo>\n");
}

static void put_boot(Writer *w)
{
    const StartRequest *request = w->request;
    const VmSpec *spec = request->spec;

    xml_put(w, "  <os>\n    <type");
    if (w->target->type == DOMAIN_QEMU)
        xml_put(w, " arch='x86_64' machine='%s'", qemu_machine_to_string(spec->qemu_machine));
    xml_put(w, ">hvm</type>\n");
    if (spec->boot == BOOT_KERNEL) {
        xml_element(w, "    ", "kernel", request->kernel);
        if (request->initrd)
            xml_element(w, "    ", "initrd", request->initrd);
        xml_element(w, "    ", "cmdline", request->cmdline);
    } else if (spec->qemu_serial_console) {
        /* There is no screen: what firmware and boot loader say goes to the serial console. */
        xml_put(w, "    <bios useserial='yes'/>\n");
    }
    /* With ACPI there is a power button, which a graceful stop presses, and "microvm" has 24 virtio-mmio
     * slots. */
    xml_put(w, "  </os>\n  <features>\n    <acpi/>\n  </features>\n");
}

/* What is inside <cpu>: none of it is mostly the case. */
static void put_cpu_details(Writer *w, bool model)
{
    const VmSpec *spec = w->request->spec;
    bool no_capability = !spec->cpu && w->request->accel == ACCEL_KVM && w->target->no_arch_capabilities;

    if (!model && !no_capability && spec->hotplug_mem_mib == 0) {
        xml_put(w, "/>\n");
        return;
    }
    xml_put(w, ">\n");
    if (model) {
        xml_put(w, "    <model fallback='forbid'>");
        xml_text(w, spec->cpu);
        xml_put(w, "</model>\n");
    }
    if (no_capability)
        xml_put(w, "    <feature policy='disable' name='arch-capabilities'/>\n");
    /* libvirt plugs memory into NUMA nodes only. */
    if (spec->hotplug_mem_mib > 0)
        xml_put(w,
                "    <numa>\n      <cell id='0' cpus='0-%" PRIu64 "' memory='%" PRIu64
                "' unit='MiB'/>\n    </numa>\n",
                spec->vcpu - 1, spec->mem_mib);
    xml_put(w, "  </cpu>\n");
}

static void put_cpu(Writer *w)
{
    const VmSpec *spec = w->request->spec;
    bool special = streq(spec->cpu, "host") || streq(spec->cpu, "max");

    if (w->target->type != DOMAIN_QEMU)
        return;
    if (spec->cpu && !special) {
        /* A feature of the model that the host lacks is left out, as with QEMU's own -cpu. */
        xml_put(w, "  <cpu mode='custom' match='exact' check='none'");
        put_cpu_details(w, true);
    } else if (streq(spec->cpu, "max")) {
        xml_put(w, "  <cpu mode='maximum'");
        put_cpu_details(w, false);
    } else if (w->request->accel == ACCEL_KVM || streq(spec->cpu, "host")) {
        xml_put(w, "  <cpu mode='host-passthrough'");
        put_cpu_details(w, false);
    } else if (spec->hotplug_mem_mib > 0) {
        xml_put(w, "  <cpu");
        put_cpu_details(w, false);
    }
}

/* libvirt gives what it labels to that user, and takes it back at the end. */
static void put_user(Writer *w)
{
    const StartRequest *request = w->request;

    if (request->user && w->target->type == DOMAIN_QEMU)
        xml_put(w,
                "  <seclabel type='static' model='dac' relabel='yes'>\n    <label>+%" PRIu32 ":+%" PRIu32
                "</label>\n  </seclabel>\n",
                (uint32_t)request->user->uid, (uint32_t)request->user->gid);
}

int domain_xml(const StartRequest *request, const DomainTarget *target, char **ret_xml)
{
    _cleanup_free_ char *xml = NULL;
    size_t size;
    Writer writer = {.stream = open_memstream(&xml, &size), .request = request, .target = target};

    if (!writer.stream)
        return -ENOMEM;
    put_header(&writer);
    put_memory(&writer);
    put_limits(&writer);
    put_credentials(&writer);
    put_boot(&writer);
    put_cpu(&writer);
    /* A reset ends the run at that very point, when the disks are at rest; microvmd starts the next one. */
    xml_put(&writer, "  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>destroy</on_reboot>\n"
                     "  <on_crash>destroy</on_crash>\n");
    xml_devices(&writer);
    put_user(&writer);
    xml_qemu_words(&writer);
    xml_put(&writer, "</domain>\n");
    if (fclose(writer.stream) != 0)
        return -ENOMEM;
    if (writer.invalid)
        return -EINVAL;
    *ret_xml = TAKE_PTR(xml);
    return 0;
}
