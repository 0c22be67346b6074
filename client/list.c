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

/* Of `total`, only those that were asked for are in `rows`. */
static void print_count(const VmRows *rows, size_t total)
{
    size_t running = 0;

    for (size_t i = 0; i < rows->count; i++)
        running += strcmp(rows->items[i].state, "running") == 0;
    if (total == 0)
        puts(
            "\nNo microVMs are defined. Write /etc/microvmd/vms/NAME.json, see microvm-definition(5), then:\n"
            "microvmctl reload");
    else if (rows->count == 0)
        printf("\nNone of %zu microVM%s.\n", total, total == 1 ? "" : "s");
    else
        printf("\n%s%zu microVM%s, %zu running.%s\n", paint_dim(), rows->count, rows->count == 1 ? "" : "s",
               running, paint_off());
}

/* --- only some of them --- */

/* `wanted` is NAME=VALUE, or NAME with any value. */
static bool has_label(const cJSON *labels, const char *wanted)
{
    size_t length = strcspn(wanted, "=");
    const cJSON *label;

    cJSON_ArrayForEach (label, labels)
        if (strlen(label->string) == length && strncmp(label->string, wanted, length) == 0)
            return wanted[length] == '\0' || strcmp(cJSON_GetStringValue(label), wanted + length + 1) == 0;
    return false;
}

static bool is_chosen(const Ctl *ctl, const VmRow *row, const cJSON *objects)
{
    const cJSON *properties = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(objects, row->path), MICROVM_VM_INTERFACE);

    if ((ctl->given & OPTION_FAILED) && strcmp(row->state, "failed") != 0)
        return false;
    if ((ctl->given & OPTION_OUTDATED) && !json_flag(properties, "Outdated"))
        return false;
    for (size_t i = 0; i < ctl->n_labels; i++)
        if (!has_label(cJSON_GetObjectItemCaseSensitive(properties, "Labels"), ctl->labels[i]))
            return false;
    return true;
}

/* What the list does not have comes by one more call, however many there are. */
static int choose(Ctl *ctl, VmRows *rows)
{
    _cleanup_json_ cJSON *objects = NULL;
    size_t kept = 0;
    int code = MICROVM_EXIT_OK;

    if (!(ctl->given & (OPTION_FAILED | OPTION_OUTDATED | OPTION_LABEL)))
        return MICROVM_EXIT_OK;
    if (ctl->given & (OPTION_OUTDATED | OPTION_LABEL))
        code = ctl_get_objects(ctl, &objects);
    if (code != MICROVM_EXIT_OK)
        return code;
    for (size_t i = 0; i < rows->count; i++) {
        VmRow row = rows->items[i];
        if (!is_chosen(ctl, &row, objects))
            continue;
        rows->items[i] = rows->items[kept]; /* one that is not, or the same */
        rows->items[kept++] = row;
    }
    vm_rows_cut(rows, kept);
    return MICROVM_EXIT_OK;
}

static void tell_drained(Ctl *ctl)
{
    int drained = 0;

    if (sd_bus_get_property_trivial(ctl->bus, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH,
                                    MICROVM_MANAGER_INTERFACE, "Draining", NULL, 'b', &drained) >= 0 &&
        drained)
        puts("This host is drained for maintenance: nothing starts until: microvmctl undrain");
}

int verb_list(Ctl *ctl)
{
    static const char *const headers[] = {"NAME", "STATE", "READY", "PID", "DRIVER", "HYPERVISOR"};
    _cleanup_(table_freep)
    Table *table = NULL;
    _cleanup_rows_ VmRows rows = {0};
    size_t total;
    int code;

    code = ctl_targets(ctl, true, &rows);
    total = rows.count;
    if (code == MICROVM_EXIT_OK)
        code = choose(ctl, &rows);
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
    if (!ctl->no_legend) {
        print_count(&rows, total);
        tell_drained(ctl);
    }
    pager_close();
    return MICROVM_EXIT_OK;
}
