/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host at a glance, or one microVM in full. */
#include "card.h"
#include "plan.h"
#include "term.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    LOG_LINES = 10,
};

static bool is_active(const char *state)
{
    return strcmp(state, "running") == 0 || strcmp(state, "paused") == 0;
}

static void print_head(const cJSON *p, const char *name, const char *state)
{
    print_title(name, state, "since", json_number(p, "StateTimestamp"));
    if (*json_text(p, "StateReason"))
        print_line("Reason", "%s", json_text(p, "StateReason"));
}

/* The words of a list, ", " between them; cut where they do not fit. */
static void join_words(const cJSON *list, char *text, size_t size)
{
    const cJSON *item;

    *text = '\0';
    cJSON_ArrayForEach (item, list) {
        const char *word = cJSON_GetStringValue(item);
        if (word)
            snprintf(text + strlen(text), size - strlen(text), "%s%s", *text ? ", " : "", word);
    }
}

/* Why, and what of the definition: as far as one may see that. */
static void print_outdated(Ctl *ctl, const VmRow *row, const cJSON *p)
{
    _cleanup_json_ cJSON *plan = NULL;
    const cJSON *reason;
    const cJSON *reasons = cJSON_GetObjectItemCaseSensitive(p, "OutdatedReasons");
    bool definition = false;
    char text[128];

    join_words(reasons, text, sizeof(text));
    cJSON_ArrayForEach (reason, reasons) {
        const char *word = cJSON_GetStringValue(reason);
        definition = definition || (word && strcmp(word, "definition") == 0);
    }
    if (!*text)
        return;
    print_line("Outdated", "another %s than it was started with", text);
    if (definition && ctl_plan(ctl, (char *const *)&row->name, 1, false, &plan) == MICROVM_EXIT_OK)
        print_changes(cJSON_GetArrayItem(plan, 0));
}

static void print_autostart(const cJSON *p)
{
    const cJSON *sources = cJSON_GetObjectItemCaseSensitive(p, "AutostartSources"), *source;
    char text[128] = "";

    cJSON_ArrayForEach (source, sources) {
        const char *word = cJSON_GetStringValue(source);
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", *text ? ", " : " (",
                 word && strcmp(word, "systemd") == 0 ? "systemctl enable"
                 : word                               ? word
                                                      : "");
    }
    print_line("Autostart", "%s%s%s", json_flag(p, "Autostart") ? "yes" : "no", text, *text ? ")" : "");
}

static void print_definition(const cJSON *p)
{
    const char *path = json_text(p, "DefinitionPath"), *error = json_text(p, "DefinitionError");

    print_line("Definition", "%s%s", *path ? path : "none",
               json_flag(p, "Undeclared") ? " (undeclared: the file is gone, what runs goes on)" : "");
    /* Of one that failed for it, the reason says so already. */
    if (*error && strcmp(error, json_text(p, "StateReason")) != 0)
        print_line("Invalid", "%s", error);
    print_autostart(p);
    if (*json_text(p, "RivalUnit"))
        print_line("Rival", "%s of MicroVM.nix runs one of this name", json_text(p, "RivalUnit"));
}

static void print_driver(const cJSON *p)
{
    const char *hypervisor = json_text(p, "Hypervisor"), *driver = json_text(p, "Driver"),
               *accel = json_text(p, "Accel"), *why = json_text(p, "AccelReason");
    char loosened[128];

    if (*driver)
        print_line("Driver", "%s%s", driver,
                   json_flag(p, "DriverOnline") ? "" : " (away: the state is the last known)");
    if (*hypervisor)
        print_line("Hypervisor", "%s", hypervisor);
    if (*accel)
        print_line("Accel", "%s%s%s", accel, *why ? ": " : "", why);
    join_words(cJSON_GetObjectItemCaseSensitive(p, "Loosened"), loosened, sizeof(loosened));
    if (strcmp(driver, "direct") == 0 && json_number(p, "MainPID") > 0 && !*json_text(p, "Unit"))
        print_line("Sandbox", "none (launcher fork)"); /* it is for units */
    else if (*loosened)
        print_line("Sandbox", "loosened: %s", loosened);
}

static void print_readiness(const cJSON *p, const char *readiness)
{
    const char *why = json_text(p, "ReadinessReason");
    uint64_t ready = json_number(p, "ReadyTimestamp");
    _cleanup_free_ char *since = strcmp(readiness, "ready") == 0 && ready > 0 ? format_since(ready) : NULL;

    /* The reason of one that waits says so itself. */
    if (strncmp(why, readiness, strlen(readiness)) == 0)
        print_line("Readiness", "%s", why);
    else
        print_line("Readiness", "%s%s%s%s%s", readiness, since ? " since " : "", since ? since : "",
                   *why ? ": " : "", why);
}

static void print_machine(const cJSON *p)
{
    uint64_t pid = json_number(p, "MainPID"), vcpus = json_number(p, "VCPUs"),
             started = json_number(p, "StartTimestamp"), bytes = json_number(p, "MemoryBytes"),
             actual = json_number(p, "MemoryActualBytes");
    const char *readiness = json_text(p, "Readiness");

    if (pid > 0)
        print_line("Main PID", "%" PRIu64, pid);
    if (*json_text(p, "Unit"))
        print_line("Unit", "%s", json_text(p, "Unit"));
    if (*json_text(p, "UUID"))
        print_line("UUID", "%s", json_text(p, "UUID"));
    if (vcpus > 0)
        print_line("Machine", "%" PRIu64 " vCPU%s, %" PRIu64 " MiB of memory", vcpus, vcpus == 1 ? "" : "s",
                   bytes >> 20);
    if (actual > 0 && actual != bytes)
        print_line("Balloon", "leaves it %" PRIu64 " MiB by now", actual >> 20);
    if (started > 0) {
        _cleanup_free_ char *when = format_since(started);
        print_line("Started", "%s", when ? when : "");
    }
    if (*readiness && strcmp(readiness, "none") != 0)
        print_readiness(p, readiness);
    if (*json_text(p, "StatusText"))
        print_line("Status", "\"%s\"", json_text(p, "StatusText"));
}

static void print_past(const cJSON *p)
{
    const char *result = json_text(p, "Result"), *stop = json_text(p, "LastStop");
    uint64_t restarts = json_number(p, "NRestarts"), due = json_number(p, "NextRestartTimestamp");

    if (restarts > 0)
        print_line("Restarts", "%" PRIu64, restarts);
    if (due > 0) {
        _cleanup_free_ char *when = format_since(due);
        print_line("Next restart", "%s", when ? when : "");
    }
    /* Of one that has never come to run. */
    if (*result && !*stop && json_number(p, "StartTimestamp") == 0 && strcmp(result, "success") != 0)
        print_line("Last start", "failed with %s", result);
    else if (*stop || (*result && strcmp(result, "success") != 0))
        print_line("Last run", "ended with %s%s%s", result, *stop ? ", last stop was " : "", stop);
}

static void print_log(Ctl *ctl, const VmRow *row)
{
    uint64_t lines = ctl->lines == UINT64_MAX ? LOG_LINES : ctl->lines;
    _cleanup_free_ char *tail = lines > 0 ? log_tail(ctl, row->path, lines, NULL) : NULL, *shown = NULL;
    size_t length;

    shown = tail ? escape(tail, ESCAPE_COLOUR) : NULL;
    length = shown ? strlen(shown) : 0;
    if (length > 0)
        printf("\n%s%s%s", shown, paint_off(), shown[length - 1] == '\n' ? "" : "\n");
}

static void print_card(Ctl *ctl, const VmRow *row, const cJSON *p)
{
    print_head(p, row->name, json_text(p, "State"));
    print_definition(p);
    print_outdated(ctl, row, p);
    print_driver(p);
    print_machine(p);
    print_past(p);
    print_log(ctl, row);
}

/* --- the host --- */

static void print_drivers(const cJSON *drivers)
{
    const cJSON *driver;

    cJSON_ArrayForEach (driver, drivers) {
        const char *name = cJSON_GetStringValue(cJSON_GetArrayItem(driver, 0));
        const char *detail = cJSON_GetStringValue(cJSON_GetArrayItem(driver, 2));
        bool online = cJSON_IsTrue(cJSON_GetArrayItem(driver, 1));
        if (!detail || !*detail)
            print_line("Driver", "%s: %s", name ? name : "?", online ? "online" : "away");
        else if (online)
            print_line("Driver", "%s: online (%s)", name ? name : "?", detail);
        else
            print_line("Driver", "%s: away: %s", name ? name : "?", detail);
    }
}

static void print_counts(const cJSON *counts)
{
    char text[256] = "";
    size_t used = 0;
    const cJSON *count;

    cJSON_ArrayForEach (count, counts)
        if (strcmp(count->string, "total") != 0 && count->valueint > 0 && used < sizeof(text))
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%d %s", used ? ", " : "",
                                     count->valueint, count->string);
    print_line("microVMs", "%" PRIu64 "%s%s%s", json_number(counts, "total"), *text ? " (" : "", text,
               *text ? ")" : "");
}

static int host_status(Ctl *ctl)
{
    _cleanup_json_ cJSON *p = NULL;
    bool conflict;
    int code;

    code = ctl_connect(ctl);
    if (code == MICROVM_EXIT_OK)
        code = ctl_get_all(ctl, NULL, NULL, &p);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (ctl->json != JSON_OFF)
        return json_print(ctl->json, p);
    conflict = strcmp(json_text(p, "HostRole"), "host") != 0;
    pager_open(!ctl->no_pager);
    printf("%s●%s %smicrovmd%s %s\n", paint(conflict ? "failed" : "running"), paint_off(), paint_bold(),
           paint_off(), json_text(p, "Version"));
    print_line("Host role", "%s%s", json_text(p, "HostRole"),
               conflict ? ": its configuration enables guest mode or disables host mode, so nothing starts; "
                          "where: microvmd --check"
                        : "");
    if (json_flag(p, "Draining"))
        print_line("Drained", "for maintenance: nothing starts until: microvmctl undrain");
    print_drivers(cJSON_GetObjectItemCaseSensitive(p, "Drivers"));
    print_counts(cJSON_GetObjectItemCaseSensitive(p, "Counts"));
    pager_close();
    return MICROVM_EXIT_OK;
}

int verb_status(Ctl *ctl)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    _cleanup_rows_ VmRows rows = {0};
    int code, worst = MICROVM_EXIT_OK;

    if (!(ctl->given & OPTION_ALL) && ctl->n_names == 0)
        return host_status(ctl);
    code = ctl_named(ctl, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    pager_open(ctl->json == JSON_OFF && !ctl->no_pager);
    for (size_t i = 0; i < rows.count && worst != MICROVM_EXIT_UNREACHABLE; i++) {
        cJSON *properties = NULL;
        code = ctl_get_all(ctl, rows.items[i].path, rows.items[i].name, &properties);
        if (code != MICROVM_EXIT_OK) {
            worst = code;
            continue;
        }
        if (!is_active(json_text(properties, "State")) && worst == MICROVM_EXIT_OK)
            worst = MICROVM_EXIT_NOT_RUNNING;
        if (ctl->json == JSON_OFF) {
            fputs(i > 0 ? "\n" : "", stdout);
            print_card(ctl, &rows.items[i], properties);
        }
        cJSON_AddItemToArray(list, properties);
    }
    if (ctl->json != JSON_OFF)
        json_print(ctl->json, list);
    pager_close();
    return worst;
}

static bool is_failed(const char *state)
{
    return strcmp(state, "failed") == 0;
}

/* Prints the states of those that are named. `ret_hits`: how many are so, of `*ret_n`. An exit code. */
static int print_states(Ctl *ctl, const char *verb, bool (*is)(const char *state), size_t *ret_n,
                        size_t *ret_hits)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    _cleanup_rows_ VmRows rows = {0};
    int code, worst = MICROVM_EXIT_OK;
    bool all = ctl->given & OPTION_ALL;

    if (all == (ctl->n_names > 0))
        return fail(MICROVM_EXIT_USAGE, "%s takes names, or --all. See: microvmctl list", verb);
    code = ctl_list(ctl, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    *ret_n = all ? rows.count : ctl->n_names;
    *ret_hits = 0;
    for (size_t i = 0; i < *ret_n; i++) {
        const char *name = all ? rows.items[i].name : ctl->names[i], *state = "unknown";
        cJSON *object = cJSON_CreateObject();
        for (size_t k = 0; k < rows.count; k++)
            if (strcmp(rows.items[k].name, name) == 0)
                state = rows.items[k].state;
        if (strcmp(state, "unknown") == 0)
            worst = MICROVM_EXIT_NO_SUCH_VM;
        *ret_hits += is(state);
        if (ctl->json == JSON_OFF && !ctl->quiet)
            puts(state);
        cJSON_AddStringToObject(object, "Name", name);
        cJSON_AddStringToObject(object, "State", state);
        cJSON_AddItemToArray(list, object);
    }
    code = ctl->json != JSON_OFF ? json_print(ctl->json, list) : MICROVM_EXIT_OK;
    return code != MICROVM_EXIT_OK ? code : worst;
}

int verb_is_active(Ctl *ctl)
{
    size_t n, hits;
    int code = print_states(ctl, "is-active", is_active, &n, &hits);

    return code == MICROVM_EXIT_OK && hits < n ? MICROVM_EXIT_NOT_RUNNING : code;
}

/* As systemctl: whether one of them is. */
int verb_is_failed(Ctl *ctl)
{
    size_t n, hits;
    int code = print_states(ctl, "is-failed", is_failed, &n, &hits);

    return code == MICROVM_EXIT_OK && hits == 0 ? MICROVM_EXIT_FAILURE : code;
}
