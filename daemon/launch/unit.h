/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The transient services of systemd that hypervisors are: microvmd-vm@NAME.service in microvmd.slice. With
 * RemainAfterExit= one that has ended stays until it was read how. It carries the generation of its run in
 * its environment; a unit of that name without one is somebody else's, and never touched. Blocks, as
 * launch.h.
 */
#ifndef LAUNCH_UNIT_H
#define LAUNCH_UNIT_H

#include "launch/launch.h"
#include "microvm/names.h"

enum {
    UNIT_NAME_SIZE = MICROVM_NAME_MAX + 32,
};

/* That of a microVM. */
void unit_name(const char *microvm, char ret_name[static UNIT_NAME_SIZE]);

/* What is left of a unit whose process has ended. */
typedef enum UnitLeft {
    UNIT_LEFT_NOTHING,
    UNIT_LEFT_EXITED,
    UNIT_LEFT_FAILED,
} UnitLeft;

/*
 * How the process of a run ended, which it has: waits until systemd knows it, for some seconds at most.
 * -ETIMEDOUT: it does not get to know it; -EHOSTDOWN and others: it can't be asked.
 */
int unit_end(const char *microvm, sd_id128_t invocation, ProcessEnd *ret_end, UnitLeft *ret_left);
/* The most memory that its control group has had so far, in bytes, while that is there; 0: not known. */
uint64_t unit_memory_peak(const char *microvm);
/* Takes away what was found to be left. */
void unit_forget(const char *microvm, UnitLeft left);

/* Sends SIGKILL to all processes of a unit: of this invocation, whatever has its name by then. */
int unit_kill(sd_id128_t invocation);

typedef void (*unit_fn)(const char *unit, const char *microvm, void *userdata);

/* Calls `each` for all units that are called as ours are; whether one is, its generation tells. */
int unit_each(unit_fn each, void *userdata, char **ret_text);

/* Takes away all that are ours and have ended, but for those of microVMs that are `known`. */
void unit_forget_others(bool (*known)(const char *microvm, void *userdata), void *userdata);

/* --- pure --- */

/* What systemd tells of a unit; its words are in org.freedesktop.systemd1(5). */
typedef struct UnitLook {
    bool loaded;                       /* there is such a unit */
    sd_id128_t invocation, generation; /* null: none */
    char load[24], active[24], sub[24], result[24];
    char fragment[256]; /* its file */
    int32_t code, status;
    uint32_t job;         /* that waits for it; 0: none */
    uint64_t leave_usec;  /* when it was last no longer active; 0: it has always been */
    uint64_t exit_usec;   /* when its process ended */
    uint64_t memory_peak; /* bytes; 0 or UINT64_MAX: not known, as with a systemd before 254 */
} UnitLook;

/* Whether its process has ended and nothing follows. */
bool unit_is_over(const UnitLook *look);
/* How the run of that invocation ended, if it has. */
ProcessEnd unit_end_of(const UnitLook *look, sd_id128_t invocation);
UnitLeft unit_left_of(const UnitLook *look);

#endif
