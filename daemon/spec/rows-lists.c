/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rows of what is in lists: volumes, interfaces, ports, shares, devices... */
#include "spec/rows.h"

ENUM_NAME(image_type, ImageType)
ENUM_NAME(fs_type, FsType)
ENUM_NAME(interface_type, InterfaceType)
ENUM_NAME(macvtap_mode, MacvtapMode)
ENUM_NAME(forward_from, ForwardFrom)
ENUM_NAME(forward_proto, ForwardProto)
ENUM_NAME(share_proto, ShareProto)
ENUM_NAME(security_model, SecurityModel)
ENUM_NAME(share_cache, ShareCache)
ENUM_NAME(device_bus, DeviceBus)
ENUM_NAME(stop_action, StopAction)

static Capability image_type_needs(int value)
{
    static const Capability needs[IMAGE_TYPE_MAX] = {
        [IMAGE_RAW] = CAP_NONE,
        [IMAGE_QCOW2] = CAP_IMAGE_FORMATS,
        [IMAGE_VHD] = CAP_IMAGE_FORMATS,
        [IMAGE_VHDX] = CAP_IMAGE_VHDX,
    };

    return needs[value];
}

static Capability interface_type_needs(int value)
{
    static const Capability needs[INTERFACE_TYPE_MAX] = {
        [INTERFACE_USER] = CAP_NET_USER,
        [INTERFACE_TAP] = CAP_NET_TAP,
        [INTERFACE_MACVTAP] = CAP_NET_MACVTAP,
        [INTERFACE_BRIDGE] = CAP_NET_BRIDGE,
    };

    return needs[value];
}

static Capability macvtap_mode_needs(int value)
{
    return value == MACVTAP_SOURCE ? CAP_MACVTAP_SOURCE : CAP_NONE;
}

static Capability share_proto_needs(int value)
{
    return value == SHARE_9P ? CAP_SHARE_9P : CAP_SHARE_VIRTIOFS;
}

static Capability security_model_needs(int value)
{
    return value == SECURITY_MAPPED_FILE ? CAP_9P_MAPPED_FILE : CAP_NONE;
}

static Capability share_cache_needs(int value)
{
    return value == SHARE_CACHE_METADATA ? CAP_VIRTIOFS_CACHE : CAP_NONE;
}

static Capability device_bus_needs(int value)
{
    return value == DEVICE_PCI ? CAP_DEVICE_PCI : CAP_DEVICE_USB;
}

/* A row a key, as a table is read. */
/* clang-format off */

/* --- volumes --- */

static const KeyRow volume_rows[] = {
    {.key = "image", .type = KEY_STRING, AT(VolumeSpec, image), .required = true, .take = take_image,
     A_PATH, .doc = "Path of the disk image: absolute, or relative to the microVM's state directory."},
    {.key = "size", .type = KEY_SIZE, AT(VolumeSpec, size_mib), RANGE(1, UINT64_C(64) << 20), NEXT_START,
     WITH("autoCreate"), .doc = "Size of an image that is made. Needed with autoCreate."},
    {.key = "autoCreate", .type = KEY_BOOL, AT(VolumeSpec, auto_create), NEXT_START,
     .computed = "true for a relative image with a size, else false",
     .doc = "Make the image (sparse) and a file system on it before the first start. One that was there "
            "before and is gone is an error, never made anew."},
    {.key = "fsType", .type = KEY_ENUM, AT(VolumeSpec, fs_type), .fallback = "ext4", WORDS(fs_type, FS_TYPE),
     NEXT_START, WITH("autoCreate"), .doc = "File system made on a new image, by mkfs.TYPE."},
    {.key = "label", .type = KEY_STRING, AT(VolumeSpec, label), .take = take_fs_label, NEXT_START,
     WITH("autoCreate"), .doc = "Label of the file system made."},
    {.key = "mkfsExtraArgs", .type = KEY_STRINGS, LIST(VolumeSpec, mkfs_args), .maximum = 64,
     .take = take_argument, NEXT_START, UNSAFE, WITH("autoCreate"), .doc = "More arguments of mkfs."},
    {.key = "mountPoint", .type = KEY_STRING, AT(VolumeSpec, mount_point), .take = take_absolute, LIVE,
     .doc = "Where the guest mounts it. The guest's own affair: microvmd only shows it."},
    {.key = "readOnly", .type = KEY_BOOL, AT(VolumeSpec, read_only), .fallback = "false",
     .doc = "The guest can't write to it."},
    {.key = "direct", .type = KEY_BOOL, AT(VolumeSpec, direct), .fallback = "false", .needs = CAP_DIRECT_IO,
     .doc = "Access the image past the host's page cache (O_DIRECT)."},
    {.key = "serial", .type = KEY_STRING, AT(VolumeSpec, serial), .take = take_serial,
     .needs = CAP_DISK_SERIAL,
     .doc = "Serial number that the guest sees (/dev/disk/by-id/virtio-SERIAL)."},
    {.key = "imageType", .type = KEY_ENUM, AT(VolumeSpec, image_type), .fallback = "raw",
     WORDS(image_type, IMAGE_TYPE), .enum_needs = image_type_needs,
     .doc = "Format of the image. Only raw ones are made."},
};

static int finish_volume(void *item, const KeysGiven *given)
{
    VolumeSpec *volume = item;

    if (!key_given(given, "autoCreate"))
        volume->auto_create = (!volume->image || volume->image[0] != '/') && volume->size_mib > 0;
    return 0;
}

const KeyTable volume_table = {
    .title = "a volume",
    .rows = volume_rows,
    .n_rows = ELEMENTSOF(volume_rows),
    .item_size = sizeof(VolumeSpec),
    .short_key = "image",
    .merge_key = "image",
    .finish = finish_volume,
};

/* --- interfaces --- */

static const KeyRow interface_rows[] = {
    {.key = "type", .type = KEY_ENUM, AT(InterfaceSpec, type), .required = true,
     WORDS(interface_type, INTERFACE_TYPE), .enum_needs = interface_type_needs,
     .doc = "How it is connected. user: through the hypervisor's own network stack, without rights on the "
            "host; tap: a tap device that is made for it; bridge: a tap device on a bridge of the host; "
            "macvtap: a device above a card of the host."},
    {.key = "id", .type = KEY_STRING, AT(InterfaceSpec, id), .take = take_interface_name,
     .computed = "made from the microVM's name",
     .doc = "Name of the interface on the host, where it has one."},
    {.key = "mac", .type = KEY_STRING, AT(InterfaceSpec, mac), .take = take_mac,
     .computed = "made from the microVM's name; stable",
     .doc = "MAC address of the guest's card."},
    {.key = "bridge", .type = KEY_STRING, AT(InterfaceSpec, bridge), .take = take_interface_name,
     WITH_WORDS("type", WORD(INTERFACE_BRIDGE)), MISLEADS,
     .doc = "Bridge of the host that an interface of type bridge joins."},
    {.key = "macvtap.link", .type = KEY_STRING, AT(InterfaceSpec, macvtap_link), .take = take_interface_name,
     WITH_WORDS("type", WORD(INTERFACE_MACVTAP)), MISLEADS,
     .doc = "Card of the host that an interface of type macvtap is above."},
    {.key = "macvtap.mode", .type = KEY_ENUM, AT(InterfaceSpec, macvtap_mode), .fallback = "bridge",
     WORDS(macvtap_mode, MACVTAP_MODE), .enum_needs = macvtap_mode_needs,
     WITH_WORDS("type", WORD(INTERFACE_MACVTAP)), MISLEADS,
     .doc = "Whom an interface of type macvtap can talk to."},
    {.key = "tap.vhost", .type = KEY_BOOL, AT(InterfaceSpec, tap_vhost), .fallback = "false",
     .needs = CAP_VHOST_NET, WITH_WORDS("type", ~WORD(INTERFACE_USER)), MISLEADS,
     .doc = "Move packets in the host's kernel (vhost-net): several times faster."},
};

/* "user", "tap:NAME", "bridge:BRIDGE", "macvtap:LINK" */
static cJSON *expand_interface(const char *text)
{
    static const char *const argument_of[INTERFACE_TYPE_MAX] = {
        [INTERFACE_TAP] = "id",
        [INTERFACE_BRIDGE] = "bridge",
        [INTERFACE_MACVTAP] = "link",
    };
    const char *colon = strchr(text, ':');
    _cleanup_free_ char *type = colon ? strndup(text, (size_t)(colon - text)) : strdup(text);
    int value = type ? interface_type_from_string(type) : -1;
    const char *key = colon && value >= 0 ? argument_of[value] : NULL;
    cJSON *object = cJSON_CreateObject(), *inner = object;
    bool ok;

    /* What is no type with an argument is taken for one word, so that the table says what is possible. */
    ok = object && type && cJSON_AddStringToObject(object, "type", key || !colon ? type : text);
    if (ok && value == INTERFACE_MACVTAP && key)
        ok = (inner = cJSON_AddObjectToObject(object, "macvtap"));
    if (ok && key)
        ok = cJSON_AddStringToObject(inner, key, colon + 1);
    if (ok)
        return object;
    cJSON_Delete(object);
    return NULL;
}

const KeyTable interface_table = {
    .title = "an interface",
    .rows = interface_rows,
    .n_rows = ELEMENTSOF(interface_rows),
    .item_size = sizeof(InterfaceSpec),
    .merge_key = "id",
    .expand = expand_interface,
    .short_pattern = "^(user|tap|(tap|bridge|macvtap):[A-Za-z0-9._-]{1,15})$",
};

/* --- forwarded ports --- */

static const KeyRow forward_rows[] = {
    {.key = "from", .type = KEY_ENUM, AT(ForwardSpec, from), .fallback = "host",
     WORDS(forward_from, FORWARD_FROM),
     .doc = "host: connections to the host's port reach the guest; guest: connections of the guest reach the "
            "host."},
    {.key = "proto", .type = KEY_ENUM, AT(ForwardSpec, proto), .fallback = "tcp",
     WORDS(forward_proto, FORWARD_PROTO), .doc = "Protocol."},
    {.key = "host.address", .type = KEY_STRING, AT(ForwardSpec, host_address), .fallback = "127.0.0.1",
     .take = take_ipv4, .doc = "Address on the host."},
    {.key = "host.port", .type = KEY_NUMBER, AT(ForwardSpec, host_port), RANGE(1, 65535), .required = true,
     .doc = "Port on the host."},
    {.key = "guest.address", .type = KEY_STRING, AT(ForwardSpec, guest_address), .take = take_ipv4,
     .computed = "the guest's own, 10.0.2.15; with from \"guest\" the one it connects to, 10.0.2.100",
     .doc = "Address in the guest's network."},
    {.key = "guest.port", .type = KEY_NUMBER, AT(ForwardSpec, guest_port), RANGE(1, 65535), .required = true,
     .doc = "Port in the guest's network."},
};

const KeyTable forward_table = {
    .title = "a forwarded port",
    .rows = forward_rows,
    .n_rows = ELEMENTSOF(forward_rows),
    .item_size = sizeof(ForwardSpec),
};

/* --- shared directories --- */

static const KeyRow share_rows[] = {
    {.key = "tag", .type = KEY_STRING, AT(ShareSpec, tag), .required = true, .take = take_tag,
     .doc = "Name by which the guest mounts it."},
    {.key = "source", .type = KEY_STRING, AT(ShareSpec, source), .required = true, .take = take_absolute,
     A_PATH, .doc = "Directory of the host."},
    {.key = "mountPoint", .type = KEY_STRING, AT(ShareSpec, mount_point), .take = take_absolute, LIVE,
     .doc = "Where the guest mounts it. The guest's own affair: microvmd only shows it."},
    {.key = "proto", .type = KEY_ENUM, AT(ShareSpec, proto), .fallback = "9p",
     WORDS(share_proto, SHARE_PROTO), .enum_needs = share_proto_needs,
     .doc = "virtiofs is faster and closer to a local file system; 9p needs no helper on the host."},
    {.key = "socket", .type = KEY_STRING, AT(ShareSpec, socket), .take = take_absolute,
     A_PATH, WITH_WORDS("proto", WORD(SHARE_VIRTIOFS)), MISLEADS,
     .doc = "Socket of a virtiofsd that somebody else runs. Without it one is run for the microVM."},
    {.key = "securityModel", .type = KEY_ENUM, AT(ShareSpec, security_model), .fallback = "none",
     WORDS(security_model, SECURITY_MODEL), .enum_needs = security_model_needs,
     WITH_WORDS("proto", WORD(SHARE_9P)), MISLEADS,
     .doc = "Of 9p: how owners and modes that the guest sets are kept."},
    {.key = "readOnly", .type = KEY_BOOL, AT(ShareSpec, read_only), .fallback = "false",
     .doc = "The guest can't write to it."},
    {.key = "cache", .type = KEY_ENUM, AT(ShareSpec, cache), .fallback = "auto",
     WORDS(share_cache, SHARE_CACHE), .enum_needs = share_cache_needs,
     WITH_WORDS("proto", WORD(SHARE_VIRTIOFS)), .doc = "Of virtiofs: what the guest may cache."},
    {.key = "posixAcl", .type = KEY_BOOL, AT(ShareSpec, posix_acl), .fallback = "false",
     .needs = CAP_VIRTIOFSD_OPTIONS,
     WITH_WORDS("proto", WORD(SHARE_VIRTIOFS)),
     .doc = "Of virtiofs: POSIX access control lists. MicroVM.nix's default is true; libvirt can't say it."},
    {.key = "extraArgs", .type = KEY_STRINGS, LIST(ShareSpec, extra_args), .maximum = 64,
     .take = take_argument, .needs = CAP_VIRTIOFSD_OPTIONS,
     UNSAFE, WITH_WORDS("proto", WORD(SHARE_VIRTIOFS)), .doc = "More arguments of virtiofsd for this share."},
};

const KeyTable share_table = {
    .title = "a shared directory",
    .rows = share_rows,
    .n_rows = ELEMENTSOF(share_rows),
    .item_size = sizeof(ShareSpec),
    .merge_key = "tag",
};

/* --- devices that are passed through --- */

static const KeyRow device_rows[] = {
    {.key = "bus", .type = KEY_ENUM, AT(DeviceSpec, bus), .required = true, WORDS(device_bus, DEVICE_BUS),
     .enum_needs = device_bus_needs, .doc = "Where the host has it."},
    {.key = "path", .type = KEY_STRING, AT(DeviceSpec, path), .required = true, .take = take_device_path,
     .doc = "PCI: its address, such as \"0000:00:02.0\"; USB: \"vendorid=0x1234,productid=0x5678\"."},
    {.key = "qemu.id", .type = KEY_STRING, AT(DeviceSpec, qemu_id), .take = take_identifier,
     .needs = CAP_DEVICE_PLACEMENT,
     .doc = "QEMU's id of the device. libvirt takes those that begin with \"ua-\"."},
    {.key = "qemu.bus", .type = KEY_STRING, AT(DeviceSpec, qemu_bus), .take = take_identifier,
     .needs = CAP_DEVICE_PLACEMENT,
     .doc = "Bus of the guest that it is plugged into: a PCIe root port."},
    {.key = "qemu.deviceExtraArgs", .type = KEY_STRING, AT(DeviceSpec, qemu_extra_args),
     .take = take_option_value, .needs = CAP_DEVICE_OPTIONS, UNSAFE,
     .doc = "More properties of QEMU's device: \"name=value,name=value\", where a comma inside a value is doubled."},
};

const KeyTable device_table = {
    .title = "a device",
    .rows = device_rows,
    .n_rows = ELEMENTSOF(device_rows),
    .item_size = sizeof(DeviceSpec),
};

static const KeyRow root_port_rows[] = {
    {.key = "id", .type = KEY_STRING, AT(RootPortSpec, id), .required = true, .take = take_identifier,
     .doc = "Its name, for devices[].qemu.bus."},
    {.key = "chassis", .type = KEY_NUMBER, AT(RootPortSpec, chassis), .fallback = "0", .maximum = 255,
     .doc = "Number of the chassis."},
    {.key = "slot", .type = KEY_NUMBER, AT(RootPortSpec, slot), .fallback = "0", .maximum = 31,
     .doc = "Number of the slot."},
};

const KeyTable root_port_table = {
    .title = "a PCIe root port",
    .rows = root_port_rows,
    .n_rows = ELEMENTSOF(root_port_rows),
    .item_size = sizeof(RootPortSpec),
    .merge_key = "id",
};

/* --- steps of a stop --- */

static Capability stop_action_needs(int value)
{
    static const Capability needs[STOP_ACTION_MAX] = {
        [STOP_ACTION_AGENT] = CAP_STOP_AGENT,
        [STOP_ACTION_COMMAND] = CAP_STOP_COMMAND,
        [STOP_ACTION_ACPI] = CAP_STOP_BUTTON,
        [STOP_ACTION_CTRL_ALT_DEL] = CAP_STOP_KEYS,
    };

    return needs[value];
}

static const KeyRow stop_step_rows[] = {
    {.key = "action", .type = KEY_ENUM, AT(StopStepSpec, action), .required = true,
     WORDS(stop_action, STOP_ACTION), .enum_needs = stop_action_needs,
     .doc = "agent: the guest's agent (qemu-ga), for which the machine gets a port of virtio-serial; command: the program of "
            "command.stop; acpi: the power button; ctrl-alt-del: those keys; term: SIGTERM, on which the hypervisor ends; "
            "kill: SIGKILL to all of its processes."},
    {.key = "timeout", .type = KEY_DURATION, AT(StopStepSpec, timeout_usec), RANGE(1000, DAY),
     .computed = "an equal share of what the others leave of stop.timeout; of term 5 s, of kill 30 s",
     .doc = "How long to wait before the next step. What the guest is asked by can't take longer than stop.timeout "
            "in all: where it would, each has less, in proportion."},
};

const KeyTable stop_step_table = {
    .title = "a step of a stop",
    .rows = stop_step_rows,
    .n_rows = ELEMENTSOF(stop_step_rows),
    .item_size = sizeof(StopStepSpec),
    .short_key = "action",
};
