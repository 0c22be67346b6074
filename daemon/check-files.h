/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definitions, drop-ins and defaults that are checked by their files. */
#ifndef CHECK_FILES_H
#define CHECK_FILES_H

#include "options.h"

/*
 * Tells everything that is wrong with options->files, and what they are to each other; where one is in a
 * definition directory, also to the definitions there. 0 or -ENOMEM.
 */
int check_files(const Options *options, const SpecContext *defaults, ProblemList *problems);

#endif
