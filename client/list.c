/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"
#include "table.h"
#include "term.h"

#include <stdio.h>
#include <string.h>

static bool add_object(cJSON *list, const VmRow *row)
{
    cJSON *object = cJSON_CreateObject();

    return cJSON_AddItemToArray(list, object) && cJSON_AddStringToObject(object, "Name", row->name) &&
           cJSON_AddStringToObject(object, "State", row->state) &&
           cJSON_AddStringToObject(object, "Readiness", row->readiness) &&
           cJSON_AddStringToObject(object, "Hypervisor", row->hypervisor) &&
           cJSON_AddStringToObject(object, "Driver", row->driver) &&
           cJSON_AddNumberToObject(object, "MainPID", row->pid);
}

static int print_objects(const Ctl *ctl, const VmRows *rows)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < rows->count; i++)
        if (!add_object(list, &rows->items[i]))
            return fail_oom();
    return json_print(ctl->json, list);
}

static int add_row(Table *table, const VmRow *row)
{
    char pid[16] = "-";
    const char *cells[] = {
        row->name,
        row->state,
        strcmp(row->readiness, "none") == 0 ? "-" : row->readiness,
        pid,
        *row->driver ? row->driver : "-",
        *row->hypervisor ? row->hypervisor : "-",
    };

    if (row->pid > 0)
        snprintf(pid, sizeof(pid), "%u", row->pid);
    return table_add(table, cells, row->state);
}

static void print_count(const VmRows *rows)
{
    size_t running = 0;

    for (size_t i = 0; i < rows->count; i++)
        running += strcmp(rows->items[i].state, "running") == 0;
    if (rows->count == 0)
        puts(
            "\nNo microVMs are defined. Write /etc/microvmd/vms/NAME.json, see microvm-definition(5), then:\n"
            "microvmctl reload");
    else
        printf("\n%s%zu microVM%s, %zu running.%s\n", paint_dim(), rows->count, rows->count == 1 ? "" : "s",
               running, paint_off());
}

int verb_list(Ctl *ctl)
{
    static const char *const headers[] = {"NAME", "STATE", "READY", "PID", "DRIVER", "HYPERVISOR"};
    _cleanup_(table_freep)
    Table *table = NULL;
    _cleanup_rows_ VmRows rows = {0};
    int code;

    code = ctl_targets(ctl, true, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (ctl->json != JSON_OFF)
        return print_objects(ctl, &rows);
    table = table_new(headers, ELEMENTSOF(headers));
    for (size_t i = 0; i < rows.count; i++)
        if (!table || add_row(table, &rows.items[i]) < 0)
            return fail_oom();
    pager_open(!ctl->no_pager);
    if (rows.count > 0)
        table_print(table, !ctl->no_legend);
    if (!ctl->no_legend)
        print_count(&rows);
    pager_close();
    return MICROVM_EXIT_OK;
}
