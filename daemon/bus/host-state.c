/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether the host is shutting down, asked of systemd itself, over its private socket: the system bus may be
 * gone already, or be another one than ours. Property SystemState of org.freedesktop.systemd1(5).
 */
#include "bus/server.h"

#include "base/log.h"

#include <systemd/sd-daemon.h>

#define ANSWER_TIMEOUT_USEC UINT64_C(5000000)

static void tell_manager(BusServer *server)
{
    manager_host_state(server->manager, server->host_stopping);
    if (server->handles)
        handles_host_state_known(server->handles);
}

static int on_state(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    BusServer *server = userdata;
    const char *state = NULL;

    server->host_state_call = sd_bus_slot_unref(server->host_state_call);
    /* Who does not answer is not known to be shutting down; a start must not hang on that. */
    if (!sd_bus_message_is_method_error(reply, NULL) && sd_bus_message_enter_container(reply, 'v', "s") > 0 &&
        sd_bus_message_read(reply, "s", &state) < 0)
        state = NULL;
    server->host_stopping = streq(state, "stopping");
    /* What asks for this wants to start something; then that is to be known as well. */
    if (!bus_rivals_query(server, tell_manager))
        tell_manager(server);
    return 0;
}

static void connect_systemd(BusServer *server)
{
    sd_bus *bus = NULL;
    int r;

    if (sd_booted() <= 0)
        return;
    r = bus_open_systemd(&bus);
    if (r >= 0)
        r = sd_bus_attach_event(bus, server->event, SD_EVENT_PRIORITY_NORMAL);
    if (r < 0) {
        log_debug("systemd can't be reached: %s", strerror(-r));
        sd_bus_unref(bus);
        return;
    }
    server->systemd = bus;
    if (server->handles)
        handles_systemd_changed(server->handles, bus);
}

sd_bus *bus_systemd(BusServer *server)
{
    /* It closes the connection when it is executed anew, at every upgrade of its package. */
    if (server->systemd && sd_bus_is_open(server->systemd) <= 0)
        server->systemd = sd_bus_close_unref(server->systemd);
    if (!server->systemd)
        connect_systemd(server);
    return server->systemd;
}

void bus_host_state_query(BusServer *server)
{
    sd_bus_message *call = NULL;
    int r = -ENOTCONN;

    server->host_state_call = sd_bus_slot_unref(server->host_state_call);
    if (bus_systemd(server)) {
        r = sd_bus_message_new_method_call(server->systemd, &call, "org.freedesktop.systemd1",
                                           "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties",
                                           "Get");
        if (r >= 0)
            r = sd_bus_message_append(call, "ss", "org.freedesktop.systemd1.Manager", "SystemState");
        if (r >= 0)
            r = sd_bus_call_async(server->systemd, &server->host_state_call, call, on_state, server,
                                  ANSWER_TIMEOUT_USEC);
        sd_bus_message_unref(call);
    }
    if (r < 0) {
        server->systemd = sd_bus_close_unref(server->systemd);
        server->host_stopping = false;
        tell_manager(server);
    }
}

int bus_open_systemd(sd_bus **ret_bus)
{
    sd_bus *bus = NULL;
    int r;

    r = sd_bus_new(&bus);
    if (r >= 0)
        r = sd_bus_set_address(bus, "unix:path=/run/systemd/private");
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r < 0) {
        sd_bus_unref(bus);
        return r;
    }
    *ret_bus = bus;
    return 0;
}
