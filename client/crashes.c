/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reports of runs that ended badly. */
#include "bus.h"
#include "card.h"
#include "table.h"
#include "term.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- the list --- */

/* Appends those of one microVM: { Crash, Result, Reason, Name }, the newest first. An exit code. */
static int list_crashes(Ctl *ctl, const VmRow *row, cJSON *list)
{
    static const char *const keys[] = {"Crash", "Result", "Reason", NULL};
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_json_ cJSON *crashes = NULL;
    int code, r;

    code = ctl_call(ctl, row->path, row->name, "ListCrashes", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = json_rows_from_message(reply, keys, &crashes);
    if (r < 0)
        return ctl_bad_answer(r);
    while (cJSON_GetArraySize(crashes) > 0) {
        cJSON *crash = cJSON_DetachItemFromArray(crashes, 0);
        cJSON_AddStringToObject(crash, "Name", row->name);
        cJSON_AddItemToArray(list, crash);
    }
    return MICROVM_EXIT_OK;
}

static int print_table(const Ctl *ctl, const cJSON *list)
{
    static const char *const headers[] = {"NAME", "N", "WHEN", "RESULT", "REASON"};
    _cleanup_(table_freep)
    Table *table = table_new(headers, ELEMENTSOF(headers));
    const char *before = "";
    const cJSON *crash;
    unsigned n = 0;

    if (!table)
        return fail_oom();
    cJSON_ArrayForEach (crash, list) {
        _cleanup_free_ char *when = format_time(json_number(crash, "Crash"));
        const char *name = json_text(crash, "Name");
        char place[16];
        n = strcmp(name, before) == 0 ? n + 1 : 1;
        before = name;
        snprintf(place, sizeof(place), "%u", n);
        if (!when || table_add(table,
                               (const char *[]){name, place, when, json_text(crash, "Result"),
                                                json_text(crash, "Reason")},
                               "failed") < 0)
            return fail_oom();
    }
    pager_open(!ctl->no_pager);
    table_print(table, !ctl->no_legend);
    if (!ctl->no_legend)
        printf("\n%d report%s. One in full: microvmctl crashes NAME N\n", cJSON_GetArraySize(list),
               cJSON_GetArraySize(list) == 1 ? "" : "s");
    pager_close();
    return MICROVM_EXIT_OK;
}

static int print_list(const Ctl *ctl, const cJSON *list)
{
    if (ctl->json != JSON_OFF)
        return json_print(ctl->json, list);
    if (cJSON_GetArraySize(list) > 0)
        return print_table(ctl, list);
    if (!ctl->quiet)
        puts("There are no crash reports.");
    return MICROVM_EXIT_OK;
}

/* --- one of them --- */

/* As a shell would take it. */
static void print_command(const cJSON *command)
{
    const cJSON *word;

    if (cJSON_GetArraySize(command) == 0)
        return;
    printf("\n%sCommand%s\n", paint_bold(), paint_off());
    cJSON_ArrayForEach (word, command) {
        const char *text = cJSON_GetStringValue(word);
        _cleanup_free_ char *shown = text ? escape(text, ESCAPE_LINE) : NULL;
        bool plain = shown && *shown &&
                     shown[strspn(shown, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                         "-_./,:=+@%")] == '\0';
        bool quotable = shown && !strchr(shown, '\'');
        printf("%s%s%s%s", word != command->child ? " " : "", plain || !quotable ? "" : "'",
               shown ? shown : "", plain || !quotable ? "" : "'");
    }
    putchar('\n');
}

static void print_report(const cJSON *report, const char *name)
{
    const char *accel = json_text(report, "accel");

    print_title(name, json_text(report, "result"), "on", json_number(report, "timestamp"));
    print_line("Reason", "%s", json_text(report, "reason"));
    print_line("Asked", "%s", json_text(report, "asked"));
    if (json_number(report, "restarts") > 0)
        print_line("Restarts", "%" PRIu64 " before", json_number(report, "restarts"));
    print_process(report);
    if (*json_text(report, "unit"))
        print_line("Unit", "%s", json_text(report, "unit"));
    print_line("Driver", "%s, %s%s%s", json_text(report, "driver"), json_text(report, "hypervisor"),
               *accel ? ", " : "", accel);
    if (*json_text(report, "see"))
        print_line("See also", "%s", json_text(report, "see"));
    print_events(cJSON_GetObjectItemCaseSensitive(report, "events"), 1000);
    print_command(cJSON_GetObjectItemCaseSensitive(report, "command"));
    print_quoted("What the hypervisor said itself", json_text(report, "output"), UINT64_MAX);
    print_quoted("What the console said last", json_text(report, "console"), UINT64_MAX);
}

/* "1" is the newest; a large number is that of a report itself. */
static int find_number(Ctl *ctl, const VmRow *row, const char *word, uint64_t *ret_number)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    uint64_t n;
    char *end;
    int code, count;

    errno = 0;
    n = strtoull(word, &end, 10);
    if (*word < '1' || *word > '9' || *end || errno != 0)
        return fail(MICROVM_EXIT_USAGE,
                    "crashes takes the place of a report, 1 for the newest: microvmctl crashes NAME 1");
    if (n > 1000000) {
        *ret_number = n;
        return MICROVM_EXIT_OK;
    }
    code = list_crashes(ctl, row, list);
    if (code != MICROVM_EXIT_OK)
        return code;
    count = cJSON_GetArraySize(list);
    if (n > (uint64_t)count)
        return fail(MICROVM_EXIT_FAILURE, "%s has %d crash report%s.", row->name, count,
                    count == 1 ? "" : "s");
    *ret_number = json_number(cJSON_GetArrayItem(list, (int)n - 1), "Crash");
    return MICROVM_EXIT_OK;
}

/* cJSON's numbers are doubles, of which it prints 15 digits; a time has 16. */
static cJSON *keep_digits(cJSON *json)
{
    char text[32];

    for (cJSON *item = json ? json->child : NULL, *next; item; item = next) {
        next = item->next;
        keep_digits(item);
        if (!cJSON_IsNumber(item) || item->valuedouble < 1e14 || item->valuedouble > 9e15 || !item->string)
            continue;
        snprintf(text, sizeof(text), "%.0f", item->valuedouble);
        cJSON_ReplaceItemInObjectCaseSensitive(json, item->string, cJSON_CreateRaw(text));
    }
    return json;
}

static int show_crash(Ctl *ctl, const VmRow *row, const char *word)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_json_ cJSON *report = NULL;
    uint64_t number = 0;
    const char *text;
    int code, r;

    code = find_number(ctl, row, word, &number);
    if (code == MICROVM_EXIT_OK)
        code = ctl_call(ctl, row->path, row->name, "GetCrash", &reply, "t", number);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_read(reply, "s", &text);
    if (r < 0)
        return ctl_bad_answer(r);
    report = keep_digits(cJSON_Parse(text));
    if (!cJSON_IsObject(report))
        return ctl_bad_answer(-EBADMSG);
    if (ctl->json == JSON_SHORT) {
        json_put(text);
        return MICROVM_EXIT_OK;
    }
    if (ctl->json != JSON_OFF)
        return json_print(ctl->json, report);
    pager_open(!ctl->no_pager);
    print_report(report, row->name);
    pager_close();
    return MICROVM_EXIT_OK;
}

int verb_crashes(Ctl *ctl)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    const char *which = ctl->n_names == 2 ? ctl->names[1] : NULL;
    _cleanup_rows_ VmRows rows = {0};
    int code, worst;

    if (ctl->n_names > 2)
        return fail(MICROVM_EXIT_USAGE,
                    "crashes takes a microVM and the place of a report: microvmctl crashes NAME 1");
    if (which)
        ctl->n_names = 1;
    worst = ctl->n_names == 0 ? ctl_list(ctl, &rows) : ctl_named(ctl, &rows);
    if (worst != MICROVM_EXIT_OK)
        return worst;
    ctl_ask_password(ctl);
    if (which)
        return show_crash(ctl, &rows.items[0], which);
    for (size_t i = 0;
         i < rows.count && worst != MICROVM_EXIT_UNREACHABLE && worst != MICROVM_EXIT_NOT_ALLOWED; i++) {
        code = list_crashes(ctl, &rows.items[i], list);
        worst = code != MICROVM_EXIT_OK ? code : worst;
    }
    code = worst == MICROVM_EXIT_OK ? print_list(ctl, list) : worst;
    return code;
}
