/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definitions of one host, held against each other: what test-definitions-across.c and -precedence.c
 * share. */
#ifndef TESTS_ACROSS_HOST_H
#define TESTS_ACROSS_HOST_H

#include "definitions-across.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

typedef struct Host {
    Scratch *scratch;
    Definitions definitions, before;
    Run runs[4];
    Surroundings around;
    ProblemList problems;
} Host;

/* cmocka's */
int host_setup(void **context);
int host_teardown(void **context);

#define TEST(test) cmocka_unit_test_setup_teardown(test, host_setup, host_teardown)

/* In the order of their names. `keys` go behind a kernel; NULL: it can't be read. */
void add(Host *host, const char *name, const char *keys);
/* It runs, with this. */
void run(Host *host, const char *name, const char *keys, const char *path);

void check(Host *host);
/* What there is now is what there was before; add() begins anew. */
void next(Host *host);

/* The last check() has refused it, and said so, with its file; or it is good. */
void refused(Host *host, const char *name, const char *said);
void kept(Host *host, const char *name);

#endif
