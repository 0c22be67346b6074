/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/diff.h"

#include "spec/spec-table.h"

void spec_changes_clear(SpecChanges *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        free(changes->items[i].key);
        free(changes->items[i].before);
        free(changes->items[i].after);
    }
    free(changes->items);
    *changes = (SpecChanges){0};
}

bool spec_changes_have(const SpecChanges *changes, KeyChange change)
{
    for (size_t i = 0; i < changes->count; i++)
        if (changes->items[i].change == change)
            return true;
    return false;
}

/* Takes the texts, also when it fails. */
static int add(SpecChanges *changes, char *key, char *before, char *after, KeyChange change)
{
    SpecChange *grown = key ? reallocarray(changes->items, changes->count + 1, sizeof(*grown)) : NULL;

    if (!grown) {
        free(key);
        free(before);
        free(after);
        return -ENOMEM;
    }
    changes->items = grown;
    grown[changes->count++] = (SpecChange){key, before, after, change};
    return 0;
}

static int print(cJSON *json, char **ret_text)
{
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;

    cJSON_Delete(json);
    *ret_text = text;
    return text ? 0 : -ENOMEM;
}

static int print_row(const KeyRow *row, const void *source, char **ret_text)
{
    bool none = false;
    cJSON *json = table_dump_row(row, source, &none);

    *ret_text = NULL;
    return none ? 0 : print(json, ret_text);
}

static char *join(const char *prefix, const char *key)
{
    char *text = NULL;

    return asprintf(&text, "%s%s", prefix, key) < 0 ? NULL : text;
}

/* --- lists and what belongs together in them --- */

/* What a list as a whole takes holds for all that is in it; only below "restart" do its elements decide. */
static KeyChange inner_change(KeyChange outer, const KeyRow *row)
{
    return outer != CHANGE_RESTART ? outer : row->change;
}

static void *element(const KeyRow *row, const void *source, size_t index)
{
    return FIELD(row, source, char *) + index * row->items->item_size;
}

static const char *identity(const KeyTable *table, const void *item)
{
    const KeyRow *row = table->merge_key ? table_row(table, table->merge_key) : NULL;

    return row ? FIELD(row, item, char *) : NULL;
}

/* Where the element `index` of `source` is in `other`; -1: nowhere. */
static ssize_t find(const KeyRow *row, const void *source, size_t index, const void *other)
{
    const char *name = identity(row->items, element(row, source, index));

    if (!row->items->merge_key)
        return index < COUNT(row, other) ? (ssize_t)index : -1;
    for (size_t i = 0; i < COUNT(row, other); i++)
        if (streq(identity(row->items, element(row, other, i)), name))
            return (ssize_t)i;
    return -1;
}

/* "volumes[data.img]", "forwardPorts[0]" */
static char *element_key(const char *prefix, const KeyRow *row, const void *source, size_t index)
{
    const char *name = identity(row->items, element(row, source, index));
    char *text = NULL;
    int r = name ? asprintf(&text, "%s%s[%s]", prefix, row->key, name)
                 : asprintf(&text, "%s%s[%zu]", prefix, row->key, index);

    return r < 0 ? NULL : text;
}

static int diff_table(const KeyTable *table, const char *prefix, KeyChange outer, const void *before,
                      const void *after, SpecChanges *changes);

/* Elements that only one side has. */
static int diff_missing(const KeyRow *row, const char *prefix, KeyChange change, const void *source,
                        const void *other, bool gone, SpecChanges *changes)
{
    for (size_t i = 0; i < COUNT(row, source); i++) {
        char *text;
        int r;
        if (find(row, source, i, other) >= 0)
            continue;
        r = print(table_dump_short(row->items, element(row, source, i)), &text);
        if (r >= 0)
            r = add(changes, element_key(prefix, row, source, i), gone ? text : NULL, gone ? NULL : text,
                    change);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The guest counts its devices: what is in another order is somewhere else. */
static bool order_differs(const KeyRow *row, const void *before, const void *after)
{
    ssize_t last = -1;

    for (size_t i = 0; i < COUNT(row, after); i++) {
        ssize_t at = find(row, after, i, before);
        if (at >= 0 && at <= last)
            return true;
        last = MAX(at, last);
    }
    return false;
}

static int print_order(const KeyRow *row, const void *source, char **ret_text)
{
    cJSON *names = cJSON_CreateArray();

    for (size_t i = 0; i < COUNT(row, source); i++)
        cJSON_AddItemToArray(names, cJSON_CreateString(identity(row->items, element(row, source, i))));
    return print(names, ret_text);
}

static int diff_objects(const KeyRow *row, const char *prefix, KeyChange change, const void *before,
                        const void *after, SpecChanges *changes)
{
    char *old = NULL, *new = NULL;
    int r;

    r = diff_missing(row, prefix, change, before, after, true, changes);
    for (size_t i = 0; i < COUNT(row, after) && r >= 0; i++) {
        ssize_t at = find(row, after, i, before);
        _cleanup_free_ char *key = at >= 0 ? element_key(prefix, row, after, i) : NULL, *inner = NULL;
        if (at < 0)
            continue;
        inner = key ? join(key, ".") : NULL;
        r = inner ? diff_table(row->items, inner, change, element(row, before, (size_t)at),
                               element(row, after, i), changes)
                  : -ENOMEM;
    }
    if (r >= 0)
        r = diff_missing(row, prefix, change, after, before, false, changes);
    if (r < 0 || !row->items->merge_key || !order_differs(row, before, after))
        return r;
    r = print_order(row, before, &old);
    if (r >= 0)
        r = print_order(row, after, &new);
    if (r < 0) {
        free(old);
        return r;
    }
    return add(changes, join(prefix, row->key), old, new, change);
}

static int add_pair(const KeyRow *row, const char *prefix, KeyChange change, const StringPair *before,
                    const StringPair *after, SpecChanges *changes)
{
    char *key = NULL, *old = NULL, *new = NULL;
    int r = 0;

    if (asprintf(&key, "%s%s[%s]", prefix, row->key, before ? before->name : after->name) < 0)
        return -ENOMEM;
    if (before)
        r = print(cJSON_CreateString(before->value), &old);
    if (r >= 0 && after)
        r = print(cJSON_CreateString(after->value), &new);
    if (r < 0) {
        free(key);
        free(old);
        return r;
    }
    return add(changes, key, old, new, change);
}

/* Both are sorted by name. */
static int diff_map(const KeyRow *row, const char *prefix, KeyChange change, const void *before,
                    const void *after, SpecChanges *changes)
{
    const StringPair *old = FIELD(row, before, StringPair *), *new = FIELD(row, after, StringPair *);
    size_t i = 0, k = 0;
    int r = 0;

    while (r >= 0 && (i < COUNT(row, before) || k < COUNT(row, after))) {
        int order = i == COUNT(row, before)  ? 1
                    : k == COUNT(row, after) ? -1
                                             : strcmp(old[i].name, new[k].name);
        if (order < 0)
            r = add_pair(row, prefix, change, &old[i++], NULL, changes);
        else if (order > 0)
            r = add_pair(row, prefix, change, NULL, &new[k++], changes);
        else if (!streq(old[i].value, new[k].value))
            r = add_pair(row, prefix, change, &old[i++], &new[k++], changes);
        else
            i++, k++;
    }
    return r;
}

/* --- all rows --- */

static int diff_row(const KeyRow *row, const char *prefix, KeyChange change, const void *before,
                    const void *after, SpecChanges *changes)
{
    _cleanup_free_ char *old = NULL;
    char *new;
    int r;

    if (row->type == KEY_OBJECTS)
        return diff_objects(row, prefix, change, before, after, changes);
    if (row->type == KEY_MAP)
        return diff_map(row, prefix, change, before, after, changes);
    r = print_row(row, before, &old);
    if (r >= 0)
        r = print_row(row, after, &new);
    return r < 0 ? r : add(changes, join(prefix, row->key), TAKE_PTR(old), new, change);
}

static int diff_table(const KeyTable *table, const char *prefix, KeyChange outer, const void *before,
                      const void *after, SpecChanges *changes)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        int r;
        if (!row_has_value(row) || table_row_equal(row, before, after))
            continue;
        r = diff_row(row, prefix, inner_change(outer, row), before, after, changes);
        if (r < 0)
            return r;
    }
    return 0;
}

int vm_spec_diff(const VmSpec *before, const VmSpec *after, SpecChanges *ret_changes)
{
    _cleanup_(spec_changes_clear)
    SpecChanges changes = {0};
    int r;

    r = before == after ? 0 : diff_table(&vm_table, "", CHANGE_RESTART, before, after, &changes);
    if (r < 0)
        return r;
    *ret_changes = changes;
    changes = (SpecChanges){0};
    return 0;
}

/* --- what takes effect at once --- */

/* In elements that both have, the keys that take effect at once. */
static int take_live_elements(const KeyRow *row, const void *wanted, void *target)
{
    for (size_t i = 0; i < COUNT(row, target); i++) {
        ssize_t at = find(row, target, i, wanted);
        for (size_t k = 0; at >= 0 && k < row->items->n_rows; k++) {
            const KeyRow *inner = &row->items->rows[k];
            int r = inner->change != CHANGE_LIVE || !row_has_value(inner)
                        ? 0
                        : table_row_copy(inner, element(row, wanted, (size_t)at), element(row, target, i));
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int vm_spec_take_live(const VmSpec *booted, const VmSpec *wanted, VmSpec **ret_spec)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = calloc(1, sizeof(*spec));
    int r;

    if (!spec)
        return -ENOMEM;
    spec->references = 1;
    r = free_and_strdup(&spec->name, booted->name);
    if (r >= 0)
        r = free_and_strdup(&spec->path, booted->path);
    for (size_t i = 0; i < vm_table.n_rows && r >= 0; i++) {
        const KeyRow *row = &vm_table.rows[i];
        if (!row_has_value(row))
            continue;
        r = table_row_copy(row, row->change == CHANGE_LIVE ? wanted : booted, spec);
        if (r >= 0 && row->type == KEY_OBJECTS && row->change == CHANGE_RESTART)
            r = take_live_elements(row, wanted, spec);
    }
    if (r < 0)
        return r;
    *ret_spec = TAKE_PTR(spec);
    return 0;
}
