/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may do what. Root and the user that the daemon runs as always may; others are polkit's business, asked
 * asynchronously and without a timeout of ours: a person may be typing a password. See polkit(8) and
 * org.freedesktop.PolicyKit1.Authority.
 */
#include "bus/server.h"

#include "base/log.h"
#include "resource/process-look.h"

/* One call that waits for its answer, or is being carried out with it. */
struct Authorization {
    BusServer *server;
    sd_bus_message *message;
    const BusMethod *table;
    size_t n_table;
    bool is_vm;
    const BusMethod *method;
    const char *action;     /* that is asked for */
    const char *granted[2]; /* those that were, before */
    char *vm_name;          /* NULL: the call is not about one */
    sd_bus_slot *call;
    sd_bus_track *caller;
    Caller who;
    bool answered, allowed;
    char *refusal_name, *refusal_text;
    Authorization *next;
};

static void authorization_free(Authorization *authorization)
{
    for (Authorization **link = &authorization->server->authorizations; *link; link = &(*link)->next)
        if (*link == authorization) {
            *link = authorization->next;
            break;
        }
    sd_bus_slot_unref(authorization->call);
    sd_bus_track_unref(authorization->caller);
    sd_bus_message_unref(authorization->message);
    free(authorization->refusal_name);
    free(authorization->refusal_text);
    free(authorization->vm_name);
    free(authorization);
}

void bus_authorizations_drop(BusServer *server)
{
    while (server->authorizations)
        authorization_free(server->authorizations);
}

/* The call goes on where it stopped; its object and state are looked at again. */
static void answer(Authorization *authorization, bool allowed, const char *name, const char *text)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int r;

    authorization->call = sd_bus_slot_unref(authorization->call);
    authorization->answered = true;
    authorization->allowed = allowed;
    if (allowed)
        authorization->granted[authorization->granted[0] ? 1 : 0] = authorization->action;
    if (!allowed && (free_and_strdup(&authorization->refusal_name, name) < 0 ||
                     free_and_strdup(&authorization->refusal_text, text) < 0))
        log_oom();
    r = bus_dispatch(authorization->server, authorization->table, authorization->n_table,
                     authorization->message, authorization->is_vm, &error);
    if (r < 0 || sd_bus_error_is_set(&error))
        r = sd_bus_reply_method_errno(authorization->message, r, &error);
    if (r < 0)
        log_debug("A caller could not be answered: %s", strerror(-r));
    sd_bus_error_free(&error);
    if (authorization->answered) /* else another action was asked for */
        authorization_free(authorization);
}

static void refuse(Authorization *authorization, bool interactive_would_help, const char *why)
{
    char text[512];

    snprintf(text, sizeof(text), "Not allowed: %s needs the polkit action %s%s%s",
             authorization->method->member, authorization->action, why ? "; " : ".", why ? why : "");
    answer(authorization, false,
           interactive_would_help ? SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED
                                  : SD_BUS_ERROR_ACCESS_DENIED,
           text);
}

static int on_polkit_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Authorization *authorization = userdata;
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    int allowed = 0, challenge = 0;

    if (error) {
        bool absent =
            sd_bus_error_has_names(error, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
        refuse(authorization, false, absent ? "there is no polkit here, so only root may" : error->message);
        return 0;
    }
    if (sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
        sd_bus_message_read(reply, "bb", &allowed, &challenge) < 0)
        refuse(authorization, false, "polkit's answer can't be read");
    else if (allowed)
        answer(authorization, true, NULL, NULL);
    else
        refuse(authorization, challenge, NULL);
    return 0;
}

static int ask_polkit(Authorization *authorization)
{
    enum {
        ALLOW_USER_INTERACTION = 1
    };
    sd_bus *bus = authorization->server->bus;
    sd_bus_message *call = NULL;
    int r;

    r = sd_bus_message_new_method_call(bus, &call, "org.freedesktop.PolicyKit1",
                                       "/org/freedesktop/PolicyKit1/Authority",
                                       "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization");
    if (r >= 0)
        r = sd_bus_message_append(call, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                  sd_bus_message_get_sender(authorization->message), authorization->action);
    if (r >= 0 && authorization->vm_name)
        r = sd_bus_message_append(call, "a{ss}", 2, "microvm", authorization->vm_name, "verb",
                                  authorization->method->member);
    else if (r >= 0)
        r = sd_bus_message_append(call, "a{ss}", 1, "verb", authorization->method->member);
    if (r >= 0)
        r = sd_bus_message_append(call, "us",
                                  sd_bus_message_get_allow_interactive_authorization(authorization->message) >
                                          0
                                      ? ALLOW_USER_INTERACTION
                                      : 0,
                                  "");
    if (r >= 0) {
        sd_bus_slot *slot = NULL;
        r = sd_bus_call_async(bus, &slot, call, on_polkit_answer, authorization, UINT64_MAX);
        if (r >= 0)
            authorization->call = slot;
    }
    sd_bus_message_unref(call);
    return r;
}

/* The bus may tell more, or less: -ENODATA without a user. */
static int read_caller(sd_bus_message *reply, Caller *ret_caller)
{
    Caller caller = {0};
    uint32_t number;
    const char *key;
    int r;

    r = sd_bus_message_enter_container(reply, 'a', "{sv}");
    while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
        bool is_uid, is_pid;
        r = sd_bus_message_read(reply, "s", &key);
        if (r < 0)
            return r;
        is_uid = streq(key, "UnixUserID");
        is_pid = streq(key, "ProcessID");
        r = is_uid || is_pid ? sd_bus_message_read(reply, "v", "u", &number)
                             : sd_bus_message_skip(reply, "v");
        if (r < 0)
            return r;
        if (is_uid) {
            caller.known = true;
            caller.uid = number;
        } else if (is_pid) {
            caller.pid = (pid_t)number;
        }
        r = sd_bus_message_exit_container(reply);
    }
    if (r >= 0 && !caller.known)
        r = -ENODATA;
    if (r < 0)
        return r;
    process_name(caller.pid, caller.process, sizeof(caller.process));
    *ret_caller = caller;
    return 0;
}

static int on_caller(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Authorization *authorization = userdata;
    uid_t uid;
    int r;

    authorization->call = sd_bus_slot_unref(authorization->call);
    if (sd_bus_message_is_method_error(reply, NULL) || read_caller(reply, &authorization->who) < 0) {
        refuse(authorization, false, "the bus does not say who asks");
        return 0;
    }
    uid = authorization->who.uid;
    if (uid == 0 || uid == geteuid()) {
        answer(authorization, true, NULL, NULL);
        return 0;
    }
    r = ask_polkit(authorization);
    if (r < 0)
        refuse(authorization, false, strerror(-r));
    return 0;
}

static int on_caller_gone(sd_bus_track *track, void *userdata)
{
    Authorization *authorization = userdata;

    log_debug("The caller of %s left before it was authorized.", authorization->method->member);
    authorization_free(authorization);
    return 0;
}

/* Who asks, to begin with. */
static int begin(Authorization *authorization, const char *action)
{
    sd_bus_slot *slot = NULL;
    int r;

    authorization->action = action;
    r = sd_bus_call_method_async(authorization->server->bus, &slot, "org.freedesktop.DBus",
                                 "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionCredentials",
                                 on_caller, authorization, "s",
                                 sd_bus_message_get_sender(authorization->message));
    if (r < 0)
        return r;
    authorization->call = slot;
    authorization->answered = false;
    return 0;
}

static int watch_caller(Authorization *authorization)
{
    int r;

    r = sd_bus_track_new(authorization->server->bus, &authorization->caller, on_caller_gone, authorization);
    return r < 0 ? r : sd_bus_track_add_sender(authorization->caller, authorization->message);
}

static Authorization *find_authorization(BusServer *server, sd_bus_message *message)
{
    for (Authorization *authorization = server->authorizations; authorization;
         authorization = authorization->next)
        if (authorization->message == message)
            return authorization;
    return NULL;
}

/* Of a microVM's method it is known; of the manager's, the first argument may say it. */
static int note_name(Authorization *authorization, const MicroVM *vm)
{
    sd_bus_message *message = authorization->message;
    const char *name = vm ? vm->name : NULL;
    int r;

    if (!vm && *sd_bus_message_get_signature(message, 1) == 's') {
        r = sd_bus_message_read(message, "s", &name);
        if (r < 0)
            return r;
    }
    return free_and_strdup(&authorization->vm_name, name);
}

static bool is_granted(const Authorization *authorization, const char *action)
{
    return streq(authorization->granted[0], action) || streq(authorization->granted[1], action);
}

Caller bus_caller(BusServer *server, sd_bus_message *message)
{
    const Authorization *authorization = find_authorization(server, message);

    return authorization ? authorization->who : (Caller){0};
}

int bus_authorize_also(BusServer *server, sd_bus_message *message, const char *action, sd_bus_error *error)
{
    Authorization *authorization = find_authorization(server, message);
    int r;

    if (!authorization)
        return -EINVAL;
    if (is_granted(authorization, action))
        return 1;
    if (authorization->answered && !authorization->allowed)
        return sd_bus_error_set(
            error, authorization->refusal_name ? authorization->refusal_name : SD_BUS_ERROR_ACCESS_DENIED,
            authorization->refusal_text);
    r = begin(authorization, action);
    return r < 0 ? r : 0;
}

int bus_authorize(BusServer *server, const BusMethod *table, size_t n, sd_bus_message *message, bool is_vm,
                  const BusMethod *method, const MicroVM *vm, sd_bus_error *error)
{
    Authorization *authorization;
    int r;

    if (!method->action)
        return 1;
    if (find_authorization(server, message))
        return bus_authorize_also(server, message, method->action, error);
    authorization = calloc(1, sizeof(*authorization));
    if (!authorization)
        return -ENOMEM;
    authorization->server = server;
    authorization->message = sd_bus_message_ref(message);
    authorization->table = table;
    authorization->n_table = n;
    authorization->is_vm = is_vm;
    authorization->method = method;
    authorization->next = server->authorizations;
    server->authorizations = authorization;
    r = note_name(authorization, vm);
    if (r >= 0)
        r = watch_caller(authorization);
    if (r >= 0)
        r = begin(authorization, method->action);
    if (r < 0) {
        authorization_free(authorization);
        return r;
    }
    return 0;
}
