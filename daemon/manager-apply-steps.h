/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The inside of an apply: its steps, one of each microVM that it has to do with. */
#ifndef MANAGER_APPLY_STEPS_H
#define MANAGER_APPLY_STEPS_H

#include "manager-apply.h"

typedef enum StepState {
    STEP_PENDING,
    STEP_CHECKED, /* before it is stopped: a worker looks whether it could start again */
    STEP_ASKED,
    STEP_WATCHED, /* the canary is up, and must stay so */
    STEP_PURGED,  /* it is stopped; its files go when it is forgotten */
    STEP_OVER,
} StepState;

typedef struct ApplyStep {
    char *name;
    MicrovmStep kind;
    StepState state;
    bool canary, falling_back;
    bool down, by_hand; /* of what is watched: it is not up any more; because somebody stopped it */
    bool stood;         /* of the same: it has been up for long enough */
    bool purging;       /* a worker removes its files */
    uint64_t job;       /* 0: not accepted yet */
    uint64_t ended;     /* the job of its microVM that ended last, and how */
    MicrovmJobResult result;
    char *reason;
    char *why;             /* a canary falls back */
    VmSpec *before;        /* that a canary ran with */
    sd_id128_t generation; /* of the run that is watched */
    char *state_dir;
    char **files; /* in it, that go with it; ends with NULL; NULL: none */
} ApplyStep;

struct Apply {
    Manager *manager;
    uint64_t id;
    ApplyOptions options;
    ApplyStep *steps;
    size_t n_steps, failures, left; /* left: for the cancellation */
    const char *halt;               /* why no step is begun any more; NULL: go on */
    bool canceled;
    char *failure; /* the first, in one sentence */
    sd_event_source *wake, *watch;
};

void apply_tell(Apply *apply, const char *name, MicrovmStep kind, MicrovmApply how, const char *text);
void apply_step_over(Apply *apply, ApplyStep *step, MicrovmApply outcome, const char *text);
/* The job may be over before its number is known here. */
void apply_take_job(Apply *apply, ApplyStep *step, uint64_t job);
bool apply_step_is(const ApplyStep *step, StepState state, const char *name);

/* manager-apply-steps.c */
void step_begin(Apply *apply, ApplyStep *step);
void steps_keep_required(Apply *apply); /* of those that are to stop; before the first of these is begun */
void step_skip(Apply *apply, ApplyStep *step, const char *why);
void step_take_news(Apply *apply, ApplyStep *step); /* if there are some */

/* manager-apply-canary.c */
void canary_watch(Apply *apply, ApplyStep *step); /* it is running */
void canary_judge(Apply *apply, ApplyStep *step); /* something happened to it while it is watched */
void canary_fall_back(Apply *apply, ApplyStep *step, const char *why);
void canary_fell_back(Apply *apply, ApplyStep *step); /* that job is over */

/* manager-prune.c: the files of what is gone by now; apply_purged() follows. */
int apply_purge(Apply *apply, ApplyStep *step);
void apply_purged(Apply *apply, const char *name, int error, const char *text);

#endif
