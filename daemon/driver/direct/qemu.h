/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside QEMU's recipe. */
#ifndef DRIVER_DIRECT_QEMU_H
#define DRIVER_DIRECT_QEMU_H

#include "driver/direct/command.h"
#include "driver/driver.h"

typedef struct Rendering {
    const StartRequest *request;
    const VmSpec *spec; /* the request's */
    Command *command;
    bool invalid; /* something was asked for that the check refuses */
} Rendering;

/*
 * qemu.c: "-object" of `size_mib` of guest memory. Where another process is to see it, or it is of huge
 * pages, it comes from a memfd.
 */
void qemu_put_memory(Rendering *r, const char *id, uint64_t size_mib);

enum {
    OWN_SLOTS = 1, /* the source of random numbers */
};

/* qemu-devices.c: volumes, network cards, shares and the rest. */
void qemu_put_devices(Rendering *r);

#endif
