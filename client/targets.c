/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which microVMs a command line means. */
#include "bus.h"

#include <errno.h>
#include <string.h>

static void row_clear(VmRow *row)
{
    free(row->name);
    free(row->path);
    free(row->state);
    free(row->readiness);
    free(row->hypervisor);
    free(row->driver);
    *row = (VmRow){0};
}

void vm_rows_clear(VmRows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        row_clear(&rows->items[i]);
    free(rows->items);
    *rows = (VmRows){0};
}

void vm_rows_cut(VmRows *rows, size_t count)
{
    while (rows->count > count)
        row_clear(&rows->items[--rows->count]);
}

int vm_rows_add(VmRows *rows, VmRow row)
{
    VmRow *grown = NULL;

    if (row.name && row.path && row.state && row.readiness && row.hypervisor && row.driver)
        grown = reallocarray(rows->items, rows->count + 1, sizeof(*grown));
    if (!grown) {
        row_clear(&row);
        return -ENOMEM;
    }
    rows->items = grown;
    rows->items[rows->count++] = row;
    return 0;
}

static int read_rows(sd_bus_message *reply, VmRows *rows)
{
    const char *name, *path, *state, *readiness, *hypervisor, *driver;
    uint32_t pid;
    int r;

    r = sd_bus_message_enter_container(reply, 'a', "(sossssu)");
    if (r < 0)
        return r;
    while ((r = sd_bus_message_read(reply, "(sossssu)", &name, &path, &state, &readiness, &hypervisor,
                                    &driver, &pid)) > 0) {
        r = vm_rows_add(rows, (VmRow){strdup(name), strdup(path), strdup(state), strdup(readiness),
                                      strdup(hypervisor), strdup(driver), pid});
        if (r < 0)
            return r;
    }
    return r;
}

int ctl_list(Ctl *ctl, VmRows *ret_rows)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    VmRows rows = {0};
    int code, r;

    code = ctl_connect(ctl);
    if (code == MICROVM_EXIT_OK)
        code = ctl_call(ctl, NULL, NULL, "ListMicroVMs", &reply, "a{sv}", 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = read_rows(reply, &rows);
    if (r < 0) {
        vm_rows_clear(&rows);
        return ctl_bad_answer(r);
    }
    *ret_rows = rows;
    return MICROVM_EXIT_OK;
}

int ctl_unknown(Ctl *ctl, const char *name)
{
    _cleanup_free_ char *shown = escape(name, ESCAPE_LINE);
    _cleanup_free_ const char **names = NULL;
    _cleanup_rows_ VmRows rows = {0};
    const char *meant = NULL;

    if (ctl_list(ctl, &rows) != MICROVM_EXIT_OK)
        return MICROVM_EXIT_NO_SUCH_VM;
    names = calloc(rows.count + 1, sizeof(*names));
    for (size_t i = 0; names && i < rows.count; i++)
        names[i] = rows.items[i].name;
    if (names)
        meant = did_you_mean(name, names, rows.count);
    if (meant)
        return fail(MICROVM_EXIT_NO_SUCH_VM, "No microVM is called \"%s\"; did you mean \"%s\"?",
                    shown ? shown : "?", meant);
    return fail(MICROVM_EXIT_NO_SUCH_VM, "No microVM is called \"%s\". Those that there are: microvmctl list",
                shown ? shown : "?");
}

static bool is_repeated(char *const *names, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(names[k], names[i]) == 0)
            return true;
    return false;
}

static int check_command_line(const Ctl *ctl, bool all_by_default)
{
    if ((ctl->given & OPTION_ALL) && ctl->n_names > 0)
        return fail(MICROVM_EXIT_USAGE, "--all and names were given; use one of them.");
    if (!(ctl->given & OPTION_ALL) && !all_by_default && ctl->n_names == 0)
        return fail(MICROVM_EXIT_USAGE, "The name of a microVM is missing (or --all). See: microvmctl list");
    return MICROVM_EXIT_OK;
}

int ctl_targets(Ctl *ctl, bool all_by_default, VmRows *ret_rows)
{
    _cleanup_rows_ VmRows rows = {0}, chosen = {0};
    int code;

    code = check_command_line(ctl, all_by_default);
    if (code == MICROVM_EXIT_OK)
        code = ctl_list(ctl, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (ctl->n_names == 0) {
        *ret_rows = rows;
        rows = (VmRows){0};
        return MICROVM_EXIT_OK;
    }
    for (size_t i = 0; i < ctl->n_names; i++) {
        size_t k = 0;
        if (is_repeated(ctl->names, i))
            continue;
        while (k < rows.count && (!rows.items[k].name || strcmp(rows.items[k].name, ctl->names[i]) != 0))
            k++;
        if (k == rows.count) {
            code = ctl_unknown(ctl, ctl->names[i]);
            continue;
        }
        if (vm_rows_add(&chosen, rows.items[k]) < 0)
            return fail_oom();
        rows.items[k] = (VmRow){0};
    }
    if (code == MICROVM_EXIT_OK) {
        *ret_rows = chosen;
        chosen = (VmRows){0};
    }
    return code;
}

int ctl_named(Ctl *ctl, VmRows *ret_rows)
{
    _cleanup_rows_ VmRows rows = {0};
    int code;

    if (ctl->given & OPTION_ALL || ctl->n_names == 0)
        return ctl_targets(ctl, false, ret_rows);
    code = ctl_connect(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    for (size_t i = 0; i < ctl->n_names; i++) {
        char *path = NULL;
        if (is_repeated(ctl->names, i))
            continue;
        if (sd_bus_path_encode(MICROVM_VM_PATH, ctl->names[i], &path) < 0 ||
            vm_rows_add(&rows, (VmRow){strdup(ctl->names[i]), path, strdup(""), strdup(""), strdup(""),
                                       strdup(""), 0}) < 0)
            return fail_oom();
    }
    *ret_rows = rows;
    rows = (VmRows){0};
    return MICROVM_EXIT_OK;
}

int ctl_one_name(Ctl *ctl, const char *verb, VmRows *ret_rows)
{
    if (ctl->n_names != 1)
        return fail(MICROVM_EXIT_USAGE, "%s takes the name of one microVM: microvmctl %s NAME", verb, verb);
    return ctl_named(ctl, ret_rows);
}
