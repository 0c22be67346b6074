/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Why a microVM is as it is, on one screen. */
#include "bus.h"
#include "card.h"
#include "term.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

enum {
    CONSOLE_LINES = 10,
    EVENTS_SHOWN = 8,
};

/* --- what the daemon says, with names for what D-Bus has none for --- */

static int name_members(cJSON *facts, const char *key, const char *const *names, size_t n)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(facts, key), *item;
    cJSON *named = cJSON_CreateArray();

    cJSON_ArrayForEach (item, list) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddItemToArray(named, object);
        for (size_t i = 0; i < n; i++)
            cJSON_AddItemToObject(object, names[i], cJSON_Duplicate(cJSON_GetArrayItem(item, (int)i), true));
    }
    if (!list ? !cJSON_AddItemToObject(facts, key, named)
              : !cJSON_ReplaceItemInObjectCaseSensitive(facts, key, named)) {
        cJSON_Delete(named);
        return -1;
    }
    return 0;
}

static int explain(Ctl *ctl, const VmRow *row, cJSON **ret_facts)
{
    static const char *const waits_for[] = {"Name", "State", "Reason"};
    static const char *const events[] = {"Timestamp", "Kind", "Text"};
    static const char *const advice[] = {"Command", "Text"};
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_json_ cJSON *facts = NULL;
    int code, r;

    code = ctl_call(ctl, NULL, row->name, "Explain", &reply, "sa{sv}", row->name, 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = json_from_message(reply, &facts);
    if (r < 0)
        return ctl_bad_answer(r);
    if (name_members(facts, "WaitsFor", waits_for, ELEMENTSOF(waits_for)) < 0 ||
        name_members(facts, "Events", events, ELEMENTSOF(events)) < 0 ||
        name_members(facts, "Advice", advice, ELEMENTSOF(advice)) < 0)
        return fail_oom();
    *ret_facts = facts;
    facts = NULL;
    return MICROVM_EXIT_OK;
}

/* --- as a card --- */

/* "root (microvmctl, pid 4242)"; over there, users have other names. */
static void describe_caller(const Ctl *ctl, const cJSON *asked, char *text, size_t size)
{
    uint64_t uid = json_number(asked, "UID"), pid = json_number(asked, "PID");
    const struct passwd *user = ctl->host ? NULL : getpwuid((uid_t)uid);
    const char *process = json_text(asked, "Process");
    size_t used;

    if (!cJSON_GetObjectItemCaseSensitive(asked, "UID")) {
        snprintf(text, size, "somebody whom the bus did not tell");
        return;
    }
    if (user)
        used = (size_t)snprintf(text, size, "%s", user->pw_name);
    else
        used = (size_t)snprintf(text, size, "uid %" PRIu64, uid);
    if (pid > 0 && used < size)
        snprintf(text + used, size - used, " (%s%spid %" PRIu64 ")", process, *process ? ", " : "", pid);
}

static void print_asked(const Ctl *ctl, const cJSON *facts)
{
    const cJSON *asked = cJSON_GetObjectItemCaseSensitive(facts, "Asked");
    const char *by = json_text(asked, "By"), *verb = json_text(asked, "Verb");
    _cleanup_free_ char *when = format_time(json_number(asked, "Timestamp"));
    const char *at = when ? when : "";
    char caller[256];

    if (!asked) {
        print_line("Asked", "nothing, since the host booted");
        return;
    }
    describe_caller(ctl, asked, caller, sizeof(caller));
    if (strcmp(by, "caller") == 0)
        print_line("Asked", "%s, by %s, %s", verb, caller, at);
    else if (strcmp(by, "apply") == 0)
        print_line("Asked", "%s, by the apply of %s, %s", verb, caller, at);
    else if (strcmp(by, "autostart") == 0)
        print_line("Asked", "%s, by \"autostart\" of its definition, %s", verb, at);
    else if (strcmp(by, "dependency") == 0)
        print_line("Asked", "%s, for %s, which needs it, %s", verb, json_text(asked, "For"), at);
    else if (strcmp(by, "handle") == 0)
        print_line("Asked", "%s, through systemd, as its unit microvmd@%s.service, %s", verb,
                   json_text(facts, "Name"), at);
    else if (strcmp(by, "shutdown") == 0)
        print_line("Asked", "%s, because the host is shutting down (" MICROVM_SHUTDOWN_UNIT "), %s", verb,
                   at);
    else
        print_line("Asked", "%s, by somebody who went past microvmd (virsh, systemctl…), %s", verb, at);
}

static void print_chain(const cJSON *facts)
{
    const char *label = "Waits for";
    const cJSON *item;

    cJSON_ArrayForEach (item, cJSON_GetObjectItemCaseSensitive(facts, "WaitsFor")) {
        print_line(label, "%s, which is %s: %s", json_text(item, "Name"), json_text(item, "State"),
                   json_text(item, "Reason"));
        label = "";
    }
    /* Mostly it is the reason of the state. */
    if (*json_text(facts, "DriverReason") &&
        !strstr(json_text(facts, "StateReason"), json_text(facts, "DriverReason")))
        print_line("Driver", "away: %s", json_text(facts, "DriverReason"));
}

static void print_restarts(const cJSON *facts)
{
    uint64_t restarts = json_number(facts, "NRestarts"), due = json_number(facts, "NextRestartTimestamp");

    if (restarts > 0 || due > 0)
        print_line("Restarts", "%" PRIu64 " so far, by its policy \"%s\"", restarts,
                   json_text(facts, "RestartPolicy"));
    if (due > 0) {
        _cleanup_free_ char *when = format_since(due);
        print_line("Next restart", "%s", when ? when : "");
    }
}

static void print_end(const cJSON *facts)
{
    const cJSON *end = cJSON_GetObjectItemCaseSensitive(facts, "LastEnd");
    _cleanup_free_ char *when = format_time(json_number(end, "Timestamp"));
    const char *reason = json_text(end, "Reason");

    if (!end)
        return;
    print_line(json_number(end, "StartTimestamp") > 0 ? "Last run" : "Last start", "ended with %s, %s",
               json_text(end, "Result"), when ? when : "");
    /* Mostly the reason of the state begins with it. */
    if (strncmp(json_text(facts, "StateReason"), reason, strlen(reason)) != 0)
        print_line("", "%s", reason);
    print_process(end);
}

static void print_advice(const cJSON *facts)
{
    const cJSON *advice = cJSON_GetObjectItemCaseSensitive(facts, "Advice"), *item;
    size_t widest = 0;

    cJSON_ArrayForEach (item, advice)
        widest = MAX(widest, strlen(json_text(item, "Command")));
    if (widest > 0)
        printf("\n%sWhat to do%s\n", paint_bold(), paint_off());
    cJSON_ArrayForEach (item, advice) {
        _cleanup_free_ char *command = escape(json_text(item, "Command"), ESCAPE_LINE),
                            *text = escape(json_text(item, "Text"), ESCAPE_LINE);
        printf("  %-*s  %s%s%s\n", (int)widest, command ? command : "", paint_dim(), text ? text : "",
               paint_off());
    }
}

static void print_facts(Ctl *ctl, const VmRow *row, const cJSON *facts)
{
    uint64_t lines = ctl->lines == UINT64_MAX ? CONSOLE_LINES : ctl->lines;
    const char *readiness = json_text(facts, "Readiness");
    _cleanup_free_ char *tail = NULL;
    const char *left_out = NULL;

    print_title(row->name, json_text(facts, "State"), "since", json_number(facts, "StateTimestamp"));
    print_line("Reason", "%s", json_text(facts, "StateReason"));
    if (*readiness && strcmp(readiness, "none") != 0)
        print_line("Readiness", "%s", readiness);
    print_asked(ctl, facts);
    print_chain(facts);
    print_restarts(facts);
    print_end(facts);
    print_events(cJSON_GetObjectItemCaseSensitive(facts, "Events"), EVENTS_SHOWN);
    if (lines > 0)
        tail = log_tail(ctl, row->path, lines, &left_out);
    if (left_out)
        print_line("Console", "not shown: %s", left_out);
    print_quoted("What its console said last", tail, lines);
    print_advice(facts);
}

/* --- as JSON --- */

/* A guest may say anything; JSON is UTF-8. */
static void make_valid(char *text)
{
    for (size_t left = text ? strlen(text) : 0; left > 0;) {
        int length = utf8_length(text, left);
        if (length <= 0)
            *text = '?';
        length = MAX(length, 1);
        text += length;
        left -= (size_t)length;
    }
}

static void add_console(Ctl *ctl, const VmRow *row, cJSON *facts)
{
    uint64_t lines = ctl->lines == UINT64_MAX ? CONSOLE_LINES : ctl->lines;
    const char *left_out = NULL;
    _cleanup_free_ char *tail = lines > 0 ? log_tail(ctl, row->path, lines, &left_out) : NULL;

    make_valid(tail);
    if (tail)
        cJSON_AddStringToObject(facts, "Console", tail);
    if (left_out)
        cJSON_AddStringToObject(facts, "ConsoleLeftOut", left_out);
}

int verb_why(Ctl *ctl)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    _cleanup_rows_ VmRows rows = {0};
    int code, worst = MICROVM_EXIT_OK;

    code = ctl_named(ctl, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    pager_open(ctl->json == JSON_OFF && !ctl->no_pager);
    for (size_t i = 0; i < rows.count && worst != MICROVM_EXIT_UNREACHABLE; i++) {
        cJSON *facts = NULL;
        code = explain(ctl, &rows.items[i], &facts);
        if (code != MICROVM_EXIT_OK) {
            worst = code;
            continue;
        }
        if (ctl->json == JSON_OFF) {
            fputs(i > 0 ? "\n" : "", stdout);
            print_facts(ctl, &rows.items[i], facts);
        } else {
            add_console(ctl, &rows.items[i], facts);
        }
        cJSON_AddItemToArray(list, facts);
    }
    if (ctl->json != JSON_OFF)
        json_print(ctl->json, list);
    pager_close();
    return worst;
}
