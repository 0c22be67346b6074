/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What runs hypervisors. One small interface; every result arrives as an event on the loop thread, never from
 * inside the call that asked. A run is one life of one microVM, named by its generation.
 */
#ifndef DRIVER_DRIVER_H
#define DRIVER_DRIVER_H

#include "base/problem.h"
#include "driver/qmp-command.h"
#include "host/accel.h"
#include "host/config.h"
#include "spec/loader.h"

#include <systemd/sd-event.h>
#include <systemd/sd-id128.h>

typedef struct Driver Driver;

/* In the runtime directory of a microVM: where its guest's own words come out, whoever runs it. */
#define NOTIFY_SOCKET "notify.sock"

/* Why a run is over, as far as the driver knows. The console text may refine it: see supervise/ending.h. */
#define END_CAUSE_LIST(X)                                                                                    \
    X(END_POWEROFF, "poweroff")   /* the guest switched itself off */                                        \
    X(END_REBOOT, "reboot")       /* the guest reset itself; the hypervisor ended instead of rebooting */    \
    X(END_SHUTDOWN, "shutdown")   /* the guest did one of the two; not known which */                        \
    X(END_PANIC, "panic")         /* the hypervisor was told of a guest panic */                             \
    X(END_WATCHDOG, "watchdog")   /* the guest did not feed its watchdog device */                           \
    X(END_DESTROYED, "destroyed") /* through the driver's API: by us if we asked, else by somebody else */   \
    X(END_ASKED, "asked")         /* the guest shut down after somebody else's API call (virsh shutdown) */  \
    X(END_TERMINATED, "terminated")     /* the hypervisor got SIGTERM, SIGINT or SIGHUP */                   \
    X(END_UNIT_STOPPED, "unit-stopped") /* somebody stopped its unit of systemd */                           \
    X(END_OOM, "oom")                   /* the kernel ended the hypervisor, for want of memory */            \
    X(END_EXITED, "exited")             /* the hypervisor gave up: its exit status says so */                \
    X(END_CRASHED, "crashed")           /* the hypervisor died */                                            \
    X(END_LOST, "lost")                 /* gone while nobody watched */
MICROVM_STRING_TABLE(EndCause, end_cause, END, END_CAUSE_LIST)

typedef enum DriverEventType {
    DRIVER_ONLINE,  /* it answers; FOUND for each run of ours follows, then SYNCED */
    DRIVER_OFFLINE, /* it does not answer (any more); `text` says why and what helps */
    DRIVER_FOUND,   /* a run of ours that is alive: `run` */
    DRIVER_SYNCED,  /* all of them were told; what was not FOUND is gone. Starts in flight at the time of an
                       OFFLINE get no STARTED or START_FAILED: FOUND or its absence tells */
    DRIVER_STARTED, /* `run` */
    DRIVER_START_FAILED, /* `error`, `text`; nothing of the run is left */
    DRIVER_PAUSED,       /* by us or by somebody else */
    DRIVER_RESUMED,
    DRIVER_MEMORY_SET,   /* the balloon was told; the guest follows as it can */
    DRIVER_MEMORY_IS,    /* the guest has `memory` bytes by now */
    DRIVER_ENDED,        /* `cause`, `text`; nothing of the run is left */
    DRIVER_HEARD,        /* the hypervisor said something, in `text`: for who asks later what happened */
    DRIVER_CALL_FAILED,  /* stop, pause, resume or memory could not be carried out: `error`, `text`; the run
                            goes on */
    DRIVER_STOP_REFUSED, /* who was to be asked by the step `action` of a stop is not there, or says no:
                            `text` */
} DriverEventType;

/* How its process ended, as far as the driver knows; for those who look into it. */
typedef struct EndDetails {
    int code, status;     /* as in siginfo_t: CLD_EXITED and others; code 0: not known */
    uint64_t memory_peak; /* bytes that it had at most; 0: not known */
    char unit_result[24]; /* of its unit, systemd.service(5), $SERVICE_RESULT; "": it had none */
} EndDetails;

/* A living run as the driver sees it. */
typedef struct DriverRun {
    pid_t pid;    /* of the hypervisor; 0: not known */
    pid_t helper; /* one of those that serve it, as virtiofsd; 0: not known, or none */
    bool paused;
    bool pause_unknown; /* of DRIVER_FOUND: PAUSED or RESUMED follows */
    bool starting;      /* of DRIVER_FOUND: STARTED, START_FAILED or ENDED follows */
    Accel accel;
    const char *unit; /* of systemd, that it is; NULL: none; valid as the event is */
} DriverRun;

typedef struct DriverEvent {
    DriverEventType type;
    const char *name; /* of the microVM; NULL for ONLINE, OFFLINE, SYNCED */
    sd_id128_t generation;
    int error;        /* negative errno */
    const char *text; /* one human sentence, or NULL */
    EndCause cause;
    StopAction action;  /* STOP_REFUSED */
    uint64_t memory;    /* MEMORY_IS */
    EndDetails details; /* ENDED, START_FAILED */
    char *const *argv;  /* START_FAILED: what was to be executed, if it came that far; NULL: not known */
    DriverRun run;
    uint64_t
        call_usec; /* STARTED: how long the hypervisor layer's own start call took (virDomainCreateXML) */
} DriverEvent;

/* Strings in the event are valid during the call only. */
typedef void (*driver_event_fn)(Driver *driver, const DriverEvent *event, void *userdata);

/* All that a start needs; borrowed during the call, the driver copies (the spec by reference). */
typedef struct StartRequest {
    VmSpec *spec;
    sd_id128_t generation;
    Accel accel;               /* ACCEL_KVM or ACCEL_TCG */
    const char *kernel;        /* private copies, which the driver may chown; NULL: boots from a disk */
    const char *initrd;        /* or NULL */
    const char *cmdline;       /* kernel command line */
    char *const *credentials;  /* private copies, too, in the order of the spec's; NULL: none */
    const char *console_log;   /* file that the serial console is logged to, appended */
    const char *state_dir;     /* of this microVM; relative images are in it */
    const bool *block_volumes; /* by volume: its image is a block device; NULL: none is */
    const HostUser *user;      /* whom the definition names to run it; NULL: nobody */
    /*
     * Where the guest's own words are to come out, if they come by a port of virtio-serial: a socket at which
     * the hypervisor listens, when it has room for the port; by AF_VSOCK they come to a port of the host.
     * NULL and 0: nobody wants to hear them. See driver/qemu-common.h.
     */
    const char *notify_socket;
    unsigned notify_vsock_port;
    /* The host's KVM refuses MSR 0x10a, with which the host's CPU would come: set by what runs a recipe. */
    bool no_arch_capabilities;
} StartRequest;

/*
 * What came of a command for QEMU: error 0: `json` is what it returned, JSON text. Else a negative errno with
 * a sentence: -EREMOTEIO ("CLASS: QEMU's own words"), -ETIMEDOUT, -EMSGSIZE, -ESRCH (it ended first)…
 */
typedef void (*driver_qmp_fn)(int error, const char *text, const char *json, void *userdata);

/*
 * All calls return 0 when accepted, or a negative errno at once: -EHOSTDOWN (driver away), -ESRCH (no such
 * run), -EBUSY (start: a run of that name is there), -ETIMEDOUT (an earlier call for this run is past its
 * deadline: only STOP_ACTION_TERM and STOP_ACTION_KILL are taken), -EINVAL, -EOPNOTSUPP, -ENOMEM. `name` and
 * `generation` name the run.
 */
typedef struct DriverOps {
    /* What it can do for a definition's hypervisor and machine. */
    CapabilitySet (*capabilities)(const VmSpec *spec);
    /* Tells what it can't do beside that: too many devices, combinations. */
    void (*check)(const VmSpec *spec, const Runner *runner, const TableReader *reader);
    int (*start)(Driver *driver, const StartRequest *request);
    /* Does one step of a stop, and may be asked to do it again. Of a run that is being launched the last two
     * end it as soon as it is there. */
    int (*stop)(Driver *driver, const char *name, sd_id128_t generation, StopAction action);
    int (*set_paused)(Driver *driver, const char *name, sd_id128_t generation, bool paused);
    /* How much of its memory the guest is to have from now on; the definition has a balloon. */
    int (*set_memory)(Driver *driver, const char *name, sd_id128_t generation, uint64_t bytes);
    /* Sends a signal to the hypervisor process itself. */
    int (*kill)(Driver *driver, const char *name, sd_id128_t generation, int signal);
    /* Opens the serial console: a non-blocking read-write descriptor in raw mode, the caller's. */
    int (*open_console)(Driver *driver, const char *name, sd_id128_t generation, int *ret_fd);
    /*
     * Sends a command of QEMU's machine protocol. `done` is called once, maybe from within, unless an error
     * is returned: -ENOTCONN (nobody can talk to it), -EOPNOTSUPP (it speaks something else), -EBUSY or
     * -ENOBUFS (too many wait). NULL: this driver does not talk to its hypervisors.
     */
    int (*qmp)(Driver *driver, const char *name, sd_id128_t generation, const QmpCommand *command,
               uint64_t timeout_usec, driver_qmp_fn done, void *userdata);
    /* What decides between KVM and TCG for hypervisors of this driver. */
    void (*accel_facts)(Driver *driver, AccelFacts *ret_facts);
    /* Forgets everything, ends its threads, leaves every microVM running. */
    Driver *(*free)(Driver *driver);
} DriverOps;

struct Driver {
    const DriverOps *ops;
    DriverKind kind;
    bool rotates_console;   /* it bounds the console log itself; else microvmd does */
    const char *output_log; /* in the state directory: what a hypervisor says itself, for microvmd to bound;
                               or NULL */
};

/* Where the driver was made from: one row each. */
typedef struct DriverSetup {
    sd_event *event;
    const HostConfig *config; /* valid during driver_new() only */
    const char *state_dir, *runtime_dir;
    driver_event_fn handler;
    void *userdata;
} DriverSetup;

/* Makes the driver and begins to connect; ONLINE or OFFLINE follows as an event. */
int driver_new(DriverKind kind, const DriverSetup *setup, Driver **ret_driver);
static inline Driver *driver_free(Driver *driver)
{
    return driver ? driver->ops->free(driver) : NULL;
}
DEFINE_CLEANUP(Driver *, driver_free)

/* driver_ops(kind)->capabilities and ->check work without a driver (microvmd --check). */
const DriverOps *driver_ops(DriverKind kind);

#endif
