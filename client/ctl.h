/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the verbs of microvmctl share. */
#ifndef CLIENT_CTL_H
#define CLIENT_CTL_H

#include "microvm/errors.h"
#include "microvm/exit.h"
#include "microvm/names.h"
#include "microvm/states.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))
#define _printf_(string, first) __attribute__((format(printf, string, first)))
#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static inline void freep(void *pointer)
{
    free(*(void **)pointer);
}
static inline void cjson_deletep(cJSON **object)
{
    cJSON_Delete(*object);
}
#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_msg_  _cleanup_(sd_bus_message_unrefp)
#define _cleanup_err_  _cleanup_(sd_bus_error_free)
#define _cleanup_json_ _cleanup_(cjson_deletep)

typedef enum JsonMode {
    JSON_OFF,
    JSON_SHORT,
    JSON_PRETTY,
} JsonMode;

/* The command line, and the connection that it leads to. */
typedef struct Ctl {
    const char *bus_address; /* system, user, or a D-Bus address */
    const char *host;        /* -H; NULL: this one */
    JsonMode json;
    bool no_pager, no_legend, no_block, quiet, no_ask_password;
    bool all, force, follow, value, definition, host_shutdown;
    uint64_t timeout_usec; /* UINT64_MAX: not given */
    uint64_t lines;        /* UINT64_MAX: not given */
    int boot;
    int signal;
    const char *property;
    char **names; /* arguments of the verb */
    int n_names;
    int argc; /* the whole command line, for -H */
    char **argv;
    sd_bus *bus;
    pid_t agent; /* that asks for passwords */
} Ctl;

/* One microVM as the manager lists it. */
typedef struct VmRow {
    char *name, *path, *state, *readiness, *hypervisor, *driver;
    uint32_t pid;
} VmRow;

typedef struct VmRows {
    VmRow *items;
    size_t count;
} VmRows;

/* bus.c. Functions that return an exit code have said what went wrong. */
int ctl_connect(Ctl *ctl);  /* exit code */
bool ctl_connect_quietly(Ctl *ctl); /* whether there is a bus */
void ctl_disconnect(Ctl *ctl);
/* A call with arguments in the manner of sd_bus_message_append(); returns an exit code. `vm`: object path, or NULL. */
int ctl_call(Ctl *ctl, const char *vm, const char *member, sd_bus_message **ret_reply, const char *types, ...);
int ctl_send(Ctl *ctl, sd_bus_message *call, const char *about, sd_bus_message **ret_reply); /* about: whom */
int ctl_new_call(Ctl *ctl, const char *vm, const char *member, sd_bus_message **ret_call);
/* Says an error of the bus; returns the exit code for it. */
int ctl_bus_error(Ctl *ctl, const sd_bus_error *error, int number, const char *about);
int ctl_unreachable(Ctl *ctl, const char *why);
int ctl_get_all(Ctl *ctl, const char *vm, cJSON **ret_properties); /* exit code */
int ctl_list(Ctl *ctl, VmRows *ret_rows);                          /* exit code */
void vm_rows_clear(VmRows *rows);
/* The microVMs that the command line names: names, or all with --all. Exit code; unknown names were told. */
int ctl_targets(Ctl *ctl, bool all_by_default, VmRows *ret_rows);
cJSON *ctl_variant(sd_bus_message *message); /* the next value as JSON; NULL: out of memory, or broken */

/* util.c */
int fail(int code, const char *format, ...) _printf_(2, 3); /* "microvmctl: ..." to standard error; returns code */
const char *did_you_mean(const char *word, const char *const *candidates, size_t n);
int parse_duration(const char *text, uint64_t *ret_usec);
void format_span(uint64_t usec, char *buffer, size_t size); /* "2min 3s" */
char *format_since(uint64_t realtime_usec);                 /* "Tue 2026-11-24 12:00:00 UTC; 2min 3s ago" */
char *escape(const char *text, bool keep_colour); /* harmless for a terminal; keeps line ends and tabs */
bool colours(void);
const char *paint(const char *state); /* escape sequence for a state, or "" */
#define PAINT_OFF (colours() ? "\033[0m" : "")
#define PAINT_BOLD (colours() ? "\033[1m" : "")
#define PAINT_DIM (colours() ? "\033[2m" : "")
unsigned terminal_width(void);
void pager_open(Ctl *ctl);
void pager_close(void);
int print_json(Ctl *ctl, const cJSON *json); /* exit code */

/* table.c: a table that fits the terminal; cells are escaped */
typedef struct Table Table;
Table *table_new(const char *const *headers, size_t n_columns);
void table_add(Table *table, const char *const *cells, const char *state); /* state: colours the row's STATE column */
void table_print(Table *table, bool legend);
Table *table_free(Table *table);

/* jobs.c */
int jobs_run(Ctl *ctl, const char *member); /* Start, Stop, Restart of the targets, waited for */

/* the verbs; each returns an exit code */
int verb_list(Ctl *ctl);
int verb_status(Ctl *ctl);
int verb_is_active(Ctl *ctl);
int verb_start(Ctl *ctl);
int verb_stop(Ctl *ctl);
int verb_restart(Ctl *ctl);
int verb_kill(Ctl *ctl);
int verb_pause(Ctl *ctl);
int verb_resume(Ctl *ctl);
int verb_reset_failed(Ctl *ctl);
int verb_console(Ctl *ctl);
int verb_logs(Ctl *ctl);
int verb_reload(Ctl *ctl);
int verb_validate(Ctl *ctl);
int verb_show(Ctl *ctl);
int verb_version(Ctl *ctl);

/* logs.c: the last lines, for status; NULL: not allowed, or none */
char *log_tail(Ctl *ctl, const char *vm, uint64_t lines);
int remote_exec(Ctl *ctl); /* verbs that need descriptors run over there, by ssh -t; returns only on failure */

#endif
