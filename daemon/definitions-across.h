/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the definitions of a host must be to each other. */
#ifndef DEFINITIONS_ACROSS_H
#define DEFINITIONS_ACROSS_H

#include "definitions.h"
#include "layers.h"

/*
 * Finds what only one microVM of a host can have (a MAC address, a port, a writable image...) and two ask
 * for, names that nobody has, and orders that go round in a circle. The first by name keeps what two want,
 * even if it is refused for something else: mending one definition never breaks another. One that is refused
 * loses its spec and gets an error. `below`: the layers below every definition; `host_mib`: memory of the
 * host, 0: not known. Returns 0 or -ENOMEM.
 */
int definitions_check_across(Definitions *definitions, const Layers *below, uint64_t host_mib,
                             ProblemList *problems);

/* Memory of this host in MiB. */
uint64_t host_memory_mib(void);

#endif
