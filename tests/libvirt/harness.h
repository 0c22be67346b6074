/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A driver on an event loop, whose events are kept until a test asks for them. */
#ifndef TESTS_LIBVIRT_HARNESS_H
#define TESTS_LIBVIRT_HARNESS_H

#include "driver/driver.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum {
    SEEN_MAX = 512,
    PATIENCE = 120, /* s; a net for what hangs, not a measure */
};

typedef struct Seen {
    DriverEventType type;
    char name[72];
    sd_id128_t generation;
    int error;
    char text[1024];
    EndCause cause;
    StopAction action;
    DriverRun run;
    uint64_t call_usec;
} Seen;

typedef struct Harness {
    sd_event *event;
    Driver *driver;
    HostConfig config;
    Seen seen[SEEN_MAX];
    size_t n_seen, next;
} Harness;

void harness_open(Harness *h, const char *uri);
void harness_close(Harness *h); /* the driver goes; a second call does nothing */

/* The next event of this type (for this name, unless NULL); those before it are passed over. Fails after
 * PATIENCE. */
const Seen *harness_wait(Harness *h, DriverEventType type, const char *name);
/* The same, without passing over any: an event of another type fails the test. */
const Seen *harness_expect(Harness *h, DriverEventType type, const char *name);
/* Runs the loop for so long; returns how many events of this type came that nobody has asked for yet. */
unsigned harness_idle(Harness *h, uint64_t usec, DriverEventType type);
/* ONLINE up to SYNCED; returns the number of runs that were found. */
unsigned harness_sync(Harness *h);

/* A spec and a request that boot nothing by themselves; fields may be changed. */
VmSpec harness_spec(const char *name);
StartRequest harness_request(VmSpec *spec, const char *directory);

#endif
