/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd tells of a unit. */
#include "launch/unit-look.h"

#include "base/clock.h"
#include "base/say.h"
#include "launch/systemd.h"

/* --- pure --- */

bool unit_is_over(const UnitLook *look)
{
    /* With a job it is being started again, by somebody who does not know that there is no hand-over then. */
    return !look->loaded || (streq(look->active, "inactive") && look->job == 0) ||
           streq(look->active, "failed") || (streq(look->active, "active") && streq(look->sub, "exited"));
}

ProcessEnd unit_end_of(const UnitLook *look, sd_id128_t invocation)
{
    ProcessEnd end = {0};

    /* One that exits by itself stays as "exited" or "failed". Who started it again stopped it before. */
    if (!look->loaded || streq(look->active, "inactive") || !sd_id128_equal(look->invocation, invocation)) {
        end.stopped = true;
        return end;
    }
    end.code = look->code;
    end.status = look->status;
    end.oom = streq(look->result, "oom-kill");
    end.memory_peak = look->memory_peak == UINT64_MAX ? 0 : look->memory_peak;
    snprintf(end.unit_result, sizeof(end.unit_result), "%s", look->result);
    /* Was it on its way out before its process ended, it is not that which ended it. */
    end.stopped = look->leave_usec != 0 && (look->exit_usec == 0 || look->leave_usec < look->exit_usec);
    return end;
}

UnitLeft unit_left_of(const UnitLook *look)
{
    if (!look->loaded || sd_id128_is_null(look->generation))
        return UNIT_LEFT_NOTHING;
    if (streq(look->active, "failed"))
        return UNIT_LEFT_FAILED;
    return streq(look->active, "active") && streq(look->sub, "exited") ? UNIT_LEFT_EXITED : UNIT_LEFT_NOTHING;
}

/* --- reading --- */

#define TEXT(property, member)                                                                               \
    {                                                                                                        \
        property, "s", offsetof(UnitLook, member), sizeof(((UnitLook *)0)->member)                           \
    }
#define NUMBER(property, signature, member)                                                                  \
    {                                                                                                        \
        property, signature, offsetof(UnitLook, member), 0                                                   \
    }

static const struct {
    const char *property, *signature;
    size_t offset, size;
} rows[] = {
    TEXT("LoadState", load),
    TEXT("ActiveState", active),
    TEXT("SubState", sub),
    TEXT("Result", result),
    TEXT("FragmentPath", fragment),
    NUMBER("ExecMainCode", "i", code),
    NUMBER("ExecMainStatus", "i", status),
    NUMBER("MemoryPeak", "t", memory_peak),
    NUMBER("ActiveExitTimestampMonotonic", "t", leave_usec),
    NUMBER("ExecMainExitTimestampMonotonic", "t", exit_usec),
};

static int read_row(sd_bus_message *message, size_t i, UnitLook *look)
{
    char *target = (char *)look + rows[i].offset;
    const char *text;
    int r;

    if (rows[i].size == 0)
        return sd_bus_message_read(message, "v", rows[i].signature, target);
    r = sd_bus_message_read(message, "v", "s", &text);
    if (r > 0)
        snprintf(target, rows[i].size, "%s", text);
    return r;
}

static int read_environment(sd_bus_message *message, UnitLook *look)
{
    static const char prefix[] = MICROVM_LOG_GENERATION "=";
    const char *word;
    int r;

    r = sd_bus_message_enter_container(message, 'v', "as");
    if (r > 0)
        r = sd_bus_message_enter_container(message, 'a', "s");
    while (r > 0 && (r = sd_bus_message_read(message, "s", &word)) > 0)
        if (strncmp(word, prefix, strlen(prefix)) == 0)
            (void)sd_id128_from_string(word + strlen(prefix), &look->generation);
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int read_invocation(sd_bus_message *message, UnitLook *look)
{
    const void *bytes;
    size_t size;
    int r;

    r = sd_bus_message_enter_container(message, 'v', "ay");
    if (r > 0)
        r = sd_bus_message_read_array(message, 'y', &bytes, &size);
    if (r >= 0 && size == sizeof(look->invocation))
        memcpy(&look->invocation, bytes, size);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int read_job(sd_bus_message *message, UnitLook *look)
{
    const char *path;
    int r = sd_bus_message_enter_container(message, 'v', "(uo)");

    if (r > 0)
        r = sd_bus_message_read(message, "(uo)", &look->job, &path);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int read_property(sd_bus_message *message, UnitLook *look)
{
    const char *property;
    int r = sd_bus_message_read(message, "s", &property);

    if (r < 0)
        return r;
    if (streq(property, "Environment"))
        return read_environment(message, look);
    if (streq(property, "InvocationID"))
        return read_invocation(message, look);
    if (streq(property, "Job"))
        return read_job(message, look);
    for (size_t i = 0; i < ELEMENTSOF(rows); i++)
        if (streq(property, rows[i].property))
            return read_row(message, i, look);
    return sd_bus_message_skip(message, "v");
}

static int read_properties(sd_bus_message *message, UnitLook *ret_look)
{
    UnitLook look = {0};
    int r = sd_bus_message_enter_container(message, 'a', "{sv}");

    while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
        r = read_property(message, &look);
        if (r >= 0)
            r = sd_bus_message_exit_container(message);
    }
    if (r < 0)
        return r;
    look.loaded = look.load[0] && !streq(look.load, "not-found");
    *ret_look = look;
    return 0;
}

typedef struct Question {
    const char *path;
    UnitLook *look;
} Question;

static int ask(sd_bus *bus, sd_bus_error *error, void *userdata)
{
    Question *question = userdata;
    _cleanup_message_ sd_bus_message *reply = NULL;
    /* "" are all interfaces that it has: those of a unit and of a service. */
    int r = sd_bus_call_method(bus, SYSTEMD_BUS_NAME, question->path, "org.freedesktop.DBus.Properties",
                               "GetAll", error, &reply, "s", "");

    return r < 0 ? r : read_properties(reply, question->look);
}

int unit_look(const char *unit, UnitLook *ret_look)
{
    _cleanup_free_ char *path = NULL;
    int r = sd_bus_path_encode(SYSTEMD_UNIT_PATH, unit, &path);

    return r < 0 ? r : systemd_call(ask, &(Question){path, ret_look}, NULL);
}

/* --- waiting --- */

/* Until something is heard. What came before the wait, with the answer to a call, is no less than what comes
 * then. */
static int wait_for_change(sd_bus *bus, uint64_t deadline)
{
    bool heard = false;

    for (;;) {
        uint64_t now = now_usec(CLOCK_MONOTONIC);
        int r = sd_bus_process(bus, NULL);
        if (r < 0)
            return r;
        if (r > 0) {
            heard = true;
            continue;
        }
        if (heard)
            return 0;
        if (now >= deadline)
            return -ETIMEDOUT;
        r = sd_bus_wait(bus, deadline - now);
        if (r < 0)
            return r;
    }
}

int unit_look_until(const char *unit, bool (*until)(const UnitLook *look), uint64_t usec, UnitLook *ret_look)
{
    _cleanup_(sd_bus_flush_close_unrefp)
    sd_bus *bus = NULL;
    _cleanup_free_ char *path = NULL, *changes = NULL, *removal = NULL;
    uint64_t deadline = now_usec(CLOCK_MONOTONIC) + usec;
    int r = unit_look(unit, ret_look);

    if (r < 0 || until(ret_look))
        return r;
    r = sd_bus_path_encode(SYSTEMD_UNIT_PATH, unit, &path);
    if (r >= 0)
        changes = say("type='signal',sender='" SYSTEMD_BUS_NAME "',path='%s'", path);
    removal = say("type='signal',sender='" SYSTEMD_BUS_NAME "',member='UnitRemoved',arg0='%s'", unit);
    if (r >= 0)
        r = changes && removal ? systemd_listen((const char *[]){changes, removal, NULL}, &bus) : -ENOMEM;
    /* Listening first: what changes from here on is heard. */
    for (bool late = false; r >= 0;) {
        r = unit_look(unit, ret_look);
        if (r < 0 || until(ret_look))
            return r;
        if (late)
            return -ETIMEDOUT;
        r = wait_for_change(bus, deadline);
        late = r == -ETIMEDOUT;
        r = late ? 0 : r;
    }
    return r;
}
