/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Times a method of the manager that answers about all microVMs, from the call to the whole reply. Arguments:
 * bus address, ListMicroVMs or Plan, rounds. Prints one JSON object; times in microseconds.
 */
#include "base/macro.h"
#include "microvm/names.h"

#include <systemd/sd-bus.h>
#include <time.h>

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

static int count(sd_bus_message *reply, bool plan, size_t *ret_n)
{
    const char *item = plan ? "(sssa(ssss))" : "(sossssu)";
    size_t n = 0;
    int r;

    r = sd_bus_message_enter_container(reply, 'a', item);
    for (; r >= 0 && sd_bus_message_at_end(reply, 0) == 0; n++)
        r = sd_bus_message_skip(reply, item);
    *ret_n = n;
    return r;
}

static int call(sd_bus *bus, const char *method, double *ret_usec, size_t *ret_n)
{
    bool plan = streq(method, "Plan");
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *message = NULL, *reply = NULL;
    double before;
    int r;

    r = sd_bus_message_new_method_call(bus, &message, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH,
                                       MICROVM_MANAGER_INTERFACE, method);
    if (r >= 0)
        r = plan ? sd_bus_message_append(message, "asa{sv}", 0, 0)
                 : sd_bus_message_append(message, "a{sv}", 0);
    before = now_usec();
    if (r >= 0)
        r = sd_bus_call(bus, message, 0, &error, &reply);
    *ret_usec = now_usec() - before;
    if (r >= 0)
        r = count(reply, plan, ret_n);
    if (r < 0)
        fprintf(stderr, "%s: %s\n", method, error.message ? error.message : strerror(-r));
    sd_bus_error_free(&error);
    sd_bus_message_unref(message);
    sd_bus_message_unref(reply);
    return r;
}

int main(int argc, char *argv[])
{
    size_t rounds = argc == 4 ? strtoul(argv[3], NULL, 10) : 0, n = 0;
    double *times = calloc(rounds + 1, sizeof(*times));
    sd_bus *bus = NULL;

    if (rounds == 0 || !times || sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 ||
        sd_bus_set_bus_client(bus, 1) < 0 || sd_bus_start(bus) < 0)
        return 1;
    for (size_t i = 0; i < rounds; i++)
        if (call(bus, argv[2], &times[i], &n) < 0)
            return 1;
    qsort(times, rounds, sizeof(*times), by_value);
    printf("{\"n\": %zu, \"p50\": %.0f, \"p95\": %.0f}\n", n, times[(rounds - 1) / 2],
           times[(rounds - 1) * 95 / 100]);
    sd_bus_flush_close_unref(bus);
    free(times);
    return 0;
}
