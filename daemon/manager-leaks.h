/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is left over of microVMs: things on the host that are called or marked as ours, and that no microVM
 * has by now. What there is to be found follows from names; there is no list of its own that could be wrong.
 */
#ifndef MANAGER_LEAKS_H
#define MANAGER_LEAKS_H

#include "manager.h"

typedef struct Leak {
    const char *kind; /* "file", "process", "unit", "user" */
    char *what;       /* path, number and program, name */
    char *microvm;    /* that it belongs to */
    char *remedy;     /* the command that removes it */
} Leak;

typedef struct Leaks {
    Leak *items;
    size_t count;
} Leaks;

/* `leaks` is valid during the call. */
typedef void (*leaks_fn)(int error, const char *text, const Leaks *leaks, void *userdata);

/* Looks in a worker; `done` is called later, unless an error is returned. */
int manager_find_leaks(Manager *manager, leaks_fn done, void *userdata);

/* Removes files and users that are left over. For a daemon that begins: nobody may start anything meanwhile.
 */
void manager_sweep(Manager *manager);

/* Gives the user of a microVM's hypervisor back, if nothing of its state directory is left. Blocks. */
int manager_release_user(const char *state_dir, const char *name);

#endif
