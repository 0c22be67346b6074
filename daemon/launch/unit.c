/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "launch/unit.h"

#include "base/file.h"
#include "base/log.h"
#include "base/say.h"
#include "launch/internal.h"
#include "launch/systemd.h"
#include "launch/unit-look.h"

#include <signal.h>

#define UNIT_PREFIX MICROVM_VM_UNIT_PREFIX
#define UNIT_SUFFIX ".service"

static const uint64_t END_USEC = UINT64_C(5) * 1000000; /* of a unit whose process has ended */
static const uint64_t LEAVE_USEC =
    UINT64_C(1) * 1000000; /* of a process that nobody hands anything over to */
static const uint64_t START_USEC = UINT64_C(30) * 1000000; /* systemd's answer, not the unit's start */
static const uint64_t FILES_MAX = 65536;                   /* open ones, as of microvmd itself */

void unit_name(const char *microvm, char ret_name[static UNIT_NAME_SIZE])
{
    snprintf(ret_name, UNIT_NAME_SIZE, UNIT_PREFIX "%s" UNIT_SUFFIX, microvm);
}

/* --- a start --- */

typedef struct UnitStart {
    const LaunchRequest *request;
    int stream;
    char unit[UNIT_NAME_SIZE];
    bool taken; /* there is one of that name */
} UnitStart;

static int append_basics(sd_bus_message *call, const UnitStart *start)
{
    uint64_t stop_usec = MAX(start->request->stop_usec, UINT64_C(1)); /* to systemd 0 is for ever */
    char generation[SD_ID128_STRING_MAX], description[MICROVM_NAME_MAX + 16],
        environment[SD_ID128_STRING_MAX + 32];
    int r;

    snprintf(description, sizeof(description), "microVM %s", start->request->name);
    snprintf(environment, sizeof(environment), MICROVM_LOG_GENERATION "=%s",
             sd_id128_to_string(start->request->generation, generation));
    r = sd_bus_message_append(call, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s", description, "Slice",
                              "s", "microvmd.slice", "Type", "s", "exec", "RemainAfterExit", "b", true,
                              "TimeoutStopUSec", "t", stop_usec, "LimitNOFILE", "t", FILES_MAX, "Environment",
                              "as", 1, environment);
    /* When the host goes down that one is stopped first, and stops microVMs in order. And no target asks for
     * this one: systemctl isolate would end it. */
    if (r >= 0)
        r = sd_bus_message_append(call, "(sv)(sv)", "Before", "as", 1, MICROVM_SHUTDOWN_UNIT,
                                  "IgnoreOnIsolate", "b", true);
    return r;
}

static int append_process(sd_bus_message *call, const UnitStart *start)
{
    return sd_bus_message_append(call, "(sv)(sv)(sv)(sv)", "StandardInputFileDescriptor", "h", start->stream,
                                 "StandardOutputFileDescriptor", "h", start->request->output,
                                 "StandardErrorFileDescriptor", "h", start->request->output, "ExecStart",
                                 "a(sasb)", 1, start->request->helper, 1, start->request->helper, false);
}

/* The one call that a start costs. The message has copies of the descriptors, so it must not outlive it: a
 * socket of which somebody has the other end still does not end. */
static int call_start(sd_bus *bus, sd_bus_error *error, void *userdata)
{
    UnitStart *start = userdata;
    _cleanup_message_ sd_bus_message *call = NULL;
    int r;

    r = sd_bus_message_new_method_call(bus, &call, SYSTEMD_BUS_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                       "StartTransientUnit");
    if (r >= 0)
        r = sd_bus_message_append(call, "ss", start->unit, "fail");
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "(sv)");
    if (r >= 0)
        r = append_basics(call, start);
    if (r >= 0)
        r = append_process(call, start);
    if (r >= 0 && start->request->settings)
        r = unit_settings_append(call, start->request->settings);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r >= 0)
        r = sd_bus_message_append(call, "a(sa(sv))", 0);
    if (r >= 0)
        r = sd_bus_call(bus, call, START_USEC, error, NULL);
    start->taken = sd_bus_error_has_name(error, "org.freedesktop.systemd1.UnitExists");
    return r;
}

static int call_named(sd_bus *bus, sd_bus_error *error, const char *member, const char *unit,
                      const char *mode)
{
    return sd_bus_call_method(bus, SYSTEMD_BUS_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, member, error, NULL,
                              mode ? "ss" : "s", unit, mode);
}

static int call_stop(sd_bus *bus, sd_bus_error *error, void *userdata)
{
    return call_named(bus, error, "StopUnit", userdata, "replace");
}

static int call_reset(sd_bus *bus, sd_bus_error *error, void *userdata)
{
    return call_named(bus, error, "ResetFailedUnit", userdata, NULL);
}

static void forget(const char *unit, UnitLeft left)
{
    _cleanup_free_ char *text = NULL;

    if (left != UNIT_LEFT_NOTHING &&
        systemd_call(left == UNIT_LEFT_FAILED ? call_reset : call_stop, (void *)unit, &text) < 0)
        log_debug("%s, which is over, could not be taken away: %s.", unit, text ? text : "");
}

static bool is_gone(const UnitLook *look)
{
    return !look->loaded;
}

/* Somebody has the name: 0, when it was ours and is gone, -EALREADY, when it is this very start, or an error.
 */
static int make_room(UnitStart *start, char **ret_text)
{
    UnitLook look;
    int r = unit_look(start->unit, &look);

    if (r < 0 || !look.loaded)
        return r;
    if (sd_id128_is_null(look.generation))
        return say_why(
            ret_text, -EBUSY,
            "systemd has a unit %s already, which is not microvmd's (%s): stop it, and remove its file "
            "if it has one (or unmask it)",
            start->unit, look.fragment);
    if (sd_id128_equal(look.generation, start->request->generation))
        return -EALREADY;
    if (!unit_is_over(&look))
        return say_why(ret_text, -EBUSY,
                       "its unit %s of an earlier run, which nothing is on record of, is still %s; end it: "
                       "systemctl stop %s",
                       start->unit, look.active, start->unit);
    forget(start->unit, unit_left_of(&look));
    r = unit_look_until(start->unit, is_gone, END_USEC, &look);
    return r < 0 ? say_why(ret_text, r,
                           "its unit %s of an earlier run does not go away; see systemctl status %s",
                           start->unit, start->unit)
                 : 0;
}

int unit_start(const LaunchRequest *request, int stream, char **ret_text)
{
    UnitStart start = {.request = request, .stream = stream};
    _cleanup_free_ char *text = NULL;
    int r;

    unit_name(request->name, start.unit);
    r = systemd_call(call_start, &start, &text);
    if (r < 0 && start.taken) {
        r = make_room(&start, ret_text);
        if (r < 0)
            return r == -EALREADY ? 0 : r;
        free(text);
        text = NULL;
        r = systemd_call(call_start, &start, &text);
    }
    if (r < 0)
        *ret_text = TAKE_PTR(text);
    return r;
}

void unit_undo(const LaunchRequest *request, char **ret_text)
{
    char unit[UNIT_NAME_SIZE];
    UnitLook look;
    int r;

    unit_name(request->name, unit);
    r = unit_look_until(unit, unit_is_over, END_USEC, &look);
    if (ret_text) {
        *ret_text =
            r >= 0 && look.loaded
                ? say("systemd could not set up %s (%s, exit status %d, which systemd.exec(5) explains); "
                      "see journalctl -u %s",
                      unit, look.result, look.status, unit)
                : say("systemd did not bring up %s; see journalctl -u %s", unit, unit);
    }
    if (r >= 0 && sd_id128_equal(look.generation, request->generation))
        forget(unit, unit_left_of(&look));
    else if (r == -ETIMEDOUT && sd_id128_equal(look.generation, request->generation))
        (void)systemd_call(call_stop, unit, NULL);
}

/* --- ends --- */

int unit_end(const char *microvm, sd_id128_t invocation, ProcessEnd *ret_end, UnitLeft *ret_left)
{
    char unit[UNIT_NAME_SIZE];
    UnitLook look;
    int r;

    unit_name(microvm, unit);
    r = unit_look_until(unit, unit_is_over, END_USEC, &look);
    /* What takes long to stop has been stopped. */
    if (r < 0 && !(r == -ETIMEDOUT && streq(look.active, "deactivating")))
        return r;
    *ret_end = unit_end_of(&look, invocation);
    *ret_left = unit_left_of(&look);
    return 0;
}

uint64_t unit_memory_peak(const char *microvm)
{
    _cleanup_free_ char *text = NULL;
    char unit[UNIT_NAME_SIZE], path[UNIT_NAME_SIZE + 64];
    size_t size;

    unit_name(microvm, unit);
    snprintf(path, sizeof(path), "/sys/fs/cgroup/microvmd.slice/%s/memory.peak", unit);
    return read_file(path, 64, &text, &size) < 0 ? 0 : strtoull(text, NULL, 10);
}

void unit_forget(const char *microvm, UnitLeft left)
{
    char unit[UNIT_NAME_SIZE];

    unit_name(microvm, unit);
    forget(unit, left);
}

/* systemd finds a unit by its invocation, too, where its name stands in a path (org.freedesktop.systemd1(5)).
 */
static int call_kill(sd_bus *bus, sd_bus_error *error, void *userdata)
{
    const sd_id128_t *invocation = userdata;
    char path[sizeof(SYSTEMD_UNIT_PATH) + SD_ID128_STRING_MAX], id[SD_ID128_STRING_MAX];

    snprintf(path, sizeof(path), SYSTEMD_UNIT_PATH "/%s", sd_id128_to_string(*invocation, id));
    return sd_bus_call_method(bus, SYSTEMD_BUS_NAME, path, SYSTEMD_BUS_NAME ".Unit", "Kill", error, NULL,
                              "si", "all", SIGKILL);
}

int unit_kill(sd_id128_t invocation)
{
    return systemd_call(call_kill, &invocation, NULL);
}

/* The name of the microVM; false: it can't be one's. */
static bool microvm_of(const char *unit, char ret_name[static MICROVM_NAME_MAX + 1])
{
    size_t length = strlen(unit);
    size_t around = strlen(UNIT_PREFIX) + strlen(UNIT_SUFFIX);

    if (length <= around || length - around > MICROVM_NAME_MAX)
        return false;
    snprintf(ret_name, MICROVM_NAME_MAX + 1, "%.*s", (int)(length - around), unit + strlen(UNIT_PREFIX));
    return true;
}

typedef struct Each {
    unit_fn each;
    void *userdata;
} Each;

/* (What is done with each is calls of its own, on the same connection.) */
static int call_list(sd_bus *bus, sd_bus_error *error, void *userdata)
{
    static char *const patterns[] = {(char *)UNIT_PREFIX "*" UNIT_SUFFIX, NULL};
    const Each *each = userdata;
    _cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
    char microvm[MICROVM_NAME_MAX + 1];
    const char *unit;
    int r;

    r = sd_bus_message_new_method_call(bus, &call, SYSTEMD_BUS_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                       "ListUnitsByPatterns");
    if (r >= 0)
        r = sd_bus_message_append(call, "as", 0);
    if (r >= 0)
        r = sd_bus_message_append_strv(call, (char **)patterns);
    if (r >= 0)
        r = sd_bus_call(bus, call, 0, error, &reply);
    if (r >= 0)
        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
    while (r >= 0 && (r = sd_bus_message_read(reply, "(ssssssouso)", &unit, NULL, NULL, NULL, NULL, NULL,
                                              NULL, NULL, NULL, NULL)) > 0)
        if (microvm_of(unit, microvm))
            each->each(unit, microvm, each->userdata);
    return r;
}

int unit_each(unit_fn each, void *userdata, char **ret_text)
{
    return systemd_call(call_list, &(Each){each, userdata}, ret_text);
}

typedef struct Others {
    bool (*known)(const char *microvm, void *userdata);
    void *userdata;
} Others;

static void forget_other(const char *unit, const char *microvm, void *userdata)
{
    const Others *others = userdata;
    UnitLook look;

    if (others->known(microvm, others->userdata))
        return;
    if (unit_look(unit, &look) < 0 || sd_id128_is_null(look.generation))
        return;
    /* Started, and its daemon died before that was on record: it is about to end by itself. */
    if (unit_look_until(unit, unit_is_over, LEAVE_USEC, &look) < 0)
        log_full(LOG_WARNING, microvm, 0,
                 "%s runs, but nothing is on record of it; if it is not needed: systemctl stop %s", unit,
                 unit);
    else
        forget(unit, unit_left_of(&look));
}

void unit_forget_others(bool (*known)(const char *microvm, void *userdata), void *userdata)
{
    _cleanup_free_ char *text = NULL;

    if (unit_each(forget_other, &(Others){known, userdata}, &text) < 0)
        log_warning("Can't look for units that nothing is on record of: %s.", text ? text : "");
}
