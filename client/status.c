/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

#include <inttypes.h>

enum {
    LOG_LINES = 10,
};

static const char *text_of(const cJSON *properties, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(properties, key));

    return text ? text : "";
}

static uint64_t number_of(const cJSON *properties, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(properties, key);

    if (cJSON_IsRaw(item))
        return strtoull(item->valuestring, NULL, 10);
    return cJSON_IsNumber(item) ? (uint64_t)item->valuedouble : 0;
}

static bool flag_of(const cJSON *properties, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(properties, key));
}

static bool is_running(const char *state)
{
    return strcmp(state, "inactive") != 0 && strcmp(state, "failed") != 0 && strcmp(state, "backoff") != 0 &&
           strcmp(state, "waiting") != 0;
}

static void print_line(const char *label, const char *format, ...) _printf_(2, 3);
static void print_line(const char *label, const char *format, ...)
{
    _cleanup_free_ char *text = NULL, *shown = NULL;
    __builtin_va_list arguments;

    __builtin_va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    __builtin_va_end(arguments);
    shown = text ? escape(text, false) : NULL;
    printf("%12s: %s\n", label, shown ? shown : "");
}

static void print_state(const cJSON *p, const char *state)
{
    _cleanup_free_ char *since = NULL;
    uint64_t when = number_of(p, "StateTimestamp");

    if (when > 0)
        since = format_since(when);
    printf("%12s: %s%s%s%s%s\n", "State", paint(state), state, PAINT_OFF, since ? " since " : "", since ? since : "");
    print_line("Reason", "%s", text_of(p, "StateReason"));
}

static void print_last_run(const cJSON *p)
{
    const char *result = text_of(p, "Result"), *stop = text_of(p, "LastStop");
    uint64_t restarts = number_of(p, "NRestarts"), due = number_of(p, "NextRestartTimestamp");

    if (*stop || strcmp(result, "success") != 0)
        print_line("Last run", "%s%s%s%s", result, *stop ? " (stop: " : "", stop, *stop ? ")" : "");
    if (restarts > 0)
        print_line("Restarts", "%" PRIu64, restarts);
    if (due > 0) {
        _cleanup_free_ char *when = format_since(due);
        print_line("Next start", "%s", when ? when : "");
    }
}

static void print_log(Ctl *ctl, const VmRow *row)
{
    _cleanup_free_ char *tail = log_tail(ctl, row->path, LOG_LINES), *shown = NULL;

    if (!tail || !*tail)
        return;
    shown = escape(tail, true);
    printf("\n%s%s%s", PAINT_DIM, shown ? shown : "", PAINT_OFF);
    if (tail[strlen(tail) - 1] != '\n')
        putchar('\n');
}

static void print_card(Ctl *ctl, const VmRow *row, const cJSON *p)
{
    const char *state = text_of(p, "State"), *path = text_of(p, "DefinitionPath"), *accel = text_of(p, "Accel");
    uint64_t pid = number_of(p, "MainPID");

    printf("%s●%s %s%s%s\n", paint(state), PAINT_OFF, PAINT_BOLD, row->name, PAINT_OFF);
    print_line("Definition", "%s%s%s", *path ? path : "none", flag_of(p, "Undeclared") ? " (undeclared: its file is gone)" : "",
               flag_of(p, "Outdated") ? " (outdated: the definition changed since it started; restart to apply)" : "");
    print_state(p, state);
    print_last_run(p);
    if (*text_of(p, "Hypervisor"))
        print_line("Hypervisor", "%s, by driver %s%s", text_of(p, "Hypervisor"), text_of(p, "Driver"),
                   flag_of(p, "DriverOnline") ? "" : " (away)");
    if (*accel)
        print_line("Accel", "%s (%s)", accel, text_of(p, "AccelReason"));
    if (pid > 0)
        print_line("Main PID", "%" PRIu64, pid);
    if (number_of(p, "VCPUs") > 0)
        print_line("Resources", "%" PRIu64 " vCPU%s, %" PRIu64 " MiB", number_of(p, "VCPUs"),
                   number_of(p, "VCPUs") == 1 ? "" : "s", number_of(p, "MemoryBytes") >> 20);
    if (*text_of(p, "UUID"))
        print_line("UUID", "%s", text_of(p, "UUID"));
    if (number_of(p, "StartTimestamp") > 0) {
        _cleanup_free_ char *started = format_since(number_of(p, "StartTimestamp"));
        print_line("Started", "%s", started ? started : "");
    }
    print_line("Autostart", "%s", flag_of(p, "Autostart") ? "yes" : "no");
    print_log(ctl, row);
}

/* --- the host --- */

static void print_drivers(const cJSON *drivers)
{
    const cJSON *driver;

    cJSON_ArrayForEach(driver, drivers)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetArrayItem(driver, 0));
        const char *detail = cJSON_GetStringValue(cJSON_GetArrayItem(driver, 2));
        bool online = cJSON_IsTrue(cJSON_GetArrayItem(driver, 1));
        print_line("Driver", "%s %s%s%s%s", name ? name : "?", online ? "online" : "away", detail && *detail ? " (" : "",
                   detail ? detail : "", detail && *detail ? ")" : "");
    }
}

static void print_counts(const cJSON *counts)
{
    char text[256] = "";
    size_t used = 0;
    const cJSON *count;

    cJSON_ArrayForEach(count, counts)
        if (strcmp(count->string, "total") != 0 && count->valueint > 0 && used < sizeof(text))
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%d %s", used ? ", " : "", count->valueint,
                                     count->string);
    print_line("microVMs", "%d%s%s%s", cJSON_GetObjectItemCaseSensitive(counts, "total") ? cJSON_GetObjectItemCaseSensitive(counts, "total")->valueint : 0,
               *text ? " (" : "", text, *text ? ")" : "");
}

static int host_status(Ctl *ctl)
{
    _cleanup_json_ cJSON *p = NULL;
    bool conflict;
    int code;

    code = ctl_connect(ctl);
    if (code == MICROVM_EXIT_OK)
        code = ctl_get_all(ctl, NULL, &p);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (ctl->json != JSON_OFF)
        return print_json(ctl, p);
    conflict = strcmp(text_of(p, "HostRole"), "host") != 0;
    printf("%s●%s %smicrovmd%s %s\n", paint(conflict ? "failed" : "running"), PAINT_OFF, PAINT_BOLD, PAINT_OFF,
           text_of(p, "Version"));
    print_line("Host role", "%s%s", text_of(p, "HostRole"),
               conflict ? ": guest mode is enabled in its configuration, so nothing starts; see: microvmd --check" : "");
    print_drivers(cJSON_GetObjectItemCaseSensitive(p, "Drivers"));
    print_counts(cJSON_GetObjectItemCaseSensitive(p, "Counts"));
    return MICROVM_EXIT_OK;
}

int verb_status(Ctl *ctl)
{
    _cleanup_(vm_rows_clear) VmRows rows = {0};
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    int code, result = MICROVM_EXIT_OK;

    if (!ctl->all && ctl->n_names == 0)
        return host_status(ctl);
    code = ctl_targets(ctl, false, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (ctl->json == JSON_OFF)
        pager_open(ctl);
    for (size_t i = 0; i < rows.count; i++) {
        cJSON *properties = NULL;
        code = ctl_get_all(ctl, rows.items[i].path, &properties);
        if (code != MICROVM_EXIT_OK) {
            result = code;
            continue;
        }
        if (!is_running(text_of(properties, "State")) && result == MICROVM_EXIT_OK)
            result = MICROVM_EXIT_NOT_RUNNING;
        if (ctl->json == JSON_OFF) {
            if (i > 0)
                putchar('\n');
            print_card(ctl, &rows.items[i], properties);
            cJSON_Delete(properties);
        } else {
            cJSON_AddItemToArray(list, properties);
        }
    }
    if (ctl->json != JSON_OFF)
        print_json(ctl, list);
    pager_close();
    return result;
}

/* --- show --- */

static bool is_wanted(const char *wanted, const char *key)
{
    size_t length = strlen(key);

    if (!wanted)
        return true;
    for (const char *at = wanted; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, key, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

static void print_property(Ctl *ctl, const cJSON *item)
{
    _cleanup_free_ char *printed = cJSON_IsString(item) ? escape(item->valuestring, false) : cJSON_PrintUnformatted(item);
    const char *value = cJSON_IsBool(item) ? (cJSON_IsTrue(item) ? "yes" : "no") : printed;

    if (ctl->value)
        puts(value ? value : "");
    else
        printf("%s=%s\n", item->string, value ? value : "");
}

static int show_definition(Ctl *ctl, const VmRow *row)
{
    _cleanup_msg_ sd_bus_message *reply = NULL;
    const char *text;
    int code;

    code = ctl_call(ctl, row->path, "GetDefinition", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (sd_bus_message_read(reply, "s", &text) < 0)
        return fail(MICROVM_EXIT_FAILURE, "microvmd's answer can't be read");
    puts(text);
    return MICROVM_EXIT_OK;
}

static int show_properties(Ctl *ctl, const VmRow *row, cJSON *list)
{
    cJSON *properties = NULL, *item, *next;
    int code;

    code = ctl_get_all(ctl, row->path, &properties);
    if (code != MICROVM_EXIT_OK)
        return code;
    for (item = properties->child; item; item = next) {
        next = item->next;
        if (!is_wanted(ctl->property, item->string))
            cJSON_Delete(cJSON_DetachItemViaPointer(properties, item));
        else if (ctl->json == JSON_OFF)
            print_property(ctl, item);
    }
    cJSON_AddItemToArray(list, properties);
    return MICROVM_EXIT_OK;
}

int verb_show(Ctl *ctl)
{
    _cleanup_(vm_rows_clear) VmRows rows = {0};
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    int code, result;

    result = ctl_targets(ctl, false, &rows);
    if (result != MICROVM_EXIT_OK)
        return result;
    pager_open(ctl);
    for (size_t i = 0; i < rows.count; i++) {
        if (i > 0 && ctl->json == JSON_OFF)
            putchar('\n');
        code = ctl->definition ? show_definition(ctl, &rows.items[i]) : show_properties(ctl, &rows.items[i], list);
        result = code != MICROVM_EXIT_OK ? code : result;
    }
    if (ctl->json != JSON_OFF && !ctl->definition)
        print_json(ctl, list);
    pager_close();
    return result;
}
