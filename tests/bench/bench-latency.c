/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Times a property read of microvmd against org.freedesktop.DBus.GetId, one after the other, until standard
 * input ends. Arguments: bus address, object path. Prints one JSON object; times in microseconds.
 */
#include "base/macro.h"
#include "microvm/names.h"

#include <poll.h>
#include <systemd/sd-bus.h>
#include <time.h>

enum {
    MOST = 1000000,
};

static double now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;

    return first < second ? -1 : first > second;
}

static double percentile(double *sorted, size_t n, double p)
{
    return sorted[(size_t)((double)(n - 1) * p)];
}

static int time_call(sd_bus *bus, const char *to, const char *path, const char *interface, const char *member,
                     const char *types, const char *first, const char *second, double *ret_usec)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    double before = now_usec();
    int r;

    r = sd_bus_call_method(bus, to, path, interface, member, &error, &reply, types, first, second);
    *ret_usec = now_usec() - before;
    if (r < 0)
        fprintf(stderr, "%s: %s\n", member, error.message ? error.message : strerror(-r));
    sd_bus_error_free(&error);
    sd_bus_message_unref(reply);
    return r;
}

int main(int argc, char *argv[])
{
    double *property = calloc(MOST, sizeof(double)), *id = calloc(MOST, sizeof(double));
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    sd_bus *bus = NULL;
    size_t n = 0;

    if (argc != 3 || !property || !id || sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 ||
        sd_bus_set_bus_client(bus, 1) < 0 || sd_bus_start(bus) < 0)
        return 1;
    while (n < MOST && poll(&input, 1, 0) == 0) {
        if (time_call(bus, MICROVM_BUS_NAME, argv[2], "org.freedesktop.DBus.Properties", "Get", "ss",
                      MICROVM_VM_INTERFACE, "State", &property[n]) < 0 ||
            time_call(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId",
                      NULL, NULL, NULL, &id[n]) < 0)
            return 1;
        n++;
    }
    if (n == 0)
        return 1;
    qsort(property, n, sizeof(double), by_value);
    qsort(id, n, sizeof(double), by_value);
    printf("{\"n\": %zu, \"property\": {\"p50\": %.0f, \"p99\": %.0f}, \"id\": {\"p50\": %.0f, \"p99\": "
           "%.0f}}\n",
           n, percentile(property, n, 0.5), percentile(property, n, 0.99), percentile(id, n, 0.5),
           percentile(id, n, 0.99));
    sd_bus_flush_close_unref(bus);
    free(property);
    free(id);
    return 0;
}
