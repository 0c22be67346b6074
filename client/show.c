/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties as KEY=VALUE lines, for scripts; definitions. */
#include "bus.h"
#include "term.h"

#include <stdio.h>
#include <string.h>

/* Whether a comma-separated list, NULL for all, has the key. */
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

static int print_property(const Ctl *ctl, const cJSON *item)
{
    _cleanup_free_ char *printed =
        cJSON_IsString(item) ? escape(item->valuestring, ESCAPE_LINE) : cJSON_PrintUnformatted(item);
    const char *value = cJSON_IsBool(item) ? (cJSON_IsTrue(item) ? "yes" : "no") : printed;

    if (!printed)
        return fail_oom();
    if (ctl->given & OPTION_VALUE)
        puts(value);
    else
        printf("%s=%s\n", item->string, value);
    return MICROVM_EXIT_OK;
}

/* A definition is JSON already: it is printed by itself, or as a member of the list that --json asks for. */
static int show_definition(Ctl *ctl, const VmRow *row, cJSON *list)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_free_ char *pretty = NULL, *shown = NULL;
    const char *text;
    cJSON *parsed;
    int code, r;

    ctl_ask_password(ctl);
    code = ctl_call(ctl, row->path, row->name, "GetDefinition", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_read(reply, "s", &text);
    if (r < 0)
        return ctl_bad_answer(r);
    parsed = cJSON_Parse(text);
    if (!parsed)
        return fail(MICROVM_EXIT_FAILURE, "%s: microvmd's definition is no JSON.", row->name);
    if (ctl->json != JSON_OFF) {
        cJSON_AddItemToArray(list, parsed);
        return MICROVM_EXIT_OK;
    }
    pretty = json_pretty(parsed);
    cJSON_Delete(parsed);
    if (pretty && on_terminal())
        shown = escape(pretty, ESCAPE_TEXT);
    return (shown || pretty) && puts(shown ? shown : pretty) >= 0 ? MICROVM_EXIT_OK : MICROVM_EXIT_FAILURE;
}

/* A name of a property that there is not is a mistake, and said. */
static int check_wanted(const Ctl *ctl, const cJSON *properties)
{
    _cleanup_free_ char *wanted = ctl->property ? strdup(ctl->property) : NULL;
    char *rest = NULL;

    for (char *key = wanted ? strtok_r(wanted, ",", &rest) : NULL; key; key = strtok_r(NULL, ",", &rest)) {
        const char *names[64], *meant;
        const cJSON *item;
        size_t n = 0;
        if (cJSON_GetObjectItemCaseSensitive(properties, key))
            continue;
        cJSON_ArrayForEach (item, properties)
            if (n < ELEMENTSOF(names))
                names[n++] = item->string;
        meant = did_you_mean(key, names, n);
        if (meant)
            return fail(MICROVM_EXIT_USAGE, "There is no property \"%s\"; did you mean \"%s\"?", key, meant);
        return fail(MICROVM_EXIT_USAGE, "There is no property \"%s\". All of them: microvmctl show NAME",
                    key);
    }
    return MICROVM_EXIT_OK;
}

static int show_properties(Ctl *ctl, const VmRow *row, cJSON *list)
{
    cJSON *properties = NULL, *item, *next;
    int code;

    code = ctl_get_all(ctl, row->path, row->name, &properties);
    if (code != MICROVM_EXIT_OK)
        return code;
    cJSON_AddItemToArray(list, properties); /* owns it from here on */
    code = check_wanted(ctl, properties);
    for (item = properties->child; item && code == MICROVM_EXIT_OK; item = next) {
        next = item->next;
        if (!is_wanted(ctl->property, item->string))
            cJSON_Delete(cJSON_DetachItemViaPointer(properties, item));
        else if (ctl->json == JSON_OFF)
            code = print_property(ctl, item);
    }
    return code;
}

int verb_show(Ctl *ctl)
{
    bool definition = ctl->given & OPTION_DEFINITION;
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    _cleanup_rows_ VmRows rows = {0};
    int code, worst;

    if (definition && (ctl->given & (OPTION_PROPERTY | OPTION_VALUE)))
        return fail(MICROVM_EXIT_USAGE, "--definition shows all of it: -p and --value are for properties.");
    worst = ctl_named(ctl, &rows);
    if (worst != MICROVM_EXIT_OK)
        return worst;
    pager_open(ctl->json == JSON_OFF && !ctl->no_pager && !definition);
    for (size_t i = 0; i < rows.count; i++) {
        if (i > 0 && ctl->json == JSON_OFF)
            putchar('\n');
        code = definition ? show_definition(ctl, &rows.items[i], list)
                          : show_properties(ctl, &rows.items[i], list);
        worst = code != MICROVM_EXIT_OK ? code : worst;
        if (code == MICROVM_EXIT_UNREACHABLE || code == MICROVM_EXIT_USAGE)
            break;
    }
    if (ctl->json != JSON_OFF && worst != MICROVM_EXIT_USAGE)
        json_print(ctl->json, list);
    pager_close();
    return worst;
}
