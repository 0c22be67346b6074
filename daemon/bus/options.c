/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/server.h"

#include "base/strv.h"

static const BusOption *find(const BusOption *options, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (streq(options[i].key, key))
            return &options[i];
    return NULL;
}

int bus_read_strings(sd_bus_message *message, char ***ret_strings)
{
    char **strings = NULL;
    int r = sd_bus_message_read_strv(message, &strings);

    if (r < 0)
        return r;
    strv_free(*ret_strings); /* of an option that is there twice */
    *ret_strings = strings;
    return 0;
}

static int read_list(sd_bus_message *message, const BusOption *option, sd_bus_error *error)
{
    int r;

    r = sd_bus_message_enter_container(message, 'v', "as");
    if (r == -ENXIO || r == 0)
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "Option \"%s\" must be of type \"as\".",
                                 option->key);
    if (r >= 0)
        r = bus_read_strings(message, option->target);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int read_value(sd_bus_message *message, const BusOption *option, sd_bus_error *error)
{
    char type[2] = {option->type, '\0'};
    int flag = 0, r;

    if (option->type == 'a')
        return read_list(message, option, error);
    r = sd_bus_message_enter_container(message, 'v', type);
    if (r == -ENXIO || r == 0)
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "Option \"%s\" must be of type \"%c\".",
                                 option->key, option->type);
    if (r < 0)
        return r;
    /* sd-bus reads a boolean into an int */
    r = sd_bus_message_read_basic(message, option->type, option->type == 'b' ? &flag : option->target);
    if (r < 0)
        return r;
    if (option->type == 'b')
        *(bool *)option->target = flag;
    return sd_bus_message_exit_container(message);
}

int bus_read_options(sd_bus_message *message, const BusOption *options, size_t n, sd_bus_error *error)
{
    const char *key;
    int r;

    r = sd_bus_message_enter_container(message, 'a', "{sv}");
    if (r < 0)
        return r;
    while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
        const BusOption *option;
        r = sd_bus_message_read(message, "s", &key);
        if (r < 0)
            return r;
        option = find(options, n, key);
        if (!option)
            return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "There is no option \"%s\".", key);
        r = read_value(message, option, error);
        if (r < 0)
            return r;
        r = sd_bus_message_exit_container(message);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : sd_bus_message_exit_container(message);
}
