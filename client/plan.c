/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* plan: what apply would do, as a person reads it or as JSON. */
#include "plan.h"

#include "microvm/states.h"
#include "term.h"

#include <stdio.h>
#include <string.h>

int append_names(sd_bus_message *call, char *const *names, size_t n)
{
    int r = sd_bus_message_open_container(call, 'a', "s");

    for (size_t i = 0; i < n && r >= 0; i++)
        r = sd_bus_message_append(call, "s", names[i]);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

/* As one member of a{sv} */
int append_labels(const Ctl *ctl, sd_bus_message *call)
{
    int r;

    if (ctl->n_labels == 0)
        return 0;
    r = sd_bus_message_open_container(call, 'e', "sv");
    if (r >= 0)
        r = sd_bus_message_append(call, "s", "labels");
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'v', "as");
    if (r >= 0)
        r = append_names(call, (char *const *)ctl->labels, ctl->n_labels);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

int ctl_reload_quietly(Ctl *ctl)
{
    return ctl_call(ctl, NULL, NULL, "Reload", NULL, "a{sv}", 0);
}

/* --- reading --- */

/* JSON text, empty where there is nothing. */
static cJSON *value_of(const char *text)
{
    cJSON *value = *text ? cJSON_Parse(text) : cJSON_CreateNull();

    return value ? value : cJSON_CreateString(text);
}

static int read_changes(sd_bus_message *reply, cJSON *list)
{
    const char *key, *before, *after, *takes;
    int r;

    r = sd_bus_message_enter_container(reply, 'a', "(ssss)");
    while (r >= 0 && (r = sd_bus_message_read(reply, "(ssss)", &key, &before, &after, &takes)) > 0) {
        cJSON *change = cJSON_CreateObject();
        cJSON_AddStringToObject(change, "Key", key);
        cJSON_AddItemToObject(change, "Old", value_of(before));
        cJSON_AddItemToObject(change, "New", value_of(after));
        cJSON_AddStringToObject(change, "Takes", takes);
        cJSON_AddItemToArray(list, change);
    }
    return r < 0 ? r : sd_bus_message_exit_container(reply);
}

static int read_plan(sd_bus_message *reply, cJSON *plan)
{
    const char *name, *action, *reason;
    int r;

    r = sd_bus_message_enter_container(reply, 'a', "(sssa(ssss))");
    while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'r', "sssa(ssss)")) > 0) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToArray(plan, item);
        r = sd_bus_message_read(reply, "sss", &name, &action, &reason);
        if (r < 0)
            return r;
        cJSON_AddStringToObject(item, "Name", name);
        cJSON_AddStringToObject(item, "Action", action);
        cJSON_AddStringToObject(item, "Reason", reason);
        r = read_changes(reply, cJSON_AddArrayToObject(item, "Changes"));
        if (r >= 0)
            r = sd_bus_message_exit_container(reply);
    }
    return r;
}

int ctl_plan(Ctl *ctl, char *const *names, size_t n_names, bool explain, cJSON **ret_plan)
{
    _cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
    _cleanup_json_ cJSON *plan = cJSON_CreateArray();
    int code, r;

    code = ctl_new_call(ctl, NULL, "Plan", &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = append_names(call, names, n_names);
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0)
        r = append_labels(ctl, call);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r));
    if (explain) {
        code = ctl_send(ctl, call, NULL, &reply);
    } else {
        (void)sd_bus_message_set_allow_interactive_authorization(call, 0);
        code = sd_bus_call(ctl->bus, call, UINT64_MAX, NULL, &reply) < 0 ? MICROVM_EXIT_FAILURE
                                                                         : MICROVM_EXIT_OK;
    }
    if (code != MICROVM_EXIT_OK)
        return code;
    r = read_plan(reply, plan);
    if (r < 0)
        return explain ? ctl_bad_answer(r) : MICROVM_EXIT_FAILURE;
    *ret_plan = plan;
    plan = NULL;
    return MICROVM_EXIT_OK;
}

/* --- printing --- */

static const struct {
    MicrovmPlan action;
    const char *mark, *paint, *word, *doing; /* doing: "N to start" */
} actions[] = {
    {MICROVM_PLAN_START, "+", "running", "new", "to start"},
    {MICROVM_PLAN_RETRY, "+", "running", "failed", "to start again"},
    {MICROVM_PLAN_FAILED, "x", "failed", "failed", "at its start limit (microvmctl reset-failed)"},
    {MICROVM_PLAN_LIVE, "~", "starting", "changed", "to change while it runs"},
    {MICROVM_PLAN_RESTART, "~", "starting", "changed", "to restart (--restart)"},
    {MICROVM_PLAN_OUTDATED, "!", "starting", "outdated", "to restart for new files (--restart --outdated)"},
    {MICROVM_PLAN_UNDECLARED, "-", "failed", "undeclared", "undeclared (--prune)"},
    {MICROVM_PLAN_INVALID, "x", "failed", "invalid", "with a definition that can't be used"},
};

static char *shown_value(const cJSON *value)
{
    _cleanup_free_ char *text = cJSON_IsNull(value) ? strdup("nothing") : cJSON_PrintUnformatted(value);

    return text ? escape(text, ESCAPE_LINE) : NULL;
}

void print_changes(const cJSON *item)
{
    const cJSON *change;

    cJSON_ArrayForEach (change, cJSON_GetObjectItemCaseSensitive(item, "Changes")) {
        _cleanup_free_ char *key = escape(json_text(change, "Key"), ESCAPE_LINE);
        _cleanup_free_ char *before = shown_value(cJSON_GetObjectItemCaseSensitive(change, "Old"));
        _cleanup_free_ char *after = shown_value(cJSON_GetObjectItemCaseSensitive(change, "New"));
        const char *takes = json_text(change, "Takes");
        printf("      %s: %s%s%s → %s%s%s  %s(%s)%s\n", key ? key : "?", paint("failed"),
               before ? before : "?", paint_off(), paint("running"), after ? after : "?", paint_off(),
               paint_dim(), strcmp(takes, "next-start") == 0 ? "next start" : takes, paint_off());
    }
}

static int action_of(const cJSON *item)
{
    for (size_t i = 0; i < ELEMENTSOF(actions); i++)
        if (strcmp(json_text(item, "Action"), microvm_plan_to_string(actions[i].action)) == 0)
            return (int)i;
    return -1;
}

static void print_item(const cJSON *item)
{
    _cleanup_free_ char *name = escape(json_text(item, "Name"), ESCAPE_LINE);
    _cleanup_free_ char *reason = escape(json_text(item, "Reason"), ESCAPE_LINE);
    int row = action_of(item);
    bool changes = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(item, "Changes")) > 0;

    if (row < 0 && !changes)
        return;
    printf("%s%s %s%s %s%s%s%s%s\n", row < 0 ? "" : paint(actions[row].paint),
           row < 0 ? "~" : actions[row].mark, name ? name : "?", row < 0 ? "" : paint_off(),
           row < 0 ? "changed" : actions[row].word, reason && *reason ? ": " : "", paint_dim(),
           reason ? reason : "", paint_off());
    print_changes(item);
}

static void print_sums(const cJSON *plan, const size_t *counts, size_t unchanged)
{
    bool first = true;

    if (cJSON_GetArraySize(plan) == (int)unchanged) {
        printf("Nothing to do: %zu microVM%s as %s.\n", unchanged, unchanged == 1 ? " is" : "s are",
               unchanged == 1 ? "its files say" : "their files say");
        return;
    }
    fputs("\n", stdout);
    for (size_t i = 0; i < ELEMENTSOF(actions); i++)
        if (counts[i] > 0) {
            printf("%s%zu %s", first ? "" : ", ", counts[i], actions[i].doing);
            first = false;
        }
    printf("%s%zu unchanged.\n", first ? "" : ", ", unchanged);
}

int verb_plan(Ctl *ctl)
{
    _cleanup_json_ cJSON *plan = NULL;
    size_t counts[ELEMENTSOF(actions)] = {0}, unchanged = 0, to_do = 0, invalid = 0;
    const cJSON *item;
    int code;

    code = ctl_connect(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_ask_password(ctl);
    code = ctl_reload_quietly(ctl);
    if (code == MICROVM_EXIT_OK)
        code = ctl_plan(ctl, ctl->names, ctl->n_names, true, &plan);
    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_stop_asking(ctl);
    cJSON_ArrayForEach (item, plan) {
        int row = action_of(item);
        if (row < 0) {
            unchanged++;
            continue;
        }
        counts[row]++;
        if (actions[row].action == MICROVM_PLAN_INVALID)
            invalid++;
        else
            to_do++;
    }
    if (ctl->json != JSON_OFF) {
        json_print(ctl->json, plan);
    } else if (!ctl->quiet) {
        pager_open(!ctl->no_pager);
        cJSON_ArrayForEach (item, plan)
            print_item(item);
        if (!ctl->no_legend)
            print_sums(plan, counts, unchanged);
        pager_close();
    }
    return invalid > 0 ? MICROVM_EXIT_FAILURE : to_do > 0 ? MICROVM_EXIT_PLAN_CHANGES : MICROVM_EXIT_OK;
}
