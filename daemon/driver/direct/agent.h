/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Asks the agent in a guest to shut it down (qemu-ga(8); QEMU's docs/interop/qemu-ga-ref). First it is asked
 * to say a number of ours, so that nobody takes what is left of an earlier conversation for its answer. One
 * that does as it is told says no more; one that refuses says so. A guest is nobody to be trusted: what it
 * says is bounded, and what is no answer is dropped.
 */
#ifndef DRIVER_DIRECT_AGENT_H
#define DRIVER_DIRECT_AGENT_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct Agent Agent;

/* The agent says no; `text` is one sentence without its full stop, valid during the call, in which the agent
 * may be freed. Called once at most. */
typedef void (*agent_refused_fn)(Agent *agent, const char *text, void *userdata);

/* `fd`: connected to its port, non-blocking, taken in every case. */
int agent_new(sd_event *event, int fd, agent_refused_fn refused, void *userdata, Agent **ret_agent);
/* It is not listened to any more. */
Agent *agent_free(Agent *agent);
DEFINE_CLEANUP(Agent *, agent_free)

#endif
