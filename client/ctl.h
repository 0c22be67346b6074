/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One run of microvmctl: its command line, its connection, its verbs. */
#ifndef CLIENT_CTL_H
#define CLIENT_CTL_H

#include "json.h"
#include "util.h"

#include "microvm/exit.h"

#include <sys/types.h>

/* Options that only some verbs take. */
typedef enum OptionBit {
    OPTION_ALL = 1 << 0,
    OPTION_FORCE = 1 << 1,
    OPTION_TIMEOUT = 1 << 2,
    OPTION_SIGNAL = 1 << 3,
    OPTION_LINES = 1 << 4,
    OPTION_FOLLOW = 1 << 5,
    OPTION_BOOT = 1 << 6,
    OPTION_PROPERTY = 1 << 7,
    OPTION_VALUE = 1 << 8,
    OPTION_DEFINITION = 1 << 9,
    OPTION_HOST_SHUTDOWN = 1 << 10,
    OPTION_FROM = 1 << 16,
    OPTION_SETTINGS = 1 << 17, /* --set, --kernel... */
    OPTION_TRANSIENT = 1 << 18,
    OPTION_FULL = 1 << 19,
    OPTION_NOW = 1 << 20,
    OPTION_YES = 1 << 21,
    OPTION_PURGE = 1 << 22,
    OPTION_FAILED = 1 << 23,
    OPTION_OUTDATED = 1 << 24,
    OPTION_LABEL = 1 << 25,
    OPTION_READ_ONLY = 1 << 26,
    OPTION_WAIT = 1 << 27,
    OPTION_DEPENDENTS = 1 << 28,
    OPTION_NO_START = 1 << 29,
    OPTION_FOR = 1 << 30,
    OPTION_RESTART = 1 << 12,
    OPTION_MAX_PARALLEL = 1 << 13,
    OPTION_CANARY = 1 << 14,
    OPTION_PRUNE = 1 << 15,
    TAKES_NO_NAMES = 1 << 11, /* of a verb, beside its options */
} OptionBit;

/* One key of a definition on the command line, or one element of a list. */
typedef struct Setting {
    enum {
        SETTING_KEY,
        SETTING_VOLUME,
        SETTING_INTERFACE,
    } how;
    const char *key, *value;
} Setting;

typedef struct Ctl {
    const char *bus_address; /* system, user, or a D-Bus address */
    const char *host;        /* -H; NULL: this one */
    JsonMode json;
    bool no_pager, no_legend, no_block, quiet, no_ask_password;
    unsigned given;        /* OptionBits of the command line */
    uint64_t timeout_usec; /* UINT64_MAX: not given */
    uint64_t lines;        /* UINT64_MAX: not given */
    int boot, signal;
    const char *property;
    const char *wait;     /* start, restart: "running" or "ready"; NULL: not given */
    const char *wait_for; /* wait --for */
    const char *from;     /* create --from */
    Setting *settings;
    size_t n_settings;
    const char **labels;                /* NAME=VALUE */
    uint64_t max_parallel, canary_usec; /* canary_usec UINT64_MAX: not given */
    const char *prune;                  /* "all", or NULL */
    const char *dependents;             /* "stop", "ignore", or NULL */
    size_t n_labels;
    const char *member; /* the call that takes the most rights, where the verb makes others before; or NULL */
    char **names;       /* arguments of the verb */
    size_t n_names;
    sd_bus *bus;
    pid_t agent; /* that asks for passwords; 0: none */
} Ctl;

typedef struct Verb {
    const char *name;
    int (*run)(Ctl *ctl); /* returns an exit code */
    unsigned options;     /* OptionBits that it takes */
} Verb;

/* options.c. An exit code; `*ret_done`: the question (--help, --version) was answered. The verb is the first
 * name. */
int options_parse(Ctl *ctl, int argc, char *argv[], bool *ret_done);
/* Options and names that the verb does not take are an error: an exit code. */
int options_check(const Ctl *ctl, const Verb *verb);
void options_help(void);
void options_clear(Ctl *ctl);

int verb_list(Ctl *ctl);
int verb_status(Ctl *ctl);
int verb_is_active(Ctl *ctl);
int verb_is_failed(Ctl *ctl);
int verb_why(Ctl *ctl);
int verb_crashes(Ctl *ctl);
int verb_monitor(Ctl *ctl);
int verb_wait(Ctl *ctl);
int verb_history(Ctl *ctl);
int verb_start(Ctl *ctl);
int verb_stop(Ctl *ctl);
int verb_restart(Ctl *ctl);
int verb_drain(Ctl *ctl);
int verb_leaks(Ctl *ctl);
int verb_undrain(Ctl *ctl);
int verb_kill(Ctl *ctl);
int verb_pause(Ctl *ctl);
int verb_resume(Ctl *ctl);
int verb_set_memory(Ctl *ctl);
int verb_reset_failed(Ctl *ctl);
int verb_console(Ctl *ctl);
int verb_logs(Ctl *ctl);
int verb_reload(Ctl *ctl);
int verb_validate(Ctl *ctl);
int verb_plan(Ctl *ctl);
int verb_apply(Ctl *ctl);
int verb_forget_volume(Ctl *ctl);
int verb_show(Ctl *ctl);
int verb_create(Ctl *ctl);
int verb_edit(Ctl *ctl);
int verb_remove(Ctl *ctl);
int verb_enable(Ctl *ctl);
int verb_disable(Ctl *ctl);
int verb_mask(Ctl *ctl);
int verb_unmask(Ctl *ctl);
int verb_is_enabled(Ctl *ctl);
int verb_cat(Ctl *ctl);
int verb_qmp(Ctl *ctl);
int verb_version(Ctl *ctl);

/* logs.c: the last lines of a console, for a look; NULL: there are none, or they can't be shown (then
 * *ret_left_out, which may be NULL, says why). */
char *log_tail(Ctl *ctl, const char *path, uint64_t lines, const char **ret_left_out);

#endif
