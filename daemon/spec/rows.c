/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definition language: a row a key. */
#include "spec/rows.h"

ENUM_NAME(hypervisor, Hypervisor)
ENUM_NAME(driver_kind, DriverKind)
ENUM_NAME(accel, Accel)
ENUM_NAME(boot, Boot)
ENUM_NAME(file_handles, FileHandles)
ENUM_NAME(graphics_backend, GraphicsBackend)
ENUM_NAME(qemu_machine, QemuMachine)
ENUM_NAME(drive_io_engine, DriveIoEngine)
ENUM_NAME(restart_policy, RestartPolicy)
ENUM_NAME(guest_end, GuestEnd)
ENUM_NAME(readiness_type, ReadinessType)
ENUM_NAME(on_timeout, OnTimeout)
ENUM_NAME(watchdog, Watchdog)
ENUM_NAME(on_panic, OnPanic)
ENUM_NAME(log_target, LogTarget)

/* The capabilities are in the order of the words. */
static Capability hypervisor_needs(int value)
{
    return CAP_QEMU + (Capability)value;
}

static Capability machine_needs(int value)
{
    return CAP_MACHINE_MICROVM + (Capability)value;
}

static Capability boot_needs(int value)
{
    return value == BOOT_DISK ? CAP_DISK_BOOT : CAP_NONE;
}

static Capability readiness_needs(int value)
{
    return value == READINESS_NOTIFY ? CAP_NOTIFY : CAP_NONE;
}

static Capability watchdog_needs(int value)
{
    static const Capability needs[WATCHDOG_MAX] = {[WATCHDOG_DEVICE] = CAP_WATCHDOG, [WATCHDOG_NOTIFY] = CAP_NOTIFY};

    return needs[value];
}

static Capability graphics_backend_needs(int value)
{
    return value == GRAPHICS_HEADLESS ? CAP_NONE : CAP_GRAPHICS_WINDOW;
}

static Capability log_target_needs(int value)
{
    return value == LOG_TARGET_JOURNAL ? CAP_CONSOLE_JOURNAL : CAP_NONE;
}

#define REFUSED(name, why)                                                                                   \
    {                                                                                                        \
        .key = name, .type = KEY_REFUSED, .doc = why                                                         \
    }
#define BUILT            "it is for building a guest with Nix; microvmd runs what was built"
#define ANOTHER_WAY(how) "it is for building a guest with Nix; here " how
#define MACOS            "it is for macOS; microvmd runs on Linux"

/* With policy "no" it is never started again. */
#define RESTARTS                                                                                             \
    {                                                                                                        \
        .key = "restart.policy", .words = ~WORD(RESTART_NO)                                                  \
    }
#define WITH_RESTARTS           .only = {RESTARTS}
#define WITH_RESTARTS_AND(name) .only = {RESTARTS, {.key = name}}

/* A row a key, as a table is read. */
/* clang-format off */

static const KeyRow vm_rows[] = {
    /* --- who runs it, on what --- */
    {.key = "hypervisor", .type = KEY_ENUM, AT(VmSpec, hypervisor), .fallback = "qemu",
     WORDS(hypervisor, HYPERVISOR), .enum_needs = hypervisor_needs, .doc = "Who runs the guest."},
    {.key = "driver", .type = KEY_ENUM, AT(VmSpec, driver), WORDS(driver_kind, DRIVER_KIND),
     .computed = "what the host configuration says under defaults.driver, else libvirt",
     .doc = "Who runs the hypervisor. libvirt: the host's libvirt, so that virsh and virt-manager see it. direct: "
            "microvmd itself, each one as a user of its own."},
    {.key = "accel", .type = KEY_ENUM, AT(VmSpec, accel), WORDS(accel, ACCEL),
     .computed = "tcg where a cpu is given, else what the host configuration says under defaults.accel, else "
                 "auto",
     .doc = "auto: KVM where a guest can run on it, otherwise TCG, emulation. kvm and tcg: that or nothing."},
    {.key = "description", .type = KEY_STRING, AT(VmSpec, description), .take = take_text, LIVE,
     .doc = "What it is for, for people."},
    {.key = "labels", .type = KEY_MAP, LIST(VmSpec, labels), .maximum = 64, .take = take_text,
     .take_name = take_label_name, LIVE,
     .doc = "Names and values by which microVMs are selected (-l NAME=VALUE)."},
    {.key = "machineId", .type = KEY_STRING, AT(VmSpec, machine_id), .take = take_uuid,
     .computed = "made from the name by MicroVM.nix's rule; stable", .doc = "The guest's system UUID."},
    {.key = "registerWithMachined", .type = KEY_BOOL, AT(VmSpec, register_with_machined), .fallback = "false",
     .needs = CAP_MACHINED,
     .doc = "Register it with systemd-machined. libvirt does that for all its guests, whatever is said "
            "here."},
    {.key = "user", .type = KEY_STRING, AT(VmSpec, user), .take = take_user_name, .needs = CAP_USER, UNSAFE,
     .doc = "User that runs the hypervisor, in place of libvirt's own choice (on Debian it "
            "must be in the group libvirt-qemu, to enter libvirt's directory). The driver \"direct\" gives each "
            "microVM one of its own."},
    {.key = "socket", .type = KEY_STRING, AT(VmSpec, socket), .take = take_text, .needs = CAP_CONTROL_SOCKET,
     A_PATH,
     .doc = "Path of a control socket, QEMU's QMP. With libvirt an absolute one: QEMU makes it, whose user must be "
            "able to write to the directory. With the driver \"direct\" microvmd makes it, for root, and any number of "
            "clients can use it at once; a relative one is in the state directory."},
    {.key = "prettyProcnames", .type = KEY_BOOL, AT(VmSpec, pretty_procnames), .needs = CAP_PROCESS_NAME,
     .computed = "true where the driver can",
     .doc = "Show the hypervisor's process as microvm@NAME. libvirt's show the name as an argument."},

    /* --- processors and memory --- */
    {.key = "cpu", .type = KEY_STRING, AT(VmSpec, cpu), .take = take_cpu_model, .needs = CAP_CPU_MODEL,
     .doc = "CPU model that the guest sees. Without one it is the host's, or what the emulation likes."},
    {.key = "vcpu", .type = KEY_NUMBER, AT(VmSpec, vcpu), .fallback = "1", RANGE(1, 288),
     .doc = "Virtual CPUs."},
    {.key = "mem", .type = KEY_SIZE, AT(VmSpec, mem_mib), .fallback = "512", RANGE(1, MIB_MAX),
     .doc = "Guest memory."},
    {.key = "hugepageMem", .type = KEY_BOOL, AT(VmSpec, hugepage_mem), .fallback = "false",
     .needs = CAP_HUGEPAGES, .doc = "Take guest memory from the host's huge pages."},
    {.key = "hotplugMem", .type = KEY_SIZE, AT(VmSpec, hotplug_mem_mib), .fallback = "0", .maximum = MIB_MAX,
     .needs = CAP_MEMORY_HOTPLUG, .doc = "Memory that can be added while it runs, by virtio-mem."},
    {.key = "hotpluggedMem", .type = KEY_SIZE, AT(VmSpec, hotplugged_mem_mib), .maximum = MIB_MAX,
     .computed = "hotplugMem", .doc = "How much of hotplugMem is there at the start."},
    {.key = "balloon", .type = KEY_BOOL, AT(VmSpec, balloon), .fallback = "false", .needs = CAP_BALLOON,
     .doc = "Memory balloon: the host can take memory back, and gets what the guest does not use."},
    {.key = "initialBalloonMem", .type = KEY_SIZE, AT(VmSpec, initial_balloon_mem_mib), .fallback = "0",
     .maximum = MIB_MAX, .needs = CAP_BALLOON, WITH("balloon"), MISLEADS,
     .doc = "How much the balloon takes at the start."},
    {.key = "deflateOnOOM", .type = KEY_BOOL, AT(VmSpec, deflate_on_oom), .fallback = "true",
     WITH("balloon"), .doc = "The balloon gives memory back when the guest runs out of it."},

    /* --- what it boots --- */
    {.key = "boot", .type = KEY_ENUM, AT(VmSpec, boot), .fallback = "kernel", WORDS(boot, BOOT),
     .enum_needs = boot_needs,
     .doc = "kernel: the kernel given here; disk: what firmware finds on the first volume."},
    {.key = "kernel", .type = KEY_STRING, AT(VmSpec, kernel), .take = take_absolute, A_PATH,
     .doc = "Absolute path of the kernel, a bzImage on x86."},
    {.key = "initrd", .type = KEY_STRING, AT(VmSpec, initrd), .take = take_absolute, A_PATH,
     .doc = "Absolute path of the initial RAM disk."},
    {.key = "initrdPath", .type = KEY_STRING, AT(VmSpec, initrd), .alias_of = "initrd",
     .take = take_absolute, .doc = "MicroVM.nix's name of initrd."},
    {.key = "kernelParams", .type = KEY_STRINGS, LIST(VmSpec, kernel_params), .maximum = 1024,
     .take = take_kernel_param,
     .doc = "More kernel parameters, one an entry, after \"console=ttyS0 reboot=t panic=-1\" (ttyAMA0 "
            "on \"virt\") and, where there are volumes but neither an initrd nor a root= parameter, "
            "\"root=/dev/vda rw\"."},

    /* --- devices --- */
    {.key = "volumes", .type = KEY_OBJECTS, LIST(VmSpec, volumes), .maximum = 64, .items = &volume_table,
     .doc = "Disks, in order /dev/vda, /dev/vdb... A bare string is the image of one."},
    {.key = "interfaces", .type = KEY_OBJECTS, LIST(VmSpec, interfaces), .maximum = 64,
     .items = &interface_table,
     .doc = "Network cards. A bare string is short for one: \"user\", \"tap:NAME\", \"bridge:BRIDGE\", "
            "\"macvtap:CARD\"."},
    {.key = "forwardPorts", .type = KEY_OBJECTS, LIST(VmSpec, forward_ports), .maximum = 1024,
     .items = &forward_table,
     .doc = "Ports forwarded between host and guest. Needs an interface of type user."},
    {.key = "shares", .type = KEY_OBJECTS, LIST(VmSpec, shares), .maximum = 64, .items = &share_table,
     .doc = "Directories of the host that the guest can mount."},
    {.key = "virtiofsd.inodeFileHandles", .type = KEY_ENUM, AT(VmSpec, virtiofsd_file_handles),
     .fallback = "prefer", WORDS(file_handles, FILE_HANDLES), .needs = CAP_VIRTIOFSD_OPTIONS,
     .doc = "How virtiofsd keeps hold of files."},
    {.key = "virtiofsd.threadPoolSize", .type = KEY_NUMBER, AT(VmSpec, virtiofsd_threads), .fallback = "0",
     .maximum = 1024, .needs = CAP_VIRTIOFSD_THREADS, .doc = "Threads of virtiofsd; 0: as many as it likes."},
    {.key = "virtiofsd.group", .type = KEY_STRING, AT(VmSpec, virtiofsd_group), .take = take_user_name,
     .needs = CAP_VIRTIOFSD_OPTIONS, .doc = "Group that may connect to virtiofsd's socket."},
    {.key = "virtiofsd.extraArgs", .type = KEY_STRINGS, LIST(VmSpec, virtiofsd_args), .maximum = 64,
     .take = take_argument, .needs = CAP_VIRTIOFSD_OPTIONS, UNSAFE,
     .doc = "More arguments of every virtiofsd."},
    {.key = "devices", .type = KEY_OBJECTS, LIST(VmSpec, devices), .maximum = 64, .items = &device_table,
     UNSAFE, .doc = "Devices of the host that are passed through."},
    {.key = "vsock.cid", .type = KEY_NUMBER, AT(VmSpec, vsock_cid), RANGE(3, UINT32_MAX - 1),
     .needs = CAP_VSOCK, .doc = "Context id of the guest's vsock device. Each microVM needs its own."},
    {.key = "credentialFiles", .type = KEY_MAP, LIST(VmSpec, credentials), .maximum = 64,
     .take = take_absolute, .take_name = take_credential_name, .needs = CAP_CREDENTIALS, A_PATH,
     .doc = "systemd credentials of the guest: name and the file on the host that holds it."},
    {.key = "graphics.enable", .type = KEY_BOOL, AT(VmSpec, graphics), .fallback = "false",
     .needs = CAP_GRAPHICS, .doc = "A display, with keyboard and mouse."},
    {.key = "graphics.backend", .type = KEY_ENUM, AT(VmSpec, graphics_backend), .fallback = "headless",
     WORDS(graphics_backend, GRAPHICS_BACKEND), .enum_needs = graphics_backend_needs,
     WITH("graphics.enable"),
     .doc = "Where the display is shown. headless: nowhere, until somebody looks at it: virt-viewer --attach NAME."},
    {.key = "graphics.socket", .type = KEY_STRING, AT(VmSpec, graphics_socket), .take = take_text,
     .needs = CAP_GRAPHICS_SHARED, A_PATH, WITH("graphics.enable"), .doc = "Socket of the display's helper."},
    {.key = "graphics.vulkan", .type = KEY_BOOL, AT(VmSpec, graphics_vulkan), .fallback = "false",
     .needs = CAP_GRAPHICS_SHARED, WITH("graphics.enable"), .doc = "Vulkan for the guest."},
    {.key = "graphics.hostmem", .type = KEY_SIZE, AT(VmSpec, graphics_hostmem_mib), .fallback = "0",
     .maximum = MIB_MAX, .needs = CAP_GRAPHICS_SHARED, WITH("graphics.enable"),
     .doc = "Memory of the display that the host shares."},

    /* --- of one hypervisor only --- */
    {.key = "qemu.machine", .type = KEY_ENUM, AT(VmSpec, qemu_machine), WORDS(qemu_machine, QEMU_MACHINE),
     .enum_needs = machine_needs,
     .computed = "microvm on x86-64, or q35 where it boots from a disk; virt on aarch64",
     .doc = "QEMU's machine. microvm is the smallest; q35 has PCI and firmware."},
    {.key = "qemu.machineOpts", .type = KEY_MAP, LIST(VmSpec, qemu_machine_opts), .maximum = 64,
     .take = take_option_value, .take_name = take_identifier, .needs = CAP_QEMU_MACHINE_OPTIONS, UNSAFE,
     .doc = "Options of QEMU's machine, instead of microvmd's and libvirt's own choice."},
    {.key = "qemu.extraArgs", .type = KEY_STRINGS, LIST(VmSpec, qemu_args), .maximum = 256,
     .take = take_argument, .needs = CAP_QEMU_ARGUMENTS, UNSAFE,
     .doc = "More arguments of QEMU, as they are."},
    {.key = "qemu.serialConsole", .type = KEY_BOOL, AT(VmSpec, qemu_serial_console), .fallback = "true",
     .needs = CAP_NO_CONSOLE,
     .doc = "A serial console. Without it there is no log, and a panic can't be told from a reset."},
    {.key = "qemu.pcieRootPorts", .type = KEY_OBJECTS, LIST(VmSpec, qemu_root_ports), .maximum = 32,
     .items = &root_port_table, .needs = CAP_PCIE_ROOT_PORTS, .doc = "PCIe root ports, for devices."},
    {.key = "firecracker.cpu", .type = KEY_JSON, AT(VmSpec, firecracker_cpu), .needs = CAP_HYPERVISOR_OPTIONS,
     .doc = "Firecracker's CPU template."},
    {.key = "firecracker.driveIoEngine", .type = KEY_ENUM, AT(VmSpec, firecracker_io_engine),
     .fallback = "Async", WORDS(drive_io_engine, DRIVE_IO_ENGINE), .needs = CAP_HYPERVISOR_OPTIONS,
     .doc = "How Firecracker accesses images."},
    {.key = "firecracker.extraArgs", .type = KEY_STRINGS, LIST(VmSpec, firecracker_args), .maximum = 256,
     .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE, .doc = "More arguments of Firecracker."},
    {.key = "firecracker.extraConfig", .type = KEY_JSON, AT(VmSpec, firecracker_config),
     .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE, .doc = "Merged into Firecracker's configuration."},
    {.key = "cloud-hypervisor.platformOEMStrings", .type = KEY_STRINGS,
     LIST(VmSpec, cloud_hypervisor_oem_strings), .maximum = 64, .take = take_option_value,
     .needs = CAP_HYPERVISOR_OPTIONS, .doc = "SMBIOS OEM strings."},
    {.key = "cloud-hypervisor.extraArgs", .type = KEY_STRINGS, LIST(VmSpec, cloud_hypervisor_args),
     .maximum = 256, .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE,
     .doc = "More arguments of cloud-hypervisor."},
    {.key = "crosvm.extraArgs", .type = KEY_STRINGS, LIST(VmSpec, crosvm_args), .maximum = 256,
     .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE, .doc = "More arguments of crosvm."},
    {.key = "crosvm.pivotRoot", .type = KEY_STRING, AT(VmSpec, crosvm_pivot_root), .take = take_absolute,
     .needs = CAP_HYPERVISOR_OPTIONS, A_PATH, .doc = "Directory that crosvm makes its root."},
    {.key = "kvmtool.extraArgs", .type = KEY_STRINGS, LIST(VmSpec, kvmtool_args), .maximum = 256,
     .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE, .doc = "More arguments of kvmtool."},
    {.key = "stratovirt.extraArgs", .type = KEY_STRINGS, LIST(VmSpec, stratovirt_args), .maximum = 256,
     .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE, .doc = "More arguments of stratovirt."},
    {.key = "alioth.extraArgs", .type = KEY_STRINGS, LIST(VmSpec, alioth_args), .maximum = 256,
     .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE, .doc = "More arguments of alioth."},
    {.key = "command.start", .type = KEY_STRINGS, LIST(VmSpec, command_start), .maximum = 256,
     .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE,
     .doc = "A hypervisor that microvmd does not know: its program and its arguments. It must stay in the foreground; "
            "what it prints is the console. Its environment says what the definition does: MICROVM_NAME, MICROVM_UUID, "
            "MICROVM_VCPU, MICROVM_MEM (MiB), MICROVM_ACCEL, MICROVM_CMDLINE, and as files to open MICROVM_KERNEL, "
            "MICROVM_INITRD, MICROVM_VOLUME_0 and so on."},
    {.key = "command.stop", .type = KEY_STRINGS, LIST(VmSpec, command_stop), .maximum = 256,
     .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE,
     .doc = "A program that asks the guest to shut down, in place of SIGTERM; MICROVM_PID is the hypervisor's process."},
    {.key = "command.ready", .type = KEY_STRINGS, LIST(VmSpec, command_ready), .maximum = 256,
     .take = take_argument, .needs = CAP_HYPERVISOR_OPTIONS, UNSAFE,
     .doc = "A program that ends, with success, when the guest runs; it waits for that itself. Without it the microVM runs "
            "as soon as its hypervisor does."},

    /* --- when it runs --- */
    {.key = "autostart", .type = KEY_BOOL, AT(VmSpec, autostart), .fallback = "true", LIVE,
     .doc = "Start it once when the host boots."},
    {.key = "priority", .type = KEY_NUMBER, AT(VmSpec, priority), .fallback = "100", .maximum = 1000,
     NEXT_START,
     .doc = "Of those that could start, the one with the highest priority does so first; of those that could "
            "stop, the one with the lowest."},
    {.key = "requires", .type = KEY_STRINGS, LIST(VmSpec, requires), .maximum = 64, .take = take_vm_name,
     NEXT_START,
     .doc = "microVMs that are started with it, and without which it does not. A stop of one of these is refused while it "
            "runs, unless it is to be stopped as well."},
    {.key = "wants", .type = KEY_STRINGS, LIST(VmSpec, wants), .maximum = 64, .take = take_vm_name,
     NEXT_START, .doc = "microVMs that are started with it, if they can be."},
    {.key = "after", .type = KEY_STRINGS, LIST(VmSpec, after), .maximum = 64, .take = take_dependency,
     NEXT_START,
     .doc = "Where these are starting, too, it waits until they run, or with NAME:ready until they are "
            "ready. Where these are to stop, too, they wait until it has stopped."},
    {.key = "restart.policy", .type = KEY_ENUM, AT(VmSpec, restart_policy), .fallback = "on-failure",
     WORDS(restart_policy, RESTART_POLICY), LIVE,
     .doc = "What to do when it ends by itself. on-failure: start it again after a crash or panic, or when it could not be "
            "started; on-abnormal: not when it could not be started, or the hypervisor gave up by itself with an error; "
            "always: also after a power-off. A stop by a person is never undone."},
    {.key = "onReboot", .type = KEY_ENUM, AT(VmSpec, on_reboot), WORDS(guest_end, GUEST_END), LIVE,
     .computed = "restart, or stop where restart.policy is no",
     .doc = "What to do when the guest reboots: every reboot ends the hypervisor. restart: start it again, at once."},
    {.key = "onPoweroff", .type = KEY_ENUM, AT(VmSpec, on_poweroff), WORDS(guest_end, GUEST_END), LIVE,
     .computed = "stop, or restart where restart.policy is always",
     .doc = "What to do when the guest powers itself off. restart: start it again, after restart.delay."},
    {.key = "restart.delay", .type = KEY_DURATION, AT(VmSpec, restart_delay_usec), .fallback = "1",
     RANGE(0, DAY), LIVE, WITH_RESTARTS,
     .doc = "How long to wait before it is started again, after a first failure. Up to a tenth is added by chance, so "
            "that those that failed together do not start together."},
    {.key = "restart.maxDelay", .type = KEY_DURATION, AT(VmSpec, restart_max_delay_usec), .fallback = "5min",
     RANGE(0, DAY), LIVE, WITH_RESTARTS_AND("restart.delay"), .doc = "The longest delay."},
    {.key = "restart.factor", .type = KEY_NUMBER, AT(VmSpec, restart_factor), .fallback = "2", RANGE(1, 10),
     LIVE, WITH_RESTARTS_AND("restart.delay"),
     .doc = "The delay grows by this factor at each further failure, up to maxDelay."},
    {.key = "restart.startLimit", .type = KEY_NUMBER, AT(VmSpec, restart_start_limit), .fallback = "5",
     .maximum = 50, LIVE,
     WITH_RESTARTS, .doc = "After so many starts by itself within startLimitInterval it is given up; 0: never."},
    {.key = "restart.startLimitInterval", .type = KEY_DURATION, AT(VmSpec, restart_limit_interval_usec),
     .fallback = "10min", RANGE(1, 7 * DAY), LIVE, WITH_RESTARTS_AND("restart.startLimit"),
     .doc = "The time within which starts are counted."},
    {.key = "readiness.type", .type = KEY_ENUM, AT(VmSpec, readiness_type), .fallback = "auto",
     WORDS(readiness_type, READINESS_TYPE), NEXT_START, .enum_needs = readiness_needs,
     .doc = "How it is known that the guest is ready. none: it is not claimed. notify: it says so itself, as sd_notify(3) "
            "has it (microvm-guest-notify(7)). auto: it may, and nothing is expected of it."},
    {.key = "readiness.timeout", .type = KEY_DURATION, AT(VmSpec, readiness_timeout_usec), .fallback = "150",
     RANGE(0, DAY), NEXT_START,
     WITH_WORDS("readiness.type", ~WORD(READINESS_NONE)),
     .doc = "How long it may take until the guest is ready."},
    {.key = "readiness.onTimeout", .type = KEY_ENUM, AT(VmSpec, readiness_on_timeout), .fallback = "wait",
     WORDS(on_timeout, ON_TIMEOUT), NEXT_START,
     WITH_WORDS("readiness.type", ~WORD(READINESS_NONE)),
     .doc = "What to do with a guest that is not ready by then. wait: it is kept, and may yet become ready."},
    {.key = "readiness.pattern", .type = KEY_STRING, AT(VmSpec, readiness_pattern), .take = take_text,
     NEXT_START,
     WITH_WORDS("readiness.type", WORD(READINESS_CONSOLE)),
     .doc = "Of type console: a regular expression (regex(7)) that a line matches."},
    {.key = "readiness.port", .type = KEY_NUMBER, AT(VmSpec, readiness_port), RANGE(1, 65535), NEXT_START,
     WITH_WORDS("readiness.type", WORD(READINESS_TCP) | WORD(READINESS_HTTP)),
     .doc = "Of types tcp and http: the guest's port."},
    {.key = "readiness.address", .type = KEY_STRING, AT(VmSpec, readiness_address), .take = take_ipv4,
     NEXT_START, UNSAFE, WITH_WORDS("readiness.type", WORD(READINESS_TCP) | WORD(READINESS_HTTP)),
     .doc = "Of types tcp and http: the guest's own IPv4 address, where the host has a route to it. Without it the port is asked "
            "by way of forwardPorts."},
    {.key = "readiness.path", .type = KEY_STRING, AT(VmSpec, readiness_path), .take = take_http_path,
     NEXT_START, WITH_WORDS("readiness.type", WORD(READINESS_HTTP)),
     .doc = "Of type http: the path that is asked for."},
    {.key = "readiness.command", .type = KEY_STRINGS, LIST(VmSpec, readiness_command), .maximum = 64,
     .take = take_argument, NEXT_START, UNSAFE,
     WITH_WORDS("readiness.type", WORD(READINESS_COMMAND)),
     .doc = "Of type command: a program on the host and its arguments; ready when it ends with 0."},
    {.key = "watchdog.type", .type = KEY_ENUM, AT(VmSpec, watchdog_type), .fallback = "none",
     WORDS(watchdog, WATCHDOG), .enum_needs = watchdog_needs,
     .doc = "How it is noticed that a guest hangs. device: it has a watchdog, i6300esb, which it must feed (RuntimeWatchdogSec= of its "
            "systemd). notify: it says so by itself (WATCHDOG=1, microvm-guest-notify(7)); from the first time on that is "
            "expected."},
    {.key = "watchdog.timeout", .type = KEY_DURATION, AT(VmSpec, watchdog_timeout_usec), .fallback = "60",
     RANGE(1000000, DAY), LIVE, WITH_WORDS("watchdog.type", WORD(WATCHDOG_NOTIFY)),
     .doc = "Of type notify: how long the guest may be silent. A device is told that by the guest."},
    {.key = "watchdog.action", .type = KEY_ENUM, AT(VmSpec, watchdog_action), .fallback = "restart",
     WORDS(on_timeout, ON_TIMEOUT), WITH_WORDS("watchdog.type", WORD(WATCHDOG_DEVICE) | WORD(WATCHDOG_NOTIFY)),
     .doc = "What to do with a guest that hangs. restart: end it as a failure, so that restart.policy applies; fail: end it for "
            "good; wait: only say so."},
    {.key = "onEmergency", .type = KEY_ENUM, AT(VmSpec, on_emergency), .fallback = "wait",
     WORDS(on_timeout, ON_TIMEOUT), LIVE,
     .doc = "What to do when the guest's systemd says that it is in an emergency or rescue shell, or that its boot has ended "
            "before its multi-user.target. wait: only say so; restart and fail: as in watchdog.action."},
    {.key = "onPanic", .type = KEY_ENUM, AT(VmSpec, on_panic), .fallback = "restart", WORDS(on_panic, ON_PANIC), LIVE,
     .doc = "What follows when the guest's kernel has panicked. restart: a failure, so that restart.policy applies; fail: it "
            "stays off. It is told by the console when the machine resets, as panic=-1 makes it do, and on q35 at once; on "
            "microvm one that was told to stand still (panic=0) only a watchdog notices."},
    {.key = "stop.timeout", .type = KEY_DURATION, AT(VmSpec, stop_timeout_usec), .fallback = "90",
     RANGE(0, DAY), LIVE,
     .doc = "How long a guest that was asked to shut down may take before it is ended by force."},
    {.key = "stop.steps", .type = KEY_OBJECTS, LIST(VmSpec, stop_steps), .maximum = 8,
     .items = &stop_step_table, LIVE,
     .computed = "command, acpi, ctrl-alt-del, as far as there is such a thing, then term and kill",
     .doc = "How it is stopped, step by step. A bare string is an action. term and kill follow by themselves."},
    {.key = "console.log", .type = KEY_ENUM, AT(VmSpec, console_log), .fallback = "file",
     WORDS(log_target, LOG_TARGET), .enum_needs = log_target_needs,
     WITH("qemu.serialConsole"), .doc = "Where the serial console is logged: to its file, or to the journal, too."},
    {.key = "preStart", .type = KEY_STRING, AT(VmSpec, pre_start), .take = take_script, NEXT_START,
     .needs = CAP_HOST_SCRIPTS, UNSAFE, .doc = "Shell commands that are run on the host before each start."},
    {.key = "extraArgsScript", .type = KEY_STRING, AT(VmSpec, extra_args_script), .take = take_script,
     NEXT_START, .needs = CAP_HOST_SCRIPTS, UNSAFE,
     .doc = "Shell commands that print more arguments of the hypervisor."},

    /* --- limits --- */
    {.key = "limits.cpuQuota", .type = KEY_PERCENT, AT(VmSpec, limits_cpu_quota), RANGE(1, 100000),
     .needs = CAP_CPU_QUOTA, .doc = "Processor time, in percent of one processor: \"150%\"."},
    {.key = "limits.cpuAffinity", .type = KEY_STRING, AT(VmSpec, limits_cpu_affinity), .take = take_cpu_set,
     .needs = CAP_CPU_AFFINITY,
     .doc = "Processors of the host that it may run on: \"0-3,5\"."},
    {.key = "limits.memoryMax", .type = KEY_SIZE, AT(VmSpec, limits_memory_max_mib), RANGE(1, MIB_MAX),
     .needs = CAP_MEMORY_MAX,
     .doc = "Memory of the hypervisor as a whole. It must leave room above mem: the hypervisor itself needs "
            "some."},
    {.key = "limits.ioWeight", .type = KEY_NUMBER, AT(VmSpec, limits_io_weight), RANGE(1, 10000),
     .needs = CAP_IO_WEIGHT, .doc = "Its share of disk access; others have 100."},
    {.key = "limits.tasksMax", .type = KEY_NUMBER, AT(VmSpec, limits_tasks_max), RANGE(1, 1000000),
     .needs = CAP_TASKS_MAX, .doc = "Most processes and threads of the hypervisor."},

    /* --- what the hypervisor may do and see on the host --- */
    {.key = "sandbox.filesystem", .type = KEY_BOOL, AT(VmSpec, sandbox_filesystem), .fallback = "true",
     .needs = CAP_SANDBOX, UNSAFE,
     .doc = "The hypervisor sees no files but programs, libraries and what it is given. false: those of the "
            "host, as far as its user may."},
    {.key = "sandbox.devices", .type = KEY_BOOL, AT(VmSpec, sandbox_devices), .fallback = "true",
     .needs = CAP_SANDBOX, UNSAFE,
     .doc = "... and no devices but those that the definition needs. false: as far as its user may."},
    {.key = "sandbox.network", .type = KEY_BOOL, AT(VmSpec, sandbox_network), .fallback = "true",
     .needs = CAP_SANDBOX, UNSAFE,
     .doc = "... and no network but what it is given, or of the host's, for an interface of type user, IP. "
            "false: that of the host."},
    {.key = "sandbox.kernel", .type = KEY_BOOL, AT(VmSpec, sandbox_kernel), .fallback = "true",
     .needs = CAP_SANDBOX, UNSAFE,
     .doc = "Settings, modules, log and clock of the kernel, control groups, host name and IPC objects are "
            "out of its reach. false: they are not, as far as its user may."},
    {.key = "sandbox.systemCalls", .type = KEY_BOOL, AT(VmSpec, sandbox_system_calls), .fallback = "true",
     .needs = CAP_SANDBOX, UNSAFE,
     .doc = "It may make only the system calls that hypervisors need. false: any."},

    /* --- what can't be honoured --- */
    REFUSED("guest", "whether this host is a guest is said in the host configuration, never in a definition"),
    REFUSED("host", "this belongs into the host configuration (host.json)"),
    REFUSED("vms", ANOTHER_WAY("each microVM has a file of its own")),
    REFUSED("stateDir", "it is the same for all microVMs: microvmd --state-dir"),
    REFUSED("storeOnDisk", ANOTHER_WAY("give the store's image as a read-only volume")),
    REFUSED("storeDisk", ANOTHER_WAY("give the store's image as a read-only volume")),
    REFUSED("storeDiskType", BUILT),
    REFUSED("storeDiskErofsFlags", BUILT),
    REFUSED("storeDiskSquashfsFlags", BUILT),
    REFUSED("storeDiskInterface", BUILT),
    REFUSED("writableStoreOverlay", BUILT),
    REFUSED("registerClosure", BUILT),
    REFUSED("optimize", BUILT),
    REFUSED("systemSymlink", BUILT),
    REFUSED("declaredRunner", BUILT),
    REFUSED("runner", BUILT),
    REFUSED("binScripts", BUILT),
    REFUSED("vmHostPackages", BUILT),
    REFUSED("qemu.package", ANOTHER_WAY("the host's own QEMU runs it")),
    REFUSED("cloud-hypervisor.package", ANOTHER_WAY("the host's own cloud-hypervisor runs it")),
    REFUSED("firecracker.package", ANOTHER_WAY("the host's own Firecracker runs it")),
    REFUSED("crosvm.package", ANOTHER_WAY("the host's own crosvm runs it")),
    REFUSED("kvmtool.package", ANOTHER_WAY("the host's own kvmtool runs it")),
    REFUSED("stratovirt.package", ANOTHER_WAY("the host's own stratovirt runs it")),
    REFUSED("alioth.package", ANOTHER_WAY("the host's own alioth runs it")),
    REFUSED("virtiofsd.package", ANOTHER_WAY("the host's own virtiofsd is used")),
    REFUSED("vfkit", MACOS),
};

static QemuMachine default_machine(Boot boot)
{
#if defined(__aarch64__)
    return QEMU_MACHINE_VIRT;
#else
    return boot == BOOT_DISK ? QEMU_MACHINE_Q35 : QEMU_MACHINE_MICROVM;
#endif
}

static int finish_vm(void *item, const KeysGiven *given)
{
    VmSpec *spec = item;

    /* MicroVM.nix's rule: a model is for emulation. Who wants it under KVM says so. */
    if (spec->cpu && !key_given(given, "accel"))
        spec->accel = ACCEL_TCG;
    if (!key_given(given, "hotpluggedMem"))
        spec->hotplugged_mem_mib = spec->hotplug_mem_mib;
    if (!key_given(given, "onReboot"))
        spec->on_reboot = spec->restart_policy == RESTART_NO ? GUEST_END_STOP : GUEST_END_RESTART;
    if (!key_given(given, "onPoweroff"))
        spec->on_poweroff = spec->restart_policy == RESTART_ALWAYS ? GUEST_END_RESTART : GUEST_END_STOP;
    if (!key_given(given, "qemu.machine"))
        spec->qemu_machine = default_machine(spec->boot);
    return 0;
}

const KeyTable vm_table = {
    .title = "a microVM definition",
    .rows = vm_rows,
    .n_rows = ELEMENTSOF(vm_rows),
    .item_size = sizeof(VmSpec),
    .finish = finish_vm,
};
