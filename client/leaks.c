/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* leaks: what is left over of microVMs. */
#include "bus.h"
#include "table.h"

#include <stdio.h>

static int print_leaks(const Ctl *ctl, const cJSON *list)
{
    static const char *const headers[] = {"KIND", "WHAT", "OF", "TO REMOVE IT"};
    _cleanup_(table_freep)
    Table *table = table_new(headers, ELEMENTSOF(headers));
    const cJSON *leak;

    cJSON_ArrayForEach (leak, list) {
        const char *cells[] = {json_text(leak, "Kind"), json_text(leak, "What"), json_text(leak, "MicroVM"),
                               json_text(leak, "Remedy")};
        if (!table || table_add(table, cells, NULL) < 0)
            return fail_oom();
    }
    if (table)
        table_print(table, !ctl->no_legend);
    return MICROVM_EXIT_OK;
}

int verb_leaks(Ctl *ctl)
{
    static const char *const keys[] = {"Kind", "What", "MicroVM", "Remedy", NULL};
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_json_ cJSON *list = NULL;
    int code = ctl_connect(ctl), r;
    bool found;

    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_ask_password(ctl);
    code = ctl_call(ctl, NULL, NULL, "ListLeaks", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = json_rows_from_message(reply, keys, &list);
    if (r < 0)
        return ctl_bad_answer(r);
    found = cJSON_GetArraySize(list) > 0;
    if (ctl->json != JSON_OFF)
        code = json_print(ctl->json, list);
    else if (found)
        code = print_leaks(ctl, list);
    else if (!ctl->quiet)
        puts("Nothing is left over.");
    return code != MICROVM_EXIT_OK ? code : found ? MICROVM_EXIT_FAILURE : MICROVM_EXIT_OK;
}
