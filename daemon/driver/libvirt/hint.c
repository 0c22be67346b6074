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
    {"does not support machine type",
     "this QEMU has no machine \"microvm\" (Debian: apt install qemu-system-x86)"},
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
