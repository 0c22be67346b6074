/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The words that a definition may use, one list each. */
#ifndef SPEC_WORDS_H
#define SPEC_WORDS_H

#include "microvm/string-table.h"

#define HYPERVISOR_LIST(X)                                                                                   \
    X(HYPERVISOR_QEMU, "qemu")                                                                               \
    X(HYPERVISOR_CLOUD_HYPERVISOR, "cloud-hypervisor")                                                       \
    X(HYPERVISOR_FIRECRACKER, "firecracker")                                                                 \
    X(HYPERVISOR_CROSVM, "crosvm")                                                                           \
    X(HYPERVISOR_KVMTOOL, "kvmtool")                                                                         \
    X(HYPERVISOR_STRATOVIRT, "stratovirt")                                                                   \
    X(HYPERVISOR_ALIOTH, "alioth")                                                                           \
    X(HYPERVISOR_VFKIT, "vfkit")                                                                             \
    X(HYPERVISOR_COMMAND, "command")
MICROVM_STRING_TABLE(Hypervisor, hypervisor, HYPERVISOR, HYPERVISOR_LIST)

#define DRIVER_KIND_LIST(X)                                                                                  \
    X(DRIVER_KIND_LIBVIRT, "libvirt")                                                                        \
    X(DRIVER_KIND_DIRECT, "direct")
MICROVM_STRING_TABLE(DriverKind, driver_kind, DRIVER_KIND, DRIVER_KIND_LIST)

#define ACCEL_LIST(X)                                                                                        \
    X(ACCEL_AUTO, "auto")                                                                                    \
    X(ACCEL_KVM, "kvm")                                                                                      \
    X(ACCEL_TCG, "tcg")
MICROVM_STRING_TABLE(Accel, accel, ACCEL, ACCEL_LIST)

#define BOOT_LIST(X)                                                                                         \
    X(BOOT_KERNEL, "kernel")                                                                                 \
    X(BOOT_DISK, "disk")
MICROVM_STRING_TABLE(Boot, boot, BOOT, BOOT_LIST)

#define QEMU_MACHINE_LIST(X)                                                                                 \
    X(QEMU_MACHINE_MICROVM, "microvm")                                                                       \
    X(QEMU_MACHINE_Q35, "q35")                                                                               \
    X(QEMU_MACHINE_VIRT, "virt")
MICROVM_STRING_TABLE(QemuMachine, qemu_machine, QEMU_MACHINE, QEMU_MACHINE_LIST)

#define RESTART_POLICY_LIST(X)                                                                               \
    X(RESTART_NO, "no")                                                                                      \
    X(RESTART_ON_FAILURE, "on-failure")                                                                      \
    X(RESTART_ON_ABNORMAL, "on-abnormal")                                                                    \
    X(RESTART_ALWAYS, "always")
MICROVM_STRING_TABLE(RestartPolicy, restart_policy, RESTART_POLICY, RESTART_POLICY_LIST)

/* What follows a guest's own reboot or power-off. */
#define GUEST_END_LIST(X)                                                                                    \
    X(GUEST_END_STOP, "stop")                                                                                \
    X(GUEST_END_RESTART, "restart")
MICROVM_STRING_TABLE(GuestEnd, guest_end, GUEST_END, GUEST_END_LIST)

#define READINESS_TYPE_LIST(X)                                                                               \
    X(READINESS_NONE, "none")                                                                                \
    X(READINESS_AUTO, "auto")                                                                                \
    X(READINESS_NOTIFY, "notify")                                                                            \
    X(READINESS_CONSOLE, "console")                                                                          \
    X(READINESS_TCP, "tcp")                                                                                  \
    X(READINESS_HTTP, "http")                                                                                \
    X(READINESS_COMMAND, "command")
MICROVM_STRING_TABLE(ReadinessType, readiness_type, READINESS_TYPE, READINESS_TYPE_LIST)

#define ON_TIMEOUT_LIST(X)                                                                                   \
    X(ON_TIMEOUT_WAIT, "wait")                                                                               \
    X(ON_TIMEOUT_RESTART, "restart")                                                                         \
    X(ON_TIMEOUT_FAIL, "fail")
MICROVM_STRING_TABLE(OnTimeout, on_timeout, ON_TIMEOUT, ON_TIMEOUT_LIST)

#define WATCHDOG_LIST(X)                                                                                     \
    X(WATCHDOG_NONE, "none")                                                                                 \
    X(WATCHDOG_DEVICE, "device")                                                                             \
    X(WATCHDOG_NOTIFY, "notify")
MICROVM_STRING_TABLE(Watchdog, watchdog, WATCHDOG, WATCHDOG_LIST)

#define ON_PANIC_LIST(X)                                                                                     \
    X(ON_PANIC_RESTART, "restart")                                                                           \
    X(ON_PANIC_FAIL, "fail")
MICROVM_STRING_TABLE(OnPanic, on_panic, ON_PANIC, ON_PANIC_LIST)

#define STOP_ACTION_LIST(X)                                                                                  \
    X(STOP_ACTION_AGENT, "agent")                                                                            \
    X(STOP_ACTION_COMMAND, "command")                                                                        \
    X(STOP_ACTION_ACPI, "acpi")                                                                              \
    X(STOP_ACTION_CTRL_ALT_DEL, "ctrl-alt-del")                                                              \
    X(STOP_ACTION_TERM, "term")                                                                              \
    X(STOP_ACTION_KILL, "kill")
MICROVM_STRING_TABLE(StopAction, stop_action, STOP_ACTION, STOP_ACTION_LIST)

#define LOG_TARGET_LIST(X)                                                                                   \
    X(LOG_TARGET_FILE, "file")                                                                               \
    X(LOG_TARGET_JOURNAL, "journal")
MICROVM_STRING_TABLE(LogTarget, log_target, LOG_TARGET, LOG_TARGET_LIST)

#define IMAGE_TYPE_LIST(X)                                                                                   \
    X(IMAGE_RAW, "raw")                                                                                      \
    X(IMAGE_QCOW2, "qcow2")                                                                                  \
    X(IMAGE_VHD, "vhd")                                                                                      \
    X(IMAGE_VHDX, "vhdx")
MICROVM_STRING_TABLE(ImageType, image_type, IMAGE_TYPE, IMAGE_TYPE_LIST)

#define FS_TYPE_LIST(X)                                                                                      \
    X(FS_EXT4, "ext4")                                                                                       \
    X(FS_EXT3, "ext3")                                                                                       \
    X(FS_EXT2, "ext2")                                                                                       \
    X(FS_XFS, "xfs")                                                                                         \
    X(FS_BTRFS, "btrfs")                                                                                     \
    X(FS_F2FS, "f2fs")                                                                                       \
    X(FS_VFAT, "vfat")
MICROVM_STRING_TABLE(FsType, fs_type, FS_TYPE, FS_TYPE_LIST)

#define INTERFACE_TYPE_LIST(X)                                                                               \
    X(INTERFACE_USER, "user")                                                                                \
    X(INTERFACE_TAP, "tap")                                                                                  \
    X(INTERFACE_MACVTAP, "macvtap")                                                                          \
    X(INTERFACE_BRIDGE, "bridge")
MICROVM_STRING_TABLE(InterfaceType, interface_type, INTERFACE_TYPE, INTERFACE_TYPE_LIST)

#define MACVTAP_MODE_LIST(X)                                                                                 \
    X(MACVTAP_PRIVATE, "private")                                                                            \
    X(MACVTAP_VEPA, "vepa")                                                                                  \
    X(MACVTAP_BRIDGE, "bridge")                                                                              \
    X(MACVTAP_PASSTHRU, "passthru")                                                                          \
    X(MACVTAP_SOURCE, "source")
MICROVM_STRING_TABLE(MacvtapMode, macvtap_mode, MACVTAP_MODE, MACVTAP_MODE_LIST)

#define FORWARD_FROM_LIST(X)                                                                                 \
    X(FORWARD_FROM_HOST, "host")                                                                             \
    X(FORWARD_FROM_GUEST, "guest")
MICROVM_STRING_TABLE(ForwardFrom, forward_from, FORWARD_FROM, FORWARD_FROM_LIST)

#define FORWARD_PROTO_LIST(X)                                                                                \
    X(FORWARD_TCP, "tcp")                                                                                    \
    X(FORWARD_UDP, "udp")
MICROVM_STRING_TABLE(ForwardProto, forward_proto, FORWARD_PROTO, FORWARD_PROTO_LIST)

#define SHARE_PROTO_LIST(X)                                                                                  \
    X(SHARE_9P, "9p")                                                                                        \
    X(SHARE_VIRTIOFS, "virtiofs")
MICROVM_STRING_TABLE(ShareProto, share_proto, SHARE_PROTO, SHARE_PROTO_LIST)

#define SECURITY_MODEL_LIST(X)                                                                               \
    X(SECURITY_PASSTHROUGH, "passthrough")                                                                   \
    X(SECURITY_NONE, "none")                                                                                 \
    X(SECURITY_MAPPED, "mapped")                                                                             \
    X(SECURITY_MAPPED_FILE, "mapped-file")
MICROVM_STRING_TABLE(SecurityModel, security_model, SECURITY_MODEL, SECURITY_MODEL_LIST)

#define SHARE_CACHE_LIST(X)                                                                                  \
    X(SHARE_CACHE_AUTO, "auto")                                                                              \
    X(SHARE_CACHE_ALWAYS, "always")                                                                          \
    X(SHARE_CACHE_METADATA, "metadata")                                                                      \
    X(SHARE_CACHE_NEVER, "never")
MICROVM_STRING_TABLE(ShareCache, share_cache, SHARE_CACHE, SHARE_CACHE_LIST)

#define FILE_HANDLES_LIST(X)                                                                                 \
    X(FILE_HANDLES_NEVER, "never")                                                                           \
    X(FILE_HANDLES_PREFER, "prefer")                                                                         \
    X(FILE_HANDLES_MANDATORY, "mandatory")
MICROVM_STRING_TABLE(FileHandles, file_handles, FILE_HANDLES, FILE_HANDLES_LIST)

#define DEVICE_BUS_LIST(X)                                                                                   \
    X(DEVICE_PCI, "pci")                                                                                     \
    X(DEVICE_USB, "usb")
MICROVM_STRING_TABLE(DeviceBus, device_bus, DEVICE_BUS, DEVICE_BUS_LIST)

#define GRAPHICS_BACKEND_LIST(X)                                                                             \
    X(GRAPHICS_HEADLESS, "headless")                                                                         \
    X(GRAPHICS_GTK, "gtk")                                                                                   \
    X(GRAPHICS_COCOA, "cocoa")
MICROVM_STRING_TABLE(GraphicsBackend, graphics_backend, GRAPHICS_BACKEND, GRAPHICS_BACKEND_LIST)

#define DRIVE_IO_ENGINE_LIST(X)                                                                              \
    X(DRIVE_IO_ASYNC, "Async")                                                                               \
    X(DRIVE_IO_SYNC, "Sync")
MICROVM_STRING_TABLE(DriveIoEngine, drive_io_engine, DRIVE_IO_ENGINE, DRIVE_IO_ENGINE_LIST)

#endif
