/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the microVMs differ from what their files say, and what apply would do about it. */
#ifndef MANAGER_PLAN_H
#define MANAGER_PLAN_H

#include "manager.h"
#include "spec/diff.h"

typedef struct HostPlanItem {
    char *name;
    MicrovmPlan action;
    char *reason;        /* one sentence, or NULL */
    SpecChanges changes; /* of a running one, from what it was started with to what its definition says */
} HostPlanItem;

/* Sorted by name. */
typedef struct HostPlan {
    HostPlanItem *items;
    size_t count;
} HostPlan;

void host_plan_clear(HostPlan *plan);

/* Which microVMs: these names, all if there are none, of which those that have all labels: "NAME=VALUE", or
 * "NAME" for any value. */
typedef struct Selection {
    char **names;
    char **labels; /* both end with NULL; NULL: none */
} Selection;

/* Pure: from what is in memory. -ENOENT: a name is unknown (*ret_error says which), -ENOMEM. */
int manager_plan(Manager *manager, const Selection *selection, HostPlan *ret_plan, char **ret_error);

/* Whether apply would start what does not run: NONE, START, RETRY or FAILED. */
MicrovmPlan plan_start(const MicroVM *vm);

typedef void (*manager_looked_fn)(int error, void *userdata);

/*
 * Looks, in a worker, whether running microVMs were started with other files than there are now. `done` is
 * called after that, also when the daemon ends first (-ESHUTDOWN); NULL: nobody waits for it. 0, or an error
 * without a call.
 */
int manager_look(Manager *manager, manager_looked_fn done, void *userdata);

#endif
