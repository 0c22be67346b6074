/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a definition means to QEMU, whoever runs it: decisions and rules, and QEMU's option syntax. Pure. */
#ifndef DRIVER_QEMU_COMMON_H
#define DRIVER_QEMU_COMMON_H

#include "driver/driver.h"

enum {
    /*
     * QEMU's machine "microvm" has 24 with ACPI, but a Linux guest that has a device in every one hangs
     * before its init says a word (seen with QEMU 7.2 and Linux 6.1, under TCG); with 23 it runs.
     */
    MMIO_SLOTS = 23,
    MMIO_SLOTS_WITHOUT_ACPI = 8,
    PCI_SLOTS = 24, /* below 32, of which the machine has some itself: what is offered unasked stays away */
    /* Hot-plugged memory comes in such; the least that works on transparent huge pages. */
    VIRTIO_MEM_BLOCK_MIB = 2,
    VIRTIOFS_QUEUE = 1024, /* what virtiofsd takes at most, and libvirt's manual recommends */
    QUEUES_MAX = 256,      /* of a tap device: MAX_TAP_QUEUES, include/linux/if_tun.h */
};

/* Whether devices are on PCI; else on virtio-mmio. */
bool qemu_has_pci(const VmSpec *spec);

/* What of stops of a guest the machine can do. */
CapabilitySet qemu_stop_capabilities(const VmSpec *spec);

/* Whether a keyboard controller is added, for ctrl-alt-del: "microvm" has none of its own, and gets one where
 * the definition's stop.steps want it, or there is no button. */
bool qemu_adds_keyboard(const VmSpec *spec);

/* Whether there is a port for the guest's agent: where a step of stop.steps asks it. Nobody is offered one
 * unasked: it takes a device, and most guests have no agent, for whom a stop would wait. */
bool qemu_has_agent(const VmSpec *spec);

/* Whether a USB device is passed through. */
bool qemu_has_usb(const VmSpec *spec);

/* Whether another process reads and writes the guest's memory. */
bool qemu_shares_memory(const VmSpec *spec);

/* QEMU's, and libvirt's, word for a format. */
const char *qemu_image_format(ImageType type);

/* How many queues a card has. */
uint64_t qemu_queues(const VmSpec *spec, const InterfaceSpec *interface);

/* The interface that ports are forwarded through: the first of type user. NULL: no port is. */
const InterfaceSpec *qemu_forwarding_interface(const VmSpec *spec);

/* A value in QEMU's option syntax, in which a comma is doubled (qemu(1)). The caller's; NULL: no memory. */
char *qemu_option_value(const char *value);

/* The definition's own value of an option of QEMU's machine; NULL: it has none. */
const char *qemu_machine_option(const VmSpec *spec, const char *name);

/* One option of a text in QEMU's syntax (qemu(1)): "name=value", or "name", which means "name=on". */
typedef struct QemuOption {
    char *name, *value;
} QemuOption;

void qemu_option_clear(QemuOption *option);
/* Takes the option that *at begins with, and moves *at on. 1: *ret_option is the caller's; 0: the text is
 * over; -EINVAL: there is no name; -ENOMEM. */
int qemu_option_take(const char **at, QemuOption *ret_option);

/* ",hostfwd=...,guestfwd=...": the forwarded ports as options of "-netdev user". As above. */
char *qemu_forwards(const VmSpec *spec);

typedef struct PciAddress {
    unsigned domain, bus, slot, function;
} PciAddress;

typedef struct UsbId {
    unsigned vendor, product;
} UsbId;

/* The path of a device in numbers. false: it has not that form. */
bool qemu_pci_address(const DeviceSpec *device, PciAddress *ret_address);
bool qemu_usb_id(const DeviceSpec *device, UsbId *ret_id);

/* The port of virtio-serial on which a guest speaks: /dev/virtio-ports/NAME in it; and that on which its
 * agent listens, qemu-ga(8), which libvirt knows by the name. */
#define NOTIFY_PORT_NAME "org.microvm1.notify.0"
#define AGENT_PORT_NAME  "org.qemu.guest_agent.0"
/* The credential that tells the guest's systemd where to speak by AF_VSOCK, systemd.system-credentials(7). */
#define NOTIFY_CREDENTIAL "vmm.notify_socket"

/* Its value, with the port: the host is CID 2 to its guests, vsock(7). */
#define NOTIFY_ADDRESS "vsock-stream:2:%u"

typedef enum NotifyWay {
    NOTIFY_NOT,
    NOTIFY_BY_PORT,
    NOTIFY_BY_VSOCK,
} NotifyWay;

/* How the words of its guest come out; NOTIFY_NOT: nobody wants them, or the machine has no room for the port
 * and the definition does not insist on it. `own_slots` as below. */
NotifyWay qemu_notify_way(const StartRequest *request, size_t own_slots);

/* How many ports the device virtio-serial has, that of a console, which comes first, among them; 0: there is
 * no such device. */
unsigned qemu_serial_ports(const VmSpec *spec, NotifyWay way);

/* What QEMU, and libvirt, is to do when the watchdog device expires. */
const char *qemu_watchdog_action(const VmSpec *spec);

/* Tells what no QEMU can do; `own_slots`: how many virtio-mmio slots the driver takes for devices of its own.
 */
void qemu_check(const VmSpec *spec, size_t own_slots, const Runner *runner, const TableReader *reader);

#endif
