/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Why a microVM is as it is, and what to do about it. Looks only. */
#ifndef MANAGER_EXPLAIN_H
#define MANAGER_EXPLAIN_H

#include "manager.h"

enum {
    CHAIN_MAX = 32,
    ADVICE_MAX = 4,
};

/*
 * Whom it waits for, whom that one waits for, and so on; the reason of the last one says what holds them all.
 * Returns how many they are: 0, if it waits for no other one.
 */
size_t manager_chain(Manager *manager, const MicroVM *vm, const MicroVM *ret_chain[static CHAIN_MAX]);

/* A command for the shell, and what it is good for. */
typedef struct Advice {
    char *command;
    const char *text;
} Advice;

void advice_clear(Advice *advice, size_t n);
/* What a person may want to type next, the most useful first. Returns how many; -ENOMEM. */
int manager_advise(Manager *manager, const MicroVM *vm, Advice ret_advice[static ADVICE_MAX]);

#endif
