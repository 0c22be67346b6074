/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* --- the connection --- */

static int open_address(const char *address, sd_bus **ret_bus)
{
    sd_bus *bus = NULL;
    int r;

    r = sd_bus_new(&bus);
    if (r >= 0)
        r = sd_bus_set_address(bus, address);
    if (r >= 0)
        r = sd_bus_set_bus_client(bus, 1);
    if (r >= 0)
        r = sd_bus_negotiate_fds(bus, 1);
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r < 0) {
        sd_bus_unref(bus);
        return r;
    }
    *ret_bus = bus;
    return 0;
}

int ctl_try_connect(Ctl *ctl)
{
    if (ctl->bus)
        return 0;
    if (ctl->host)
        return sd_bus_open_system_remote(&ctl->bus, ctl->host);
    if (strcmp(ctl->bus_address, "system") == 0)
        return sd_bus_open_system(&ctl->bus);
    if (strcmp(ctl->bus_address, "user") == 0)
        return sd_bus_open_user(&ctl->bus);
    if (!strchr(ctl->bus_address, ':')) /* sd-bus takes it for an address that nobody listens at */
        return -EINVAL;
    return open_address(ctl->bus_address, &ctl->bus);
}

int ctl_connect(Ctl *ctl)
{
    int r = ctl_try_connect(ctl);

    if (r == -EINVAL && !ctl->host)
        return fail(MICROVM_EXIT_USAGE, "\"%s\" is no bus: use system, user, or a D-Bus address such as %s",
                    ctl->bus_address, "unix:path=/run/user/1000/bus");
    return r < 0 ? ctl_unreachable(ctl, r) : MICROVM_EXIT_OK;
}

void ctl_disconnect(Ctl *ctl)
{
    ctl_stop_asking(ctl);
    ctl->bus = sd_bus_flush_close_unref(ctl->bus);
}

/* --- passwords --- */

static void run_agent(const char *program, pid_t parent, int ready)
{
    char process[24], notify[24];

    fcntl(ready, F_SETFD, 0);
    snprintf(process, sizeof(process), "%d", (int)parent);
    snprintf(notify, sizeof(notify), "%d", ready);
    execl(program, program, "--notify-fd", notify, "--fallback", "--process", process, NULL);
    _exit(127);
}

void ctl_ask_password(Ctl *ctl)
{
    static const char program[] = "/usr/bin/pkttyagent";
    pid_t self = getpid();
    int ready[2];
    char byte;

    if (ctl->agent > 0 || ctl->no_ask_password || ctl->host || geteuid() == 0 || !isatty(STDIN_FILENO) ||
        strcmp(ctl->bus_address, "system") != 0 || access(program, X_OK) != 0)
        return;
    if (pipe2(ready, O_CLOEXEC) < 0)
        return;
    ctl->agent = fork();
    if (ctl->agent == 0)
        run_agent(program, self, ready[1]);
    close(ready[1]);
    /* It closes the pipe when polkit knows it, or when it can't run; either way the call may be made. */
    while (read(ready[0], &byte, 1) < 0 && errno == EINTR)
        ;
    close(ready[0]);
}

void ctl_stop_asking(Ctl *ctl)
{
    if (ctl->agent <= 0)
        return;
    kill(ctl->agent, SIGTERM);
    kill(ctl->agent, SIGCONT);
    while (waitpid(ctl->agent, NULL, 0) < 0 && errno == EINTR)
        ;
    ctl->agent = 0;
}

/* --- calls --- */

int ctl_bad_answer(int r)
{
    return fail(MICROVM_EXIT_FAILURE,
                "microvmd's answer can't be read: %s. Are both of the same version? See: microvmctl version",
                strerror(r < 0 ? -r : EBADMSG));
}

static int cant_call(int r)
{
    return fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r));
}

int ctl_new_call(Ctl *ctl, const char *path, const char *member, sd_bus_message **ret_call)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    int r;

    r = sd_bus_message_new_method_call(ctl->bus, &call, MICROVM_BUS_NAME, path ? path : MICROVM_MANAGER_PATH,
                                       path ? MICROVM_VM_INTERFACE : MICROVM_MANAGER_INTERFACE, member);
    if (r >= 0)
        r = sd_bus_message_set_auto_start(call, 0);
    if (r >= 0 && !ctl->no_ask_password && isatty(STDIN_FILENO))
        r = sd_bus_message_set_allow_interactive_authorization(call, 1);
    if (r < 0)
        return cant_call(r);
    *ret_call = call;
    call = NULL;
    return MICROVM_EXIT_OK;
}

int ctl_send(Ctl *ctl, sd_bus_message *call, const char *about, sd_bus_message **ret_reply)
{
    _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    int r;

    /* A person may be typing a password: no timeout of ours. */
    r = sd_bus_call(ctl->bus, call, UINT64_MAX, &error, &reply);
    if (r < 0)
        return ctl_explain(ctl, &error, r, sd_bus_message_get_member(call), about);
    if (ret_reply)
        *ret_reply = reply;
    else
        sd_bus_message_unref(reply);
    return MICROVM_EXIT_OK;
}

int ctl_call(Ctl *ctl, const char *path, const char *about, const char *member, sd_bus_message **ret_reply,
             const char *types, ...)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    va_list arguments;
    int code, r = 0;

    code = ctl_new_call(ctl, path, member, &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (types) {
        va_start(arguments, types);
        r = sd_bus_message_appendv(call, types, arguments);
        va_end(arguments);
    }
    return r < 0 ? cant_call(r) : ctl_send(ctl, call, about, ret_reply);
}

int ctl_get_all(Ctl *ctl, const char *path, const char *about, cJSON **ret_properties)
{
    _cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
    int code, r;

    r = sd_bus_message_new_method_call(ctl->bus, &call, MICROVM_BUS_NAME, path ? path : MICROVM_MANAGER_PATH,
                                       "org.freedesktop.DBus.Properties", "GetAll");
    if (r >= 0)
        r = sd_bus_message_set_auto_start(call, 0);
    if (r >= 0)
        r = sd_bus_message_append(call, "s", path ? MICROVM_VM_INTERFACE : MICROVM_MANAGER_INTERFACE);
    if (r < 0)
        return cant_call(r);
    code = ctl_send(ctl, call, about, &reply);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = json_from_message(reply, ret_properties);
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

int ctl_get_objects(Ctl *ctl, cJSON **ret_objects)
{
    _cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
    int code, r;

    r = sd_bus_message_new_method_call(ctl->bus, &call, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH,
                                       "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
    if (r >= 0)
        r = sd_bus_message_set_auto_start(call, 0);
    if (r < 0)
        return cant_call(r);
    code = ctl_send(ctl, call, NULL, &reply);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = json_from_message(reply, ret_objects);
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

bool ctl_daemon_lives(Ctl *ctl, sd_bus_message *reply)
{
    const char *sender = sd_bus_message_get_sender(reply);

    /* Not GetNameOwner: the bus may not have noticed its death yet. A ping then ends with NoReply. */
    return sender && sd_bus_call_method(ctl->bus, sender, MICROVM_MANAGER_PATH, "org.freedesktop.DBus.Peer",
                                        "Ping", NULL, NULL, NULL) >= 0;
}

/* What it had begun for us went with it, even if another one is there by now. */
static int on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *name, *before, *after;

    if (sd_bus_message_read(message, "sss", &name, &before, &after) >= 0 && *before)
        *(bool *)userdata = true;
    return 0;
}

int ctl_watch_daemon(Ctl *ctl, bool *ret_gone)
{
    return sd_bus_add_match(ctl->bus, NULL,
                            "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                            "member='NameOwnerChanged',arg0='" MICROVM_BUS_NAME "'",
                            on_owner_changed, ret_gone);
}
