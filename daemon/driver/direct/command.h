/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Arguments of a process in the making, and the descriptors that they name. */
#ifndef DRIVER_DIRECT_COMMAND_H
#define DRIVER_DIRECT_COMMAND_H

#include "base/macro.h"
#include "launch/handover.h"

#include <systemd/sd-id128.h>

/* What the engine opens for the process. */
typedef enum DescriptorKind {
    DESCRIPTOR_CONTROL, /* a listening UNIX stream socket, for the hypervisor's own protocol */
    DESCRIPTOR_CONSOLE, /* a listening UNIX stream socket, for the serial console */
    DESCRIPTOR_NOTIFY,  /* the same, for the guest's own words */
    DESCRIPTOR_AGENT,   /* the same, for its agent */
    DESCRIPTOR_VSOCK,   /* /dev/vhost-vsock */
    DESCRIPTOR_KERNEL,  /* the private copies of kernel and initrd, whose names are soon gone */
    DESCRIPTOR_INITRD,
    DESCRIPTOR_VOLUME, /* the image of volume `index`, read-only if the definition says so */
    DESCRIPTOR_TAP,    /* queue `index` % QUEUES_MAX of the tap device of interface `index` / QUEUES_MAX */
    DESCRIPTOR_SHARE,  /* a UNIX stream socket, connected to the virtiofsd of share `index` */
} DescriptorKind;

typedef struct Descriptor {
    DescriptorKind kind;
    size_t index;
} Descriptor;

enum {
    COMMAND_FIRST_FD = HANDOVER_FIRST_FD, /* descriptors[i] is number COMMAND_FIRST_FD + i in the process */
};

typedef struct Command {
    char **argv; /* ends with NULL */
    size_t n_arguments;
    char **environment; /* "NAME=value", beside what every process here has; ends with NULL */
    size_t n_environment;
    Descriptor *descriptors;
    size_t n_descriptors;
    bool arch_capabilities; /* it asks for them: see StartRequest.no_arch_capabilities */
    bool oom;
} Command;

void command_clear(Command *command);

/* One argument. Nothing from outside goes through the format but numbers. */
void command_add(Command *command, const char *format, ...) _printf_(2, 3);
/* One argument, taken as it is. */
void command_add_text(Command *command, const char *text);

/* One variable of its environment; `format` as above. */
void command_set(Command *command, const char *name, const char *format, ...) _printf_(3, 4);
void command_set_text(Command *command, const char *name, const char *value);
/* Says which run it is of: see launch/marked.h. */
void command_mark(Command *command, const char *runtime_dir, sd_id128_t generation);

/* Appends to the last argument: `format` as above; text as it is, structure and all; a value in QEMU's option
 * syntax. */
void command_put(Command *command, const char *format, ...) _printf_(2, 3);
void command_put_text(Command *command, const char *text);
void command_put_option(Command *command, const char *value);

/* The number that a descriptor will have in the process. The same one asked for again is the same number. */
int command_descriptor(Command *command, DescriptorKind kind, size_t index);

#endif
