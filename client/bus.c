/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection, calls, and what goes wrong with them. */
#include "ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

static int open_bus(Ctl *ctl, sd_bus **ret_bus)
{
    sd_bus *bus = NULL;
    int r;

    if (ctl->host)
        return sd_bus_open_system_remote(ret_bus, ctl->host);
    if (strcmp(ctl->bus_address, "system") == 0)
        return sd_bus_open_system(ret_bus);
    if (strcmp(ctl->bus_address, "user") == 0)
        return sd_bus_open_user(ret_bus);
    r = sd_bus_new(&bus);
    if (r >= 0)
        r = sd_bus_set_address(bus, ctl->bus_address);
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

/* On a terminal, who is not root may be asked for a password: pkttyagent(1) does the asking. */
static void start_agent(Ctl *ctl)
{
    static const char program[] = "/usr/bin/pkttyagent";
    char parent[24];
    int ready[2], ends;
    char byte;

    if (ctl->no_ask_password || geteuid() == 0 || ctl->host || !isatty(STDIN_FILENO) || access(program, X_OK) != 0)
        return;
    if (pipe(ready) < 0)
        return;
    snprintf(parent, sizeof(parent), "%d", (int)getpid());
    ctl->agent = fork();
    if (ctl->agent == 0) {
        char notify[16];
        close(ready[0]);
        snprintf(notify, sizeof(notify), "%d", ready[1]);
        execl(program, program, "--notify-fd", notify, "--fallback", "--process", parent, NULL);
        _exit(1);
    }
    close(ready[1]);
    ends = (int)read(ready[0], &byte, 1); /* it closes the pipe when it listens, or is gone */
    (void)ends;
    close(ready[0]);
}

int ctl_connect(Ctl *ctl)
{
    int r;

    if (ctl->bus)
        return MICROVM_EXIT_OK;
    r = open_bus(ctl, &ctl->bus);
    if (r < 0)
        return ctl_unreachable(ctl, strerror(-r));
    return MICROVM_EXIT_OK;
}

bool ctl_connect_quietly(Ctl *ctl)
{
    return ctl->bus || open_bus(ctl, &ctl->bus) >= 0;
}

void ctl_disconnect(Ctl *ctl)
{
    if (ctl->agent > 0) {
        kill(ctl->agent, SIGTERM);
        waitpid(ctl->agent, NULL, 0);
    }
    sd_bus_flush_close_unref(ctl->bus);
    ctl->bus = NULL;
}

/* --- why nobody answers --- */

static char *unit_property(Ctl *ctl, const char *interface, const char *property, const char *type)
{
    _cleanup_msg_ sd_bus_message *reply = NULL;
    const char *text = NULL;
    char *value = NULL;
    int32_t number;

    if (sd_bus_get_property(ctl->bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1/unit/microvmd_2eservice",
                            interface, property, NULL, &reply, type) < 0)
        return NULL;
    if (*type == 'i')
        return sd_bus_message_read(reply, "i", &number) >= 0 && asprintf(&value, "%d", number) >= 0 ? value : NULL;
    return sd_bus_message_read(reply, "s", &text) >= 0 ? strdup(text) : NULL;
}

int ctl_unreachable(Ctl *ctl, const char *why)
{
    _cleanup_free_ char *load = NULL, *active = NULL, *status = NULL, *words = NULL;

    fail(MICROVM_EXIT_UNREACHABLE, "microvmd does not answer%s%s%s.", why ? " (" : "", why ? why : "", why ? ")" : "");
    if (!ctl->bus || (strcmp(ctl->bus_address, "system") != 0 && !ctl->host)) {
        fprintf(stderr, "Is it running on this bus (%s)?\n", ctl->bus_address);
        return MICROVM_EXIT_UNREACHABLE;
    }
    load = unit_property(ctl, "org.freedesktop.systemd1.Unit", "LoadState", "s");
    active = unit_property(ctl, "org.freedesktop.systemd1.Unit", "ActiveState", "s");
    status = unit_property(ctl, "org.freedesktop.systemd1.Service", "ExecMainStatus", "i");
    words = unit_property(ctl, "org.freedesktop.systemd1.Service", "StatusText", "s");
    if (!load || !active || strcmp(load, "loaded") != 0) {
        fputs("Its unit is not installed here; start it with: systemctl enable --now microvmd\n", stderr);
    } else if (status && atoi(status) == MICROVM_EXIT_GUARD) {
        _cleanup_free_ char *shown = words && *words ? escape(words, false) : NULL;
        fprintf(stderr, "It refused to run on this host (exit status 78):\n\n%s\n",
                shown ? shown : "See: journalctl -u microvmd");
    } else if (strcmp(active, "failed") == 0) {
        fprintf(stderr, "Its service failed (exit status %s). See: journalctl -u microvmd\n", status ? status : "unknown");
    } else {
        fprintf(stderr, "Its service is %s. Start it with: systemctl start microvmd\n", active);
    }
    return MICROVM_EXIT_UNREACHABLE;
}

int ctl_bus_error(Ctl *ctl, const sd_bus_error *error, int number, const char *about)
{
    const char *name = error && error->name ? error->name : "";
    _cleanup_free_ char *shown = escape(error && error->message ? error->message : strerror(-number), false);
    const char *text = shown ? shown : "out of memory";

    if (strcmp(name, SD_BUS_ERROR_SERVICE_UNKNOWN) == 0 || strcmp(name, SD_BUS_ERROR_NAME_HAS_NO_OWNER) == 0 ||
        number == -ECONNRESET || number == -ENOTCONN || strcmp(name, SD_BUS_ERROR_NO_REPLY) == 0)
        return ctl_unreachable(ctl, NULL);
    if (strcmp(name, MICROVM_ERROR_NO_SUCH_MICROVM) == 0 || strcmp(name, SD_BUS_ERROR_UNKNOWN_OBJECT) == 0)
        return fail(MICROVM_EXIT_NO_SUCH_VM, "No microVM is called \"%s\". See: microvmctl list", about ? about : "?");
    if (strcmp(name, SD_BUS_ERROR_ACCESS_DENIED) == 0 || strcmp(name, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED) == 0)
        return fail(MICROVM_EXIT_NOT_ALLOWED, "%s%s%s\nRun it as root (sudo), or let an administrator add you to the group \"microvm\".",
                    about ? about : "", about ? ": " : "", text);
    /* Most of microvmd's sentences name the microVM already. */
    if (about && strncmp(text, about, strlen(about)) == 0)
        about = NULL;
    return fail(MICROVM_EXIT_FAILURE, "%s%s%s", about ? about : "", about ? ": " : "", text);
}

/* --- calls --- */

int ctl_new_call(Ctl *ctl, const char *vm, const char *member, sd_bus_message **ret_call)
{
    sd_bus_message *call = NULL;
    int r;

    r = sd_bus_message_new_method_call(ctl->bus, &call, MICROVM_BUS_NAME, vm ? vm : MICROVM_MANAGER_PATH,
                                       vm ? MICROVM_VM_INTERFACE : MICROVM_MANAGER_INTERFACE, member);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "can't make a call: %s", strerror(-r));
    sd_bus_message_set_auto_start(call, 0); /* a question never starts the daemon */
    if (!ctl->no_ask_password && isatty(STDIN_FILENO)) {
        sd_bus_message_set_allow_interactive_authorization(call, 1);
        if (vm && ctl->agent == 0)
            start_agent(ctl);
    }
    *ret_call = call;
    return MICROVM_EXIT_OK;
}

int ctl_send(Ctl *ctl, sd_bus_message *call, const char *about, sd_bus_message **ret_reply)
{
    _cleanup_err_ sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    int r;

    /* A person may be typing a password: no timeout of ours. */
    r = sd_bus_call(ctl->bus, call, UINT64_MAX, &error, &reply);
    if (r < 0)
        return ctl_bus_error(ctl, &error, r, about);
    if (ret_reply)
        *ret_reply = reply;
    else
        sd_bus_message_unref(reply);
    return MICROVM_EXIT_OK;
}

int ctl_call(Ctl *ctl, const char *vm, const char *member, sd_bus_message **ret_reply, const char *types, ...)
{
    _cleanup_msg_ sd_bus_message *call = NULL;
    _cleanup_free_ char *name = NULL;
    va_list arguments;
    int code, r;

    code = ctl_new_call(ctl, vm, member, &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    va_start(arguments, types);
    r = sd_bus_message_appendv(call, types, arguments);
    va_end(arguments);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "can't make a call: %s", strerror(-r));
    if (vm)
        sd_bus_path_decode(vm, MICROVM_VM_PATH, &name);
    return ctl_send(ctl, call, name, ret_reply);
}

/* --- values --- */

static cJSON *read_number(sd_bus_message *message, char type)
{
    union {
        uint8_t y;
        int b;
        int16_t n;
        uint16_t q;
        int32_t i;
        uint32_t u;
        int64_t x;
        uint64_t t;
        double d;
    } value = {0};
    char text[32];

    if (sd_bus_message_read_basic(message, type, &value) < 0)
        return NULL;
    switch (type) {
    case 'b':
        return cJSON_CreateBool(value.b);
    case 'd':
        return cJSON_CreateNumber(value.d);
    case 'i':
        return cJSON_CreateNumber(value.i);
    case 'u':
        return cJSON_CreateNumber(value.u);
    case 't':
        /* 64 bits do not fit into a double: as they are */
        snprintf(text, sizeof(text), "%llu", (unsigned long long)value.t);
        return cJSON_CreateRaw(text);
    default:
        return cJSON_CreateNumber((double)value.x);
    }
}

static cJSON *read_dict(sd_bus_message *message, const char *contents)
{
    cJSON *object = cJSON_CreateObject();

    while (object && sd_bus_message_enter_container(message, 'e', contents) > 0) {
        const char *key;
        cJSON *value = sd_bus_message_read(message, "s", &key) > 0 ? ctl_variant(message) : NULL;
        if (!value || !cJSON_AddItemToObject(object, key, value) || sd_bus_message_exit_container(message) < 0) {
            cJSON_Delete(object);
            return NULL;
        }
    }
    return object;
}

static cJSON *read_list(sd_bus_message *message)
{
    cJSON *list = cJSON_CreateArray();

    while (list && sd_bus_message_at_end(message, 0) == 0) {
        cJSON *value = ctl_variant(message);
        if (!value || !cJSON_AddItemToArray(list, value)) {
            cJSON_Delete(list);
            return NULL;
        }
    }
    return list;
}

cJSON *ctl_variant(sd_bus_message *message)
{
    const char *contents, *text;
    cJSON *value;
    char type, copy[64];

    if (sd_bus_message_peek_type(message, &type, &contents) <= 0)
        return NULL;
    if (type == 's' || type == 'o' || type == 'g')
        return sd_bus_message_read_basic(message, type, &text) > 0 ? cJSON_CreateString(text) : NULL;
    if (type != 'v' && type != 'a' && type != 'r')
        return read_number(message, type);
    snprintf(copy, sizeof(copy), "%s", contents);
    if (sd_bus_message_enter_container(message, type, copy) <= 0)
        return NULL;
    if (type == 'v') {
        value = ctl_variant(message);
    } else if (type == 'a' && copy[0] == '{') {
        copy[strlen(copy) - 1] = '\0';
        value = read_dict(message, copy + 1);
    } else {
        value = read_list(message);
    }
    if (value && sd_bus_message_exit_container(message) < 0) {
        cJSON_Delete(value);
        return NULL;
    }
    return value;
}

int ctl_get_all(Ctl *ctl, const char *vm, cJSON **ret_properties)
{
    _cleanup_err_ sd_bus_error error = SD_BUS_ERROR_NULL;
    _cleanup_msg_ sd_bus_message *call = NULL, *reply = NULL;
    _cleanup_free_ char *name = NULL;
    cJSON *properties;
    int r;

    r = sd_bus_message_new_method_call(ctl->bus, &call, MICROVM_BUS_NAME, vm ? vm : MICROVM_MANAGER_PATH,
                                       "org.freedesktop.DBus.Properties", "GetAll");
    if (r >= 0)
        r = sd_bus_message_set_auto_start(call, 0);
    if (r >= 0)
        r = sd_bus_message_append(call, "s", vm ? MICROVM_VM_INTERFACE : MICROVM_MANAGER_INTERFACE);
    if (r >= 0)
        r = sd_bus_call(ctl->bus, call, 0, &error, &reply);
    if (vm)
        sd_bus_path_decode(vm, MICROVM_VM_PATH, &name);
    if (r < 0)
        return ctl_bus_error(ctl, &error, r, name);
    properties = ctl_variant(reply);
    if (!properties)
        return fail(MICROVM_EXIT_FAILURE, "microvmd's answer can't be read");
    *ret_properties = properties;
    return MICROVM_EXIT_OK;
}

/* --- the list --- */

void vm_rows_clear(VmRows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        free(rows->items[i].name);
        free(rows->items[i].path);
        free(rows->items[i].state);
        free(rows->items[i].readiness);
        free(rows->items[i].hypervisor);
        free(rows->items[i].driver);
    }
    free(rows->items);
    *rows = (VmRows){0};
}

int ctl_list(Ctl *ctl, VmRows *ret_rows)
{
    _cleanup_msg_ sd_bus_message *reply = NULL;
    const char *name, *path, *state, *readiness, *hypervisor, *driver;
    VmRows rows = {0};
    uint32_t pid;
    int code, r;

    code = ctl_connect(ctl);
    if (code == MICROVM_EXIT_OK)
        code = ctl_call(ctl, NULL, "ListMicroVMs", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_enter_container(reply, 'a', "(sossssu)");
    while (r >= 0 && (r = sd_bus_message_read(reply, "(sossssu)", &name, &path, &state, &readiness, &hypervisor, &driver,
                                              &pid)) > 0) {
        VmRow *grown = reallocarray(rows.items, rows.count + 1, sizeof(*grown));
        if (!grown)
            break;
        rows.items = grown;
        grown[rows.count++] = (VmRow){strdup(name),       strdup(path),   strdup(state), strdup(readiness),
                                      strdup(hypervisor), strdup(driver), pid};
    }
    if (r != 0) {
        vm_rows_clear(&rows);
        return fail(MICROVM_EXIT_FAILURE, "microvmd's answer can't be read");
    }
    *ret_rows = rows;
    return MICROVM_EXIT_OK;
}

static int unknown_name(const VmRows *rows, const char *name)
{
    const char **names = calloc(rows->count + 1, sizeof(*names)), *meant;

    for (size_t i = 0; names && i < rows->count; i++)
        names[i] = rows->items[i].name;
    meant = names ? did_you_mean(name, names, rows->count) : NULL;
    free(names);
    if (meant)
        return fail(MICROVM_EXIT_NO_SUCH_VM, "No microVM is called \"%s\"; did you mean \"%s\"?", name, meant);
    return fail(MICROVM_EXIT_NO_SUCH_VM, "No microVM is called \"%s\". See: microvmctl list", name);
}

int ctl_targets(Ctl *ctl, bool all_by_default, VmRows *ret_rows)
{
    VmRows rows, chosen = {0};
    int code;

    if (ctl->all && ctl->n_names > 0)
        return fail(MICROVM_EXIT_USAGE, "--all and names together; use one of them");
    if (!ctl->all && !all_by_default && ctl->n_names == 0)
        return fail(MICROVM_EXIT_USAGE, "the name of a microVM is missing (or --all)");
    code = ctl_list(ctl, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (ctl->n_names == 0) {
        *ret_rows = rows;
        return MICROVM_EXIT_OK;
    }
    chosen.items = calloc((size_t)ctl->n_names, sizeof(*chosen.items));
    for (int i = 0; chosen.items && i < ctl->n_names; i++) {
        size_t k = 0;
        while (k < rows.count && (!rows.items[k].name || strcmp(rows.items[k].name, ctl->names[i]) != 0))
            k++;
        if (k < rows.count) {
            chosen.items[chosen.count++] = rows.items[k];
            rows.items[k] = (VmRow){0};
            continue;
        }
        for (k = 0; k < chosen.count && strcmp(chosen.items[k].name, ctl->names[i]) != 0; k++)
            ;
        if (k == chosen.count) /* not just named twice */
            code = unknown_name(&rows, ctl->names[i]);
    }
    vm_rows_clear(&rows);
    if (code != MICROVM_EXIT_OK) {
        vm_rows_clear(&chosen);
        return code;
    }
    *ret_rows = chosen;
    return MICROVM_EXIT_OK;
}
