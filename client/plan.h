/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What apply would do, as the daemon tells it. */
#ifndef CLIENT_PLAN_H
#define CLIENT_PLAN_H

#include "bus.h"

/*
 * Asks for the plan of the names and labels of the command line: a list of objects with Name, Action, Reason
 * and Changes (Key, Old, New, Takes). An exit code; `explain`: says why there is none.
 */
int ctl_plan(Ctl *ctl, char *const *names, size_t n_names, bool explain, cJSON **ret_plan);

/* Lets the daemon read its files anew, without a word about what changed. An exit code. */
int ctl_reload_quietly(Ctl *ctl);

/* "    KEY  OLD → NEW  (takes)", a line a change of `item`. */
void print_changes(const cJSON *item);

/* Appends names and labels of the command line. */
int append_names(sd_bus_message *call, char *const *names, size_t n);
int append_labels(const Ctl *ctl, sd_bus_message *call);

#endif
