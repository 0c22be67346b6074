/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One microVM, "web", under supervision: a host that admits what the test says, a driver that only notes what
 * it is told, a directory of its own. There is one world at a time; world_setup() and world_teardown() are
 * cmocka's.
 */
#ifndef TESTS_SUPERVISE_WORLD_H
#define TESTS_SUPERVISE_WORLD_H

#include "base/file.h"
#include "supervise/vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "run-until.h"

typedef struct World {
    char directory[64];
    char *state_dir, *runtime_dir, *kernel;
    sd_event *event;
    VmHost host;
    MicroVM *vm;
    Driver driver;
    /* what the driver was told */
    unsigned starts, graceful, forced, pauses;
    StopAction last_action;
    sd_id128_t generation;
    /* what the world says */
    int admit;
    unsigned refuses; /* bits by StopAction */
    const char *hold;
    MicrovmJobResult last_result;
    uint64_t last_job;
    char last_reason[512];
} World;

extern World *world;

int world_setup(void **context);
int world_teardown(void **context);

#define TEST(function) cmocka_unit_test_setup_teardown(function, world_setup, world_teardown)

/* For another driver: a host without /dev/kvm. */
void fake_accel_facts(Driver *driver, AccelFacts *ret_facts);

/* `more` is what follows the kernel in the definition: "" or ", \"KEY\": VALUE". */
VmSpec *make_spec(const char *more); /* to be unreferenced */
void define(const char *more);

MicrovmState state(void);
/* Runs the loop until the microVM is in `wanted`. */
void wait_for(MicrovmState wanted);

/* What the driver says of the last run that it was told to start. */
void driver_says(DriverEventType type, EndCause cause);
/* The driver is back, and lists that run. */
void found(void);
void found_as(DriverRun run);
/* What the guest says. */
void write_console(const char *text);

/* What a person asks for; it must be accepted. Returns the job. */
uint64_t start(void);
uint64_t stop(bool force);
void ask_restart(void); /* the same, but for the job */

/* Starts it, and the driver does as it is told. */
void run_it(void);

/*
 * As after a kill -9 of the daemon: everything in memory is gone, the files are there. The driver is away,
 * and the definition is again the one that is empty (define("")), or this one.
 */
void restart_daemon(void);
void restart_daemon_with(const char *more);

#endif
