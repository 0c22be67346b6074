/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All microVMs of a host: definitions, drivers, admission, jobs. Knows no D-Bus. */
#ifndef MANAGER_H
#define MANAGER_H

#include "definitions.h"
#include "host/memory.h"
#include "supervise/notify-listener.h"
#include "supervise/vm.h"

enum {
    MANAGER_MAX_DIRECTORIES = DIRECTORIES_MAX - 1, /* a definition that is looked at is in one above them */
};

typedef struct ManagerSettings {
    const char *config_path;
    const char *directories[MANAGER_MAX_DIRECTORIES]; /* of definitions, highest precedence first */
    size_t n_directories;
    const char *state_dir, *runtime_dir;
} ManagerSettings;

typedef struct DriverSlot {
    Driver *driver;
    bool online, ever_online, synced, answered;
    char *reason; /* why it is not online */
} DriverSlot;

typedef struct Manager Manager;
typedef struct Apply Apply; /* manager-apply.h */

/* Who shows microVMs to the world. All members may be NULL. */
typedef struct ManagerObserver {
    void (*vm_added)(MicroVM *vm, void *userdata);
    void (*vm_removed)(MicroVM *vm, void *userdata); /* while it can still be found */
    void (*vm_changed)(MicroVM *vm, void *userdata);
    void (*changed)(Manager *manager, void *userdata); /* role, drivers */
    void (*job_removed)(const char *name, Job job, MicrovmJobResult result, const char *reason,
                        void *userdata);
    /* Asks, asynchronously, whether the host is shutting down; manager_host_state() is to follow. */
    void (*query_host_state)(void *userdata);
    void (*ready)(Manager *manager, void *userdata); /* adopted from every driver that answers in time */
    /* A step of an apply; its end. */
    void (*apply_progress)(uint64_t id, const char *name, MicrovmStep step, MicrovmApply how,
                           const char *text, void *userdata);
    void (*apply_removed)(uint64_t id, MicrovmJobResult result, const char *reason, void *userdata);
    void *userdata;
} ManagerObserver;

struct Manager {
    sd_event *event;
    ManagerSettings settings;
    ManagerObserver observer;
    HostConfig config;
    Definitions definitions; /* as they were read last */
    MicrovmHostRole role;
    char *role_reason; /* why it is not "host" */
    VmHost host;
    char *spare_dir, *uid_dir; /* of `host` */
    NotifyListener *notify;    /* NULL: guests are not heard by AF_VSOCK */
    Workers *writer;           /* one thread: of definitions */
    MicroVM **vms;             /* sorted by name */
    size_t n_vms;
    DriverSlot drivers[DRIVER_KIND_MAX];
    bool host_stopping;
    uint64_t host_state_usec; /* CLOCK_BOOTTIME of the last answer; 0: none */
    bool host_state_asked;
    bool ready;
    HostMemory (*memory)(void);    /* host_memory(), but for tests */
    sd_event_source *memory_timer; /* runs while a start waits for memory */
    struct {
        bool on;
        char **names; /* of those that it has stopped, for undrain */
    } drain;
    sd_event_source *later; /* once, after the present event: held starts, microVMs that are gone */
    sd_event_source *ready_timer;
    sd_event_source *watch_hold; /* see file_watch_hold() */
    int lock_fd;                 /* held while the runtime directory is ours */
    struct {
        sd_event_source **sources, *timer;
        size_t n_sources;
        uint64_t first_usec; /* of the changes that wait for a reload; 0: none do */
    } watch;
    Apply *apply; /* the one that goes on; NULL: none */
    uint64_t last_apply_id;
    char *problems_logged; /* so that a reload repeats nothing */
};

/*
 * Takes `config` over. Strings in `settings` must outlive the manager. microVMs that an earlier daemon knew
 * are restored, definitions loaded, drivers begin to connect.
 */
int manager_new(sd_event *event, const ManagerSettings *settings, HostConfig *config,
                const ManagerObserver *observer, Manager **ret_manager);
/* Leaves every microVM running. */
Manager *manager_free(Manager *manager);
DEFINE_CLEANUP(Manager *, manager_free)

/* Starts connecting and restores; separate, so that the observer can be up before anything happens. */
int manager_start(Manager *manager);
/* Whether those that start with the host have been started, once a boot: the note of it and the records are
 * in the runtime directory, which goes with a reboot. 1, 0 or -ENOMEM. */
int manager_autostart_done(const char *runtime_dir);

MicroVM *manager_find(Manager *manager, const char *name);

typedef struct ReloadChange {
    char *name;
    const char *change; /* "added", "changed", "removed", "undeclared", "invalid" */
} ReloadChange;

typedef struct ReloadChanges {
    ReloadChange *items;
    size_t count;
} ReloadChanges;

void reload_changes_clear(ReloadChanges *changes);

/*
 * Reads host configuration and definitions anew; starts and stops nothing. -EUCLEAN: the guard refuses,
 * -EBADMSG: the host configuration can't be used (with the message for people in *ret_error); the old
 * configuration stays.
 */
int manager_reload(Manager *manager, ReloadChanges *ret_changes, char **ret_error);

/* Whether a start that a person asks for is possible on this host now: 0, -EUCLEAN, -ESHUTDOWN, -EHOSTDOWN.
 */
int manager_may_start(Manager *manager, MicroVM *vm, char **ret_error);

/* Whether what it requires runs, or could be started with it: 0, or -ECANCELED. */
int manager_may_require(Manager *manager, const MicroVM *vm, char **ret_error);

/* The host is (not) shutting down: nothing starts any more. */
void manager_host_state(Manager *manager, bool stopping);

/* manager-definitions.c */
/* Reads definitions anew; starts and stops nothing. Negative errno: the old ones stay. */
int manager_load_definitions(Manager *manager, ReloadChanges *changes);
/* Frees definitions that were refused because of what ran and runs no longer. */
void manager_judge_definitions(Manager *manager);
/* What definitions are looked at with; surroundings_clear(). 0 or -ENOMEM. */
int manager_look_around(const Manager *manager, Surroundings *ret_around);
void surroundings_clear(Surroundings *around);

/* manager-drivers.c */
int manager_open_drivers(Manager *manager);
void manager_close_drivers(Manager *manager);

/* manager-admit.c: what may start now, and what next */
int manager_admit(MicroVM *vm, char **ret_reason, void *userdata);
void manager_admit_waiting(Manager *manager);
/* The one that its start is held by now, for its definition comes "after" it; NULL: none. *ret_ready: it
 * runs, and is to be ready. */
const MicroVM *manager_waits_for(Manager *manager, const MicroVM *vm, bool *ret_ready);

/* manager-notify.c: hears guests by AF_VSOCK, where the host can. */
void manager_listen(Manager *manager);

/* Whether a microVM of this definition (NULL: of none) requires the one of that name. */
bool manager_requires(const VmSpec *spec, const char *name);
/* The highest priority first; those with the same in the order of their names. For qsort(3), of MicroVM *. */
int manager_by_priority(const void *left, const void *right);

/* manager-stop.c: what stops, and in which order */
typedef struct StopJob {
    MicroVM *vm;
    MicrovmState before; /* the state in which it was asked */
    uint64_t job;        /* 0: it could not be accepted, for `error` says why */
    char *error;
} StopJob;

typedef struct StopJobs {
    StopJob *items;
    size_t count;
} StopJobs;

void stop_jobs_clear(StopJobs *jobs);

/*
 * Stops these, and with MICROVM_DEPENDENTS_STOP those that require them and run, who come after these in
 * *ret_jobs. Who is "after" another one stops before it. -EMLINK: others require them, *ret_error names
 * these; nothing is stopped then. With options->force nobody waits for anybody, and none is refused.
 */
int manager_stop(Manager *manager, MicroVM *const *vms, size_t n, const StopOptions *options,
                 MicrovmDependents dependents, StopJobs *ret_jobs, char **ret_error);
/* Whether it runs, is not being stopped, and requires that one, also by its definition, if it has one. */
bool manager_needs(const MicroVM *vm, const char *name);
/* Goes on with stops that waited for others. */
void manager_release_stops(Manager *manager);

/* manager-memory.c: whether there is memory for its start now, as host_memory_admits() */
int manager_check_memory(Manager *manager, const MicroVM *vm, char **ret_reason);

/* manager-drain.c: a host that is emptied for maintenance; a file in the runtime directory says so */
/* Stops all within budget_usec (UINT64_MAX: each as its definition says); nothing starts from now on. */
int manager_drain(Manager *manager, uint64_t budget_usec, StopJobs *ret_jobs, char **ret_error);
/* Starts are possible again; `start`: what was stopped by the drain starts, with a job each. */
int manager_undrain(Manager *manager, bool start, StopJobs *ret_jobs);
/* Whether an earlier daemon was told to drain. */
int manager_load_drain(Manager *manager);
/* Stops what still runs, if the host is drained. */
void manager_continue_drain(Manager *manager);

/* manager-watch.c: watches what there is now, if the configuration says so; before it is read. */
void manager_watch(Manager *manager);
void manager_unwatch(Manager *manager);

/* manager.c, for the above */
/* The path of a file of the daemon's own, the caller's; its directory is made. */
int manager_file(Manager *manager, const char *name, char **ret_path);
MicroVM *manager_get(Manager *manager, const char *name); /* found or made; NULL: out of memory */
void manager_run_later(Manager *manager);
void manager_check_ready(Manager *manager);

#endif
