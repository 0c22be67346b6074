/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a stop climbs, rung by rung: first the guest is asked, then the hypervisor ended. Pure. */
#ifndef SUPERVISE_STOP_LADDER_H
#define SUPERVISE_STOP_LADDER_H

#include "spec/capability.h"
#include "spec/spec.h"

enum {
    STOP_RUNGS_MAX = 8 + 2, /* those of stop.steps; SIGTERM and SIGKILL */
};

typedef struct StopRung {
    StopAction action;
    uint64_t timeout_usec;    /* how long it may take; of SIGKILL: until it is sent again */
    uint64_t since_boot_usec; /* when it was tried first, CLOCK_BOOTTIME; 0: not yet */
    bool asks;    /* the guest, or a hypervisor that has no other way; else it ends the hypervisor */
    bool refused; /* it said no, so that it was not waited for */
} StopRung;

typedef struct StopLadder {
    StopRung rungs[STOP_RUNGS_MAX];
    size_t n, at; /* n 0: there is none */
} StopLadder;

/*
 * The ladder of a definition (NULL: none is known), for what its driver `can`: the guest is asked for
 * `budget_usec` at most, by whatever is not named twice as long as the budget allows. SIGKILL is the last.
 */
void stop_ladder_make(const VmSpec *spec, CapabilitySet can, uint64_t budget_usec, StopLadder *ret_ladder);

/* From now on the hypervisor is ended: cuts what was not tried off, and puts SIGTERM and SIGKILL there. */
void stop_ladder_force(StopLadder *ladder);

/* The rung to be tried, or being tried; NULL: there is no ladder. */
const StopRung *stop_ladder_rung(const StopLadder *ladder);
/* Whether that ends the hypervisor, so that nobody asks the guest any more. */
bool stop_ladder_forces(const StopLadder *ladder);
/* Whether it is being tried. */
bool stop_ladder_is_tried(const StopLadder *ladder);
/* Notes that it is tried now, if that is not on record. */
void stop_ladder_try(StopLadder *ladder, uint64_t now_boot_usec);
/* When its time is over. */
uint64_t stop_ladder_due(const StopLadder *ladder);
/* Notes that who is asked by the present rung says no. false: it is not `action`, or has not been tried. */
bool stop_ladder_refuse(StopLadder *ladder, StopAction action);
/* Goes on to the next rung and notes that it is tried. false: there is none. */
bool stop_ladder_climb(StopLadder *ladder, uint64_t now_boot_usec);

/*
 * For people, the caller's: "ctrl-alt-del ended it after 2.1 s; the power button had not for 10 s", or while
 * it goes on, "trying ctrl-alt-del; the power button has not helped for 10 s". NULL: nothing was tried.
 */
char *stop_ladder_tell_end(const StopLadder *ladder, uint64_t now_boot_usec);
char *stop_ladder_tell(const StopLadder *ladder);

#endif
