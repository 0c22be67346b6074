/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handles of microVMs: microvmd@NAME.service, by which systemctl and anybody's units deal with them.
 * Their processes are attached here; where systemd is PID 1, it is told when one is to be active and when
 * not. See docs/adr/0015.
 */
#ifndef BUS_HANDLE_H
#define BUS_HANDLE_H

#include "manager.h"

#include <systemd/sd-bus.h>

typedef struct BusServer BusServer;
typedef struct Handles Handles;

/* Connects to handles, which listen in the runtime directory; that must be locked. `systemd`: PID 1 is to be
 * told. */
int handles_new(BusServer *server, bool systemd, Handles **ret_handles);
Handles *handles_free(Handles *handles);
DEFINE_CLEANUP(Handles *, handles_free)

/* Something of a microVM changed; it goes. */
void handles_update(Handles *handles, MicroVM *vm);
void handles_forget(Handles *handles, MicroVM *vm);

/* Who was waited for has answered, or will not. */
void handles_manager_ready(Handles *handles);

/* There are others, or somebody has enabled or disabled one: whether each is enabled is looked up again. */
void handles_look(Handles *handles);

/* Whether systemd has still to answer for a microVM that is on its way: ready is to be told after that, so
 * that units which are ordered after a handle find its job. */
bool handles_pending(const Handles *handles);

/* It was asked whether the host is shutting down, and Manager.host_stopping says so. */
void handles_host_state_known(Handles *handles);

/* There is a new connection to systemd. */
void handles_systemd_changed(Handles *handles, sd_bus *bus);

/*
 * handle-queue.c, in a process of its own, before microvmd: queues start jobs of the handles of `names`,
 * which ends with NULL. Those that systemd refuses are told in the log. 0, or negative errno: systemd can't
 * be asked.
 */
int handles_queue(char *const *names);
/* The same on a connection to systemd. */
int handles_queue_on(sd_bus *systemd, char *const *names);

/* handle-enabled.c: sets MicroVM.enabled of all, from the links of systemctl enable below `root`. */
void handles_find_enabled(Manager *manager, const char *root);

#endif
