/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes microVMs what their files say. */
#ifndef MANAGER_APPLY_H
#define MANAGER_APPLY_H

#include "manager-plan.h"

typedef enum ApplyPrune {
    PRUNE_NO,
    PRUNE_SOME, /* undeclared microVMs are stopped, unless these are more than a third of all */
    PRUNE_ALL,  /* the third does not matter */
} ApplyPrune;

typedef struct ApplyOptions {
    bool restart;  /* those whose definition changed so that they need it */
    bool outdated; /* those, too, that run with other files than there are now */
    bool canary;   /* first one of them; all else only if it stays up for canary_usec, and becomes ready */
    uint64_t canary_usec;
    uint64_t max_parallel; /* restarts at once */
    ApplyPrune prune;
    Caller caller; /* who asks for it */
    char **purge;  /* files of state directories, which go with the microVMs that are stopped; may be NULL */
} ApplyOptions;

enum {
    APPLY_CANARY_SEC = 10,
};

/*
 * Begins; goes on whoever asked is still there or not, and tells the observer. One at a time. -EBUSY, -ENOENT
 * (a name is unknown), -EDOM (too much would go), -EINVAL (not a file that goes with one), with a sentence
 * in *ret_error.
 */
int manager_apply(Manager *manager, const Selection *selection, const ApplyOptions *options, uint64_t *ret_id,
                  char **ret_error);

/* Begins no other step of it; what has begun is finished. -ESRCH: it does not go on any more. */
int manager_cancel_apply(Manager *manager, uint64_t id, char **ret_error);

/* manager-prune.c: whether what is undeclared may be stopped, and whether these files may go with it. */
int apply_check_prune(Manager *manager, const HostPlan *plan, ApplyPrune prune, char **ret_error);
int apply_check_purge(Manager *manager, const HostPlan *plan, char **purge, char **ret_error);

/* What happens meanwhile. */
void apply_job_removed(Apply *apply, const MicroVM *vm, const Job *job, MicrovmJobResult result,
                       const char *reason);
void apply_vm_changed(Apply *apply, const MicroVM *vm);
void apply_wake(Apply *apply); /* a microVM is forgotten */
Apply *apply_free(Apply *apply);

#endif
