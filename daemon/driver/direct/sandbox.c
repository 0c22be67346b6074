/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sandbox of a hypervisor: systemd.exec(5), systemd.resource-control(5), as libsystemd's 252 has them.
 * What is given to it as a descriptor needs no right here: images, sockets, taps. What is told in the groups
 * below is what a hypervisor that a guest has taken over is left with; docs/threat-model.md says it in words.
 */
#include "driver/direct/sandbox.h"

#include "base/file.h"
#include "base/say.h"

#include <inttypes.h>

#define STRINGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void flag(UnitSettings *settings, const char *name)
{
    unit_settings_add(settings, name, "b", true, NULL);
}

static void word(UnitSettings *settings, const char *name, const char *value)
{
    unit_settings_add(settings, name, "s", 0, STRINGS(value));
}

static void words(UnitSettings *settings, const char *name, const char *value)
{
    unit_settings_add(settings, name, "as", 0, STRINGS(value));
}

static void mounted(UnitSettings *settings, bool writable, const char *path)
{
    unit_settings_add(settings, writable ? "BindPaths" : "BindReadOnlyPaths", "a(ssbt)", 0, STRINGS(path));
}

/* The same, if it is there when it starts: if not, the hypervisor's own words say what is missing. */
static void mounted_if_there(UnitSettings *settings, bool writable, const char *path)
{
    _cleanup_free_ char *optional = say("-%s", path);

    if (optional)
        mounted(settings, writable, optional);
    else
        settings->oom = true;
}

static void mounted_as(UnitSettings *settings, const char *source, const char *path)
{
    unit_settings_add(settings, "BindPaths", "a(ssbt)", true, STRINGS(source, path));
}

/* --- what it needs --- */

static bool needs_host_network(const VmSpec *spec)
{
    for (size_t i = 0; i < spec->n_interfaces; i++)
        if (spec->interfaces[i].type == INTERFACE_USER)
            return true;
    return false;
}

/*
 * Whether some protections have nothing to protect: it has a file system of its own, with no /sys, of /proc
 * its own process only, no home directories, no device of the kernel's log; the system calls are not among
 * those allowed. systemd takes a quarter of a start for looking (docs/performance.md). Who is in the host's
 * network gets them all the same.
 */
static bool is_apart(const VmSpec *spec)
{
    return spec->sandbox_filesystem && spec->sandbox_devices && spec->sandbox_system_calls &&
           spec->sandbox_network && !needs_host_network(spec) && spec->n_devices == 0;
}

/* --- whom it runs as --- */

bool sandbox_needs_kvm_group(const SandboxRequest *request)
{
    bool has_node = request->host->root && request->host->kvm_node && request->spec->sandbox_devices;

    return request->accel == ACCEL_KVM && !has_node && request->host->kvm_group != NO_GROUP;
}

/*
 * systemd takes a user that is in no database only as a "dynamic" one; its number is ours all the same. That
 * implies NoNewPrivileges=, RestrictSUIDSGID=, RemoveIPC=, PrivateTmp= and a read-only file system.
 */
static void put_user(const SandboxRequest *request, UnitSettings *settings)
{
    _cleanup_free_ char *user = say("%" PRIu32, (uint32_t)request->uid);
    _cleanup_free_ char *kvm_group = say("%" PRIu32, (uint32_t)request->host->kvm_group);

    if (!user || !kvm_group) {
        settings->oom = true;
        return;
    }
    settings->group = "user";
    flag(settings, "DynamicUser");
    word(settings, "User", user);
    /* Never one of others: with the last unit of a group systemd removes all of its IPC (RemoveIPC=), also
     * what is not ours. */
    word(settings, "Group", user);
    if (sandbox_needs_kvm_group(request))
        words(settings, "SupplementaryGroups", kvm_group);
    unit_settings_add(settings, "CapabilityBoundingSet", "t", 0, NULL);
    unit_settings_add(settings, "AmbientCapabilities", "t", 0, NULL);
    flag(settings, "NoNewPrivileges");
    flag(settings, "PrivateUsers");
    word(settings, "KeyringMode", "private");
    unit_settings_add(settings, "UMask", "u", 0077, NULL);
    /* What is in its memory is the guest's, and stays there. */
    unit_settings_add(settings, "LimitCORE", "t", 0, NULL);
    /* When memory is short the host's own services, which microVMs live on, are to stay. */
    unit_settings_add(settings, "OOMScoreAdjust", "i", 200, NULL);
}

/* --- what it sees of the file system --- */

/* Whether something that is mounted is at or below `directory`. */
static bool is_needed(const UnitSettings *settings, const char *directory)
{
    for (size_t i = 0; i < settings->count; i++) {
        const UnitSetting *setting = &settings->items[i];
        for (size_t k = 0; streq(setting->signature, "a(ssbt)") && setting->strings[k]; k++)
            if (path_is_below(setting->strings[k] + (setting->strings[k][0] == '-'), directory))
                return true;
    }
    return false;
}

/*
 * The program, unless it is where all programs are. One that is in PREFIX/bin has what belongs to it
 * elsewhere below PREFIX.
 */
static void put_program(const SandboxRequest *request, UnitSettings *settings, const char *program)
{
    static const char bin[] = "/bin/";
    const char *slash = strrchr(program, '/');
    _cleanup_free_ char *prefix = strdup(program);

    if (sandbox_root_has(program))
        return;
    if (!prefix) {
        settings->oom = true;
        return;
    }
    if (slash - program >= (ptrdiff_t)strlen(bin) && strncmp(slash + 1 - strlen(bin), bin, strlen(bin)) == 0)
        prefix[slash + 1 - strlen(bin) - program] = '\0';
    mounted(settings, false, prefix);
}

static void put_shares(const VmSpec *spec, UnitSettings *settings)
{
    for (size_t i = 0; i < spec->n_shares; i++) {
        const ShareSpec *share = &spec->shares[i];
        if (share->proto == SHARE_9P)
            mounted_if_there(settings, !share->read_only, share->source);
        else if (share->socket)
            mounted_if_there(settings, true, share->socket);
    }
}

/* What is the same for all of them may be in there, and some come with something of systemd's. */
static bool has_cover(const char *top)
{
    static const char *const tops[] = {"/etc", "/dev", "/tmp", "/home", "/root"};

    for (size_t i = 0; i < ELEMENTSOF(tops); i++)
        if (streq(top, tops[i]))
            return true;
    return false;
}

/* Host directories that anybody can write to. */
static const char *const shared_places[] = {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/dev/hugepages"};

/*
 * The root directory is one for all and has nothing but places to mount at. In order that it also gets no
 * others, such as one named after a microVM, there is an empty file system wherever something is mounted
 * deeper down.
 */
static void put_covers(const SandboxRequest *request, UnitSettings *settings)
{
    size_t n = settings->count;

    /* systemd's own is for everybody to write to. */
    unit_settings_add(settings, "TemporaryFileSystem", "a(ss)", 0, STRINGS("/run", "ro"));
    for (size_t i = 0; i < n; i++) {
        char *const *paths = settings->items[i].strings;
        bool mounts = streq(settings->items[i].signature, "a(ssbt)");
        for (size_t k = 0; mounts && paths[k]; k++) {
            const char *path = paths[k] + (paths[k][0] == '-');
            _cleanup_free_ char *top = strndup(path, 1 + strcspn(path + 1, "/"));
            bool known = !top || !path[strlen(top)] || sandbox_root_has(path) || has_cover(top);
            for (size_t other = n; other < settings->count && !known; other++)
                known = streq(settings->items[other].strings[0], top);
            settings->oom |= !top;
            if (!known)
                unit_settings_add(settings, "TemporaryFileSystem", "a(ss)", 0, STRINGS(top, "ro"));
        }
    }
}

static void hide_places(const SandboxRequest *request, UnitSettings *settings)
{
    char hidden[32];

    for (size_t i = 0; i < ELEMENTSOF(shared_places); i++) {
        snprintf(hidden, sizeof(hidden), "-+%s", shared_places[i]);
        bool private =
            streq(shared_places[i], "/dev/mqueue") && request->spec->sandbox_kernel; /* PrivateIPC= */
        if (!private && !is_needed(settings, shared_places[i]))
            words(settings, "InaccessiblePaths", hidden);
    }
    /* It tells a lot about the host; only passed-through devices are found in there. */
    if (request->spec->n_devices == 0)
        words(settings, "InaccessiblePaths", "-+/sys");
}

static bool has_homes(const UnitSettings *settings)
{
    return is_needed(settings, "/home") || is_needed(settings, "/root") || is_needed(settings, "/run/user");
}

/* Nothing but its program and libraries, and its own files; read-only but for its log and shares. */
static void put_filesystem(const SandboxRequest *request, UnitSettings *settings, bool network)
{
    settings->group = "filesystem";
    word(settings, "RootDirectory", request->host->root);
    for (size_t i = 0; request->host->system[i]; i++)
        mounted(settings, false, request->host->system[i]);
    mounted_if_there(settings, false, "/etc/ld.so.cache");
    if (network)
        mounted_if_there(settings, false, "/etc/resolv.conf"); /* QEMU's user networking asks those */
    mounted(settings, false, request->runtime_dir);
    if (request->console_log)
        mounted(settings, true, request->console_log);
    put_program(request, settings, request->program);
    if (!sandbox_root_has(request->host->helper))
        mounted(settings, false, request->host->helper);
    put_shares(request->spec, settings);
    put_covers(request, settings);
    hide_places(request, settings);
    if (has_homes(settings))
        word(settings, "ProtectHome", "tmpfs"); /* around what is mounted there */
    else if (!is_apart(request->spec))
        word(settings, "ProtectHome", "yes");
    word(settings, "ProtectProc", "invisible");
    word(settings, "ProcSubset", "pid");
}

/* What its user may see. It may write where a host keeps what is not its own. */
static void put_whole_filesystem(const SandboxRequest *request, UnitSettings *settings)
{
    static const char *const writable[] = {"-/srv", "-/mnt", "-/media", "-/opt", "-/var", "-/run", NULL};

    settings->group = "filesystem";
    unit_settings_add(settings, "ReadWritePaths", "as", 0, writable);
    /* Not private ones. */
    mounted(settings, true, "/tmp");
    mounted(settings, true, "/var/tmp");
    if (request->console_log)
        words(settings, "ReadWritePaths", request->console_log);
    for (size_t i = 0; i < request->spec->n_shares; i++) {
        const ShareSpec *share = &request->spec->shares[i];
        if (share->proto == SHARE_9P && !share->read_only)
            mounted_if_there(settings, true, share->source);
    }
}

/* --- devices of the host --- */

static bool has_vhost_net(const SandboxRequest *request)
{
    for (size_t i = 0; i < request->spec->n_interfaces; i++)
        if (request->spec->interfaces[i].type != INTERFACE_USER && request->spec->interfaces[i].tap_vhost)
            return true;
    return false;
}

static bool has_kvm(const SandboxRequest *request)
{
    return request->accel == ACCEL_KVM;
}

static bool has_bus(const SandboxRequest *request, DeviceBus bus)
{
    for (size_t i = 0; i < request->spec->n_devices; i++)
        if (request->spec->devices[i].bus == bus)
            return true;
    return false;
}

static bool has_pci(const SandboxRequest *request)
{
    return has_bus(request, DEVICE_PCI);
}

static bool has_usb(const SandboxRequest *request)
{
    return has_bus(request, DEVICE_USB);
}

/* Those that QEMU opens itself. A tap and vhost-vsock come as descriptors. */
static const struct {
    bool (*needed)(const SandboxRequest *request);
    const char *path;  /* where it is */
    const char *allow; /* what is allowed: it, or all of its kind, systemd.resource-control(5) */
} devices[] = {
    {has_kvm, "/dev/kvm", "/dev/kvm"},
    {has_vhost_net, "/dev/vhost-net", "/dev/vhost-net"},
    {has_pci, "/dev/vfio", "char-vfio"},
    {has_pci, "/dev/vfio", "/dev/vfio/vfio"},
    {has_usb, "/dev/bus/usb", "char-usb_device"},
};

static void put_devices(const SandboxRequest *request, UnitSettings *settings)
{
    settings->group = "devices";
    flag(settings, "PrivateDevices"); /* null, zero, random and the like */
    word(settings, "DevicePolicy", "closed");
    for (size_t i = 0; i < ELEMENTSOF(devices); i++) {
        if (!devices[i].needed(request))
            continue;
        unit_settings_add(settings, "DeviceAllow", "a(ss)", 0, STRINGS(devices[i].allow, "rw"));
        if (devices[i].needed == has_kvm && request->host->kvm_node)
            mounted_as(settings, KVM_NODE, devices[i].path);
        else if (i == 0 || !streq(devices[i].path, devices[i - 1].path))
            mounted_if_there(settings, true, devices[i].path);
    }
}

/* --- the network --- */

static bool connects_to_sockets(const VmSpec *spec)
{
    for (size_t i = 0; i < spec->n_shares; i++)
        if (spec->shares[i].socket)
            return true;
    return false;
}

/* What it was given open is not affected. */
static void put_network(const VmSpec *spec, UnitSettings *settings)
{
    const char *families[4] = {NULL};
    size_t n = 0;

    settings->group = "network";
    if (connects_to_sockets(spec))
        families[n++] = "AF_UNIX";
    if (needs_host_network(spec)) {
        families[n++] = "AF_INET";
        families[n++] = "AF_INET6";
    } else {
        flag(settings, "PrivateNetwork");
    }
    unit_settings_add(settings, "RestrictAddressFamilies", "(bas)", true, families);
}

/* --- the kernel's own affairs --- */

static void put_kernel(const SandboxRequest *request, UnitSettings *settings)
{
    static const char *const flags[] = {"ProtectControlGroups", "ProtectClock", "ProtectHostname",
                                        "ProtectKernelModules", "PrivateIPC"};
    static const char *const needless[] = {"ProtectKernelTunables", "ProtectKernelLogs"};

    settings->group = "kernel";
    for (size_t i = 0; i < ELEMENTSOF(flags); i++)
        flag(settings, flags[i]);
    for (size_t i = 0; i < ELEMENTSOF(needless) && !is_apart(request->spec); i++)
        flag(settings, needless[i]);
}

/* --- system calls --- */

static void put_system_calls(const SandboxRequest *request, UnitSettings *settings)
{
    /* Those of a usual service, and "seccomp", with which QEMU installs a filter of its own. */
    static const char *const allowed[] = {"@system-service", "seccomp", NULL};
    /*
     * Of these, some are for root only, and some QEMU's own filter denies. io_uring and userfaultfd have been
     * the way into the kernel too often, and QEMU does without them, unless it is told to use them.
     */
    static const char *const denied[] = {
        "@privileged",    "@resources",        "@keyring",    "io_uring_setup",
        "io_uring_enter", "io_uring_register", "userfaultfd", NULL};

    settings->group = "systemCalls";
    words(settings, "SystemCallArchitectures", "native");
    unit_settings_add(settings, "SystemCallFilter", "(bas)", true, allowed);
    unit_settings_add(settings, "SystemCallFilter", "(bas)", false, denied);
    /* A newer QEMU that tries one more call goes on without it, instead of being killed. */
    unit_settings_add(settings, "SystemCallErrorNumber", "i", EPERM, NULL);
    unit_settings_add(settings, "RestrictNamespaces", "t", 0, NULL);
    flag(settings, "RestrictRealtime");
    flag(settings, "RestrictSUIDSGID");
    flag(settings, "LockPersonality");
    /* TCG writes the code that it runs. */
    if (request->accel == ACCEL_KVM)
        flag(settings, "MemoryDenyWriteExecute");
}

/* --- how much it may take --- */

/*
 * It is to bound a hypervisor gone wild, and never to kill one that works: what can be given back, as the
 * page cache of images, makes it slower at worst, all else must fit. In MiB:
 *
 *   the guest's memory, and an eighth of it: the kernel's tables for it, and of the page cache a little more
 *   512 of QEMU: program, libraries, devices and what they have in flight, the page cache's least
 *   16 a processor: its thread's stack (8), its TLB under TCG
 *   64 a device: requests of disks (QEMU's queue of 256 with 128 KiB each is 32), packets, 9p messages
 *   1024 under TCG: the translated code (QEMU's accel/tcg/region.c: 1 GiB at most)
 */
static uint64_t memory_max_mib(const SandboxRequest *request)
{
    const VmSpec *spec = request->spec;
    uint64_t guest = spec->mem_mib + spec->hotplug_mem_mib;
    uint64_t n_devices = spec->n_volumes + spec->n_interfaces + spec->n_shares + spec->n_devices;

    if (spec->limits_memory_max_mib > 0)
        return spec->limits_memory_max_mib;
    return guest + guest / 8 + 512 + 16 * spec->vcpu + 64 * n_devices +
           (request->accel == ACCEL_KVM ? 0 : 1024);
}

/*
 * A thread a processor, QEMU's pool of 64 for files, one of its pool of 9p, the vhost thread of a device,
 * which counts as the hypervisor's since Linux 6.4; and 32 for all that QEMU starts beside.
 */
static uint64_t tasks_max(const VmSpec *spec)
{
    if (spec->limits_tasks_max > 0)
        return spec->limits_tasks_max;
    return spec->vcpu + 64 + spec->n_interfaces * MIN(spec->vcpu, UINT64_C(256)) + spec->n_shares +
           (spec->vsock_cid > 0) + 32;
}

static void put_limits(const SandboxRequest *request, UnitSettings *settings)
{
    const VmSpec *spec = request->spec;

    settings->group = "limits";
    unit_settings_add(settings, "MemoryMax", "t", memory_max_mib(request) << 20, NULL);
    unit_settings_add(settings, "TasksMax", "t", tasks_max(spec), NULL);
    if (spec->limits_cpu_quota > 0) /* of a processor's second, in µs: percent / 100 * 1000000 */
        unit_settings_add(settings, "CPUQuotaPerSecUSec", "t", spec->limits_cpu_quota * 10000, NULL);
    if (spec->limits_cpu_affinity)
        unit_settings_add(settings, "CPUAffinity", "ay", 0, STRINGS(spec->limits_cpu_affinity));
    if (spec->limits_io_weight > 0)
        unit_settings_add(settings, "IOWeight", "t", spec->limits_io_weight, NULL);
}

int sandbox_settings(const SandboxRequest *request, UnitSettings *settings)
{
    const VmSpec *spec = request->spec;

    put_user(request, settings);
    if (spec->sandbox_devices)
        put_devices(request, settings);
    if (spec->sandbox_filesystem)
        put_filesystem(request, settings, needs_host_network(spec) || !spec->sandbox_network);
    else
        put_whole_filesystem(request, settings);
    if (spec->sandbox_network)
        put_network(spec, settings);
    if (spec->sandbox_kernel)
        put_kernel(request, settings);
    if (spec->sandbox_system_calls)
        put_system_calls(request, settings);
    put_limits(request, settings);
    return settings->oom ? -ENOMEM : 0;
}
