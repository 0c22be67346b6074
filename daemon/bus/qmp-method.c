/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Qmp(): a command for the QEMU of a microVM. What only reads is for who may read definitions. Everything
 * else is as mighty as a definition that reaches outside its place: QEMU opens files and runs programs when
 * told so.
 */
#include "bus/server.h"

#include "base/log.h"
#include "microvm/names.h"

#define TIMEOUT_USEC (UINT64_C(60) * 1000000)

static void on_answer(int result, const char *text, const char *json, void *userdata)
{
    sd_bus_message *message = userdata;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = result;

    if (result >= 0)
        r = sd_bus_reply_method_return(message, "s", json);
    if (r == -EINVAL) /* D-Bus takes no string that is not UTF-8 */
        text = "QEMU's answer is no text in UTF-8";
    if (r < 0) {
        bus_error_set(&error, r, text);
        r = sd_bus_reply_method_error(message, &error);
    }
    if (r < 0)
        log_debug("A caller could not be answered: %s", strerror(-r));
    sd_bus_error_free(&error);
    sd_bus_message_unref(message);
}

static int authorize(BusServer *server, sd_bus_message *message, const QmpCommand *command,
                     sd_bus_error *error)
{
    return qmp_command_only_reads(command->name)
               ? 1
               : bus_authorize_also(server, message, MICROVM_POLKIT_DEFINE_UNSAFE, error);
}

static int send_command(sd_bus_message *message, MicroVM *vm, const QmpCommand *command,
                        uint64_t timeout_usec, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    int r;

    if (!qmp_command_only_reads(command->name))
        log_vm_info(vm->name, "Its QEMU is told \"%s\", as asked.", command->name);
    sd_bus_message_ref(message);
    r = vm_request_qmp(vm, command, timeout_usec, on_answer, message, &text);
    if (r >= 0)
        return 1;
    sd_bus_message_unref(message);
    return bus_error_set(error, r, text);
}

int bus_method_qmp(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_(qmp_command_clear)
    QmpCommand command = {0};
    uint64_t timeout_usec = TIMEOUT_USEC;
    const BusOption options[] = {{"timeout", 't', &timeout_usec}};
    const char *text, *why = NULL;
    int r;

    r = sd_bus_message_read(message, "s", &text);
    if (r >= 0)
        r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r < 0)
        return r;
    r = qmp_command_parse(text, strlen(text), &command, &why);
    if (r == -EBADMSG)
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "This is no command for QEMU: %s.", why);
    if (r >= 0)
        r = authorize(server, message, &command, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    return send_command(message, vm, &command, timeout_usec, error);
}
