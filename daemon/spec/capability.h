/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a definition can ask for that not everyone can give. A row of the spec table names the capability that
 * its key takes; a driver says which ones it has for a given hypervisor and machine; what is asked for and
 * not there is refused at load, never ignored.
 */
#ifndef SPEC_CAPABILITY_H
#define SPEC_CAPABILITY_H

#include "base/macro.h"

#define WITH_PCI             "set \"qemu\": { \"machine\": \"q35\" }"
#define WITH_NOBODY          "no driver of this version can with this hypervisor; remove the key"
#define WITH_QEMU_SO_FAR     "a later version of microvmd will; until then there is \"qemu\""
#define WITH_A_LATER_VERSION "a later version of microvmd will; remove the key until then"

#define WITH_UNITS                                                                                           \
    "systemd can, for the driver \"direct\", where it starts the hypervisors (microvmd --launcher)"

/* constant, what it is, what helps where none of the drivers can do it */
#define CAPABILITY_LIST(X)                                                                                   \
    X(CAP_NONE, "", "")                                                                                      \
    X(CAP_QEMU, "running QEMU", WITH_NOBODY)                                                                 \
    X(CAP_CLOUD_HYPERVISOR, "running cloud-hypervisor", WITH_QEMU_SO_FAR)                                    \
    X(CAP_FIRECRACKER, "running Firecracker", WITH_QEMU_SO_FAR)                                              \
    X(CAP_CROSVM, "running crosvm", WITH_QEMU_SO_FAR)                                                        \
    X(CAP_KVMTOOL, "running kvmtool", WITH_QEMU_SO_FAR)                                                      \
    X(CAP_STRATOVIRT, "running stratovirt", WITH_QEMU_SO_FAR)                                                \
    X(CAP_ALIOTH, "running alioth", WITH_QEMU_SO_FAR)                                                        \
    X(CAP_VFKIT, "running vfkit", "it runs on macOS only; a Linux host has \"qemu\"")                        \
    X(CAP_COMMAND, "running a command", WITH_NOBODY)                                                         \
    X(CAP_MACHINE_MICROVM, "the machine \"microvm\"", "it is for x86-64 hosts; use \"virt\" here")           \
    X(CAP_MACHINE_Q35, "the machine \"q35\"", "it is for x86-64 hosts; use \"virt\" here")                   \
    X(CAP_MACHINE_VIRT, "the machine \"virt\"", "it is for aarch64 hosts; use \"microvm\" or \"q35\" here")  \
    X(CAP_DISK_BOOT, "booting from a disk by firmware", WITH_PCI)                                            \
    X(CAP_CPU_MODEL, "a CPU model", WITH_NOBODY)                                                             \
    X(CAP_HUGEPAGES, "huge pages behind guest memory", WITH_NOBODY)                                          \
    X(CAP_MEMORY_HOTPLUG, "adding memory by virtio-mem", WITH_PCI)                                           \
    X(CAP_BALLOON, "a memory balloon", WITH_NOBODY)                                                          \
    X(CAP_IMAGE_FORMATS, "images that are not raw", "convert it: qemu-img convert -O raw")                   \
    X(CAP_IMAGE_VHDX, "images in the format \"vhdx\"", "convert it: qemu-img convert -O qcow2")              \
    X(CAP_DIRECT_IO, "disks without the host's page cache", WITH_NOBODY)                                     \
    X(CAP_DISK_SERIAL, "serial numbers of disks", WITH_NOBODY)                                               \
    X(CAP_NET_USER, "interfaces of type \"user\"", "QEMU can")                                               \
    X(CAP_NET_TAP, "interfaces of type \"tap\"", WITH_NOBODY)                                                \
    X(CAP_NET_BRIDGE, "interfaces of type \"bridge\"", WITH_NOBODY)                                          \
    X(CAP_NET_MACVTAP, "interfaces of type \"macvtap\"", WITH_NOBODY)                                        \
    X(CAP_MACVTAP_SOURCE, "the macvtap mode \"source\"", WITH_A_LATER_VERSION)                               \
    X(CAP_VHOST_NET, "vhost-net", WITH_NOBODY)                                                               \
    X(CAP_SHARE_9P, "shares by 9p", "use \"proto\": \"virtiofs\" or QEMU")                                   \
    X(CAP_9P_MAPPED_FILE, "the security model \"mapped-file\"", "\"mapped\" keeps the same in attributes")   \
    X(CAP_SHARE_VIRTIOFS, "shares by virtiofs", WITH_NOBODY)                                                 \
    X(CAP_VIRTIOFS_READ_ONLY, "read-only shares by virtiofs", "9p can, or mount it read-only in the guest")  \
    X(CAP_VIRTIOFS_CACHE, "this cache mode of virtiofsd", "\"auto\", \"always\" and \"never\" are possible") \
    X(CAP_VIRTIOFSD_OPTIONS, "these options of virtiofsd", WITH_A_LATER_VERSION)                             \
    X(CAP_VIRTIOFSD_THREADS, "choosing the number of virtiofsd's threads", WITH_NOBODY)                      \
    X(CAP_DEVICE_PCI, "passing a PCI device through", WITH_PCI)                                              \
    X(CAP_DEVICE_USB, "passing a USB device through", WITH_PCI)                                              \
    X(CAP_DEVICE_PLACEMENT, "choosing id and bus of a device", WITH_PCI)                                     \
    X(CAP_DEVICE_OPTIONS, "options of a device", WITH_PCI)                                                   \
    X(CAP_VSOCK, "a vsock device", WITH_NOBODY)                                                              \
    X(CAP_CREDENTIALS, "credentials by fw_cfg", "QEMU can")                                                  \
    X(CAP_GRAPHICS, "a display", WITH_PCI)                                                                   \
    X(CAP_GRAPHICS_WINDOW, "a display in a window",                                                          \
      "a service has no screen; use \"backend\": \"headless\"")                                              \
    X(CAP_GRAPHICS_SHARED, "Vulkan and what a display's helper shares", WITH_A_LATER_VERSION)                \
    X(CAP_QEMU_MACHINE_OPTIONS, "options of QEMU's machine", WITH_NOBODY)                                    \
    X(CAP_QEMU_ARGUMENTS, "more arguments of QEMU", WITH_NOBODY)                                             \
    X(CAP_PCIE_ROOT_PORTS, "PCIe root ports of one's own", WITH_PCI)                                         \
    X(CAP_NO_CONSOLE, "a guest without a serial console", WITH_NOBODY)                                       \
    X(CAP_HYPERVISOR_OPTIONS, "options of this hypervisor", WITH_A_LATER_VERSION)                            \
    X(CAP_HOST_SCRIPTS, "scripts that run on the host before a start", WITH_A_LATER_VERSION)                 \
    X(CAP_MACHINED, "registering with systemd-machined", WITH_A_LATER_VERSION)                               \
    X(CAP_USER, "choosing the user that runs the hypervisor", WITH_NOBODY)                                   \
    X(CAP_CONTROL_SOCKET, "a control socket at a path of one's own", WITH_NOBODY)                            \
    X(CAP_PROCESS_NAME, "naming the hypervisor's process", WITH_A_LATER_VERSION)                             \
    X(CAP_CPU_QUOTA, "a limit of processor time", WITH_UNITS)                                                \
    X(CAP_CPU_AFFINITY, "binding to processors", WITH_UNITS)                                                 \
    X(CAP_MEMORY_MAX, "a limit of the hypervisor's memory", WITH_UNITS)                                      \
    X(CAP_IO_WEIGHT, "a weight of disk access", WITH_UNITS)                                                  \
    X(CAP_TASKS_MAX, "a limit of tasks", WITH_UNITS)                                                         \
    X(CAP_SANDBOX, "loosening the sandbox", "libvirt's is its own: see security_driver in its qemu.conf")    \
    X(CAP_CONSOLE_JOURNAL, "a console log in the journal", WITH_NOBODY)                                      \
    X(CAP_NOTIFY, "hearing the guest's own words", WITH_QEMU_SO_FAR)                                         \
    X(CAP_WATCHDOG, "a watchdog device", WITH_PCI " or \"type\": \"notify\"")                                \
    X(CAP_STOP_AGENT, "a stop by an agent in the guest", "QEMU can")                                         \
    X(CAP_STOP_COMMAND, "a stop by a program of one's own", "it is for the hypervisor \"command\"")          \
    X(CAP_STOP_BUTTON, "a power button", "with QEMU's option acpi=off there is none")                        \
    X(CAP_STOP_KEYS, "a keyboard for ctrl-alt-del", "QEMU's machines for x86-64 have one")

#define CAPABILITY_CONSTANT(constant, what, who) constant,
typedef enum Capability {
    CAPABILITY_LIST(CAPABILITY_CONSTANT) CAPABILITY_MAX
} Capability;
_Static_assert(CAPABILITY_MAX <= 128, "a CapabilitySet holds 128");

typedef unsigned __int128 CapabilitySet;
#define CAPABILITY(capability) ((CapabilitySet)1 << (capability))

/* What helps who lacks it. */
const char *capability_hint(Capability capability);

#endif
