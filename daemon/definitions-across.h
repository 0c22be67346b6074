/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the definitions of a host must be to each other, and to what runs. */
#ifndef DEFINITIONS_ACROSS_H
#define DEFINITIONS_ACROSS_H

#include "definitions.h"
#include "layers.h"

/*
 * Finds what only one microVM of a host can have (a MAC address, a port, a writable image...) and two ask
 * for, names that nobody has, and orders that go round in a circle; accepts or refuses each definition that
 * could be read: a refused one has no spec, and an error. What a microVM runs with is its own, whatever its
 * definition says by now. Between definitions, who was accepted `before` (may be NULL, or `definitions`
 * itself) with what he asks for keeps it; else who runs goes before who was accepted before, he before
 * others, and then the first by name. One that is refused, for whatever reason, keeps nothing from others.
 * `below`: the layers below every definition. Returns 0 or -ENOMEM.
 */
int definitions_check_across(Definitions *definitions, const Definitions *before, const Layers *below,
                             const Surroundings *around, ProblemList *problems);

#endif
