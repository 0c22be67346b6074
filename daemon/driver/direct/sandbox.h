/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a hypervisor may do and see on the host, as properties of its systemd unit. */
#ifndef DRIVER_DIRECT_SANDBOX_H
#define DRIVER_DIRECT_SANDBOX_H

#include "launch/launch.h"
#include "spec/spec.h"

#include <sys/types.h>

#define NO_GROUP ((gid_t)-1)

/* The same device as /dev/kvm, for everybody to open who gets to see it: in a directory that only root enters
 * (units/tmpfiles). A hypervisor sees it as /dev/kvm, and needs no group for it. */
#define KVM_NODE "/dev/microvmd/kvm"

/* What is the same for all of them on this host. */
typedef struct SandboxHost {
    char *root;      /* directory of all sandboxes; NULL: there are none. It is set, the rest looked for */
    char *helper;    /* microvmd-exec, which executes hypervisors; NULL: nobody has looked yet */
    char **system;   /* see sandbox_root_make() */
    bool kvm_node;   /* there is KVM_NODE */
    gid_t kvm_group; /* which may open /dev/kvm; NO_GROUP: everybody, or nobody */
} SandboxHost;

/*
 * Makes the root directory of all sandboxes, unless it is there: empty, with links where the host has some
 * (/lib, which is in /usr). Returns in *ret_system, the caller's, the directories of the host that programs
 * and libraries are in: these are mounted there.
 */
int sandbox_root_make(const char *path, char ***ret_system);
/* Pure. Whether it is in one of them, or behind one of the links, of those that a host may have. */
bool sandbox_root_has(const char *path);

/* Looks for all that. Negative errno, with one sentence in *ret_text, the caller's. Blocks. */
int sandbox_host_look(SandboxHost *host, char **ret_text);
/* It is to be looked for again. */
void sandbox_host_forget(SandboxHost *host);
/* -ENOMEM */
int sandbox_host_copy(const SandboxHost *host, SandboxHost *ret_copy);
void sandbox_host_clear(SandboxHost *host);

typedef struct SandboxRequest {
    const VmSpec *spec;
    Accel accel; /* ACCEL_KVM or ACCEL_TCG */
    uid_t uid;   /* whom it runs as, with the group of that number */
    const SandboxHost *host;
    const char *program;     /* the hypervisor, absolute, as it is executed */
    const char *runtime_dir; /* of this microVM: its kernel, initrd and credentials are there */
    const char *console_log; /* file that it appends to, or NULL */
} SandboxRequest;

/* Pure. Whether it gets to /dev/kvm by host->kvm_group, for want of a sandbox with KVM_NODE in its place. */
bool sandbox_needs_kvm_group(const SandboxRequest *request);

/*
 * Pure. Adds User=, Group= and all that the sandbox consists of, and limits.*. A part that the definition
 * switches off by sandbox.* is left out. -ENOMEM.
 */
int sandbox_settings(const SandboxRequest *request, UnitSettings *settings);

#endif
