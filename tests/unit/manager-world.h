/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A manager with directories of its own, which several unit tests are about. */
#ifndef TESTS_MANAGER_WORLD_H
#define TESTS_MANAGER_WORLD_H

#include "base/file.h"
#include "manager.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "run-until.h"

typedef struct ManagerWorld {
    char directory[64];                  /* records, and what is there while they run */
    char *config, *definitions, *kernel; /* host.json, which is not there; a directory; a file */
    sd_event *event;
    Manager *manager;
} ManagerWorld;

/* With libvirt's test driver, which answers when the loop runs. */
void manager_world_make(ManagerWorld *world, unsigned max_concurrent_starts, const ManagerObserver *observer);
void manager_world_clear(ManagerWorld *world);

/* "NAME.json" among the definitions; to be freed. */
char *manager_world_path(const ManagerWorld *world, const char *name);
/* NULL: it has no definition any more. Nothing is loaded. */
void manager_world_define(const ManagerWorld *world, const char *name, const char *text);
/* Returns how many have changed. */
size_t manager_world_reload(ManagerWorld *world);

#endif
