/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection to microvmd, calls, and what goes wrong with them. */
#ifndef CLIENT_BUS_H
#define CLIENT_BUS_H

#include "ctl.h"

#include "microvm/errors.h"
#include "microvm/names.h"

#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)
#define _cleanup_error_   _cleanup_(sd_bus_error_free)

/* One microVM as the manager lists it. */
typedef struct VmRow {
    char *name, *path, *state, *readiness, *hypervisor, *driver;
    uint32_t pid;
} VmRow;

typedef struct VmRows {
    VmRow *items;
    size_t count;
} VmRows;

void vm_rows_clear(VmRows *rows);
/* Takes what `row` owns, also when it fails: -ENOMEM. */
int vm_rows_add(VmRows *rows, VmRow row);
/* Drops those from `count` on. */
void vm_rows_cut(VmRows *rows, size_t count);
#define _cleanup_rows_ _cleanup_(vm_rows_clear)

/* Functions that return an exit code have said what went wrong. */
int ctl_connect(Ctl *ctl);
/* The same without a word: 0, or a negative errno. */
int ctl_try_connect(Ctl *ctl);
void ctl_disconnect(Ctl *ctl);

/* A message for a microVM's object, or the manager's (`path` NULL), that never starts the daemon. An exit
 * code. */
int ctl_new_call(Ctl *ctl, const char *path, const char *member, sd_bus_message **ret_call);
/* Sends it and waits as long as it takes; `about` is the microVM's name, or NULL. An exit code. */
int ctl_send(Ctl *ctl, sd_bus_message *call, const char *about, sd_bus_message **ret_reply);
/* Both, with arguments in the manner of sd_bus_message_append(). */
int ctl_call(Ctl *ctl, const char *path, const char *about, const char *member, sd_bus_message **ret_reply,
             const char *types, ...);
/* All properties of a microVM, or of the manager (`path` NULL), as an object. An exit code. */
int ctl_get_all(Ctl *ctl, const char *path, const char *about, cJSON **ret_properties);
/* All properties of all objects, by one call: { PATH: { INTERFACE: { PROPERTY: value } } }. An exit code. */
int ctl_get_objects(Ctl *ctl, cJSON **ret_objects);
/* Says that an answer makes no sense; returns the exit code. */
int ctl_bad_answer(int r);
/* Whether the daemon that sent `reply` is still there. */
bool ctl_daemon_lives(Ctl *ctl, sd_bus_message *reply);
/* *ret_gone becomes true when the daemon that there is ends. A negative errno when that can't be heard. */
int ctl_watch_daemon(Ctl *ctl, bool *ret_gone);
/* On a terminal, who is not root may be asked for a password: for calls that change something. */
void ctl_ask_password(Ctl *ctl);
void ctl_stop_asking(Ctl *ctl);

/* All microVMs, by one call. An exit code. */
int ctl_list(Ctl *ctl, VmRows *ret_rows);
/*
 * Those that the command line names, checked against that list (an unknown name is said, and nothing is
 * done), or all of them with --all. An exit code.
 */
int ctl_targets(Ctl *ctl, bool all_by_default, VmRows *ret_rows);
/* The same, but names are only turned into paths: for verbs that ask each microVM anyway. */
int ctl_named(Ctl *ctl, VmRows *ret_rows);
/* The one name that a verb takes. */
int ctl_one_name(Ctl *ctl, const char *verb, VmRows *ret_rows);
/* "No microVM is called ...; did you mean ...?", for which it asks for the list. Returns the exit code. */
int ctl_unknown(Ctl *ctl, const char *name);

/* explain.c: says an error of the bus, and what mends it; returns the exit code for it. */
int ctl_explain(Ctl *ctl, const sd_bus_error *error, int number, const char *member, const char *about);
/* Why the daemon does not answer; returns MICROVM_EXIT_UNREACHABLE. */
int ctl_unreachable(Ctl *ctl, int number);
bool error_is_unreachable(const sd_bus_error *error, int number);

#endif
