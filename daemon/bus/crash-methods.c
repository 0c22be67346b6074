/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The crash reports of a microVM. They hold what its guest said. */
#include "bus/server.h"

#include "supervise/vm-past.h"

static int append_crash(sd_bus_message *reply, const void *items, size_t index)
{
    const CrashRow *row = (const CrashRow *)items + index;

    return sd_bus_message_append(reply, "(tss)", row->usec, microvm_result_to_string(row->result),
                                 row->reason);
}

static void on_crashes(int error, const CrashRows *rows, void *userdata)
{
    sd_bus_message *message = userdata;

    if (error >= 0)
        error = bus_reply_list(message, "(tss)", rows->count, append_crash, rows->items);
    if (error < 0)
        sd_bus_reply_method_errno(message, error, NULL);
    sd_bus_message_unref(message);
}

int bus_method_list_crashes(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    int r = bus_read_options(message, NULL, 0, error);

    if (r < 0)
        return r;
    sd_bus_message_ref(message);
    r = vm_list_crashes(vm, on_crashes, message);
    if (r < 0)
        sd_bus_message_unref(message);
    return r < 0 ? r : 1;
}

static void on_crash(int error, const char *text, void *userdata)
{
    sd_bus_message *message = userdata;

    if (error == -ENOENT)
        sd_bus_reply_method_errorf(
            message, SD_BUS_ERROR_FILE_NOT_FOUND,
            "There is no such crash report; it may have been older than those that are kept.");
    else if (error < 0)
        sd_bus_reply_method_errno(message, error, NULL);
    else
        sd_bus_reply_method_return(message, "s", text);
    sd_bus_message_unref(message);
}

int bus_method_get_crash(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    uint64_t number;
    int r;

    r = sd_bus_message_read(message, "t", &number);
    if (r < 0)
        return r;
    sd_bus_message_ref(message);
    r = vm_get_crash(vm, number, on_crash, message);
    if (r < 0)
        sd_bus_message_unref(message);
    return r < 0 ? r : 1;
}
