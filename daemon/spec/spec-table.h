/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definition language: the one table, of VmSpec. */
#ifndef SPEC_SPEC_TABLE_H
#define SPEC_SPEC_TABLE_H

#include "spec/spec.h"
#include "spec/table.h"

extern const KeyTable vm_table;

/* checks.c: what the keys of one definition must be to each other. */
void vm_spec_check(const VmSpec *spec, const TableReader *reader);

/* defaults.c: what is made from the name of a microVM. Each is stable: the same name gives the same value. */
char *default_machine_id(const char *name);        /* MicroVM.nix's rule: SHA-256 of "microvm.nix:NAME" */
char *default_mac(const char *name, size_t index); /* locally administered, 02:… */
char *default_interface_id(const char *name, size_t index); /* 15 bytes at most, as an interface name */

#endif
