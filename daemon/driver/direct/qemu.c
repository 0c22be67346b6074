/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's recipe: qemu(1), from 7.2 on. */
#include "driver/direct/qemu.h"

#include "driver/direct/recipe.h"
#include "driver/qemu-common.h"

#include <inttypes.h>

/* --- the machine --- */

/* One of our choice, unless the definition has its own. */
static void put_machine_option(Rendering *r, const char *name, const char *value)
{
    if (!qemu_machine_option(r->spec, name))
        command_put(r->command, ",%s=%s", name, value);
}

static bool has_backed_memory(const VmSpec *spec)
{
    return qemu_shares_memory(spec) || spec->hugepage_mem;
}

static void put_machine(Rendering *r)
{
    const VmSpec *spec = r->spec;
    bool kvm = r->request->accel == ACCEL_KVM;

    command_add(r->command, "-machine");
    command_add(r->command, "%s", qemu_machine_to_string(spec->qemu_machine));
    put_machine_option(r, "accel", kvm ? "kvm" : "tcg");
    /* A core dump has no business with what the guest knows. */
    put_machine_option(r, "dump-guest-core", "off");
    /* With ACPI there is a power button, which a graceful stop presses, and "microvm" has more slots. */
    if (spec->qemu_machine != QEMU_MACHINE_VIRT)
        put_machine_option(r, "acpi", "on");
    /* An idle guest costs nothing without them. Without KVM's own clock Linux does not boot, though. */
    if (spec->qemu_machine == QEMU_MACHINE_MICROVM && kvm) {
        put_machine_option(r, "pit", "off");
        put_machine_option(r, "rtc", "off");
    }
    /* Without a screen, what firmware and boot loader say goes to the serial console. */
    if (spec->boot == BOOT_DISK && spec->qemu_serial_console && !spec->graphics)
        put_machine_option(r, "graphics", "off");
    if (has_backed_memory(spec))
        put_machine_option(r, "memory-backend", "memory");
    for (size_t i = 0; i < spec->n_qemu_machine_opts; i++) {
        command_put_text(r->command, ",");
        command_put_option(r->command, spec->qemu_machine_opts[i].name);
        command_put_text(r->command, "=");
        command_put_option(r->command, spec->qemu_machine_opts[i].value);
    }
}

void qemu_put_memory(Rendering *r, const char *id, uint64_t size_mib)
{
    bool backed = has_backed_memory(r->spec);

    command_add(r->command, "-object");
    command_add(r->command, "memory-backend-%s,id=%s,size=%" PRIu64 "M%s", backed ? "memfd" : "ram", id,
                size_mib, backed ? ",share=on" : "");
    if (r->spec->hugepage_mem)
        command_put(r->command, ",hugetlb=on");
}

static void put_memory(Rendering *r)
{
    const VmSpec *spec = r->spec;

    command_add(r->command, "-m");
    command_add(r->command, "size=%" PRIu64 "M", spec->mem_mib);
    /* With a slot, which the virtio-mem device does not take, QEMU tells the guest where memory may appear.
     */
    if (spec->hotplug_mem_mib > 0)
        command_put(r->command, ",slots=1,maxmem=%" PRIu64 "M", spec->mem_mib + spec->hotplug_mem_mib);
    if (!has_backed_memory(spec))
        return;
    qemu_put_memory(r, "memory", spec->mem_mib);
    /* A guest that touches a huge page which is not there any more would be killed: take them all at once. */
    if (spec->hugepage_mem)
        command_put(r->command, ",prealloc=on");
}

static void put_cpu(Rendering *r)
{
    const VmSpec *spec = r->spec;
    const char *model = spec->cpu;

    command_add(r->command, "-smp");
    command_add(r->command, "%" PRIu64, spec->vcpu);
    if (!model && spec->qemu_machine == QEMU_MACHINE_VIRT) {
        model = r->request->accel == ACCEL_KVM ? "host" : "max"; /* QEMU's own choice has 32 bits */
    } else if (!model && r->request->accel == ACCEL_KVM) {
        r->command->arch_capabilities = !r->request->no_arch_capabilities;
        model = r->command->arch_capabilities ? "host" : "host,-arch-capabilities";
    }
    if (!model)
        return;
    /* Here a comma begins a feature, and can't be doubled. */
    r->invalid |= spec->cpu && strchr(spec->cpu, ',');
    command_add(r->command, "-cpu");
    command_add_text(r->command, model);
}

static void put_boot(Rendering *r)
{
    const StartRequest *request = r->request;

    if (r->spec->boot == BOOT_DISK) {
        command_add(r->command, "-boot");
        command_add(r->command, "strict=on");
        return;
    }
    command_add(r->command, "-kernel");
    command_add_text(r->command, request->kernel);
    if (request->initrd) {
        command_add(r->command, "-initrd");
        command_add_text(r->command, request->initrd);
    }
    command_add(r->command, "-append");
    command_add_text(r->command, request->cmdline);
}

/* --- what belongs to no device --- */

static void put_header(Rendering *r)
{
    static const char *const plain[] = {"-no-user-config", "-nodefaults", "-display", "none"};

    command_add_text(r->command, recipe_qemu.program);
    command_add(r->command, "-name");
    command_add(r->command, "guest=");
    command_put_option(r->command, r->spec->name);
    command_put(r->command, ",debug-threads=on");
    for (size_t i = 0; i < ELEMENTSOF(plain); i++)
        command_add_text(r->command, plain[i]);
    /* A reset ends the run at that very point, when the disks are at rest; microvmd starts the next one. */
    command_add(r->command, "-no-reboot");
    command_add(r->command, "-sandbox");
    command_add(r->command, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    command_add(r->command, "-uuid");
    command_add_text(r->command, r->spec->machine_id);
}

static void put_control(Rendering *r)
{
    command_add(r->command, "-chardev");
    command_add(r->command, "socket,id=control,fd=%d,server=on,wait=off",
                command_descriptor(r->command, DESCRIPTOR_CONTROL, 0));
    command_add(r->command, "-mon");
    command_add(r->command, "chardev=control,mode=control");
}

static void put_keyboard(Rendering *r)
{
    if (!qemu_adds_keyboard(r->spec))
        return;
    command_add(r->command, "-device");
    command_add(r->command, "i8042");
}

static void put_console(Rendering *r)
{
    if (!r->spec->qemu_serial_console)
        return;
    command_add(r->command, "-chardev");
    command_add(r->command, "socket,id=console,fd=%d,server=on,wait=off,logappend=on,logfile=",
                command_descriptor(r->command, DESCRIPTOR_CONSOLE, 0));
    command_put_option(r->command, r->request->console_log);
    command_add(r->command, "-serial");
    command_add(r->command, "chardev:console");
}

/* The contents are in files: no argument shows a secret. */
static void put_credentials(Rendering *r)
{
    for (size_t i = 0; i < r->spec->n_credentials; i++) {
        command_add(r->command, "-fw_cfg");
        command_add(r->command, "name=opt/io.systemd.credentials/");
        command_put_option(r->command, r->spec->credentials[i].name);
        command_put(r->command, ",file=");
        command_put_option(r->command, r->request->credentials[i]);
    }
    if (qemu_notify_way(r->request, OWN_SLOTS) == NOTIFY_BY_VSOCK) {
        command_add(r->command, "-fw_cfg");
        command_add(r->command,
                    "name=opt/io.systemd.credentials/" NOTIFY_CREDENTIAL ",string=" NOTIFY_ADDRESS,
                    r->request->notify_vsock_port);
    }
}

static int render(const StartRequest *request, Command *command)
{
    Rendering r = {.request = request, .spec = request->spec, .command = command};

    put_header(&r);
    put_machine(&r);
    put_memory(&r);
    put_cpu(&r);
    put_boot(&r);
    put_control(&r);
    put_console(&r);
    put_keyboard(&r);
    put_credentials(&r);
    qemu_put_devices(&r);
    for (size_t i = 0; i < r.spec->n_qemu_args; i++)
        command_add_text(command, r.spec->qemu_args[i]);
    if (command->oom)
        return -ENOMEM;
    return r.invalid ? -EINVAL : 0;
}

/* --- what it can do --- */

static CapabilitySet capabilities(const VmSpec *spec)
{
    static const Capability of_all[] = {
#if defined(__aarch64__)
        CAP_MACHINE_VIRT,
#else
        CAP_MACHINE_MICROVM,
        CAP_MACHINE_Q35,
#endif
        CAP_QEMU,
        CAP_CPU_MODEL,
        CAP_HUGEPAGES,
        CAP_BALLOON,
        CAP_IMAGE_FORMATS,
        CAP_IMAGE_VHDX,
        CAP_DIRECT_IO,
        CAP_DISK_SERIAL,
        CAP_NET_USER,
        CAP_SHARE_9P,
        CAP_9P_MAPPED_FILE,
        CAP_SHARE_VIRTIOFS,
        CAP_VSOCK,
        CAP_CREDENTIALS,
        CAP_NOTIFY,
        CAP_NO_CONSOLE,
        CAP_CONSOLE_JOURNAL,
        CAP_QEMU_MACHINE_OPTIONS,
        CAP_QEMU_ARGUMENTS,
        CAP_CONTROL_SOCKET,
    };
    /* Devices of the host are not among them: its user, which has no rights, can't open them yet. Nor is a
     * display: nobody can look at it yet. */
    static const Capability with_pci[] = {CAP_MEMORY_HOTPLUG, CAP_PCIE_ROOT_PORTS, CAP_WATCHDOG};
    CapabilitySet set = qemu_stop_capabilities(spec);

    for (size_t i = 0; i < ELEMENTSOF(of_all); i++)
        set |= CAPABILITY(of_all[i]);
    for (size_t i = 0; i < ELEMENTSOF(with_pci) && qemu_has_pci(spec); i++)
        set |= CAPABILITY(with_pci[i]);
    /* Firmware of "virt" is nobody's default. */
    if (spec->qemu_machine == QEMU_MACHINE_Q35)
        set |= CAPABILITY(CAP_DISK_BOOT);
    return set;
}

static void check_virtiofs(const VmSpec *spec, const TableReader *reader)
{
    for (size_t i = 0; i < spec->n_shares; i++) {
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/shares/%zu/proto", i);
        if (spec->shares[i].proto == SHARE_VIRTIOFS && !spec->shares[i].socket)
            table_problem(
                reader, PROBLEM_ERROR, pointer, false,
                "the driver \"direct\" runs no virtiofsd yet; give the \"socket\" of one that runs, "
                "or use \"proto\": \"9p\" or \"driver\": \"libvirt\"");
    }
}

static void check(const VmSpec *spec, const Runner *runner, const TableReader *reader)
{
    qemu_check(spec, OWN_SLOTS, runner, reader);
    check_virtiofs(spec, reader);
}

const Recipe recipe_qemu = {
    .hypervisor = HYPERVISOR_QEMU,
#if defined(__aarch64__)
    .program = "qemu-system-aarch64",
#else
    .program = "qemu-system-x86_64",
#endif
    .qmp = true,
    .capabilities = capabilities,
    .check = check,
    .render = render,
};
