/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What goes wrong on the bus, in words, with what mends it. */
#include "bus.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define UNIT_PATH    "/org/freedesktop/systemd1/unit/microvmd_2eservice"

enum {
    GUARD_WIDTH = 78,        /* columns of the guard's words */
    PATIENCE_USEC = 5000000, /* with systemd, when we only want to know why */
};

/* --- nobody answers --- */

/* All properties of one of the interfaces of microvmd.service, or NULL. */
static cJSON *unit_properties(sd_bus *bus, const char *interface)
{
    _cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
    cJSON *properties;

    if (sd_bus_message_new_method_call(bus, &call, SYSTEMD_NAME, UNIT_PATH, "org.freedesktop.DBus.Properties",
                                       "GetAll") < 0 ||
        sd_bus_message_set_auto_start(call, 0) < 0 || sd_bus_message_append(call, "s", interface) < 0 ||
        sd_bus_call(bus, call, PATIENCE_USEC, NULL, &reply) < 0)
        return NULL;
    return json_from_message(reply, &properties) < 0 ? NULL : properties;
}

/* A line of systemd's can be long. Several spaces in it were the beginning of a line with something to write.
 */
static void tell_wrapped(const char *text)
{
    size_t column = 0;

    while (*text) {
        size_t spaces = strspn(text, " "), length = strcspn(text + spaces, " ");
        bool quoted = spaces > 2;
        if (quoted)
            length = strlen(text + spaces); /* as it stands */
        if (column == 0 || quoted || column + 1 + length > GUARD_WIDTH)
            column = (size_t)fprintf(stderr, "%s  %s", column > 0 ? "\n" : "", quoted ? "    " : "");
        else
            column += (size_t)fprintf(stderr, " ");
        column += (size_t)fprintf(stderr, "%.*s", (int)length, text + spaces);
        text += spaces + length;
    }
    fputs("\n\n", stderr);
}

static void tell_guard(const char *words)
{
    _cleanup_free_ char *shown = escape(words, ESCAPE_TEXT);

    fputs("It refuses to run on this host (exit status 78):\n\n", stderr);
    tell_wrapped(shown && *shown ? shown : "Its words are in the journal: journalctl -u microvmd");
    fputs("Mend the host configuration, see that it is good with: microvmd --check\n"
          "then: systemctl start microvmd\n",
          stderr);
}

static void tell_unit(const cJSON *unit, const cJSON *service)
{
    const char *active = json_text(unit, "ActiveState"), *result = json_text(service, "Result");
    unsigned status = (unsigned)json_number(service, "ExecMainStatus");
    bool exited =
        json_number(service, "ExecMainCode") == 1; /* CLD_EXITED; otherwise the status is a signal */

    if (strcmp(json_text(unit, "LoadState"), "loaded") != 0)
        fputs(
            "systemd has no unit microvmd.service here; install microvmd, or say on which bus it is: --bus\n",
            stderr);
    else if (status == MICROVM_EXIT_GUARD && exited && strcmp(active, "active") != 0)
        tell_guard(json_text(service, "StatusText"));
    else if (strcmp(active, "failed") == 0)
        fprintf(stderr,
                "Its service failed (%s, %s %u).\n"
                "See why: journalctl -u microvmd\n"
                "then: systemctl restart microvmd\n",
                result, exited ? "exit status" : "signal", status);
    else if (strcmp(active, "activating") == 0)
        fputs("Its service is starting; try again in a moment.\n", stderr);
    else if (strcmp(active, "active") == 0)
        fputs("Its service is active, but not on this bus. See: systemctl status microvmd\n", stderr);
    else
        fprintf(stderr, "Its service is %s. Start it: systemctl start microvmd\n", active);
}

int ctl_unreachable(Ctl *ctl, int number)
{
    _cleanup_json_ cJSON *unit = NULL, *service = NULL;

    if (!ctl->bus || sd_bus_is_open(ctl->bus) <= 0) {
        fail(MICROVM_EXIT_UNREACHABLE, "Can't reach the bus %s\"%s\": %s", ctl->host ? "of host " : "",
             ctl->host ? ctl->host : ctl->bus_address,
             number == -ENOMEDIUM /* sd-bus finds no address */
                 ? "neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR is set"
                 : strerror(number < 0 ? -number : ENOTCONN));
        fputs(ctl->host
                  ? "Is systemd-stdio-bridge there, and does ssh log in?\n"
                  : "Is there a dbus-daemon, and is microvmd on this bus? See --bus in microvmctl(1).\n",
              stderr);
        return MICROVM_EXIT_UNREACHABLE;
    }
    fail(MICROVM_EXIT_UNREACHABLE, "microvmd is not running%s%s%s.", ctl->host ? " on " : "",
         ctl->host ? ctl->host : "", number == -ETIMEDOUT ? ", or hangs" : "");
    unit = unit_properties(ctl->bus, SYSTEMD_NAME ".Unit");
    service = unit ? unit_properties(ctl->bus, SYSTEMD_NAME ".Service") : NULL;
    if (service)
        tell_unit(unit, service);
    else
        fprintf(stderr,
                "Is it to be on this bus (%s)? There is no systemd to ask; start it: microvmd --bus=%s\n",
                ctl->host ? "system" : ctl->bus_address, ctl->host ? "system" : ctl->bus_address);
    return MICROVM_EXIT_UNREACHABLE;
}

/* --- it answers with an error --- */

bool error_is_unreachable(const sd_bus_error *error, int number)
{
    return sd_bus_error_has_names(error, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                  SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED) ||
           number == -ECONNRESET || number == -ENOTCONN || number == -EPIPE;
}

static const char *action_of(const char *member)
{
    static const char *const defining[] = {"Define", "CreateTransient", "Undefine",
                                           "Mask",   "Unmask",          "ApplyAndPurge"};
    static const char *const inspecting[] = {"GetDefinition", "Cat", "Plan", "ListFiles", "Qmp", "ListLeaks"};

    static const char *const consoles[] = {"OpenConsole", "OpenLog", "ListCrashes", "GetCrash"};

    for (size_t i = 0; i < ELEMENTSOF(consoles); i++)
        if (strcmp(member, consoles[i]) == 0)
            return MICROVM_POLKIT_CONSOLE;
    for (size_t i = 0; i < ELEMENTSOF(defining); i++)
        if (strcmp(member, defining[i]) == 0)
            return MICROVM_POLKIT_DEFINE;
    for (size_t i = 0; i < ELEMENTSOF(inspecting); i++)
        if (strcmp(member, inspecting[i]) == 0)
            return MICROVM_POLKIT_INSPECT;
    return MICROVM_POLKIT_MANAGE;
}

/* What helps with the first of several calls must help with all of them. */
static int tell_denied(const Ctl *ctl, const char *text, const char *member, const char *about)
{
    const char *action = action_of(member);

    fail(MICROVM_EXIT_NOT_ALLOWED, "%s%s%s", about ? about : "", about ? ": " : "", text);
    if (!strstr(text, "org.microvm1."))
        fprintf(stderr, "%s needs the polkit action %s.\n", member, action);
    action = ctl->member ? action_of(ctl->member) : action;
    fputs(strcmp(action, MICROVM_POLKIT_INSPECT) == 0 || strcmp(action, MICROVM_POLKIT_DEFINE) == 0
              ? "Run it as root (sudo).\n"
              : "Run it as root (sudo), or have yourself added to the group \"microvm\".\n",
          stderr);
    return MICROVM_EXIT_NOT_ALLOWED;
}

/* What mends it, where the error itself does not say so; a %s is the microVM's name. */
static const struct {
    const char *error, *hint;
} hints[] = {
    {MICROVM_ERROR_INVALID_DEFINITION, "Its definition is at fault. See: microvmctl why %s"},
    {MICROVM_ERROR_NOT_RUNNING, "See: microvmctl why %s"},
    {MICROVM_ERROR_DRIVER_UNAVAILABLE, "Which drivers are there: microvmctl status"},
    {MICROVM_ERROR_PRUNE_REFUSED, "What there is: microvmctl plan"},
    {MICROVM_ERROR_START_LIMIT,
     "See: microvmctl why %s; then let it start again: microvmctl reset-failed %s"},
    {MICROVM_ERROR_TIMEOUT, "See: microvmctl why %s"},
    {MICROVM_ERROR_REQUIRED, "With them: microvmctl stop --with-dependents %s; without: --ignore-dependents"},
    {MICROVM_ERROR_SHUTTING_DOWN, "Start it when the host is up again."},
    {SD_BUS_ERROR_UNKNOWN_METHOD, "Is microvmd older than this? See: microvmctl version"},
    {SD_BUS_ERROR_LIMITS_EXCEEDED, "The bus allows no more at once; try again."},
};

static void tell_hint(const char *name, const char *about)
{
    for (size_t i = 0; i < ELEMENTSOF(hints); i++) {
        if (strcmp(hints[i].error, name) != 0 || (!about && strchr(hints[i].hint, '%')))
            continue;
        for (const char *at = hints[i].hint; *at; at++) {
            if (at[0] == '%' && at[1] == 's') {
                fputs(about, stderr);
                at++;
            } else {
                fputc(*at, stderr);
            }
        }
        fputc('\n', stderr);
        return;
    }
}

int ctl_explain(Ctl *ctl, const sd_bus_error *error, int number, const char *member, const char *about)
{
    const char *name = error && error->name ? error->name : "";
    _cleanup_free_ char *text =
        escape(error && error->message ? error->message : strerror(-number), ESCAPE_TEXT);
    _cleanup_free_ char *shown = about ? escape(about, ESCAPE_LINE) : NULL;

    if (!text || (about && !shown))
        return fail_oom();
    if (error_is_unreachable(error, number))
        return ctl_unreachable(ctl, number);
    if (about && sd_bus_error_has_names(error, MICROVM_ERROR_NO_SUCH_MICROVM, SD_BUS_ERROR_UNKNOWN_OBJECT))
        return ctl_unknown(ctl, about);
    if (sd_bus_error_has_name(error, MICROVM_ERROR_NO_SUCH_MICROVM))
        return fail(MICROVM_EXIT_NO_SUCH_VM, "%s Those that there are: microvmctl list", text);
    if (sd_bus_error_has_names(error, SD_BUS_ERROR_ACCESS_DENIED,
                               SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
        return tell_denied(ctl, text, member, shown);
    /* Most of microvmd's sentences name the microVM already. */
    if (shown && strstr(text, shown))
        fail(MICROVM_EXIT_FAILURE, "%s", text);
    else
        fail(MICROVM_EXIT_FAILURE, "%s%s%s", shown ? shown : "", shown ? ": " : "", text);
    tell_hint(name, shown);
    return MICROVM_EXIT_FAILURE;
}
