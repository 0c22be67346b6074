/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hypervisor is a pure recipe: from a definition and what was prepared for it to the arguments of a process
 * and the descriptors that it is given. One file and one row each; the engine does everything else.
 */
#ifndef DRIVER_DIRECT_RECIPE_H
#define DRIVER_DIRECT_RECIPE_H

#include "driver/direct/command.h"
#include "driver/driver.h"

typedef struct Recipe {
    Hypervisor hypervisor;
    const char *program; /* looked for in the directories of $PATH; NULL: the first argument is a path */
    bool qmp; /* it serves QMP on DESCRIPTOR_CONTROL; else signals and the definition's own programs are all
                 there is */
    bool opens_images;   /* those of its volumes itself, by /dev/fd/N, so that they must be its user's */
    bool prints_console; /* its output is the console of the guest */
    CapabilitySet (*capabilities)(const VmSpec *spec);
    void (*check)(const VmSpec *spec, const Runner *runner, const TableReader *reader); /* as DriverOps' */
    /* Adds the arguments, program name included. -ENOMEM; -EINVAL: the check should have refused it. */
    int (*render)(const StartRequest *request, Command *command);
} Recipe;

/* NULL: nobody can run it. */
const Recipe *recipe_find(Hypervisor hypervisor);

extern const Recipe recipe_qemu, recipe_command;

#endif
