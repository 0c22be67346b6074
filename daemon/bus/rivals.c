/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * microVMs that MicroVM.nix runs on the same host, as microvm@NAME.service: who of ours has the name of one.
 * Asked of systemd before a start, and when there are other microVMs; where MicroVM.nix is not, nothing is
 * asked.
 */
#include "bus/server.h"

#include "base/log.h"

#define RIVAL_PREFIX      "microvm@"
#define RIVAL_SUFFIX      ".service"
#define RIVAL_STATE_DIR   "/var/lib/microvms" /* it makes this one for its microVMs */
#define ANSWER_TIMEOUT_US UINT64_C(5000000)

/* The microVM of ours that a unit has the name of; NULL: none. */
static MicroVM *find(Manager *manager, const char *unit)
{
    _cleanup_free_ char *name = NULL;

    if (strncmp(unit, RIVAL_PREFIX, strlen(RIVAL_PREFIX)) != 0 || !has_suffix(unit, RIVAL_SUFFIX))
        return NULL;
    unit += strlen(RIVAL_PREFIX);
    name = strndup(unit, strlen(unit) - strlen(RIVAL_SUFFIX));
    return name ? manager_find(manager, name) : NULL;
}

/* Reads a list of units, and notes who of ours has a rival that runs or is to. */
static int read_units(Manager *manager, sd_bus_message *reply, const char **rivals)
{
    const char *unit, *active;
    uint32_t job;
    int r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");

    while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'r', "ssssssouso")) > 0) {
        r = sd_bus_message_read(reply, "ssssssouso", &unit, NULL, NULL, &active, NULL, NULL, NULL, &job, NULL,
                                NULL);
        MicroVM *vm = r >= 0 && (job != 0 || (!streq(active, "inactive") && !streq(active, "failed")))
                          ? find(manager, unit)
                          : NULL;
        for (size_t i = 0; vm && i < manager->n_vms; i++)
            if (manager->vms[i] == vm)
                rivals[i] = unit;
        if (r >= 0)
            r = sd_bus_message_exit_container(reply);
    }
    return r;
}

static int on_units(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    BusServer *server = userdata;
    Manager *manager = server->manager;
    _cleanup_free_ const char **rivals = calloc(manager->n_vms + 1, sizeof(*rivals));
    bus_rivals_fn done = server->rivals.done;
    int r = -ENOMEM;

    server->rivals.call = sd_bus_slot_unref(server->rivals.call);
    server->rivals.done = NULL;
    if (rivals)
        r = sd_bus_message_is_method_error(reply, NULL) ? -sd_bus_message_get_errno(reply)
                                                        : read_units(manager, reply, rivals);
    if (r < 0)
        log_full(LOG_DEBUG, NULL, r, "Can't find out what MicroVM.nix runs: %m");
    for (size_t i = 0; r >= 0 && i < manager->n_vms; i++)
        vm_set_rival(manager->vms[i], rivals[i]);
    if (done)
        done(server);
    return 0;
}

bool bus_rivals_query(BusServer *server, bus_rivals_fn done)
{
    sd_bus *bus = access(RIVAL_STATE_DIR, F_OK) == 0 ? bus_systemd(server) : NULL;
    sd_bus_message *call = NULL;
    int r;

    if (!bus)
        return false;
    if (!done)
        done = server->rivals.done; /* who waits for the answer before waits for this one */
    server->rivals.call = sd_bus_slot_unref(server->rivals.call);
    r = sd_bus_message_new_method_call(bus, &call, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                       "org.freedesktop.systemd1.Manager", "ListUnitsByPatterns");
    if (r >= 0)
        r = sd_bus_message_append(call, "asas", 0, 1, RIVAL_PREFIX "*" RIVAL_SUFFIX);
    if (r >= 0)
        r = sd_bus_call_async(bus, &server->rivals.call, call, on_units, server, ANSWER_TIMEOUT_US);
    sd_bus_message_unref(call);
    server->rivals.done = r >= 0 ? done : NULL;
    return r >= 0;
}
