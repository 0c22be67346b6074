/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens, as it happens. */
#include "term.h"
#include "watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct Monitor {
    Ctl *ctl;
    size_t widest; /* of the names so far */
} Monitor;

static bool is_watched(const Ctl *ctl, const char *name)
{
    for (size_t i = 0; i < ctl->n_names; i++)
        if (strcmp(ctl->names[i], name) == 0)
            return true;
    return ctl->n_names == 0;
}

static bool differs(const cJSON *before, const cJSON *now, const char *key)
{
    return strcmp(json_text(before, key), json_text(now, key)) != 0;
}

/* --- as lines --- */

/* "TIME  NAME  " */
static void begin_line(Monitor *monitor, uint64_t usec, const char *name)
{
    _cleanup_free_ char *when = format_time(usec), *shown = escape(name, ESCAPE_LINE);

    monitor->widest = MAX(monitor->widest, strlen(name));
    printf("%s%s%s  %s%-*s%s  ", paint_dim(), when ? when : "", paint_off(), paint_bold(),
           (int)monitor->widest, shown ? shown : "?", paint_off());
}

static void put_text(const char *text)
{
    _cleanup_free_ char *shown = escape(text, ESCAPE_LINE);

    fputs(shown ? shown : "", stdout);
}

static void put_state(const char *state)
{
    fputs(paint(state), stdout);
    put_text(state);
    fputs(paint_off(), stdout);
}

static void print_change(Monitor *monitor, const char *event, const char *name, const cJSON *before,
                         const cJSON *now)
{
    const cJSON *p = now ? now : before;
    uint64_t when = json_number(p, "StateTimestamp");
    bool moved = before && now && strcmp(json_text(before, "State"), json_text(now, "State")) != 0;

    /* The state's own time is when it came, unless only the reason is new, or it has been so since the boot.
     */
    begin_line(monitor, when > 0 && (moved || strcmp(event, "present") == 0) ? when : now_realtime_usec(),
               name);
    if (!now) {
        puts("removed");
        return;
    }
    if (!before && strcmp(event, "added") == 0)
        fputs("added, ", stdout);
    if (moved) {
        put_text(json_text(before, "State"));
        fputs(" → ", stdout);
    }
    put_state(json_text(now, "State"));
    if (strcmp(json_text(now, "Readiness"), "none") != 0) {
        fputs(", ", stdout);
        put_text(json_text(now, "Readiness"));
    }
    fputs(": ", stdout);
    put_text(json_text(now, before && !moved && differs(before, now, "Readiness") &&
                                    *json_text(now, "ReadinessReason")
                                ? "ReadinessReason"
                                : "StateReason"));
    putchar('\n');
}

/* --- as JSON, an object a line --- */

static cJSON *new_event(uint64_t usec, const char *event, const char *name)
{
    cJSON *object = cJSON_CreateObject();
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, usec);
    cJSON_AddRawToObject(object, "Timestamp", text);
    cJSON_AddStringToObject(object, "Event", event);
    if (name)
        cJSON_AddStringToObject(object, "Name", name);
    return object;
}

static void put_event(const Monitor *monitor, cJSON *object)
{
    json_print(monitor->ctl->json, object);
    cJSON_Delete(object);
}

static void put_change(const Monitor *monitor, const char *event, const char *name, const cJSON *before,
                       const cJSON *now)
{
    cJSON *object = new_event(now_realtime_usec(), event, name);

    if (before)
        cJSON_AddStringToObject(object, "OldState", json_text(before, "State"));
    if (now) {
        cJSON_AddStringToObject(object, "State", json_text(now, "State"));
        cJSON_AddStringToObject(object, "StateReason", json_text(now, "StateReason"));
        cJSON_AddItemToObject(object, "StateTimestamp",
                              cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(now, "StateTimestamp"), true));
        cJSON_AddStringToObject(object, "Readiness", json_text(now, "Readiness"));
        cJSON_AddStringToObject(object, "ReadinessReason", json_text(now, "ReadinessReason"));
        cJSON_AddStringToObject(object, "Result", json_text(now, "Result"));
    }
    put_event(monitor, object);
}

/* --- what is told --- */

static void on_changed(const char *name, const cJSON *before, const cJSON *now, bool first, void *userdata)
{
    Monitor *monitor = userdata;
    const char *event = first ? "present" : !before ? "added" : !now ? "removed" : "changed";

    if (!is_watched(monitor->ctl, name))
        return;
    if (before && now && !differs(before, now, "State") && !differs(before, now, "StateReason") &&
        !differs(before, now, "Readiness"))
        return;
    if (monitor->ctl->json != JSON_OFF)
        put_change(monitor, event, name, before, now);
    else
        print_change(monitor, event, name, before, now);
}

static void on_job(uint64_t id, const char *name, const char *verb, const char *result, const char *reason,
                   void *userdata)
{
    Monitor *monitor = userdata;
    char number[24];
    cJSON *object;

    if (!is_watched(monitor->ctl, name))
        return;
    if (monitor->ctl->json == JSON_OFF) {
        begin_line(monitor, now_realtime_usec(), name);
        printf("job %" PRIu64 ", ", id);
        put_text(verb);
        fputs(", is ", stdout);
        put_text(result);
        fputs(": ", stdout);
        put_text(reason);
        putchar('\n');
        return;
    }
    object = new_event(now_realtime_usec(), "job", name);
    snprintf(number, sizeof(number), "%" PRIu64, id);
    cJSON_AddRawToObject(object, "Job", number);
    cJSON_AddStringToObject(object, "Verb", verb);
    cJSON_AddStringToObject(object, "Result", result);
    cJSON_AddStringToObject(object, "Reason", reason);
    put_event(monitor, object);
}

static void on_daemon(bool there, void *userdata)
{
    Monitor *monitor = userdata;

    if (monitor->ctl->json != JSON_OFF) {
        put_event(monitor, new_event(now_realtime_usec(), there ? "listening" : "away", NULL));
        return;
    }
    if (there && monitor->ctl->quiet)
        return;
    begin_line(monitor, now_realtime_usec(), "microvmd");
    puts(there ? "listening" : "has ended; what runs goes on, and so does this when it is back");
}

/* Names are checked, as those of other verbs. */
static int check_names(Ctl *ctl)
{
    _cleanup_rows_ VmRows rows = {0};

    return ctl->n_names > 0 ? ctl_targets(ctl, true, &rows) : MICROVM_EXIT_OK;
}

int verb_monitor(Ctl *ctl)
{
    Monitor monitor = {.ctl = ctl, .widest = strlen("microvmd")};
    WatchHandlers handlers = {on_changed, on_job, on_daemon, &monitor};
    Watch watch = {0};
    int code;

    if (ctl->json == JSON_PRETTY)
        ctl->json = JSON_SHORT; /* an object a line */
    code = check_names(ctl);
    if (code == MICROVM_EXIT_OK)
        code = watch_begin(ctl, &handlers, &watch);
    /* It goes on until it is interrupted, or nobody reads any more. */
    while (code == MICROVM_EXIT_OK && fflush(stdout) == 0)
        code = watch_step(&watch, UINT64_MAX);
    watch_clear(&watch);
    return code;
}
