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

/* A row a kind of item; `one` and `more` of it: "1 to start, 2 to restart (--restart)". */
static const struct {
    MicrovmPlan action;
    const char *mark, *paint, *word, *one, *more;
} actions[] = {
    {MICROVM_PLAN_START, "+", "running", "new", "to start", NULL},
    {MICROVM_PLAN_RETRY, "+", "running", "failed", "to start again", NULL},
    {MICROVM_PLAN_LIVE, "~", "starting", "changed", "to change while it runs", "to change while they run"},
    {MICROVM_PLAN_RESTART, "~", "starting", "changed", "to restart (--restart)", NULL},
    {MICROVM_PLAN_OUTDATED, "!", "starting", "outdated", "to restart for other files (--restart --outdated)",
     NULL},
    {MICROVM_PLAN_UNDECLARED, "-", "failed", "undeclared", "to stop (--prune)", NULL},
    {MICROVM_PLAN_FAILED, "x", "failed", "failed", "at its start limit (microvmctl reset-failed)",
     "at their start limit (microvmctl reset-failed)"},
    {MICROVM_PLAN_INVALID, "x", "failed", "invalid", "with a definition that can't be used",
     "with definitions that can't be used"},
    {MICROVM_PLAN_NONE, " ", "inactive", "changed", "to change at its next start",
     "to change at their next start"},
    {MICROVM_PLAN_NONE, " ", "failed", "failed", "to start again by itself", "to start again by themselves"},
};

static size_t n_changes(const cJSON *item)
{
    return (size_t)cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(item, "Changes"));
}

/* The row of an item; -1: it is as it is to be. */
static int row_of(const cJSON *item)
{
    int action = microvm_plan_from_string(json_text(item, "Action"));

    if (action == MICROVM_PLAN_NONE && n_changes(item) == 0)
        return *json_text(item, "Reason") ? (int)ELEMENTSOF(actions) - 1 : -1;
    for (size_t i = 0; i < ELEMENTSOF(actions); i++)
        if ((int)actions[i].action == action)
            return (int)i;
    return -1;
}

static char *shown_value(const cJSON *value)
{
    _cleanup_free_ char *text = cJSON_IsNull(value) ? strdup("nothing") : cJSON_PrintUnformatted(value);

    return text ? escape(text, ESCAPE_LINE) : NULL;
}

/* Bytes of the longest text of this key among them. */
static int widest(const cJSON *list, const char *key)
{
    const cJSON *object;
    size_t width = 0;

    cJSON_ArrayForEach (object, list)
        width = MAX(width, strlen(json_text(object, key)));
    return (int)MIN(width, (size_t)60);
}

void print_changes(const cJSON *item)
{
    const cJSON *changes = cJSON_GetObjectItemCaseSensitive(item, "Changes"), *change;
    int width = widest(changes, "Key");

    cJSON_ArrayForEach (change, changes) {
        _cleanup_free_ char *key = escape(json_text(change, "Key"), ESCAPE_LINE);
        _cleanup_free_ char *before = shown_value(cJSON_GetObjectItemCaseSensitive(change, "Old"));
        _cleanup_free_ char *after = shown_value(cJSON_GetObjectItemCaseSensitive(change, "New"));
        const char *takes = json_text(change, "Takes");
        printf("      %-*s  %s%s%s → %s%s%s  %s(%s)%s\n", width, key ? key : "?", paint("failed"),
               before ? before : "?", paint_off(), paint("running"), after ? after : "?", paint_off(),
               paint_dim(), strcmp(takes, "next-start") == 0 ? "next start" : takes, paint_off());
    }
}

static void print_item(const cJSON *item, int width)
{
    _cleanup_free_ char *name = escape(json_text(item, "Name"), ESCAPE_LINE);
    _cleanup_free_ char *reason = escape(json_text(item, "Reason"), ESCAPE_LINE);
    int row = row_of(item);

    if (row < 0)
        return;
    printf("%s%s %-*s  %s%s: %s%s%s\n", paint(actions[row].paint), actions[row].mark, width,
           name ? name : "?", actions[row].word, paint_off(), paint_dim(), reason ? reason : "", paint_off());
    print_changes(item);
}

static void print_items(const cJSON *plan)
{
    _cleanup_json_ cJSON *shown = cJSON_CreateArray();
    const cJSON *item;

    cJSON_ArrayForEach (item, plan)
        if (row_of(item) >= 0)
            cJSON_AddItemReferenceToArray(shown, (cJSON *)item);
    cJSON_ArrayForEach (item, shown)
        print_item(item, widest(shown, "Name"));
}

static void print_sums(const Ctl *ctl, const size_t *counts, size_t unchanged)
{
    size_t all = unchanged;
    const char *separator = "";

    for (size_t i = 0; i < ELEMENTSOF(actions); i++)
        all += counts[i];
    if (all == 0) {
        printf("Nothing to do: there is no microVM%s.\n", ctl->n_labels == 0   ? ""
                                                          : ctl->n_labels == 1 ? " with this label"
                                                                               : " with these labels");
        return;
    }
    if (all == unchanged) {
        printf("Nothing to do: %zu microVM%s as %s.\n", all, all == 1 ? " is" : "s are",
               all == 1 ? "its files say" : "their files say");
        return;
    }
    fputs("\n", stdout);
    for (size_t i = 0; i < ELEMENTSOF(actions); i++)
        if (counts[i] > 0) {
            printf("%s%zu %s", separator, counts[i],
                   counts[i] > 1 && actions[i].more ? actions[i].more : actions[i].one);
            separator = ", ";
        }
    if (unchanged > 0)
        printf("%s%zu unchanged", separator, unchanged);
    puts(".");
}

/* What plan ends with: what apply would fail about counts more than what it would do. */
static int code_of(const size_t *counts)
{
    int code = MICROVM_EXIT_OK;

    for (size_t i = 0; i < ELEMENTSOF(actions); i++) {
        MicrovmPlan action = actions[i].action;
        if (counts[i] > 0 && (action == MICROVM_PLAN_INVALID || action == MICROVM_PLAN_FAILED))
            return MICROVM_EXIT_FAILURE;
        if (counts[i] > 0 && action != MICROVM_PLAN_NONE)
            code = MICROVM_EXIT_PLAN_CHANGES;
    }
    return code;
}

int verb_plan(Ctl *ctl)
{
    _cleanup_json_ cJSON *plan = NULL;
    size_t counts[ELEMENTSOF(actions)] = {0}, unchanged = 0;
    const cJSON *item;
    int code;

    code = ctl_connect(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_ask_password(ctl);
    ctl->member = "Plan";
    code = ctl_reload_quietly(ctl);
    if (code == MICROVM_EXIT_OK)
        code = ctl_plan(ctl, ctl->names, ctl->n_names, true, &plan);
    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_stop_asking(ctl);
    cJSON_ArrayForEach (item, plan) {
        int row = row_of(item);
        if (row < 0)
            unchanged++;
        else
            counts[row]++;
    }
    if (ctl->json != JSON_OFF) {
        json_print(ctl->json, plan);
    } else if (!ctl->quiet) {
        pager_open(!ctl->no_pager);
        print_items(plan);
        if (!ctl->no_legend)
            print_sums(ctl, counts, unchanged);
        pager_close();
    }
    return code_of(counts);
}
