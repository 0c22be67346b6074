/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Notes down what happens to a microVM, for those who ask later; reports what ended badly. */
#ifndef SUPERVISE_VM_PAST_H
#define SUPERVISE_VM_PAST_H

#include "supervise/crash-report.h"
#include "supervise/ending.h"
#include "supervise/vm.h"

/* Somebody asked for it: who calls (VmHost.caller), if anybody, else `by`. `whom`: of
 * MICROVM_ASKED_BY_DEPENDENCY, else NULL. The record is written by the door, soon after. */
void vm_note_asked(MicroVM *vm, MicrovmJobVerb verb, MicrovmAskedBy by, const char *whom);
/* Its hypervisor was sent a signal, as somebody asked. */
void vm_note_signal(MicroVM *vm, int signal);
/* The door has been passed. */
void vm_note_change(MicroVM *vm, MicrovmState before);
/* Its readiness is another one; `text` is the sentence about it. */
void vm_note_readiness(MicroVM *vm, const char *text);
/* What the driver says of the present run. */
void vm_note_driver_event(MicroVM *vm, const DriverEvent *event);
/* Its hypervisor runs: takes what only its process tells. */
void vm_note_process(MicroVM *vm);
/* A run, or a start, is over; `cause` END_MAX: it has not come to run. Reports it if it ended badly. */
void vm_note_end(MicroVM *vm, const Ending *ending, EndCause cause);

/* `rows` or `text` are valid during the call; error: negative errno. `done` is called in any case, unless an
 * error is returned. */
typedef void (*vm_crashes_fn)(int error, const CrashRows *rows, void *userdata);
typedef void (*vm_crash_fn)(int error, const char *text, void *userdata);
int vm_list_crashes(MicroVM *vm, vm_crashes_fn done, void *userdata);
int vm_get_crash(MicroVM *vm, uint64_t usec, vm_crash_fn done, void *userdata);

#endif
