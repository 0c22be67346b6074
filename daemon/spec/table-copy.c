/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values of a struct by the rows: to compare, to copy, to free. */
#include "spec/spec.h"
#include "spec/table.h"

/* --- freeing --- */

static void row_clear(const KeyRow *row, void *target)
{
    switch (row->type) {
    case KEY_STRING:
    case KEY_JSON:
        break;
    case KEY_STRINGS:
        for (size_t i = 0; i < COUNT(row, target); i++)
            free(FIELD(row, target, char **)[i]);
        break;
    case KEY_MAP:
        for (size_t i = 0; i < COUNT(row, target); i++) {
            free(FIELD(row, target, StringPair *)[i].name);
            free(FIELD(row, target, StringPair *)[i].value);
        }
        break;
    case KEY_OBJECTS:
        for (size_t i = 0; i < COUNT(row, target); i++)
            table_clear(row->items, FIELD(row, target, char *) + i * row->items->item_size);
        break;
    default:
        return;
    }
    free(FIELD(row, target, void *));
    FIELD(row, target, void *) = NULL;
    if (row->type != KEY_STRING && row->type != KEY_JSON)
        COUNT(row, target) = 0;
}

void table_clear(const KeyTable *table, void *target)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (row_has_value(&table->rows[i]))
            row_clear(&table->rows[i], target);
}

/* --- comparing --- */

static bool lists_equal(const KeyRow *row, const void *a, const void *b)
{
    if (COUNT(row, a) != COUNT(row, b))
        return false;
    for (size_t i = 0; i < COUNT(row, a); i++) {
        if (row->type == KEY_STRINGS) {
            if (!streq(FIELD(row, a, char **)[i], FIELD(row, b, char **)[i]))
                return false;
        } else if (row->type == KEY_MAP) {
            const StringPair *one = &FIELD(row, a, StringPair *)[i], *other = &FIELD(row, b, StringPair *)[i];
            if (!streq(one->name, other->name) || !streq(one->value, other->value))
                return false;
        } else {
            size_t at = i * row->items->item_size;
            if (!table_equal(row->items, FIELD(row, a, char *) + at, FIELD(row, b, char *) + at))
                return false;
        }
    }
    return true;
}

bool table_row_equal(const KeyRow *row, const void *a, const void *b)
{
    switch (row->type) {
    case KEY_BOOL:
        return FIELD(row, a, bool) == FIELD(row, b, bool);
    case KEY_NUMBER:
    case KEY_SIZE:
    case KEY_DURATION:
    case KEY_PERCENT:
        return FIELD(row, a, uint64_t) == FIELD(row, b, uint64_t);
    case KEY_ENUM:
        return FIELD(row, a, int) == FIELD(row, b, int);
    case KEY_STRING:
    case KEY_JSON:
        return streq(FIELD(row, a, char *), FIELD(row, b, char *));
    default:
        return lists_equal(row, a, b);
    }
}

bool table_equal(const KeyTable *table, const void *a, const void *b)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (row_has_value(&table->rows[i]) && !table_row_equal(&table->rows[i], a, b))
            return false;
    return true;
}

/* --- copying --- */

static int copy_element(const KeyRow *row, const void *source, void *target, size_t i)
{
    if (row->type == KEY_STRINGS) {
        FIELD(row, target, char **)[i] = strdup(FIELD(row, source, char **)[i]);
        return FIELD(row, target, char **)[i] ? 0 : -ENOMEM;
    }
    if (row->type == KEY_MAP) {
        const StringPair *from = &FIELD(row, source, StringPair *)[i];
        StringPair *to = &FIELD(row, target, StringPair *)[i];
        to->name = strdup(from->name);
        to->value = strdup(from->value);
        return to->name && to->value ? 0 : -ENOMEM;
    }
    for (size_t k = 0; k < row->items->n_rows; k++) {
        size_t at = i * row->items->item_size;
        int r = !row_has_value(&row->items->rows[k])
                    ? 0
                    : table_row_copy(&row->items->rows[k], FIELD(row, source, char *) + at,
                                     FIELD(row, target, char *) + at);
        if (r < 0)
            return r;
    }
    return 0;
}

static int copy_list(const KeyRow *row, const void *source, void *target)
{
    size_t size = row->type == KEY_STRINGS ? sizeof(char *)
                  : row->type == KEY_MAP   ? sizeof(StringPair)
                                           : row->items->item_size;

    FIELD(row, target, void *) = calloc(COUNT(row, source) + 1, size);
    if (!FIELD(row, target, void *))
        return -ENOMEM;
    for (size_t i = 0; i < COUNT(row, source); i++) {
        int r;
        COUNT(row, target) = i + 1; /* so that what is half copied is freed, too */
        r = copy_element(row, source, target, i);
        if (r < 0)
            return r;
    }
    return 0;
}

int table_row_copy(const KeyRow *row, const void *source, void *target)
{
    row_clear(row, target);
    switch (row->type) {
    case KEY_BOOL:
        FIELD(row, target, bool) = FIELD(row, source, bool);
        return 0;
    case KEY_NUMBER:
    case KEY_SIZE:
    case KEY_DURATION:
    case KEY_PERCENT:
        FIELD(row, target, uint64_t) = FIELD(row, source, uint64_t);
        return 0;
    case KEY_ENUM:
        FIELD(row, target, int) = FIELD(row, source, int);
        return 0;
    case KEY_STRING:
    case KEY_JSON:
        return free_and_strdup(&FIELD(row, target, char *), FIELD(row, source, char *));
    default:
        return copy_list(row, source, target);
    }
}
