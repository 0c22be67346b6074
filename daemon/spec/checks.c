/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the keys of one definition must be to each other. */
#include "spec/rows.h"

#include <regex.h>

static void check_volumes(const TableReader *reader, const VmSpec *spec)
{
    char pointer[64];

    for (size_t i = 0; i < spec->n_volumes; i++) {
        const VolumeSpec *volume = &spec->volumes[i];
        snprintf(pointer, sizeof(pointer), "/volumes/%zu", i);
        if (volume->auto_create && volume->size_mib == 0)
            table_problem(reader, PROBLEM_ERROR, pointer, false,
                          "\"autoCreate\" needs a \"size\", such as \"1G\"");
        if (volume->auto_create && volume->image_type != IMAGE_RAW)
            table_problem(reader, PROBLEM_ERROR, pointer, false,
                          "only raw images are made; make this one by \"qemu-img create\"");
        for (size_t k = 0; k < i; k++)
            if (volume->image && streq(volume->image, spec->volumes[k].image))
                table_problem(reader, PROBLEM_ERROR, pointer, false, "image %s is that of /volumes/%zu, too",
                              volume->image, k);
    }
}

static void check_interfaces(const TableReader *reader, const VmSpec *spec)
{
    char pointer[64];

    for (size_t i = 0; i < spec->n_interfaces; i++)
        for (size_t k = 0; k < i; k++) {
            snprintf(pointer, sizeof(pointer), "/interfaces/%zu", i);
            if (streq(spec->interfaces[i].mac, spec->interfaces[k].mac))
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "MAC address %s is that of /interfaces/%zu, too", spec->interfaces[i].mac, k);
            if (streq(spec->interfaces[i].id, spec->interfaces[k].id))
                table_problem(reader, PROBLEM_ERROR, pointer, false, "id %s is that of /interfaces/%zu, too",
                              spec->interfaces[i].id, k);
        }
}

static bool addresses_overlap(const char *a, const char *b)
{
    return streq(a, b) || streq(a, "0.0.0.0") || streq(b, "0.0.0.0");
}

static void check_forwards(const TableReader *reader, const VmSpec *spec)
{
    bool user = false;
    char pointer[64];

    for (size_t i = 0; i < spec->n_interfaces; i++)
        user |= spec->interfaces[i].type == INTERFACE_USER;
    if (spec->n_forward_ports > 0 && !user)
        table_problem(
            reader, PROBLEM_ERROR, "/forwardPorts", true,
            "ports are forwarded through an interface of type \"user\"; add \"interfaces\": [\"user\"]");
    for (size_t i = 0; i < spec->n_forward_ports; i++) {
        const ForwardSpec *forward = &spec->forward_ports[i];
        snprintf(pointer, sizeof(pointer), "/forwardPorts/%zu", i);
        if (forward->from == FORWARD_FROM_GUEST && forward->proto != FORWARD_TCP)
            table_problem(reader, PROBLEM_ERROR, pointer, false, "from \"guest\" only tcp can be forwarded");
        for (size_t k = 0; k < i; k++) {
            const ForwardSpec *other = &spec->forward_ports[k];
            if (forward->from == FORWARD_FROM_HOST && other->from == FORWARD_FROM_HOST &&
                forward->proto == other->proto && forward->host_port == other->host_port &&
                forward->host_port != 0 && addresses_overlap(forward->host_address, other->host_address))
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "the host's port %u is that of /forwardPorts/%zu, too",
                              (unsigned)forward->host_port, k);
        }
    }
}

/* Each type of interface has a key of its own that it can't do without. */
static void check_interface_keys(const TableReader *reader, const VmSpec *spec)
{
    char pointer[64];

    for (size_t i = 0; i < spec->n_interfaces; i++) {
        const InterfaceSpec *interface = &spec->interfaces[i];
        snprintf(pointer, sizeof(pointer), "/interfaces/%zu", i);
        if (interface->type == INTERFACE_BRIDGE && !interface->bridge)
            table_problem(
                reader, PROBLEM_ERROR, pointer, false,
                "an interface of type \"bridge\" needs \"bridge\", the name of a bridge of the host");
        if (interface->type == INTERFACE_MACVTAP && !interface->macvtap_link)
            table_problem(
                reader, PROBLEM_ERROR, pointer, false,
                "an interface of type \"macvtap\" needs \"macvtap\": { \"link\": ... }, the name of a "
                "card of the host");
    }
}

static void check_shares(const TableReader *reader, const VmSpec *spec)
{
    char pointer[64];

    for (size_t i = 0; i < spec->n_shares; i++) {
        const ShareSpec *share = &spec->shares[i];
        snprintf(pointer, sizeof(pointer), "/shares/%zu", i);
        for (size_t k = 0; k < i; k++)
            if (streq(share->tag, spec->shares[k].tag))
                table_problem(reader, PROBLEM_ERROR, pointer, false, "tag %s is that of /shares/%zu, too",
                              share->tag, k);
    }
}

static bool runs_virtiofsd(const VmSpec *spec)
{
    for (size_t i = 0; i < spec->n_shares; i++)
        if (spec->shares[i].proto == SHARE_VIRTIOFS && !spec->shares[i].socket)
            return true;
    return false;
}

/* Options of virtiofsd are for those that are run for the microVM. */
static void check_virtiofsd(const TableReader *reader, const VmSpec *spec)
{
    static const char group[] = "virtiofsd.";
    bool runs = runs_virtiofsd(spec);

    for (size_t i = 0; i < vm_table.n_rows && !runs; i++) {
        const KeyRow *row = &vm_table.rows[i];
        _cleanup_free_ char *at = NULL;
        if (strncmp(row->key, group, strlen(group)) != 0 || table_is_default(row, spec))
            continue;
        at = table_key_pointer("", row->key);
        if (at && table_is_written(reader, at))
            table_problem(
                reader, PROBLEM_WARNING, at, true,
                "it has no effect: there is no share with \"proto\": \"virtiofs\" that virtiofsd is "
                "run for");
    }
    for (size_t i = 0; i < spec->n_shares; i++) {
        static const char *const own[] = {"cache", "posixAcl", "extraArgs"};
        const ShareSpec *share = &spec->shares[i];
        for (size_t k = 0; k < ELEMENTSOF(own) && share->socket && share->proto == SHARE_VIRTIOFS; k++) {
            char pointer[64];
            snprintf(pointer, sizeof(pointer), "/shares/%zu/%s", i, own[k]);
            if (!table_is_default(table_row(&share_table, own[k]), share))
                table_problem(reader, PROBLEM_ERROR, pointer, true,
                              "the virtiofsd behind \"socket\" has its own idea of that; remove the key");
        }
    }
}

static void check_devices(const TableReader *reader, const VmSpec *spec)
{
    char pointer[64];

    for (size_t i = 0; i < spec->n_devices; i++) {
        const DeviceSpec *device = &spec->devices[i];
        snprintf(pointer, sizeof(pointer), "/devices/%zu/path", i);
        if (device->path && (device->bus == DEVICE_USB) != (strchr(device->path, '=') != NULL))
            table_problem(reader, PROBLEM_ERROR, pointer, false,
                          device->bus == DEVICE_USB
                              ? "a USB device is named by \"vendorid=0x1234,productid=0x5678\""
                              : "a PCI device is named by its address, such as \"0000:00:02.0\"");
    }
}

static void check_memory(const TableReader *reader, const VmSpec *spec)
{
    uint64_t guest = spec->mem_mib + spec->hotplug_mem_mib;

    if (spec->hotplugged_mem_mib > spec->hotplug_mem_mib)
        table_problem(reader, PROBLEM_ERROR, "/hotpluggedMem", false,
                      "more than hotplugMem (%llu MiB) can't be there",
                      (unsigned long long)spec->hotplug_mem_mib);
    if (spec->balloon && spec->initial_balloon_mem_mib >= spec->mem_mib)
        table_problem(reader, PROBLEM_ERROR, "/initialBalloonMem", false,
                      "the balloon can't take all of mem (%llu MiB)", (unsigned long long)spec->mem_mib);
    /* Elsewhere a limit that is equal to guest memory kills the hypervisor, some time later (users.md). */
    if (spec->limits_memory_max_mib > 0 && spec->limits_memory_max_mib <= guest)
        table_problem(
            reader, PROBLEM_ERROR, "/limits/memoryMax", false,
            "it must be more than the guest's memory (%llu MiB): the hypervisor needs memory of its own, and "
            "would be killed when the guest has used all of its",
            (unsigned long long)guest);
}

static void check_boot(const TableReader *reader, const VmSpec *spec)
{
    if (spec->hypervisor == HYPERVISOR_COMMAND) { /* what it boots is its own affair */
        if (spec->n_command_start == 0)
            table_missing(reader, table_row(&vm_table, "command.start"), "");
        return;
    }
    if (spec->boot == BOOT_KERNEL && !spec->kernel && !json_find(reader->document, "/kernel"))
        table_missing(reader, table_row(&vm_table, "kernel"), "");
    if (spec->boot == BOOT_DISK && (spec->kernel || spec->initrd || spec->n_kernel_params > 0))
        table_problem(
            reader, PROBLEM_ERROR, "/boot", true,
            "with \"boot\": \"disk\" the disk has the kernel; remove kernel, initrd and kernelParams");
    if (spec->boot == BOOT_DISK && spec->n_volumes == 0)
        table_problem(reader, PROBLEM_ERROR, "/boot", true, "there is no disk to boot from: add \"volumes\"");
}

/* Linux cuts its command line at COMMAND_LINE_SIZE (2,048 on x86 and arm64) without a word. */
static void check_kernel_params(const TableReader *reader, const VmSpec *spec)
{
    enum {
        LINUX_MAX = 2047,
        OURS_MAX = 200, /* console=ttyS0 reboot=t panic=-1 hostname=NAME tsc_early_khz=N... */
    };
    size_t size = 0;

    for (size_t i = 0; i < spec->n_kernel_params; i++)
        size += strlen(spec->kernel_params[i]) + 1;
    if (size > LINUX_MAX - OURS_MAX)
        table_problem(reader, PROBLEM_ERROR, "/kernelParams", true,
                      "these are %zu bytes; Linux takes %d, of which microvmd's own parameters need up to %d",
                      size, LINUX_MAX, OURS_MAX);
}

/* "\\1" and the like: matching one may take for ever. */
static bool refers_back(const char *pattern)
{
    for (; (pattern = strchr(pattern, '\\')) && pattern[1]; pattern += 2)
        if (pattern[1] >= '1' && pattern[1] <= '9')
            return true;
    return false;
}

static void check_pattern(const TableReader *reader, const VmSpec *spec)
{
    regex_t regex;
    char why[256];
    int r;

    if (!spec->readiness_pattern)
        return;
    r = regcomp(&regex, spec->readiness_pattern, REG_EXTENDED | REG_NOSUB);
    if (r != 0) {
        regerror(r, &regex, why, sizeof(why));
        table_problem(reader, PROBLEM_ERROR, "/readiness/pattern", false, "this is no regular expression: %s",
                      why);
        return;
    }
    regfree(&regex);
    if (refers_back(spec->readiness_pattern))
        table_problem(reader, PROBLEM_ERROR, "/readiness/pattern", false,
                      "back-references (\"\\1\") are not possible here");
}

static void check_readiness(const TableReader *reader, const VmSpec *spec)
{
    static const struct {
        ReadinessType type;
        const char *key;
    } needs[] = {
        {READINESS_CONSOLE, "pattern"},
        {READINESS_TCP, "port"},
        {READINESS_HTTP, "port"},
        {READINESS_COMMAND, "command"},
    };

    for (size_t i = 0; i < ELEMENTSOF(needs); i++) {
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/readiness/%s", needs[i].key);
        if (spec->readiness_type == needs[i].type && !json_find(reader->document, pointer))
            table_problem(reader, PROBLEM_ERROR, "/readiness", true, "type \"%s\" needs \"%s\"",
                          readiness_type_to_string(needs[i].type), needs[i].key);
    }
    check_pattern(reader, spec);
    if (spec->readiness_type == READINESS_CONSOLE && !spec->qemu_serial_console)
        table_problem(reader, PROBLEM_ERROR, "/readiness/type", false,
                      "it has no serial console (\"qemu\": { \"serialConsole\": false })");
    if ((spec->readiness_type == READINESS_TCP || spec->readiness_type == READINESS_HTTP) &&
        spec->readiness_port > 0 && !spec->readiness_address &&
        !vm_spec_forward_to(spec, spec->readiness_port))
        table_problem(
            reader, PROBLEM_ERROR, "/readiness/port", false,
            "nothing leads from the host to the guest's port %u; add \"forwardPorts\": [{ "
            "\"host\": { \"port\": 8080 }, \"guest\": { \"port\": %u } }], or, where there is a route to the "
            "guest, its address as \"readiness.address\"",
            (unsigned)spec->readiness_port, (unsigned)spec->readiness_port);
    if (spec->readiness_type == READINESS_COMMAND && spec->n_readiness_command > 0 &&
        spec->readiness_command[0][0] != '/')
        table_problem(reader, PROBLEM_ERROR, "/readiness/command/0", true,
                      "the program must be an absolute path, not \"%s\"", spec->readiness_command[0]);
}

static void check_stop_steps(const TableReader *reader, const VmSpec *spec)
{
    for (size_t i = 0; i + 1 < spec->n_stop_steps; i++) {
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/stop/steps/%zu", i + 1);
        if (spec->stop_steps[i].action == STOP_ACTION_KILL) {
            table_problem(reader, PROBLEM_ERROR, pointer, false,
                          "nothing comes after \"kill\", which ends it: put this before that, or remove it");
            return;
        }
    }
}

static void check_own_name(const TableReader *reader, const char *key, char *const *names, size_t n,
                           const char *name)
{
    for (size_t i = 0; i < n; i++) {
        char pointer[64];
        size_t length = strcspn(names[i], ":");
        snprintf(pointer, sizeof(pointer), "/%s/%zu", key, i);
        if (length == strlen(name) && strncmp(names[i], name, length) == 0)
            table_problem(reader, PROBLEM_ERROR, pointer, false, "this is the microVM itself");
    }
}

void vm_spec_check(const VmSpec *spec, const TableReader *reader)
{
    table_check_effects(reader, &vm_table, spec, "");
    check_boot(reader, spec);
    check_kernel_params(reader, spec);
    check_memory(reader, spec);
    check_volumes(reader, spec);
    check_interfaces(reader, spec);
    check_interface_keys(reader, spec);
    check_forwards(reader, spec);
    check_shares(reader, spec);
    check_virtiofsd(reader, spec);
    check_devices(reader, spec);
    check_readiness(reader, spec);
    check_stop_steps(reader, spec);
    check_own_name(reader, "requires", spec->requires, spec->n_requires, spec->name);
    check_own_name(reader, "wants", spec->wants, spec->n_wants, spec->name);
    check_own_name(reader, "after", spec->after, spec->n_after, spec->name);
}
