/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside the libvirt driver. libvirt's calls block, so they are made by workers; its callbacks come on a
 * thread of their own, so they only post letters. All state below is touched on the loop thread alone.
 */
#ifndef DRIVER_LIBVIRT_INTERNAL_H
#define DRIVER_LIBVIRT_INTERNAL_H

#include "base/mailbox.h"
#include "base/worker.h"
#include "driver/libvirt/libvirt-driver.h"
#include "driver/libvirt/xml.h"

#include <libvirt/libvirt.h>

typedef struct LibvirtDriver LibvirtDriver;
typedef struct Run Run;
typedef struct Call Call;

typedef enum ShutdownCause {
    SHUTDOWN_UNKNOWN,
    SHUTDOWN_BY_GUEST, /* a power-off or a reset, not known which */
    SHUTDOWN_POWEROFF,
    SHUTDOWN_RESET,
    SHUTDOWN_BY_HOST, /* a signal */
    SHUTDOWN_PANIC,
    SHUTDOWN_WATCHDOG,
} ShutdownCause;

/* One life of a microVM, as far as this driver has to do with it. */
struct Run {
    LibvirtDriver *driver;
    char *name;
    sd_id128_t generation;
    bool starting;      /* virDomainCreateXML is under way */
    bool announced;     /* STARTED or FOUND was said */
    bool paused;        /* as was said last */
    bool stopped_early; /* it stopped before that */
    bool we_asked;      /* for a shutdown, through virDomainShutdown */
    bool others_asked;
    ShutdownCause shutdown;
    int stopped_detail; /* of the STOPPED event; -1: none came */
    bool waited;        /* for the STOPPED event of a run that was found gone */
    unsigned rechecks;  /* it was found stopped, but still listed */
    bool killed;        /* by us, past libvirt */
    bool destroy_later; /* an end by force came before libvirt knew the domain */
    bool unresponsive;  /* a call is past its deadline: only an end by force may follow */
    sd_event_source *recheck;
    char *console; /* path of the pty */
    int pidfd;
    pid_t pid;
    Call *in_flight; /* on the work connection: one at a time for each domain */
    Call *asking;    /* the guest's agent: the same, beside it */
    Call *queue;     /* waiting for that */
    Run *next;
};

typedef enum CallKind {
    CALL_START,
    CALL_SHUTDOWN,
    CALL_KEYS,
    CALL_AGENT, /* on the control connection */
    CALL_SUSPEND,
    CALL_RESUME,
    CALL_SET_MEMORY,
    CALL_TERMINATE, /* the same, as the next two */
    CALL_DESTROY,
    CALL_CHECK, /* is this run still there? */
} CallKind;

/* What a worker finds out of a domain. */
typedef struct DomainFacts {
    char *name;
    char *uuid;
    sd_id128_t generation;
    bool paused;
    Accel accel;
    char *console;
    pid_t pid;
    int pidfd;
    pid_t helper; /* a virtiofsd that libvirt started for it; 0: none */
} DomainFacts;

/* One call of libvirt: made by a worker, values only. */
struct Call {
    LibvirtDriver *driver;
    CallKind kind;
    virConnectPtr connection; /* a reference of its own */
    char *name;
    sd_id128_t generation;
    char *uuid, *xml;    /* CALL_START */
    uint64_t memory_kib; /* CALL_SET_MEMORY */
    char *fallback_xml;  /* or NULL: without the CPU feature that some hosts' KVM refuses */
    char *pid_directory;
    sd_event_source *deadline; /* loop thread */
    unsigned epoch;            /* of the connection */
    bool early;                /* made while the run was starting */
    bool late;                 /* CALL_AGENT: the stop has gone on without an answer */
    /* the answer */
    int error;
    char *text;
    bool lost;      /* the connection was: the error says nothing about the run */
    bool gone;      /* there is no such run (any more) */
    bool refused;   /* CALL_AGENT: it says no, or there is none */
    bool fading;    /* CALL_CHECK: it has stopped, libvirt is about to forget it */
    bool fell_back; /* CALL_START: fallback_xml was needed */
    DomainFacts facts;
    uint64_t usec;
    Call *next;
};

/* Both connections with what is registered on them; opened and closed off the loop thread, since both may
 * block. */
typedef struct Connections {
    virConnectPtr control, work;
    int lifecycle_id, qmp_id; /* of event callbacks on control; -1: none */
    bool remote;              /* by a socket: they can be lost */
} Connections;

typedef enum LetterKind {
    LETTER_CLOSED,
    LETTER_LIFECYCLE,
    LETTER_QMP,
} LetterKind;

/* What a callback heard, on its way to the loop thread. */
typedef struct Letter {
    LetterKind kind;
    unsigned epoch;    /* of the connection */
    char *name;        /* of the domain; NULL: of none */
    int event, detail; /* LIFECYCLE; CLOSED: reason in detail */
    char *qmp_event, *qmp_data;
    struct Letter *next;
} Letter;

/* Where callbacks put letters. libvirt may hold one longer than the driver lives, if it hangs: then it leads
 * nowhere. */
typedef struct PostBox PostBox;

struct LibvirtDriver {
    Driver driver; /* first */
    sd_event *event;
    driver_event_fn handler;
    void *userdata;
    char *uri;
    char *pid_directory; /* NULL: not known for this URI */
    Workers *control_workers, *work_workers, *agent_workers;
    Mailbox *letters;
    PostBox *box;
    Connections connections;
    DomainTarget target;
    bool online, connecting;
    unsigned epoch;     /* grows with every connection: what belongs to an older one is told apart */
    unsigned in_flight; /* calls that workers have */
    uint64_t backoff_usec;
    sd_event_source *retry;
    AccelFacts accel_facts;
    Letter *early, **early_last; /* came while the listing was under way */
    Run *runs;
};

/* connection.c */
int libvirt_connect(LibvirtDriver *driver); /* begins */
void libvirt_disconnected(LibvirtDriver *driver, const char *why);
/* Closes what is open, waiting `grace_usec` at most: libvirt may hang. */
void libvirt_close(Connections *connections, uint64_t grace_usec);
void libvirt_reconnect_when_idle(LibvirtDriver *driver);

/* letters.c: callbacks → letters */
int post_box_new(Mailbox *letters, PostBox **ret_box);
PostBox *post_box_ref(PostBox *box);
PostBox *post_box_unref(PostBox *box);
void post_box_shut(PostBox *box); /* afterwards the mailbox may go */
int libvirt_register_events(PostBox *box, unsigned epoch, Connections *connections); /* in a worker */
void libvirt_deregister_events(Connections *connections);                            /* likewise */
void libvirt_letter_free(void *letter);

/* events.c: letters → consequences */
void libvirt_on_letter(void *letter, void *userdata);
void libvirt_deliver_early(LibvirtDriver *driver);
void libvirt_discard_early(LibvirtDriver *driver);
void libvirt_run_ended(Run *run);

/* event-thread.c */
int libvirt_events_start(void);
void libvirt_events_stop(void);

/* calls.c */
int call_submit(Run *run, CallKind kind);
int call_submit_memory(Run *run, uint64_t bytes);
int call_submit_start(Run *run, const char *uuid, char *xml, char *fallback_xml); /* takes both XML */
void call_forget_queue(Run *run);
void call_fail_queue(Run *run, const char *why); /* the same, and says so */
/*
 * In a worker: the facts of a domain of ours. -ENOENT: gone; -EBUSY: not ours; -EIO: libvirt can't say. Name,
 * UUID and generation are always there, the rest as far as it can be found out.
 */
int domain_facts_read(virDomainPtr domain, const char *pid_directory, DomainFacts *ret_facts);
void domain_facts_clear(DomainFacts *facts);

/* work.c, beside the facts above: makes the call */
void call_run(void *argument);

/* check.c: what libvirt and QEMU's machine can't do, beside capabilities */
void libvirt_check(const VmSpec *spec, const Runner *runner, const TableReader *reader);

/* hint.c: what helps against a failed start that libvirt explains so, or NULL. */
const char *start_hint(const char *message);

/* embed.c: before qemu:///embed is opened; nobody else may have its root open */
int embed_prepare(const char *uri);

/* process.c */
char *process_pid_directory(const char *uri);
/* The QEMU of a domain: its pid, and a pidfd so that the pid can't come to mean another process. */
int process_find(const char *pid_directory, const char *name, const char *uuid, pid_t *ret_pid,
                 int *ret_pidfd);
/* A virtiofsd that libvirt started for the domain; 0: none. */
pid_t process_find_virtiofsd(const char *pid_directory, int domain_id, const char *name);

/* driver.c */
Run *run_find(LibvirtDriver *driver, const char *name, sd_id128_t generation);
Run *run_find_name(LibvirtDriver *driver, const char *name);
Run *run_new(LibvirtDriver *driver, const char *name, sd_id128_t generation);
void run_free(Run *run);
void run_take_facts(Run *run, DomainFacts *facts); /* empties facts */
void driver_say(LibvirtDriver *driver, const DriverEvent *event);
char *libvirt_error_text(void); /* of this thread's last error; the caller's */

#endif
