/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One try whether a guest answers at a port of its own, or at one that is forwarded to it. Never blocks. */
#ifndef SUPERVISE_PROBE_H
#define SUPERVISE_PROBE_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct Probe Probe;

typedef struct ProbeTarget {
    const char *address; /* IPv4, of the host, or the guest's own */
    uint16_t port;
    bool routed;      /* it is the guest's own */
    const char *path; /* of http; NULL: any answer will do */
} ProbeTarget;

/* `why`: NULL: it answers as it should; else a few words. It may free the probe. */
typedef void (*probe_done_fn)(const char *why, void *userdata);

/*
 * Connects and waits for an answer, which takes `timeout_usec` at the most; `done` is called once, never from
 * within. That the connection comes about says nothing: QEMU takes it before the guest does. So something is
 * asked: by http for the path, where a status from 200 to 399 counts; else by a single line end, to which any
 * answer does, and that somebody ends the connection who has read it.
 */
int probe_new(sd_event *event, const ProbeTarget *target, uint64_t timeout_usec, probe_done_fn done,
              void *userdata, Probe **ret_probe);
Probe *probe_free(Probe *probe);
DEFINE_CLEANUP(Probe *, probe_free)

#endif
