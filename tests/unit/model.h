/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One microVM in a small world of which nothing is promised, for test-model.c: people ask for things at any
 * time, hypervisors die, launches fail, drivers go away, events of former runs arrive late, and the daemon is
 * killed at any instant. What is a pure function in the daemon is the real one; what is not (vm.c, vm-run.c,
 * vm-request.c, vm-adopt.c) is written down anew in model-daemon.c, in few words. There is one search at a
 * time.
 */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include "supervise/restart.h"
#include "supervise/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    LIMIT = 2, /* starts by itself */
    HYPERVISORS = 2,
    EVENTS = 2,  /* of the driver that are on their way */
    CURRENT = 1, /* a generation: that of the record */
    FORMER = 2,  /* any other */
};

typedef enum Phase {
    NOWHERE,
    LAUNCHING,
    ALIVE,
} Phase;

typedef struct Process {
    uint8_t phase, generation;
    uint8_t told; /* STOP_NOT_ASKED, STOP_ASKED, STOP_ASKED_FORCE */
} Process;

typedef struct Event {
    uint8_t type, generation, cause;
} Event;

/* One state of everything; all of its bytes count. */
typedef struct World {
    /* on record: outlives the daemon */
    uint8_t state, asked, again, generation, n_starts, start_limit_hit;
    uint8_t held, condemned; /* a stop waits for its turn; microvmd itself has found that the run is to end */
    /* in the daemon's memory */
    uint8_t online, settling, cause, preparing, chores;
    Event events[EVENTS];
    uint8_t n_events;
    /* on the host */
    Process processes[HYPERVISORS];
    uint8_t files; /* that a start made */
    /* what a person said last: off */
    uint8_t off;
} World;

/* What is looked at, and how it may be broken. */
typedef struct Rules {
    VmTransition (*transition)(MicrovmState state, VmEvent event);
    RestartPolicy policy;
    bool believes_strangers;   /* events of former runs are taken for those of the present one */
    bool forgets_the_asked;    /* how a stop was asked for is not on record */
    bool condemns_the_stopped; /* what microvmd finds of a run outweighs a stop that waits for its turn */
    bool launches_unrecorded;  /* the generation is put on record after the launch, not before */
} Rules;

extern const Rules *model_rules;
extern const char *model_violation; /* the first one */

void model_must(bool holds, const char *what);

/* --- the daemon --- */

unsigned model_count_processes(const World *w);
Process *model_current_process(World *w); /* that of the record, or NULL */
bool model_door(World *w, VmEvent event); /* every change of the state goes through it; false: refused */
void model_tell(World *w, StopAsked how);
void model_ended(World *w, EndCause cause);
void model_settled(World *w);
void model_take_event(World *w, Event event);
void model_never_launched(World *w);
void model_found(World *w, Process *process);

/* --- what can happen --- */

typedef struct Step {
    const char *what;
    bool (*take)(World *w); /* false: it can't happen here */
    bool progress;          /* it happens sooner or later, without anybody's help */
} Step;

extern const Step model_steps[];
extern const size_t model_n_steps;

bool model_may_stop(const World *w);

#endif
