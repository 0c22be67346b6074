/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Can a guest run on KVM here? */
#ifndef HOST_ACCEL_H
#define HOST_ACCEL_H

#include "host/user.h"
#include "spec/spec.h"

/* What decides; read by accel_facts_read(), made up by tests. */
typedef struct AccelFacts {
    bool device_exists; /* /dev/kvm */
    int device_error; /* negative errno when it can't be opened read-write by the hypervisor's user, else 0 */
    bool cpu_needs_flags; /* x86-64: vmx or svm must show */
    bool cpu_has_flags;
    uint64_t tsc_khz; /* x86: how fast the time stamp counter counts; 0: not known */
} AccelFacts;

/* Reads them (in a worker: it takes 20 ms) for a hypervisor that runs as `user` (with the supplementary
 * groups of the user database). */
void accel_facts_read(HostUser user, AccelFacts *ret_facts);

/* `device_error` alone. In a worker, too. */
int accel_device_error(HostUser user);

/*
 * Chooses for a definition that says `wanted`. `had_kvm`: this microVM has run under KVM before, so auto does
 * not fall back in silence. Returns 0 with *ret_accel ACCEL_KVM or ACCEL_TCG and a human sentence why, or
 * -ENODEV with the sentence that says what is missing and what to do. The sentence is the caller's.
 */
int accel_choose(Accel wanted, const AccelFacts *facts, bool had_kvm, Accel *ret_accel, char **ret_reason);

#endif
