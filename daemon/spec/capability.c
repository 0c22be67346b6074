/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a definition asks for against what there is. */
#include "spec/capability.h"

#include "spec/table.h"
#include "spec/words.h"

#define CAPABILITY_WHAT(constant, what, who) [constant] = what,
#define CAPABILITY_WHO(constant, what, who)  [constant] = who,

const char *capability_what(Capability capability)
{
    static const char *const texts[] = {CAPABILITY_LIST(CAPABILITY_WHAT)};

    return texts[capability];
}

const char *capability_hint(Capability capability)
{
    static const char *const texts[] = {CAPABILITY_LIST(CAPABILITY_WHO)};

    return texts[capability];
}

void table_refuse(const TableReader *reader, const char *pointer, Capability capability, const Runner *runner)
{
    table_problem(reader, PROBLEM_ERROR, pointer, false, "not possible with %s: %s; %s", runner->what,
                  capability_what(capability), capability_hint(capability));
}

/* RFC 6901 pointer of a dotted key. */
static char *key_pointer(const char *pointer, const char *key)
{
    char *joined = NULL;

    if (asprintf(&joined, "%s/%s", pointer, key) < 0)
        return NULL;
    for (char *at = joined + strlen(pointer) + 1; *at; at++)
        if (*at == '.')
            *at = '/';
    return joined;
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

static void check_row(const TableReader *reader, const KeyRow *row, const void *source, const char *pointer,
                      const Runner *runner)
{
    const char *other = other_hypervisor(row->key, runner);
    Capability needed = CAP_NONE;

    if (other) {
        if (json_find(reader->document, pointer) && !table_is_default(row, source))
            table_problem(reader, PROBLEM_WARNING, pointer, true,
                          "this is for the hypervisor \"%s\" and has no effect", other);
        return;
    }
    if (row->enum_needs)
        needed = row->enum_needs(FIELD(row, source, int));
    else if (row->needs != CAP_NONE && !table_is_default(row, source))
        needed = row->needs;
    if (needed != CAP_NONE && !(runner->can & CAPABILITY(needed)))
        table_refuse(reader, pointer, needed, runner);
    for (size_t i = 0; row->type == KEY_OBJECTS && i < COUNT(row, source); i++) {
        const char *item = FIELD(row, source, char *) + i * row->items->item_size;
        _cleanup_free_ char *element = NULL;
        if (asprintf(&element, "%s/%zu", pointer, i) < 0)
            element = NULL;
        else
            table_check_capabilities(reader, row->items, item, element, runner);
    }
}

void table_check_capabilities(const TableReader *reader, const KeyTable *table, const void *source,
                              const char *pointer, const Runner *runner)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        _cleanup_free_ char *at = NULL;
        if (row->alias_of || row->type == KEY_REFUSED)
            continue;
        at = key_pointer(pointer, row->key);
        if (at)
            check_row(reader, row, source, at, runner);
    }
}
