/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/spec-table.h"

#include "base/parse.h"

enum {
    MAC_SIZE = 18,
    UUID_SIZE = 37,
    SERIAL_MAX = 20, /* virtio-blk's VIRTIO_BLK_ID_BYTES */
    INTERFACE_ID_MAX = 15,
};

#define SEC UINT64_C(1000000)
#define DAY (86400 * SEC)

/* --- what strings may be --- */

static const char *copy(const char *text, char **ret_value)
{
    *ret_value = strdup(text);
    return NULL;
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* Whether a path has `name` for a component. */
static bool has_component(const char *path, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = path; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (strncmp(at, name, length) == 0 && (at[length] == '/' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* What the supervisor itself keeps in a state directory. */
static bool is_ours(const char *image)
{
    return strncmp(image, "state.json", 10) == 0 ||
           (strncmp(image, "console.", 8) == 0 && strstr(image, "log"));
}

static const char *take_boot_file(const char *text, char **ret_value)
{
    if (text[0] != '/')
        return "this must be an absolute path";
    if (has_control(text))
        return "a path can't hold control characters";
    return copy(text, ret_value);
}

static const char *take_image(const char *text, char **ret_value)
{
    size_t length = strlen(text);

    if (length == 0 || text[length - 1] == '/')
        return "this must be the path of a disk image: absolute, or relative to the microVM's state "
               "directory";
    if (has_control(text))
        return "a path can't hold control characters";
    if (has_component(text, ".."))
        return "a path with \"..\" in it is not allowed; write where the image really is";
    if (has_component(text, ".") || strstr(text, "//"))
        return "write the path without \"./\" and \"//\", so that the same image always has the same name";
    if (is_ours(text))
        return "microvmd itself keeps a file of that name in the state directory; call the image otherwise";
    return copy(text, ret_value);
}

static bool odd_quotes(const char *text)
{
    bool odd = false;

    for (; *text; text++)
        odd ^= *text == '"';
    return odd;
}

static const char *take_kernel_param(const char *text, char **ret_value)
{
    if (!*text)
        return "an empty kernel parameter";
    if (has_control(text) || strchr(text, ' '))
        return "one kernel parameter an entry, without spaces: write \"a=1\", \"b=2\"";
    if (odd_quotes(text))
        return "a double quote is not closed: the kernel would take the parameters after it for a part of "
               "this one";
    return copy(text, ret_value);
}

static const char *take_serial(const char *text, char **ret_value)
{
    if (!*text || strlen(text) > SERIAL_MAX ||
        text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")])
        return "a serial number has 1 to 20 letters, digits, '.', '_' and '-'";
    return copy(text, ret_value);
}

static const char *take_mac(const char *text, char **ret_value)
{
    char mac[MAC_SIZE];

    if (parse_mac(text, mac) < 0)
        return "this must be the MAC address of one card, such as \"02:00:00:12:34:56\"";
    return copy(mac, ret_value);
}

static const char *take_interface_id(const char *text, char **ret_value)
{
    if (!*text || strlen(text) > INTERFACE_ID_MAX ||
        text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")])
        return "an interface name has 1 to 15 letters, digits, '.', '_' and '-'";
    return copy(text, ret_value);
}

static const char *take_uuid(const char *text, char **ret_value)
{
    char uuid[UUID_SIZE];

    if (parse_uuid(text, uuid) < 0)
        return "this must be a UUID, such as \"6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c\"";
    return copy(uuid, ret_value);
}

static const char *take_ipv4(const char *text, char **ret_value)
{
    if (!ipv4_valid(text))
        return "this must be an IPv4 address";
    return copy(text, ret_value);
}

/* --- rows --- */

#define AT(type, field)    .offset = offsetof(type, field)
#define LIST(type, field)  .offset = offsetof(type, field), .count_offset = offsetof(type, n_##field)
#define RANGE(least, most) .minimum = (least), .maximum = (most)
#define NAMES(prefix, constant)                                                                              \
    .enum_name = prefix##_name, .enum_value = prefix##_from_string, .enum_max = constant##_MAX

/* The rows hold int functions, whatever the enum. */
#define ENUM_NAME(prefix, type)                                                                              \
    static const char *prefix##_name(int value)                                                              \
    {                                                                                                        \
        return prefix##_to_string((type)value);                                                              \
    }
ENUM_NAME(hypervisor, Hypervisor)
ENUM_NAME(driver_kind, DriverKind)
ENUM_NAME(accel, Accel)
ENUM_NAME(restart_policy, RestartPolicy)
ENUM_NAME(interface_type, InterfaceType)
ENUM_NAME(image_type, ImageType)
ENUM_NAME(fs_type, FsType)
ENUM_NAME(forward_from, ForwardFrom)
ENUM_NAME(forward_proto, ForwardProto)

static const KeyRow volume_rows[] = {
    {.key = "image",
     .type = KEY_STRING,
     AT(VolumeSpec, image),
     .required = true,
     .take = take_image,
     .doc = "Path of the disk image: absolute, or relative to the microVM's state directory."},
    {.key = "size",
     .type = KEY_SIZE,
     AT(VolumeSpec, size_mib),
     RANGE(1, UINT64_C(64) << 20),
     .doc = "Size of an image that is made. Needed with autoCreate."},
    {.key = "autoCreate",
     .type = KEY_BOOL,
     AT(VolumeSpec, auto_create),
     .computed = "true for a relative image with a size, else false",
     .doc = "Make the image (sparse) and a file system on it before the first start. One that was there "
            "before and is "
            "gone is an error, never made anew."},
    {.key = "readOnly",
     .type = KEY_BOOL,
     AT(VolumeSpec, read_only),
     .fallback = "false",
     .doc = "The guest can't write to it."},
    {.key = "serial",
     .type = KEY_STRING,
     AT(VolumeSpec, serial),
     .take = take_serial,
     .pattern = "^[A-Za-z0-9._-]{1,20}$",
     .doc = "Serial number that the guest sees (/dev/disk/by-id/virtio-SERIAL)."},
    {.key = "imageType",
     .type = KEY_ENUM,
     AT(VolumeSpec, image_type),
     .fallback = "raw",
     NAMES(image_type, IMAGE_TYPE),
     .doc = "Format of the image."},
    {.key = "fsType",
     .type = KEY_ENUM,
     AT(VolumeSpec, fs_type),
     .fallback = "ext4",
     NAMES(fs_type, FS_TYPE),
     .doc = "File system made on a new image."},
};

static int finish_volume(void *item, const KeysGiven *given)
{
    VolumeSpec *volume = item;

    if (!key_given(given, "autoCreate"))
        volume->auto_create = volume->image && volume->image[0] != '/' && volume->size_mib > 0;
    return 0;
}

static const KeyTable volume_table = {
    .title = "a volume",
    .rows = volume_rows,
    .n_rows = ELEMENTSOF(volume_rows),
    .item_size = sizeof(VolumeSpec),
    .short_key = "image",
    .finish = finish_volume,
};

static const KeyRow interface_rows[] = {
    {.key = "type",
     .type = KEY_ENUM,
     AT(InterfaceSpec, type),
     .required = true,
     NAMES(interface_type, INTERFACE_TYPE),
     .doc = "How it is connected. user: through the hypervisor's own network stack, without rights on the "
            "host."},
    {.key = "id",
     .type = KEY_STRING,
     AT(InterfaceSpec, id),
     .take = take_interface_id,
     .pattern = "^[A-Za-z0-9._-]{1,15}$",
     .computed = "made from the microVM's name",
     .doc = "Name of the interface on the host, where it has one."},
    {.key = "mac",
     .type = KEY_STRING,
     AT(InterfaceSpec, mac),
     .take = take_mac,
     .pattern = "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$",
     .computed = "made from the microVM's name; stable",
     .doc = "MAC address of the guest's card."},
};

static const KeyTable interface_table = {
    .title = "an interface",
    .rows = interface_rows,
    .n_rows = ELEMENTSOF(interface_rows),
    .item_size = sizeof(InterfaceSpec),
    .short_key = "type",
};

static const KeyRow forward_rows[] = {
    {.key = "from",
     .type = KEY_ENUM,
     AT(ForwardSpec, from),
     .fallback = "host",
     NAMES(forward_from, FORWARD_FROM),
     .doc = "host: connections to the host's port reach the guest; guest: connections of the guest reach the "
            "host."},
    {.key = "proto",
     .type = KEY_ENUM,
     AT(ForwardSpec, proto),
     .fallback = "tcp",
     NAMES(forward_proto, FORWARD_PROTO),
     .doc = "Protocol."},
    {.key = "host.address",
     .type = KEY_STRING,
     AT(ForwardSpec, host_address),
     .fallback = "127.0.0.1",
     .take = take_ipv4,
     .doc = "Address on the host."},
    {.key = "host.port",
     .type = KEY_NUMBER,
     AT(ForwardSpec, host_port),
     RANGE(1, 65535),
     .required = true,
     .doc = "Port on the host."},
    {.key = "guest.address",
     .type = KEY_STRING,
     AT(ForwardSpec, guest_address),
     .take = take_ipv4,
     .computed = "the guest's own, 10.0.2.15; with from \"guest\" the one it connects to, 10.0.2.100",
     .doc = "Address in the guest's network."},
    {.key = "guest.port",
     .type = KEY_NUMBER,
     AT(ForwardSpec, guest_port),
     RANGE(1, 65535),
     .required = true,
     .doc = "Port in the guest's network."},
};

static const KeyTable forward_table = {
    .title = "a forwarded port",
    .rows = forward_rows,
    .n_rows = ELEMENTSOF(forward_rows),
    .item_size = sizeof(ForwardSpec),
};

static const KeyRow vm_rows[] = {
    {.key = "hypervisor",
     .type = KEY_ENUM,
     AT(VmSpec, hypervisor),
     .fallback = "qemu",
     NAMES(hypervisor, HYPERVISOR),
     .doc = "Who runs the guest."},
    {.key = "driver",
     .type = KEY_ENUM,
     AT(VmSpec, driver),
     NAMES(driver_kind, DRIVER_KIND),
     .computed = "what the host configuration says under defaults.driver, else libvirt",
     .doc = "Who runs the hypervisor. libvirt: the host's libvirt, so that virsh and virt-manager see it."},
    {.key = "accel",
     .type = KEY_ENUM,
     AT(VmSpec, accel),
     NAMES(accel, ACCEL),
     .computed = "what the host configuration says under defaults.accel, else auto",
     .doc = "auto: KVM where a guest can run on it, otherwise TCG, emulation. kvm and tcg: that or nothing."},
    {.key = "vcpu",
     .type = KEY_NUMBER,
     AT(VmSpec, vcpu),
     .fallback = "1",
     RANGE(1, 288),
     .doc = "Virtual CPUs."},
    {.key = "mem",
     .type = KEY_SIZE,
     AT(VmSpec, mem_mib),
     .fallback = "512",
     RANGE(1, UINT64_C(16) << 20),
     .doc = "Guest memory."},
    {.key = "kernel",
     .type = KEY_STRING,
     AT(VmSpec, kernel),
     .required = true,
     .take = take_boot_file,
     .pattern = "^/",
     .doc = "Absolute path of the kernel, a bzImage on x86."},
    {.key = "initrd",
     .type = KEY_STRING,
     AT(VmSpec, initrd),
     .take = take_boot_file,
     .pattern = "^/",
     .doc = "Absolute path of the initial RAM disk."},
    {.key = "initrdPath",
     .type = KEY_STRING,
     AT(VmSpec, initrd),
     .alias_of = "initrd",
     .take = take_boot_file,
     .pattern = "^/",
     .doc = "MicroVM.nix's name of initrd."},
    {.key = "kernelParams",
     .type = KEY_STRINGS,
     LIST(VmSpec, kernel_params),
     .maximum = 1024,
     .take = take_kernel_param,
     .pattern = "^[^ ]+$",
     .doc = "More kernel parameters, one an entry, after \"console=ttyS0 reboot=t panic=-1\" and, where "
            "there are volumes "
            "but neither an initrd nor a root= parameter, \"root=/dev/vda rw\"."},
    {.key = "volumes",
     .type = KEY_OBJECTS,
     LIST(VmSpec, volumes),
     .maximum = 64,
     .items = &volume_table,
     .doc = "Disks, in order /dev/vda, /dev/vdb... A bare string is the image of one."},
    {.key = "interfaces",
     .type = KEY_OBJECTS,
     LIST(VmSpec, interfaces),
     .maximum = 64,
     .items = &interface_table,
     .doc = "Network cards. A bare string is the type of one."},
    {.key = "forwardPorts",
     .type = KEY_OBJECTS,
     LIST(VmSpec, forward_ports),
     .maximum = 1024,
     .items = &forward_table,
     .doc = "Ports forwarded between host and guest. Needs an interface of type user."},
    {.key = "autostart",
     .type = KEY_BOOL,
     AT(VmSpec, autostart),
     .fallback = "true",
     .doc = "Start it once when the host boots."},
    {.key = "machineId",
     .type = KEY_STRING,
     AT(VmSpec, machine_id),
     .take = take_uuid,
     .pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
     .computed = "made from the name by MicroVM.nix's rule; stable",
     .doc = "The guest's system UUID."},
    {.key = "restart.policy",
     .type = KEY_ENUM,
     AT(VmSpec, restart_policy),
     .fallback = "on-failure",
     NAMES(restart_policy, RESTART_POLICY),
     .doc = "What to do when it ends by itself. on-failure: start it again after a crash or panic; always: "
            "also after a "
            "power-off. A stop by a person is never undone."},
    {.key = "restart.delay",
     .type = KEY_DURATION,
     AT(VmSpec, restart_delay_usec),
     .fallback = "1",
     RANGE(0, DAY),
     .doc = "How long to wait before it is started again; doubled at each further failure, up to 5min."},
    {.key = "stop.timeout",
     .type = KEY_DURATION,
     AT(VmSpec, stop_timeout_usec),
     .fallback = "90",
     RANGE(0, DAY),
     .doc = "How long a guest that was asked to shut down may take before it is ended by force."},
};

const KeyTable vm_table = {
    .title = "a microVM definition",
    .rows = vm_rows,
    .n_rows = ELEMENTSOF(vm_rows),
    .item_size = sizeof(VmSpec),
};
