/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Several microVMs that start and stop in some order, under a manager with libvirt's test driver. */
#ifndef TESTS_ORDER_WORLD_H
#define TESTS_ORDER_WORLD_H

#include "manager-world.h"

typedef struct World {
    ManagerWorld base;
    char started[128]; /* names, in the order in which they began to prepare */
    char jobs[512];    /* "NAME VERB RESULT," */
    char stopped[128]; /* names, in the order in which their guests were asked to shut down */
    size_t most;       /* that were preparing or starting at the same time */
} World;

extern HostMemory memory; /* what the host has; all zero: not known */

/* cmocka's */
int order_setup(void **context);
int order_teardown(void **context);

#define TEST(function) cmocka_unit_test_setup_teardown(function, order_setup, order_teardown)

void define_with(World *world, const char *name, const char *kernel, const char *keys);
void define(World *world, const char *name, const char *keys); /* with a kernel, and without autostart */

MicroVM *find(World *world, const char *name);
MicrovmState state(World *world, const char *name);
void wait_for(World *world, const char *name, MicrovmState wanted);

/* Loads what was defined; what needs no driver's answer happens at once. */
void begin(World *world);
void start(World *world, const char *name);
/* By force, and runs until nothing of `name` is left in the driver. */
void stop(World *world, const char *name);

StopJobs stop_some(World *world, const char *const *names, size_t n, MicrovmDependents dependents);
#define STOP_ALL(world, dependents, ...)                                                                     \
    stop_some(world, (const char *const[]){__VA_ARGS__},                                                     \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), dependents)

/* web after app after db, which each requires, and log beside them; all run. */
void begin_chain(World *world);

#endif
