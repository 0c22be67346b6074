/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "launch/systemd.h"

#include "base/clock.h"
#include "base/say.h"

#include <pthread.h>

static const uint64_t PATIENCE_USEC = UINT64_C(10) * 1000000;
static const useconds_t AGAIN_USEC = 50 * 1000;

static pthread_key_t connection;
static pthread_once_t connection_once = PTHREAD_ONCE_INIT;

static void disconnect(void *bus)
{
    sd_bus_close_unref(bus);
}

static void make_key(void)
{
    (void)pthread_key_create(&connection, disconnect);
}

static int connect_bus(sd_bus **ret_bus)
{
    sd_bus *bus;
    int r;

    (void)pthread_once(&connection_once, make_key);
    bus = pthread_getspecific(connection);
    if (bus && sd_bus_is_open(bus) <= 0) {
        (void)pthread_setspecific(connection, NULL);
        bus = sd_bus_close_unref(bus);
    }
    if (!bus) {
        r = sd_bus_open_system(&bus);
        if (r >= 0)
            r = -pthread_setspecific(connection, bus);
        if (r < 0) {
            sd_bus_close_unref(bus);
            return r;
        }
    }
    *ret_bus = bus;
    return 0;
}

/* Whether the bus is gone, or systemd is not on it now. */
static bool is_away(int result, const sd_bus_error *error)
{
    static const char *const names[] = {
        SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_NO_REPLY,
        SD_BUS_ERROR_DISCONNECTED,    SD_BUS_ERROR_TIMEOUT,
    };
    static const int errors[] = {-ENOTCONN, -ECONNRESET, -EPIPE, -ECONNREFUSED, -ENOENT, -ECONNABORTED};

    /* For whose name nobody is there the bus starts a program, which for systemd's is /bin/false. */
    static const char spawn[] = "org.freedesktop.DBus.Error.Spawn.";

    if (sd_bus_error_is_set(error)) {
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
            if (streq(error->name, names[i]))
                return true;
        return strncmp(error->name, spawn, strlen(spawn)) == 0;
    }
    for (size_t i = 0; i < ELEMENTSOF(errors); i++)
        if (result == errors[i])
            return true;
    return false;
}

int systemd_call(systemd_call_fn call, void *userdata, char **ret_text)
{
    uint64_t deadline = now_usec(CLOCK_MONOTONIC) + PATIENCE_USEC;

    for (;;) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus *bus;
        int r = connect_bus(&bus);

        if (r >= 0)
            r = call(bus, &error, userdata);
        if (r >= 0)
            return r;
        if (!is_away(r, &error))
            return ret_text ? say_why(ret_text, r, "systemd refuses: %s",
                                      error.message ? error.message : strerror(-r))
                            : r;
        if (now_usec(CLOCK_MONOTONIC) >= deadline)
            return ret_text
                       ? say_why(ret_text, -EHOSTDOWN, "systemd can't be reached over the system bus: %s",
                                 error.message ? error.message : strerror(-r))
                       : -EHOSTDOWN;
        (void)usleep(AGAIN_USEC);
    }
}

int systemd_listen(const char *const *matches, sd_bus **ret_bus)
{
    _cleanup_(sd_bus_flush_close_unrefp)
    sd_bus *bus = NULL;
    int r;

    r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = sd_bus_add_match(bus, NULL,
                             "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',"
                             "arg0='" SYSTEMD_BUS_NAME "'",
                             NULL, NULL);
    for (; *matches && r >= 0; matches++)
        r = sd_bus_add_match(bus, NULL, *matches, NULL, NULL);
    if (r >= 0)
        r = sd_bus_call_method(bus, SYSTEMD_BUS_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "Subscribe", NULL, NULL,
                               NULL);
    if (r < 0)
        return r;
    *ret_bus = TAKE_PTR(bus);
    return 0;
}
