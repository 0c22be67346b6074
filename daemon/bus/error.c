/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/server.h"

#include "microvm/errors.h"

#define ERROR_ROW(name, number) {name, number},

static const struct {
    const char *name;
    int number;
} errors[] = {MICROVM_ERROR_LIST(ERROR_ROW)};

int bus_error_set(sd_bus_error *error, int number, const char *text)
{
    for (size_t i = 0; i < ELEMENTSOF(errors); i++)
        if (errors[i].number == -number)
            return sd_bus_error_set(error, errors[i].name, text ? text : strerror(-number));
    return text ? sd_bus_error_set_errnof(error, number, "%s", text) : sd_bus_error_set_errno(error, number);
}
