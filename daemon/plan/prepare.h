/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is to be done before a hypervisor can start: made as a plan (pure), then run (blocks, in a worker). */
#ifndef PLAN_PREPARE_H
#define PLAN_PREPARE_H

#include "base/file.h"
#include "host/user.h"
#include "spec/spec.h"

typedef enum StepKind {
    STEP_DIRECTORY, /* to */
    STEP_NEW_BOOT,  /* to: the state directory, whose console logs move on by one boot */
    STEP_VOLUME,    /* to: path of the image; volume */
    STEP_COPY,      /* from, to: a private copy, because libvirt changes the owner of what it is given, and
                       the user that runs the hypervisor may not be able to read the original */
    STEP_USER,      /* from: the name of the user that runs the hypervisor, who must exist */
    STEP_BOOT_FILE, /* the same of a kernel or initrd, which may have been made ahead */
} StepKind;

typedef struct Step {
    StepKind kind;
    const char *what; /* for messages: "kernel", "initrd" */
    char *from, *to;
    const VolumeSpec *volume;
    mode_t mode;
} Step;

typedef struct Plan {
    VmSpec *spec;
    char *state_dir, *runtime_dir; /* of this microVM */
    char *spare_dir;               /* copies of kernels and initrds made ahead, for all microVMs */
    Step *steps;
    size_t n_steps;
} Plan;

/* `runtime_dir` and `spare_dir` must be on one file system. */
int plan_new(VmSpec *spec, const char *state_dir, const char *runtime_dir, const char *spare_dir,
             Plan **ret_plan);
Plan *plan_free(Plan *plan);
DEFINE_CLEANUP(Plan *, plan_free)

/* The user that the definition names to run the hypervisor. */
typedef struct RunUser {
    bool named;
    HostUser ids;
    int kvm_error; /* why it can't open /dev/kvm: negative errno, or 0 */
} RunUser;

/* What is known after it. */
typedef struct PlanResult {
    bool had_kvm;             /* remembered of earlier runs */
    FileStamp kernel, initrd; /* what was copied */
    RunUser user;
    bool *block_volumes; /* by volume: it is a block device; the caller's. NULL: none is */
} PlanResult;

/*
 * Runs the steps in order; each is idempotent. After a failure what must not stay is undone, in reverse.
 * Errors: negative errno, with the sentence.
 */
int plan_run(const Plan *plan, PlanResult *ret_result, char **ret_error);

/*
 * Whether plan_run() would find what it needs: boot files and credentials that can be read, volumes that are
 * there or to be made. Changes nothing. Errors as plan_run(); nothing of *ret_result was copied.
 */
int plan_check(const Plan *plan, PlanResult *ret_result, char **ret_error);

/* Where the private copy of a credential is; NULL: out of memory. */
char *credential_copy_path(const char *runtime_dir, const char *name);

/* Removes what a run leaves in its runtime directory once the hypervisor has read it, or never will. */
void plan_undo(const Plan *plan);

/* Makes spare copies for the next start of the kind; one that can't be made is copied at that start. Blocks.
 */
void plan_stock_up(const Plan *plan);

/*
 * Kernel command line: the defaults (console= where there is a serial one: ttyS0, of "virt" ttyAMA0), root=
 * where there is a volume and nothing else says it, the definition's own. `emulated_tsc_khz`: not 0 under TCG
 * on x86. Linux is then told how fast the time stamp counter counts, because on QEMU's machine "microvm"
 * nothing but that counter can start its timer tick (hardware-reduced ACPI: no legacy interrupts), and
 * measuring it fails on a busy host: the guest would hang before its first tick.
 */
char *kernel_command_line(const VmSpec *spec, uint64_t emulated_tsc_khz);

#endif
