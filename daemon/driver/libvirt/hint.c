/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What helps against failures that libvirt and QEMU only name. */
#include "driver/libvirt/internal.h"

static const struct {
    const char *words; /* in the message */
    const char *hint;
} hints[] = {
    /* QEMU, block/file-posix.c */
    {"Failed to get \"write\" lock", "another process has this image open: is it used by a second microVM?"},
    /* QEMU, net/slirp.c */
    {"Could not set up host forwarding rule", "another process listens on that port of the host"},
    /* QEMU, accel/kvm/kvm-all.c */
    {"Could not access KVM kernel module",
     "the user that runs QEMU can't use /dev/kvm; \"accel\": \"tcg\" needs none"},
    {"failed to set MSR",
     "this host's KVM can't give the guest the CPU of the host; \"accel\": \"tcg\" needs no KVM"},
    /* QEMU, util/oslib-posix.c and softmmu/physmem.c */
    {"Cannot allocate memory",
     "the host has too little free memory: make \"mem\" smaller or stop another microVM"},
    {"cannot set up guest memory",
     "the host has too little free memory: make \"mem\" smaller or stop another microVM"},
    /* libvirt, logging/log_manager.c */
    {"virtlogd-sock", "libvirt's log daemon does not run: systemctl start virtlogd.socket"},
    {"could not find capabilities for", "QEMU is not installed (Debian: apt install qemu-system-x86)"},
    {"does not support machine type", "this QEMU lacks that machine (Debian: apt install qemu-system-x86)"},
    /* libvirt, qemu/qemu_interface.c, util/virnetdev.c, qemu/qemu_process.c, conf/domain_validate.c */
    {"Cannot get interface MTU", "the host has no bridge or card of that name"},
    {"/dev/net/tun", "the host's kernel has no tap devices: modprobe tun"},
    {"vhost-net was requested",
     "the host's kernel does not do that: modprobe vhost_net, or remove \"vhost\""},
    {"unable to open vhost-vsock device", "the host's kernel does not do that: modprobe vhost_vsock"},
    {"hugetlbfs filesystem is not mounted",
     "the host gives no huge pages: mount /dev/hugepages and set vm.nr_hugepages, or remove \"hugepageMem\""},
    {"is required for scheduler tuning", "this libvirt has no control group to set \"limits\" in"},
    {"unable to find a satisfying virtiofsd", "virtiofsd is not installed (Debian: apt install virtiofsd)"},
    {"host doesn't support passthrough",
     "PCI devices can be passed through where the host has an IOMMU, and it "
     "is switched on: intel_iommu=on or amd_iommu=on on the host's kernel command line"},
    /* Its directory for each domain is below one of its group's, whoever runs QEMU. */
    {"master-key.aes",
     "\"user\" must be in the group of libvirt's own directory: usermod -aG libvirt-qemu USER, on Debian"},
    {"Permission denied",
     "the user that runs QEMU must be able to open it; microvmd changes no owner or mode of files "
     "outside its state directory"},
};

const char *start_hint(const char *message)
{
    for (size_t i = 0; message && i < ELEMENTSOF(hints); i++)
        if (strstr(message, hints[i].words))
            return hints[i].hint;
    return NULL;
}
