/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A microVM as its definition says: typed, checked, defaults filled in. Immutable once loaded. */
#ifndef SPEC_SPEC_H
#define SPEC_SPEC_H

#include "base/macro.h"
#include "microvm/string-table.h"

#define HYPERVISOR_LIST(X) X(HYPERVISOR_QEMU, "qemu")
MICROVM_STRING_TABLE(Hypervisor, hypervisor, HYPERVISOR, HYPERVISOR_LIST)

#define DRIVER_KIND_LIST(X) X(DRIVER_KIND_LIBVIRT, "libvirt")
MICROVM_STRING_TABLE(DriverKind, driver_kind, DRIVER_KIND, DRIVER_KIND_LIST)

#define ACCEL_LIST(X)                                                                                        \
    X(ACCEL_AUTO, "auto")                                                                                    \
    X(ACCEL_KVM, "kvm")                                                                                      \
    X(ACCEL_TCG, "tcg")
MICROVM_STRING_TABLE(Accel, accel, ACCEL, ACCEL_LIST)

#define RESTART_POLICY_LIST(X)                                                                               \
    X(RESTART_NO, "no")                                                                                      \
    X(RESTART_ON_FAILURE, "on-failure")                                                                      \
    X(RESTART_ALWAYS, "always")
MICROVM_STRING_TABLE(RestartPolicy, restart_policy, RESTART_POLICY, RESTART_POLICY_LIST)

#define INTERFACE_TYPE_LIST(X) X(INTERFACE_USER, "user")
MICROVM_STRING_TABLE(InterfaceType, interface_type, INTERFACE_TYPE, INTERFACE_TYPE_LIST)

#define IMAGE_TYPE_LIST(X) X(IMAGE_RAW, "raw")
MICROVM_STRING_TABLE(ImageType, image_type, IMAGE_TYPE, IMAGE_TYPE_LIST)

#define FS_TYPE_LIST(X) X(FS_EXT4, "ext4")
MICROVM_STRING_TABLE(FsType, fs_type, FS_TYPE, FS_TYPE_LIST)

#define FORWARD_FROM_LIST(X)                                                                                 \
    X(FORWARD_FROM_HOST, "host")                                                                             \
    X(FORWARD_FROM_GUEST, "guest")
MICROVM_STRING_TABLE(ForwardFrom, forward_from, FORWARD_FROM, FORWARD_FROM_LIST)

#define FORWARD_PROTO_LIST(X)                                                                                \
    X(FORWARD_TCP, "tcp")                                                                                    \
    X(FORWARD_UDP, "udp")
MICROVM_STRING_TABLE(ForwardProto, forward_proto, FORWARD_PROTO, FORWARD_PROTO_LIST)

typedef struct VolumeSpec {
    char *image;       /* as written: relative to the state directory, or absolute */
    uint64_t size_mib; /* 0: not given */
    bool auto_create;  /* default: true for a relative image with a size */
    bool read_only;
    char *serial; /* or NULL */
    ImageType image_type;
    FsType fs_type;
} VolumeSpec;

typedef struct InterfaceSpec {
    InterfaceType type;
    char *id;  /* default: made from name and index */
    char *mac; /* "02:..", lower case; default: made from name and index, stable */
} InterfaceSpec;

typedef struct ForwardSpec {
    ForwardFrom from;
    ForwardProto proto;
    char *host_address; /* IPv4; default 127.0.0.1 */
    uint64_t host_port;
    char *guest_address; /* or NULL: the hypervisor's default */
    uint64_t guest_port;
} ForwardSpec;

typedef struct VmSpec {
    unsigned references; /* atomic; see vm_spec_ref() */
    char *name;
    char *path; /* of the definition file; NULL: given as text */

    Hypervisor hypervisor;
    DriverKind driver;
    Accel accel;
    uint64_t vcpu;
    uint64_t mem_mib;
    char *kernel; /* absolute */
    char *initrd; /* absolute, or NULL */
    char **kernel_params;
    size_t n_kernel_params;
    VolumeSpec *volumes;
    size_t n_volumes;
    InterfaceSpec *interfaces;
    size_t n_interfaces;
    ForwardSpec *forward_ports;
    size_t n_forward_ports;
    bool autostart;
    char *machine_id; /* UUID, 8-4-4-4-12, lower case */
    RestartPolicy restart_policy;
    uint64_t restart_delay_usec;
    uint64_t stop_timeout_usec;
} VmSpec;

/* Thread-safe; the spec itself never changes. vm_spec_unref() accepts NULL and returns NULL. */
VmSpec *vm_spec_ref(VmSpec *spec);
VmSpec *vm_spec_unref(VmSpec *spec);
DEFINE_CLEANUP(VmSpec *, vm_spec_unref)

/* Whether two specs say the same (name and path aside). */
bool vm_spec_equal(const VmSpec *a, const VmSpec *b);

/* Whether `name` may name a microVM (design: letters, digits, '.', '_', '-' inside; '@' for instances; <=
 * 64). */
bool vm_name_valid(const char *name);

#endif
