/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a definition asks for against what there is. */
#include "spec/capability.h"

#include "spec/table.h"

#define CAPABILITY_WHAT(constant, what, who) [constant] = what,
#define CAPABILITY_WHO(constant, what, who)  [constant] = who,

/* "a memory balloon" */
static const char *capability_what(Capability capability)
{
    static const char *const texts[] = {CAPABILITY_LIST(CAPABILITY_WHAT)};

    return texts[capability];
}

const char *capability_hint(Capability capability)
{
    static const char *const texts[] = {CAPABILITY_LIST(CAPABILITY_WHO)};

    return texts[capability];
}

/* A driver that can do this, though not all of what is asked for; NULL: none, or the hint has better advice.
 */
static const char *who_can(Capability capability, const Runner *runner)
{
    const char *hint = capability_hint(capability);

    if (!streq(hint, WITH_NOBODY) && !streq(hint, WITH_PCI))
        return NULL;
    for (DriverKind kind = 0; kind < DRIVER_KIND_MAX; kind++)
        if (runner->of_drivers[kind] & CAPABILITY(capability))
            return driver_kind_to_string(kind);
    return NULL;
}

void table_refuse(const TableReader *reader, const char *pointer, Capability capability, const Runner *runner)
{
    const char *who = who_can(capability, runner), *what = capability_what(capability);

    if (runner->other)
        table_problem(reader, PROBLEM_ERROR, pointer, false,
                      "not possible with %s: %s; set \"driver\": \"%s\", which can", runner->what, what,
                      runner->other);
    else if (who)
        table_problem(reader, PROBLEM_ERROR, pointer, false,
                      "not possible with %s: %s; the driver \"%s\" can, but not all else that is asked for",
                      runner->what, what, who);
    else
        table_problem(reader, PROBLEM_ERROR, pointer, false, "not possible with %s: %s; %s", runner->what,
                      what, capability_hint(capability));
}

/* Whose options a key is among, if it is another hypervisor's: "firecracker.cpu". */
static const char *other_hypervisor(const char *key, const Runner *runner)
{
    size_t length = strcspn(key, ".");

    for (Hypervisor value = 0; key[length] && value < HYPERVISOR_MAX; value++) {
        const char *name = hypervisor_to_string(value);
        if (strlen(name) == length && strncmp(name, key, length) == 0)
            return streq(name, runner->hypervisor) ? NULL : name;
    }
    return NULL;
}

/* `pointer` is that of the object. Most rows have nothing to say, so that theirs is made when they do. */
static void check_row(const TableReader *reader, const KeyTable *table, const KeyRow *row, const void *source,
                      const char *pointer, const Runner *runner)
{
    const char *other = other_hypervisor(row->key, runner);
    size_t n_items = row->type == KEY_OBJECTS ? COUNT(row, source) : 0;
    _cleanup_free_ char *at = NULL;
    Capability needed = CAP_NONE;

    if (row->enum_needs && !other && table_has_effect(table, row, source))
        needed = row->enum_needs(FIELD(row, source, int));
    else if ((row->needs != CAP_NONE || other) && !table_is_default(row, source) &&
             table_has_effect(table, row, source))
        needed = row->needs;
    else
        other = NULL;
    if (!other && n_items == 0 && (needed == CAP_NONE || runner->can & CAPABILITY(needed)))
        return;
    at = table_key_pointer(pointer, row->key);
    if (!at)
        return;
    if (other) {
        if (table_is_written(reader, at))
            table_problem(reader, PROBLEM_WARNING, at, true,
                          "this is for the hypervisor \"%s\" and has no effect", other);
        return;
    }
    if (needed != CAP_NONE && !(runner->can & CAPABILITY(needed)))
        table_refuse(reader, at, needed, runner);
    for (size_t i = 0; i < n_items; i++) {
        const char *item = FIELD(row, source, char *) + i * row->items->item_size;
        _cleanup_free_ char *element = NULL;
        if (asprintf(&element, "%s/%zu", at, i) < 0)
            element = NULL;
        else
            table_check_capabilities(reader, row->items, item, element, runner);
    }
}

void table_check_capabilities(const TableReader *reader, const KeyTable *table, const void *source,
                              const char *pointer, const Runner *runner)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (!table->rows[i].alias_of && table->rows[i].type != KEY_REFUSED)
            check_row(reader, table, &table->rows[i], source, pointer, runner);
}
