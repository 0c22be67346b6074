/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The restart policy as pure functions: no clock, no process. */
#ifndef SUPERVISE_RESTART_H
#define SUPERVISE_RESTART_H

#include "supervise/ending.h"

enum {
    RESTART_STARTS_MAX = 50, /* most that restart.startLimit can be */
};

/* What its definition says under "restart". */
typedef struct RestartRules {
    const char *never; /* why it is not started again, whatever the policy says; NULL: that decides */
    RestartPolicy policy;
    GuestEnd on_reboot, on_poweroff;
    uint64_t delay_usec, max_delay_usec;
    uint64_t factor;
    uint64_t start_limit; /* starts by itself within the interval; 0: no limit */
    uint64_t limit_interval_usec;
} RestartRules;

/* When this microVM was last started by itself: CLOCK_BOOTTIME, µs, oldest first. Kept over daemon restarts.
 */
typedef struct RestartHistory {
    uint64_t starts_usec[RESTART_STARTS_MAX];
    unsigned n_starts;
    unsigned failures; /* in a row, each within the interval of the one before */
} RestartHistory;

typedef enum RestartKind {
    RESTART_VERDICT_OFF,
    RESTART_VERDICT_FAILED,
    RESTART_VERDICT_RETRY, /* after delay_usec */
    RESTART_VERDICT_AGAIN, /* at once */
} RestartKind;

typedef struct RestartVerdict {
    RestartKind kind;
    MicrovmResult result;
    uint64_t delay_usec;
    char *text; /* one human sentence: what happened and what follows; NULL: out of memory */
} RestartVerdict;

/*
 * What follows an ending. `again`: a person asked for a start meanwhile. `ran_usec`: how long the run lasted.
 * `chance`: any number, see restart_jitter(). `history` is brought up to date for the start that the verdict
 * announces.
 */
RestartVerdict restart_decide(const Ending *ending, const RestartRules *rules, bool again, uint64_t ran_usec,
                              uint64_t now_usec, uint32_t chance, RestartHistory *history);

/* The delay grown by the factor for each failure after the first, up to the longest (or itself, if longer).
 */
uint64_t restart_delay(const RestartRules *rules, unsigned failures);

/* The delay and up to a tenth of it, as `chance` has it, but not more than the longest. */
uint64_t restart_jitter(const RestartRules *rules, uint64_t delay_usec, uint32_t chance);

#endif
