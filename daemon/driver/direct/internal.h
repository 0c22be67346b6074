/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the direct driver. */
#ifndef DRIVER_DIRECT_INTERNAL_H
#define DRIVER_DIRECT_INTERNAL_H

#include "base/socket.h"
#include "base/strv.h"
#include "base/worker.h"
#include "driver/direct/agent.h"
#include "driver/direct/direct-driver.h"
#include "driver/direct/programs.h"
#include "driver/direct/qmp-share.h"
#include "driver/direct/recipe.h"
#include "driver/direct/sandbox.h"
#include "launch/unit.h"

typedef struct DirectDriver DirectDriver;
typedef struct Helper Helper;

/* One life of one hypervisor process. */
typedef struct Run {
    DirectDriver *driver;
    const Recipe *recipe;
    char *name;
    char **stop;     /* the definition's own program that asks the guest to shut down; NULL: none */
    char **ready;    /* the same that tells when the guest runs; NULL: none, or it has */
    Helper *helpers; /* those of them that run */
    char *directory; /* of its sockets and record */
    char *output;    /* file of what the hypervisor says; NULL: of an earlier daemon */
    sd_id128_t generation;
    Accel accel;
    ProcessId id;
    sd_id128_t invocation; /* of its unit; null: it has none */
    int pidfd;             /* -EBADF: it is being launched */
    sd_event_source *ended;
    sd_event_source *force; /* SIGKILL is due */
    Qmp *qmp;
    QmpShare *share;        /* of it, with others; NULL: it has not answered yet */
    Agent *agent;           /* who is being asked to shut the guest down; NULL: nobody */
    int own_socket;         /* to be served, too, from then on; -EBADF: none */
    bool announced;         /* it was told that the guest runs */
    bool forced;            /* we end it */
    bool asked;             /* by SIGTERM, which is all that it understands */
    bool over;              /* it has ended, and systemd is asked how */
    bool paused;            /* as it was told */
    uint64_t balloon_bytes; /* what the balloon is to leave to the guest at the start; 0: all */
    EndCause cause;         /* what QEMU said of its end */
    bool has_cause;
    bool we_asked, others_asked; /* the guest to shut down */
    bool panicked;               /* and went on */
    bool hung;                   /* its watchdog has expired, and ends it */
    char *trouble;               /* why its start is given up, as soon as it has ended */
    bool killed;                 /* for that, by us; else it ends by itself */
    char **argv;                 /* of its start, until it is announced */
    struct Start *retry;         /* what is tried when the hypervisor does not come up; NULL: nothing */
    uint64_t asked_usec;         /* when its start was asked for */
    struct Run *next;
} Run;

struct DirectDriver {
    Driver driver;
    sd_event *event;
    driver_event_fn handler;
    void *userdata;
    char *state_dir, *runtime_dir; /* of all: DIR/vm/NAME is one's own */
    char *uid_dir;                 /* see launch/uid.h */
    uid_t first_uid;
    Launcher launcher;
    Workers *workers;
    bool online; /* what earlier daemons left has been told */
    AccelFacts accel_facts;
    /* What a start has to know, looked up ahead of it. */
    Programs *programs;
    SandboxHost host;
    Run *runs;
};

/* --- driver.c --- */
/* Whether the definition's own program tells when the guest runs: of a hypervisor that does not say so. */
bool direct_asks_ready(const Recipe *recipe, const VmSpec *spec);
/* A start has failed: what is known of the host may be true no more. */
void direct_look_again(DirectDriver *driver);
void direct_say(DirectDriver *driver, const DriverEvent *event);
Run *direct_run_new(DirectDriver *driver, const char *name, sd_id128_t generation);
Run *direct_run_find(DirectDriver *driver, const char *name, sd_id128_t generation);
void direct_run_free(Run *run);
/* Says something of it; name and generation are its own. */
void direct_run_say(Run *run, DriverEvent event);
/* As it is told. */
DriverRun direct_run_tell(const Run *run, char unit[static UNIT_NAME_SIZE]);

/* --- end.c: how it ended --- */
/* Of a process that has ended: takes away what is left of the run, tells of it, and frees the run. */
void direct_run_ended(Run *run);
/* What that was, and in words, the caller's; `words` are the hypervisor's last ones, or NULL. */
EndCause direct_end_cause(const ProcessEnd *end);
EndDetails direct_end_details(const ProcessEnd *end);
char *direct_end_describe(const ProcessEnd *end, const char *words);

/* --- run.c: a process that lives --- */
/* Watches the process and talks to it; `control` is connected and taken. */
int direct_run_watch(Run *run, int control);
/* Does so no more: it is not even heard of its end. */
void direct_run_leave(Run *run);
/* As DriverOps.stop. */
int direct_run_stop(Run *run, StopAction action);
/* Stops or goes on with its processors. */
int direct_run_set_paused(Run *run, bool paused);
int direct_run_set_memory(Run *run, uint64_t bytes);
int direct_run_signal(Run *run, int number);

/* --- helper.c --- */
/* Runs the program, with $MICROVM_NAME and $MICROVM_PID. `done` is called when it has ended, not if the run
 * ends before; error: 0, or a negative errno with one sentence. */
typedef void (*helper_fn)(Run *run, int error, const char *text);
int direct_helper_run(Run *run, char *const *argv, helper_fn done);
void direct_helpers_forget(Run *run);

/* --- start.c --- */
int direct_start(Run *run, const StartRequest *request);
/* Launches run->retry instead of what did not come up. */
int direct_start_again(Run *run);
void direct_start_free(void *start);

/* --- adopt.c --- */
/* Looks in a worker for what earlier daemons have left running; ONLINE, FOUND and SYNCED follow. */
int direct_adopt(DirectDriver *driver);

/* --- images.c: of volumes; in a worker; one sentence in *ret_text with an error --- */
/* Opens it as the definition says. A descriptor, or a negative errno. */
int image_open(const VolumeSpec *volume, const char *state_dir, char **ret_text);
/* The same of one that will be given away: in the state directory, and nobody else's. */
int image_open_own(const VolumeSpec *volume, const char *state_dir, char **ret_text);
/* Makes it the user's; one that is read-only stays root's, and the group of that number may read it. */
int image_give(const VolumeSpec *volume, int fd, uid_t uid, char **ret_text);

/* --- files.c: which process a run has, for the next daemon; blocks --- */
typedef struct ProcessRecord {
    Hypervisor hypervisor;
    char **stop, **ready; /* as in a Run */
    bool silent;          /* it speaks QMP, and has not answered yet */
    Launched launched;
    sd_id128_t generation;
    Accel accel;
} ProcessRecord;

int process_record_write(const char *directory, const ProcessRecord *record);
int process_record_read(const char *directory, ProcessRecord *ret_record); /* -ENOENT; -EBADMSG */
void process_record_clear(ProcessRecord *record);

/* --- files.c: what a run has in its runtime directory --- */
#define CONTROL_SOCKET "control.sock"
#define CONSOLE_SOCKET "console.sock"
#define AGENT_SOCKET   "agent.sock" /* where the port of the guest's agent comes out */
#define QMP_SOCKET     "qmp.sock"
#define OWN_SOCKET     "own.sock"       /* a link to where the definition wants another one of that kind */
#define OUTPUT_FILE    "hypervisor.log" /* in the state directory: what the hypervisor says itself */
/*
 * That one: says where it is to be; makes it, unless something is there that nobody has left (-EEXIST: no
 * socket, -EADDRINUSE: somebody listens) or none is wanted (-ENOENT); removes it when nobody listens.
 */
int own_socket_choose(const char *directory, const char *path);
int own_socket_listen(const char *directory, int *ret_fd);
void own_socket_remove(const char *directory);
/* Removes them and the record. */
void direct_run_files_remove(const char *directory);
/* The same of a start that was cut off. Its control socket is made first, and goes last: where there is none,
 * what there is belongs to a hypervisor of another driver. */
void direct_start_files_remove(const char *directory);

#endif
