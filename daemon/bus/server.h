/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvmd on D-Bus: the connection, what is told to everyone, who may ask for what. */
#ifndef BUS_SERVER_H
#define BUS_SERVER_H

#include "base/quota.h"
#include "bus/handle.h"
#include "manager.h"

#include <systemd/sd-bus.h>

typedef struct Authorization Authorization;
typedef struct PendingJob PendingJob;
typedef void (*bus_rivals_fn)(BusServer *server);

struct BusServer {
    sd_event *event;
    sd_bus *bus;
    Manager *manager; /* set before any method can come */
    sd_bus *systemd;  /* to PID 1, where that is systemd; else NULL */
    sd_bus_slot *host_state_call;
    bool host_stopping; /* the last answer */
    Handles *handles;   /* NULL: none */
    bool ready_due;     /* it is ready, but that waits for handles */
    bool vms_changed;   /* there are others */
    struct {
        sd_bus_slot *call;
        bus_rivals_fn done;
    } rivals;
    bool manager_changed;
    MicroVM **dirty; /* whose properties changed and were not told yet */
    size_t n_dirty;
    PendingJob *jobs, **last_job;
    sd_event_source *flush;
    Authorization *authorizations;
    Quota streams; /* consoles and logs that callers have open */
};

/* Connects to `address`: "system", "user" or a D-Bus address. Takes no name yet. */
int bus_server_new(sd_event *event, const char *address, BusServer **ret_server);
BusServer *bus_server_free(BusServer *server);
DEFINE_CLEANUP(BusServer *, bus_server_free)

/* Registers the objects, takes the name, connects to the loop. -EEXIST: another daemon has the name. */
int bus_server_publish(BusServer *server, Manager *manager);

/* Handles can attach themselves; `systemd`: they are its units. After the manager has started. */
int bus_server_open_handles(BusServer *server, bool systemd);

/* What the manager tells us. */
ManagerObserver bus_server_observer(BusServer *server);

/* Sends what is pending, before the daemon ends. */
void bus_server_flush(BusServer *server);

/* --- inside bus/ --- */

typedef int (*bus_method_fn)(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error);

/* One method: what it asks of the caller, and who carries it out. `action` NULL: everyone may. */
typedef struct BusMethod {
    const char *member;
    const char *action; /* polkit */
    bus_method_fn run;
} BusMethod;

/*
 * Carries out the method of `table` that `message` calls, after its caller is authorized; `vm_path`: it is
 * one of a microVM. Returns as an sd-bus handler does.
 */
int bus_dispatch(BusServer *server, const BusMethod *table, size_t n, sd_bus_message *message, bool is_vm,
                 sd_bus_error *error);

/* polkit.c: 1 allowed, 0 asked (bus_dispatch() is called again with the answer), negative: refused, error
 * set. */
int bus_authorize(BusServer *server, const BusMethod *table, size_t n, sd_bus_message *message, bool is_vm,
                  const BusMethod *method, const MicroVM *vm, sd_bus_error *error);
/* The same for a second action, from within `run`: 0 is to be returned as 1. */
int bus_authorize_also(BusServer *server, sd_bus_message *message, const char *action, sd_bus_error *error);
void bus_authorizations_drop(BusServer *server);

/* Who calls, of a method that asks for an action. */
Caller bus_caller(BusServer *server, sd_bus_message *message);

/* error.c: the error for a negative errno, with `text` (may be NULL) as its message. Returns a negative
 * value. */
int bus_error_set(sd_bus_error *error, int number, const char *text);

/* options.c: a{sv} with known keys only. */
typedef struct BusOption {
    const char *key;
    char type;    /* D-Bus: b, i, t, s; a: as */
    void *target; /* bool, int32_t, uint64_t, char * (borrowed from the message); char ** (the caller's) */
} BusOption;

/* Each reads a list of strings, which ends with NULL and is the caller's. */
int bus_read_strings(sd_bus_message *message, char ***ret_strings);

int bus_read_options(sd_bus_message *message, const BusOption *options, size_t n, sd_bus_error *error);

/* reply.c: sends a list of `type`; each item is appended by its place in `items`. */
typedef int (*bus_append_fn)(sd_bus_message *reply, const void *items, size_t index);
int bus_reply_list(sd_bus_message *message, const char *type, size_t n, bus_append_fn append,
                   const void *items);
/* The same for strings; the list ends with NULL, or is NULL. */
int bus_reply_strings(sd_bus_message *message, char *const *strings);
/* The reply of who checks a definition, a(sssuu). */
int bus_reply_problems(sd_bus_message *message, const ProblemList *problems);

/* The objects. */
extern const BusMethod bus_vm_methods[];
extern const size_t bus_n_vm_methods;
extern const BusMethod bus_define_methods[];
extern const size_t bus_n_define_methods;
int bus_publish_manager(BusServer *server);
int bus_publish_vms(BusServer *server);
MicroVM *bus_find_vm(BusServer *server, const char *path);
/* NULL: none is called so, which is put into `error`. */
MicroVM *bus_find_named(BusServer *server, const char *name, sd_bus_error *error);
const char *bus_vm_path(MicroVM *vm); /* NULL: out of memory */
int bus_emit_vm_changed(BusServer *server, MicroVM *vm);

/* apply-methods.c */
int bus_method_plan(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error);
int bus_method_apply(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error);
int bus_method_apply_and_purge(BusServer *server, sd_bus_message *message, MicroVM *none,
                               sd_bus_error *error);
int bus_method_cancel_apply(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error);
int bus_method_forget_volume(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error);
int bus_method_list_files(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error);
void bus_apply_progress(uint64_t id, const char *name, MicrovmStep step, MicrovmApply how, const char *text,
                        void *userdata);
void bus_apply_removed(uint64_t id, MicrovmJobResult result, const char *reason, void *userdata);

/* order-methods.c */
int bus_method_stop_microvms(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error);
int bus_method_drain(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error);
int bus_method_undrain(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error);
int bus_method_list_leaks(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error);
/* The options of a stop. */
int bus_read_stop(sd_bus_message *message, StopOptions *ret_stop, MicrovmDependents *ret_dependents,
                  bool *ret_host_shutdown, sd_bus_error *error);
/* A stop is asked for on behalf of the host's shutdown, whoever calls. */
void bus_note_shutdown(BusServer *server);

/* manager-object.c: the microVM of that name, which the message has next; an error, if there is none. */
int bus_read_microvm(BusServer *server, sd_bus_message *message, MicroVM **ret_vm, sd_bus_error *error);

/* explain-method.c */
int bus_method_explain(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error);

/* crash-methods.c */
int bus_method_list_crashes(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error);
int bus_method_get_crash(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error);

/* qmp-method.c */
int bus_method_qmp(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error);

/* server.c: tells systemd that we are ready, if that is due and nothing holds it any more. */
void bus_server_check_ready(BusServer *server);

/* host-state.c */
/* The connection to systemd, made if there is none; NULL: it can't be reached now. */
sd_bus *bus_systemd(BusServer *server);
/* To PID 1 itself, without a bus; for root. */
int bus_open_systemd(sd_bus **ret_bus);
void bus_host_state_query(BusServer *server);

/* rivals.c: has MicroVM.rival_unit of all looked up, and then calls `done` (may be NULL). False: there is
 * nobody to ask, so it does not. */
bool bus_rivals_query(BusServer *server, bus_rivals_fn done);

#endif
