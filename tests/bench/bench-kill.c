/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Times Kill(SIGKILL) of a running microVM until D-Bus tells another State, and the death of its hypervisor
 * on the way. Arguments: bus address, object path. Prints one JSON object; times in microseconds.
 */
#include "base/macro.h"
#include "microvm/names.h"

#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <systemd/sd-bus.h>
#include <time.h>

enum {
    PATIENCE_MSEC = 60000,
};

static double now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* PropertiesChanged carries s a{sv} as; a State in it that is not "running" is what is waited for. */
static int on_changed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    const char *interface, *key, *state;
    double *told = userdata;

    if (sd_bus_message_read(message, "s", &interface) < 0 ||
        sd_bus_message_enter_container(message, 'a', "{sv}") < 0)
        return -EBADMSG;
    while (sd_bus_message_enter_container(message, 'e', "sv") > 0) {
        if (sd_bus_message_read(message, "s", &key) < 0)
            return -EBADMSG;
        if (streq(key, "State")) {
            if (sd_bus_message_read(message, "v", "s", &state) < 0)
                return -EBADMSG;
            if (!streq(state, "running") && *told == 0)
                *told = now_usec();
        } else if (sd_bus_message_skip(message, "v") < 0) {
            return -EBADMSG;
        }
        if (sd_bus_message_exit_container(message) < 0)
            return -EBADMSG;
    }
    return 0;
}

static int open_hypervisor(sd_bus *bus, const char *path)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    uint32_t pid;

    if (sd_bus_get_property_trivial(bus, MICROVM_BUS_NAME, path, MICROVM_VM_INTERFACE, "MainPID", &error, 'u',
                                    &pid) < 0) {
        fprintf(stderr, "MainPID: %s\n", error.message);
        return -1;
    }
    return pidfd_open((pid_t)pid, 0);
}

int main(int argc, char *argv[])
{
    double called, died = 0, told = 0;
    sd_bus *bus = NULL;
    struct pollfd fds[2];

    if (argc != 3 || sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 ||
        sd_bus_set_bus_client(bus, 1) < 0 || sd_bus_start(bus) < 0)
        return 1;
    if (sd_bus_match_signal(bus, NULL, MICROVM_BUS_NAME, argv[2], "org.freedesktop.DBus.Properties",
                            "PropertiesChanged", on_changed, &told) < 0)
        return 1;
    fds[0] = (struct pollfd){.fd = sd_bus_get_fd(bus), .events = POLLIN};
    fds[1] = (struct pollfd){.fd = open_hypervisor(bus, argv[2]), .events = POLLIN};
    if (fds[1].fd < 0)
        return 1;
    while (sd_bus_process(bus, NULL) > 0)
        ; /* what was told before */
    called = now_usec();
    if (sd_bus_call_method_async(bus, NULL, MICROVM_BUS_NAME, argv[2], MICROVM_VM_INTERFACE, "Kill", NULL,
                                 NULL, "i", SIGKILL) < 0 ||
        sd_bus_flush(bus) < 0)
        return 1;
    while (told == 0 || died == 0) {
        if (poll(fds, 2, PATIENCE_MSEC) <= 0)
            return 1;
        if (fds[1].revents && died == 0) {
            died = now_usec();
            fds[1].fd = -1;
        }
        while (sd_bus_process(bus, NULL) > 0)
            ;
    }
    printf("{\"death\": %.0f, \"told\": %.0f}\n", died - called, told - called);
    sd_bus_flush_close_unref(bus);
    return 0;
}
