/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DRIVER_QEMU_EVENT_H
#define DRIVER_QEMU_EVENT_H

#include "base/macro.h"

#include <cjson/cJSON.h>

/*
 * An event of QEMU's machine protocol for who asks later what happened, "SHUTDOWN (guest-reset)", the
 * caller's. NULL: it is none of those that say how a guest goes, or out of memory. QEMU may say what its
 * guest wants: of what comes with the event, only a word is taken.
 */
char *qemu_event_text(const char *name, const cJSON *data);

/* The bytes that BALLOON_CHANGE says the guest has now (qapi/machine.json; once a second at most); 0: it is
 * another event. */
uint64_t qemu_event_memory(const char *name, const cJSON *data);

#endif
