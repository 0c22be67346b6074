/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A microVM as its definition says: typed, checked, defaults filled in. Immutable once loaded. */
#ifndef SPEC_SPEC_H
#define SPEC_SPEC_H

#include "base/macro.h"
#include "spec/words.h"

typedef struct StringPair {
    char *name, *value;
} StringPair;

typedef struct VolumeSpec {
    char *image;       /* as written: relative to the state directory, or absolute */
    uint64_t size_mib; /* 0: not given */
    bool auto_create;  /* default: true for a relative image with a size */
    FsType fs_type;
    char *label; /* of the file system made, or NULL */
    char **mkfs_args;
    size_t n_mkfs_args;
    char *mount_point; /* the guest's affair; or NULL */
    bool read_only;
    bool direct;  /* past the host's page cache */
    char *serial; /* or NULL */
    ImageType image_type;
} VolumeSpec;

typedef struct InterfaceSpec {
    InterfaceType type;
    char *id;     /* default: made from name and index */
    char *mac;    /* "02:..", lower case; default: made from name and index, stable */
    char *bridge; /* of type bridge, else NULL */
    char *macvtap_link;
    MacvtapMode macvtap_mode;
    bool tap_vhost;
} InterfaceSpec;

typedef struct ForwardSpec {
    ForwardFrom from;
    ForwardProto proto;
    char *host_address; /* IPv4; default 127.0.0.1 */
    uint64_t host_port;
    char *guest_address; /* or NULL: the hypervisor's default */
    uint64_t guest_port;
} ForwardSpec;

typedef struct ShareSpec {
    char *tag;
    char *source;      /* absolute */
    char *mount_point; /* the guest's affair; or NULL */
    ShareProto proto;
    char *socket; /* of a virtiofsd that somebody else runs; NULL: none */
    SecurityModel security_model;
    bool read_only;
    ShareCache cache;
    bool posix_acl;
    char **extra_args; /* of virtiofsd */
    size_t n_extra_args;
} ShareSpec;

typedef struct DeviceSpec {
    DeviceBus bus;
    char *path; /* PCI: "0000:00:02.0"; USB: "vendorid=0x1234,productid=0x5678" */
    char *qemu_id, *qemu_bus, *qemu_extra_args; /* or NULL */
} DeviceSpec;

typedef struct RootPortSpec {
    char *id;
    uint64_t chassis, slot;
} RootPortSpec;

typedef struct StopStepSpec {
    StopAction action;
    uint64_t timeout_usec;
} StopStepSpec;

typedef struct VmSpec {
    unsigned references; /* atomic; see vm_spec_ref() */
    char *name;
    char *path; /* of the definition file; NULL: given as text */

    /* who runs it, on what */
    Hypervisor hypervisor;
    DriverKind driver;
    Accel accel;
    char *description; /* or NULL */
    StringPair *labels;
    size_t n_labels;
    char *machine_id; /* UUID, 8-4-4-4-12, lower case */
    bool register_with_machined;
    char *user; /* or NULL */
    char *socket;
    bool pretty_procnames;

    /* processors and memory */
    char *cpu; /* model; NULL: the accelerator's own */
    uint64_t vcpu;
    uint64_t mem_mib;
    bool hugepage_mem;
    uint64_t hotplug_mem_mib, hotplugged_mem_mib;
    bool balloon;
    uint64_t initial_balloon_mem_mib;
    bool deflate_on_oom;

    /* what it boots */
    Boot boot;
    char *kernel; /* absolute; NULL only with BOOT_DISK */
    char *initrd; /* absolute, or NULL */
    char **kernel_params;
    size_t n_kernel_params;

    /* devices */
    VolumeSpec *volumes;
    size_t n_volumes;
    InterfaceSpec *interfaces;
    size_t n_interfaces;
    ForwardSpec *forward_ports;
    size_t n_forward_ports;
    ShareSpec *shares;
    size_t n_shares;
    FileHandles virtiofsd_file_handles;
    uint64_t virtiofsd_threads; /* 0: as virtiofsd likes */
    char *virtiofsd_group;
    char **virtiofsd_args;
    size_t n_virtiofsd_args;
    DeviceSpec *devices;
    size_t n_devices;
    uint64_t vsock_cid;      /* 0: none */
    StringPair *credentials; /* name → absolute path */
    size_t n_credentials;
    bool graphics;
    GraphicsBackend graphics_backend;
    char *graphics_socket;
    bool graphics_vulkan;
    uint64_t graphics_hostmem_mib;

    /* of one hypervisor only */
    QemuMachine qemu_machine;
    StringPair *qemu_machine_opts;
    size_t n_qemu_machine_opts;
    char **qemu_args;
    size_t n_qemu_args;
    bool qemu_serial_console;
    RootPortSpec *qemu_root_ports;
    size_t n_qemu_root_ports;
    char *firecracker_cpu, *firecracker_config; /* JSON text, or NULL */
    DriveIoEngine firecracker_io_engine;
    char **firecracker_args;
    size_t n_firecracker_args;
    char **cloud_hypervisor_oem_strings;
    size_t n_cloud_hypervisor_oem_strings;
    char **cloud_hypervisor_args;
    size_t n_cloud_hypervisor_args;
    char **crosvm_args;
    size_t n_crosvm_args;
    char *crosvm_pivot_root;
    char **kvmtool_args;
    size_t n_kvmtool_args;
    char **stratovirt_args;
    size_t n_stratovirt_args;
    char **alioth_args;
    size_t n_alioth_args;
    char **command_start;
    size_t n_command_start;
    char **command_stop;
    size_t n_command_stop;
    char **command_ready;
    size_t n_command_ready;

    /* the supervisor's own */
    bool autostart;
    uint64_t priority;
    char **requires;
    size_t n_requires;
    char **wants;
    size_t n_wants;
    char **after; /* "db" or "db:ready" */
    size_t n_after;
    RestartPolicy restart_policy;
    GuestEnd on_reboot, on_poweroff;
    uint64_t restart_delay_usec, restart_max_delay_usec;
    uint64_t restart_factor;
    uint64_t restart_start_limit; /* 0: none */
    uint64_t restart_limit_interval_usec;
    ReadinessType readiness_type;
    uint64_t readiness_timeout_usec;
    OnTimeout readiness_on_timeout;
    char *readiness_pattern, *readiness_address, *readiness_path;
    uint64_t readiness_port;
    char **readiness_command;
    size_t n_readiness_command;
    Watchdog watchdog_type;
    uint64_t watchdog_timeout_usec;
    OnTimeout watchdog_action;
    OnTimeout on_emergency;
    OnPanic on_panic;
    uint64_t stop_timeout_usec;
    StopStepSpec *stop_steps;
    size_t n_stop_steps;
    LogTarget console_log;
    uint64_t limits_cpu_quota; /* percent of one processor; 0: none */
    char *limits_cpu_affinity; /* "0-3,5", or NULL */
    uint64_t limits_memory_max_mib;
    uint64_t limits_io_weight; /* 0: none */
    uint64_t limits_tasks_max;
    bool sandbox_filesystem, sandbox_devices, sandbox_network, sandbox_kernel, sandbox_system_calls;
    char *pre_start, *extra_args_script; /* shell text, or NULL */
} VmSpec;

/* Thread-safe; the spec itself never changes. vm_spec_unref() accepts NULL and returns NULL. */
VmSpec *vm_spec_ref(VmSpec *spec);
VmSpec *vm_spec_unref(VmSpec *spec);
DEFINE_CLEANUP(VmSpec *, vm_spec_unref)

/* Where a volume's image is: relative ones are in the microVM's state directory. NULL: out of memory. */
char *volume_path(const VolumeSpec *volume, const char *state_dir);

/* Whether its guest is to tell, or to be found, ready: who waits for that waits for something. */
bool vm_spec_declares_ready(const VmSpec *spec);

/* What leads to the guest's tcp port from the host; NULL: nothing does. */
const ForwardSpec *vm_spec_forward_to(const VmSpec *spec, uint64_t guest_port);

/* Whether two specs say the same (name and path aside). */
bool vm_spec_equal(const VmSpec *a, const VmSpec *b);

/* Whether the guest's own words are heard where that is possible, and whether the definition relies on it. */
bool vm_spec_wants_notify(const VmSpec *spec);
bool vm_spec_needs_notify(const VmSpec *spec);

enum {
    SANDBOX_PARTS = 5
};

/* The parts of the sandbox that it switches off, as the keys below "sandbox" are called. Returns how many. */
size_t vm_spec_loosened(const VmSpec *spec, const char *ret_parts[static SANDBOX_PARTS]);

/* Whether `name` may name a microVM (design: letters, digits, '.', '_', '-' inside; '@' for instances; <=
 * 64). */
bool vm_name_valid(const char *name);

#endif
