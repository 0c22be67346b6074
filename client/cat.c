/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files that make up a definition, or what they say together and where each value came from. */
#include "bus.h"
#include "term.h"

#include <stdio.h>
#include <string.h>

static int print_file(const char *path, const char *content)
{
    _cleanup_free_ char *name = escape(path, ESCAPE_LINE),
                        *shown = on_terminal() ? escape(content, ESCAPE_TEXT) : strdup(content);
    size_t length = shown ? strlen(shown) : 0;

    if (!name || !shown)
        return fail_oom();
    printf("# %s\n%s%s", name, shown, length > 0 && shown[length - 1] != '\n' ? "\n" : "");
    return MICROVM_EXIT_OK;
}

static int print_files(Ctl *ctl, const VmRow *row)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    const char *path, *content;
    bool first = true;
    int code, r;

    code = ctl_call(ctl, row->path, row->name, "Cat", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_enter_container(reply, 'a', "(ss)");
    while (r >= 0 && code == MICROVM_EXIT_OK &&
           (r = sd_bus_message_read(reply, "(ss)", &path, &content)) > 0) {
        if (!first)
            putchar('\n');
        first = false;
        code = print_file(path, content);
    }
    return r < 0 ? ctl_bad_answer(r) : code;
}

/* {"Name", "definition", "origins"} */
static int add_origins(Ctl *ctl, const VmRow *row, cJSON *list)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    cJSON *answer;
    const char *text;
    int code, r;

    code = ctl_call(ctl, row->path, row->name, "GetDefinition", &reply, "a{sv}", 1, "origins", "b", 1);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_read(reply, "s", &text);
    if (r < 0)
        return ctl_bad_answer(r);
    answer = cJSON_Parse(text);
    if (!cJSON_IsObject(answer)) {
        cJSON_Delete(answer);
        return fail(MICROVM_EXIT_FAILURE, "%s: microvmd's definition is no JSON object.", row->name);
    }
    cJSON_AddStringToObject(answer, "Name", row->name);
    cJSON_AddItemToArray(list, answer);
    return MICROVM_EXIT_OK;
}

int verb_cat(Ctl *ctl)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    _cleanup_rows_ VmRows rows = {0};
    int code, worst;

    worst = ctl_named(ctl, &rows);
    if (worst != MICROVM_EXIT_OK)
        return worst;
    ctl_ask_password(ctl);
    for (size_t i = 0; i < rows.count; i++) {
        if (i > 0 && ctl->json == JSON_OFF)
            putchar('\n');
        code =
            ctl->json == JSON_OFF ? print_files(ctl, &rows.items[i]) : add_origins(ctl, &rows.items[i], list);
        worst = code != MICROVM_EXIT_OK ? code : worst;
        if (code == MICROVM_EXIT_UNREACHABLE)
            break;
    }
    if (ctl->json != JSON_OFF)
        json_print(ctl->json, list);
    return worst;
}
