/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One microVM under supervision. Everything here happens on the loop thread. State changes go through one
 * door, vm_event(); what may block is done by workers and drivers, which answer with events.
 */
#ifndef SUPERVISE_VM_H
#define SUPERVISE_VM_H

#include "base/worker.h"
#include "driver/driver.h"
#include "plan/prepare.h"
#include "supervise/console.h"
#include "supervise/record.h"
#include "supervise/state.h"

typedef struct MicroVM MicroVM;
typedef struct VmLogs VmLogs;
typedef struct VmReadiness VmReadiness;
typedef struct VmNotify VmNotify;
typedef struct Handle Handle; /* of the bus layer */

typedef struct Job {
    uint64_t id; /* 0: none */
    MicrovmJobVerb verb;
} Job;

/* What a microVM needs of those above it. */
typedef struct VmHost {
    sd_event *event;
    Workers *files;        /* for file work */
    const char *state_dir; /* of all: STATE_DIR/vm/NAME is one's own */
    const char *runtime_dir;
    const char *spare_dir; /* see plan_new() */
    const char *uid_dir;   /* see launch/uid.h */
    uid_t first_uid;
    uint64_t ask_again_usec;    /* a guest that was asked to shut down is asked again after this */
    unsigned notify_vsock_port; /* at which guests are heard by AF_VSOCK; 0: they are not */
    uint64_t last_job_id;
    const Caller *caller; /* on whose behalf something is asked for now; NULL: nobody's */
    /*
     * May this start go on? 1: yes. 0: it is held, *ret_reason and MicroVM.held_by say by what; vm_admit() is
     * called again when that may have changed. Negative errno: it can't be, *ret_reason says why.
     */
    int (*admit)(MicroVM *vm, char **ret_reason, void *userdata);
    void (*changed)(MicroVM *vm, void *userdata); /* something that is shown changed */
    void (*job_removed)(MicroVM *vm, Job job, MicrovmJobResult result, const char *reason, void *userdata);
    void *userdata;
} VmHost;

/* Called when what was asked for has been done or has failed (error: negative errno, text may be NULL). */
typedef void (*vm_done_fn)(int error, const char *text, void *userdata);

typedef struct StopOptions {
    bool force;
    bool held;              /* while it runs, its guest is not asked before vm_release_stop() */
    uint64_t timeout_usec;  /* UINT64_MAX: the definition's */
    bool timeout_is_budget; /* it only shortens the definition's */
} StopOptions;

/* What is seen of a hypervisor while it lives, for the report of its end. */
typedef struct ProcessSeen {
    pid_t pid;
    char *unit, *command; /* arguments, each ended by NUL */
    size_t command_size;
    uint64_t memory; /* the most, so far, in bytes; 0: not known */
    EndDetails end;
} ProcessSeen;

struct MicroVM {
    VmHost *host;
    char *name;
    char *object_path; /* set and used by the bus layer, as bus_dirty */
    bool bus_dirty;    /* its properties changed and that was not told yet */
    Handle *handle;    /* set, used and freed by the bus layer */
    bool enabled;      /* its handle is, so that it starts with the host */
    char *rival_unit;  /* of MicroVM.nix, that runs one of this name; NULL: none */
    char *state_dir, *runtime_dir, *record_path;

    VmSpec *spec;            /* what its definition says now; NULL: none, or a broken one */
    char *definition_error;  /* why the definition can't be used; NULL: it can, or there is none */
    char *definition_path;   /* NULL: undeclared */
    char *former_path;       /* where the definition was before it went; NULL: it is there, or not known */
    VmSpec *booted;          /* what the present run was started with, but for what apply made live */
    VmSpec *fallback;        /* what starts go by instead of `spec`, after a roll-back; NULL: none */
    unsigned outdated;       /* OUTDATED() bits of the present run */
    unsigned outdated_files; /* those of them that are about files, as was seen last */

    Driver *driver; /* of the present run, or of the next; NULL until known */
    bool driver_online;
    char *driver_reason; /* why it is not online */
    bool found;          /* by the driver since it came online */

    bool unlearns; /* when it is gone, it is not remembered what was decided of it in this boot */
    VmRecord record;
    Job job;
    MicrovmHold held_by;    /* while it is waiting */
    bool pulls_in;          /* the start was asked for, or is an autostart: requires and wants come with it */
    pid_t pid;              /* of the hypervisor; 0: none */
    char *unit;             /* of systemd, that it is; NULL: none */
    Job ready_job;          /* a start or restart that is done when the guest is ready */
    VmReadiness *readiness; /* what looks for it in the present run; NULL: nothing does */
    VmNotify *notify;       /* what hears the guest of the present run */
    char *readiness_detail; /* what the last try came to, or NULL */
    char *readiness_reason; /* one sentence for people; NULL or empty: nothing is claimed */
    char *status_text;      /* what the guest says of itself, or NULL */
    bool had_kvm;
    RunUser user;        /* of the start that was prepared last */
    bool *block_volumes; /* likewise: see PlanResult */
    bool settling;       /* the run is over; its console may have more to say */
    ProcessSeen seen;
    unsigned chores; /* cleaning that workers still do */
    EndCause end_cause;
    uint64_t end_boot_usec;
    char *end_text;
    uint64_t launch_usec;   /* of the start request, for the log */
    uint64_t prepared_usec; /* when its driver was asked, likewise */
    sd_event_source *stop_timer, *restart_timer, *settle_timer;
    sd_event_source *save_timer; /* the record could not be written; NULL: it is what it says */
    Console *console;
    VmLogs *logs; /* of the present run */
    struct {
        vm_done_fn done; /* NULL: nobody waits */
        void *userdata;
        DriverEventType event; /* which the driver answers with */
    } waiter;
};

/* `name` must be valid. The record of an earlier daemon is read, if there is one. */
int vm_new(VmHost *host, const char *name, MicroVM **ret_vm);
MicroVM *vm_free(MicroVM *vm);
DEFINE_CLEANUP(MicroVM *, vm_free)

/* Takes over a new definition (a reference is taken), or its absence (NULL), or that it is broken (`error`).
 */
void vm_set_definition(MicroVM *vm, VmSpec *spec, const char *path, const char *error);

/* What files were found to be another one than the present run was started with: OUTDATED() bits. */
void vm_set_outdated_files(MicroVM *vm, unsigned outdated);

/* A unit of MicroVM.nix of its name, that runs or is about to; NULL: none. */
void vm_set_rival(MicroVM *vm, const char *unit);
/* Whether its handle is enabled. */
void vm_set_enabled(MicroVM *vm, bool enabled);

/* Whether it has no definition any more but still exists in some way; and whether nothing is left of it. */
bool vm_is_undeclared(const MicroVM *vm);
bool vm_is_gone(const MicroVM *vm);
/* The spec that describes it best: of the present run, else of the definition; may be NULL. */
const VmSpec *vm_current_spec(const MicroVM *vm);
/* What it has of the host, or is about to take, whatever its definition says by now; NULL: nothing. */
VmSpec *vm_held_spec(const MicroVM *vm);
/* What the next start goes by; NULL: there can be none. */
VmSpec *vm_next_spec(const MicroVM *vm);

/*
 * The one door: applies the state table, writes the record, arms and cancels timers, tells the host, then
 * acts. `reason` is one human sentence. Returns whether the event meant anything in this state.
 */
bool vm_event(MicroVM *vm, VmEvent event, const char *reason, ...) _printf_(3, 4);
/* Changes the reason only (the state stays). */
void vm_set_reason(MicroVM *vm, const char *reason);
/* Writes the record and tells the host, after something beside the state changed. */
void vm_save(MicroVM *vm);
/* Of one that is gone: removes its runtime directory, but for what is to be known when its definition is
 * back. */
void vm_leave(MicroVM *vm);
/* From now on starts go by the definition again. */
void vm_drop_fallback(MicroVM *vm);
/* Forgets that it failed, and how often; `reason` is what is said of it from then on. */
void vm_reset_failed(MicroVM *vm, const char *reason);
/* Finishes the job, if there is one; and the one that waits for the guest to be ready. */
void vm_finish_job(MicroVM *vm, MicrovmJobResult result, const char *reason);
void vm_finish_ready_job(MicroVM *vm, MicrovmJobResult result, const char *reason);

/* vm-prepare.c: file work before and after a run */
void vm_prepare(MicroVM *vm);
void vm_never_launched(MicroVM *vm); /* a start ends, or begins anew, for which no driver has been asked */
void vm_clean(MicroVM *vm, bool launched); /* launched: it runs, so that more is to be done */

/* What decides between KVM and TCG for a hypervisor that `user` runs. */
void vm_accel_facts(const MicroVM *vm, const RunUser *user, AccelFacts *ret_facts);

typedef void (*vm_checked_fn)(MicroVM *vm, int error, const char *text, void *userdata);

/* Whether what a start from its definition needs is there; changes nothing. `done` is called later, also when
 * the daemon ends first (-ESHUTDOWN), unless an error is returned. */
int vm_check_start(MicroVM *vm, vm_checked_fn done, void *userdata);

/* vm-run.c: the life of a run */
void vm_admit(MicroVM *vm);                                  /* in waiting: asks the host whether to go on */
void vm_act(MicroVM *vm, unsigned actions);                  /* called by the door */
void vm_driver_event(MicroVM *vm, const DriverEvent *event); /* STARTED … STOP_REFUSED */
void vm_ended(MicroVM *vm, EndCause cause, const char *text);
void vm_run_beside(MicroVM *vm, bool adopted); /* takes up what goes on beside a run */

/* vm-stop.c: its stop, of which the record has the ladder */
void vm_stop_ask(MicroVM *vm); /* what the door asks for: try the rung that it is on, which asks the guest */
void vm_stop_force(MicroVM *vm); /* the same: end the hypervisor */
void vm_stop_begin(MicroVM *vm, const StopOptions *options, const char *why); /* by a request */
void vm_stop_refused(MicroVM *vm, StopAction action);                         /* who was asked says no */
void vm_stop_continue(MicroVM *vm); /* after a restart of the daemon or a return of the driver */

/* vm-logs.c: bounds the logs of a run that its driver does not bound, and copies its console to the journal
 */
int vm_logs_new(MicroVM *vm, bool adopted, VmLogs **ret_logs); /* adopted: an earlier daemon has begun */
VmLogs *vm_logs_free(VmLogs *logs);
VmLogs *vm_logs_end(VmLogs *logs); /* the same, because the run is over */
DEFINE_CLEANUP(VmLogs *, vm_logs_free)

/*
 * vm-readiness.c: whether the guest is ready, as its definition tells it. Those who hear from the guest tell
 * it here; what the definition does not ask for means nothing. Texts are one sentence without its full stop,
 * and copied.
 */
/* A start: what is known of the run before is forgotten. */
void vm_readiness_reset(MicroVM *vm);
/* The guest runs, or was found running: takes up what looks for it; again, changes nothing. */
void vm_readiness_begin(MicroVM *vm);
/* The state changed; the caller saves the record. */
void vm_readiness_follow(MicroVM *vm);
/* Over, with the run, or with the daemon. */
void vm_readiness_end(MicroVM *vm);
/* Makes the sentence about it anew. */
void vm_readiness_tell(MicroVM *vm);
/* What its latest try, or what the guest says, came to (NULL: nothing): shown beside what it waits for. */
void vm_readiness_detail(MicroVM *vm, const char *detail);
/* Its kernel runs: something of it was heard. */
void vm_kernel_up(MicroVM *vm);
/* It is ready; `how` that is known: "the guest said so". */
void vm_guest_ready(MicroVM *vm, const char *how);
/* It was, and is not any more. */
void vm_guest_not_ready(MicroVM *vm, const char *why);
/* What it says of itself, whatever bytes these are; cut where they are long. NULL: nothing any more. */
void vm_guest_status(MicroVM *vm, const char *text);

/*
 * vm-notify.c: what the guest says of itself, in the words of sd_notify(3), and what follows from it.
 */
/* The guest runs, or was found running; again, changes nothing. */
void vm_notify_begin(MicroVM *vm);
void vm_notify_end(MicroVM *vm);
/* It was paused and goes on: it has its whole time again to say that it lives. */
void vm_notify_resumed(MicroVM *vm);
/* How the guest of a run that is up is, as the reason of its state: one sentence. */
const char *vm_doing(const MicroVM *vm, bool paused);
/* A message of it, which is cut apart. */
void vm_notify_hear(MicroVM *vm, char *message);

/* vm-adopt.c: after a restart of the daemon or a return of the driver */
void vm_restore(
    MicroVM *vm); /* resumes what the record says and needs no driver: due restarts, held starts */
void vm_driver_online(MicroVM *vm);
void vm_driver_offline(MicroVM *vm, const char *reason);
void vm_driver_found(MicroVM *vm, const DriverEvent *event);
void vm_driver_synced(MicroVM *vm);

/* vm-request.c: what people ask for. Negative errno with one sentence in *ret_error (the caller's). */

/* 0, or what forbids any start of it now. */
int vm_may_start(MicroVM *vm, char **ret_error);
int vm_request_start(MicroVM *vm, uint64_t *ret_job, char **ret_error);
/* The same because its definition says so: what it was rolled back to stays what it starts from. */
int vm_request_autostart(MicroVM *vm, uint64_t *ret_job, char **ret_error);
/* Whether there is something to wait for after a start; and a job that is done when the guest is ready, for a
 * start or restart that was accepted just now. */
int vm_may_wait_ready(const MicroVM *vm, MicrovmJobVerb verb, char **ret_error);
uint64_t vm_wait_ready(MicroVM *vm, MicrovmJobVerb verb);
/* Starts it with a job of its own because `by` requires or wants it; what runs or is coming is left alone. */
int vm_pull_in(MicroVM *vm, const MicroVM *by, char **ret_error);
/* Whether it is on its way to running, of which a delayed restart is no part. */
bool vm_is_coming(const MicroVM *vm);
int vm_request_stop(MicroVM *vm, const StopOptions *options, uint64_t *ret_job, char **ret_error);
/* Carries out a stop that was held. */
void vm_release_stop(MicroVM *vm);
int vm_request_restart(MicroVM *vm, const StopOptions *options, uint64_t *ret_job, char **ret_error);
/*
 * Ends a run that is up, as a failure: with the result `result`, because of `why` (a sentence without its
 * full stop). Then the restart policy applies, unless it is `for_good`. The guest is asked first, but not
 * with `force`. A stop, start or restart that somebody asks for meanwhile has its way.
 */
void vm_condemn(MicroVM *vm, MicrovmResult result, bool for_good, bool force, const char *why);
int vm_request_kill(MicroVM *vm, int signal, char **ret_error);
/* Of its memory, for this run; its definition has a balloon. */
int vm_request_memory(MicroVM *vm, uint64_t bytes, vm_done_fn done, void *userdata, char **ret_error);
int vm_request_pause(MicroVM *vm, bool pause, vm_done_fn done, void *userdata, char **ret_error);
void vm_request_reset_failed(MicroVM *vm);
/* Starts it again, from what it is in by now, with `spec` instead of its definition, until that changes or a
 * person starts it. */
int vm_request_fallback(MicroVM *vm, VmSpec *spec, uint64_t *ret_job, char **ret_error);
void vm_autostart(MicroVM *vm);
/* What of its definition takes effect without a restart does so now. 0 or -ENOMEM. */
int vm_apply_live(MicroVM *vm);
/* Sends a command to its QEMU; `done` as DriverOps.qmp has it. */
int vm_request_qmp(MicroVM *vm, const QmpCommand *command, uint64_t timeout_usec, driver_qmp_fn done,
                   void *userdata, char **ret_error);

typedef struct ConsoleOptions {
    bool read_only, take_over; /* neither: writes, if nobody else does */
    uint64_t lines;            /* of the log that come first */
} ConsoleOptions;

/* See console_attach(). */
int vm_open_console(MicroVM *vm, const ConsoleOptions *options, QuotaUser *caller, int *ret_fd,
                    char **ret_error);

/* vm-volumes.c: its volumes, and what else is in its state directory. */
typedef void (*vm_forget_fn)(int error, const char *text, void *userdata);

/* Forgets that the volume `image` has been there. -EBUSY: not now; else `done` is called, in any case. */
int vm_forget_volume(MicroVM *vm, const char *image, vm_forget_fn done, void *userdata, char **ret_error);

/* `files` is sorted and ends with NULL (NULL: there are none), valid during the call. */
typedef void (*vm_files_fn)(int error, const char *text, char *const *files, void *userdata);

/* Names all files in its state directory; `done` is called in any case, unless an error is returned. */
int vm_list_files(MicroVM *vm, vm_files_fn done, void *userdata);

/* CLOCK_REALTIME and CLOCK_BOOTTIME in µs. */
uint64_t now_realtime_usec(void);
uint64_t now_boottime_usec(void);

#endif
