/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What must be known of a microVM after the daemon was restarted, in its runtime directory (gone with a
 * reboot). Written by the one door for state changes, before the driver is asked to act on it.
 */
#ifndef SUPERVISE_RECORD_H
#define SUPERVISE_RECORD_H

#include "resource/boot-files.h"
#include "supervise/guest-words.h"
#include "supervise/past.h"
#include "supervise/readiness.h"
#include "supervise/restart.h"
#include "supervise/stop-ladder.h"

#include <systemd/sd-id128.h>

/* That microvmd itself ends a run, as a failure: not because somebody asked. All zeros: it does not. */
typedef struct Condemned {
    MicrovmResult result; /* that the run is to have */
    bool for_good;        /* whatever the restart policy says */
    char *text;           /* why: one sentence without its full stop */
} Condemned;

/* Times: *_usec since the epoch, *_boot_usec of CLOCK_BOOTTIME; 0: none. */
typedef struct VmRecord {
    MicrovmState state;
    char *reason;
    uint64_t state_usec;
    MicrovmResult result;
    MicrovmLastStop last_stop;
    DriverKind driver;
    sd_id128_t generation; /* of the run; null: none */
    Accel accel;           /* ACCEL_AUTO: has not run */
    char *accel_reason;
    uint64_t start_usec, start_boot_usec;
    uint64_t next_restart_boot_usec;
    uint64_t stop_deadline_boot_usec;
    StopAsked stop_asked;
    StopLadder stop; /* that it climbs while it is stopping */
    bool again;      /* starts again when it has stopped */
    bool stop_held;  /* a stop was accepted; its guest is asked when those before it have stopped */
    uint64_t held_boot_usec, held_timeout_usec; /* since when, and the time that it gives; UINT64_MAX: none */
    bool held_is_budget;                        /* which runs from then on, and is all that there is */
    uint64_t n_restarts;
    RestartHistory history;
    char *definition; /* that the run was started with, as JSON; NULL: none */
    char *fallback;   /* that starts go by instead of the definition, after a roll-back; NULL: none */
    BootFiles files;  /* that the run was started with */
    bool decided;     /* somebody has started or stopped it in this boot: to apply it is not new */
    VmPast past;      /* who asked, how it ended, what happened */
    bool wanted;      /* it was started last, by whomever, and neither stopped since nor off by itself */

    /* of the run */
    Readiness readiness;
    Condemned condemned;
    bool keeps_alive; /* the guest has begun to say that it lives, and is to go on */
    GuestWords words; /* what was heard of it */
    char *trouble;    /* that the guest is in, and goes on with: one sentence; NULL: none */
    bool hangs;       /* that it hangs was told */
    uint64_t memory;  /* bytes that the guest has by now, as its balloon tells; 0: it has not told */
} VmRecord;

void vm_record_clear(VmRecord *record);
void condemned_clear(Condemned *condemned);

/* Replaces the file at `path`, atomically. Its directory must exist. */
int vm_record_write(const char *path, const char *name, const VmRecord *record);

/*
 * Reads it. Keys that this version does not know are left alone, so that a record of the next one does no
 * harm. -ENOENT: none. -EBADMSG: not a record; the caller treats it as none and says so.
 */
int vm_record_read(const char *path, VmRecord *ret_record);

#endif
