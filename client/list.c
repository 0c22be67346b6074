/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

static cJSON *rows_json(const VmRows *rows)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; list && i < rows->count; i++) {
        const VmRow *row = &rows->items[i];
        cJSON *object = cJSON_CreateObject();
        if (!object || !cJSON_AddStringToObject(object, "Name", row->name) ||
            !cJSON_AddStringToObject(object, "State", row->state) ||
            !cJSON_AddStringToObject(object, "Readiness", row->readiness) ||
            !cJSON_AddStringToObject(object, "Hypervisor", row->hypervisor) ||
            !cJSON_AddStringToObject(object, "Driver", row->driver) ||
            !cJSON_AddNumberToObject(object, "MainPID", row->pid) || !cJSON_AddItemToArray(list, object)) {
            cJSON_Delete(object);
            cJSON_Delete(list);
            return NULL;
        }
    }
    return list;
}

int verb_list(Ctl *ctl)
{
    static const char *const headers[] = {"NAME", "STATE", "READY", "PID", "DRIVER", "HYPERVISOR"};
    _cleanup_(vm_rows_clear) VmRows rows = {0};
    Table *table;
    int code;

    code = ctl_targets(ctl, true, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (ctl->json != JSON_OFF) {
        _cleanup_json_ cJSON *json = rows_json(&rows);
        return json ? print_json(ctl, json) : fail(MICROVM_EXIT_FAILURE, "out of memory");
    }
    table = table_new(headers, ELEMENTSOF(headers));
    if (!table)
        return fail(MICROVM_EXIT_FAILURE, "out of memory");
    for (size_t i = 0; i < rows.count; i++) {
        const VmRow *row = &rows.items[i];
        char pid[16] = "-";
        if (row->pid > 0)
            snprintf(pid, sizeof(pid), "%u", row->pid);
        const char *cells[] = {row->name, row->state, strcmp(row->readiness, "none") == 0 ? "-" : row->readiness,
                               pid, *row->driver ? row->driver : "-", *row->hypervisor ? row->hypervisor : "-"};
        table_add(table, cells, row->state);
    }
    pager_open(ctl);
    table_print(table, !ctl->no_legend);
    if (!ctl->no_legend && rows.count == 0)
        puts("\nNo microVMs are defined. See microvm-definition(5), then: microvmctl reload");
    else if (!ctl->no_legend)
        printf("\n%s%zu microVM%s.%s\n", PAINT_DIM, rows.count, rows.count == 1 ? "" : "s", PAINT_OFF);
    table_free(table);
    pager_close();
    return MICROVM_EXIT_OK;
}
