/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys that say something only beside another one. */
#include "spec/spec.h"
#include "spec/table.h"

static bool is_met(const KeyTable *table, const KeyCondition *condition, const void *source)
{
    const KeyRow *row = table_row(table, condition->key);

    switch (row->type) {
    case KEY_BOOL:
        return FIELD(row, source, bool);
    case KEY_ENUM:
        return condition->words & UINT64_C(1) << FIELD(row, source, int);
    default: /* numbers */
        return FIELD(row, source, uint64_t) > 0;
    }
}

static const KeyCondition *unmet(const KeyTable *table, const KeyRow *row, const void *source)
{
    for (size_t i = 0; i < ELEMENTSOF(row->only) && row->only[i].key; i++)
        if (!is_met(table, &row->only[i], source))
            return &row->only[i];
    return NULL;
}

bool table_has_effect(const KeyTable *table, const KeyRow *row, const void *source)
{
    return !unmet(table, row, source);
}

/* What is behind the last dot. */
static const char *leaf(const char *key)
{
    return strrchr(key, '.') ? strrchr(key, '.') + 1 : key;
}

/* "proto": "virtiofs", or with the object that it is in, if that is another one than the row's:
 * "qemu": { "serialConsole": true } */
void table_print_condition(const KeyTable *table, const KeyRow *row, const KeyCondition *condition,
                           FILE *stream)
{
    const KeyRow *other = table_row(table, condition->key);
    size_t group = (size_t)(leaf(other->key) - other->key);
    bool outside = group > 0 && strncmp(row->key, other->key, group) != 0, first = true;

    if (outside)
        fprintf(stream, "\"%.*s\": { ", (int)group - 1, other->key);
    fprintf(stream, "\"%s\"", leaf(other->key));
    if (other->type != KEY_ENUM)
        fputs(other->type == KEY_BOOL ? ": true" : " above 0", stream);
    for (int value = 0; other->type == KEY_ENUM && value < other->enum_max; value++) {
        if (!(condition->words & UINT64_C(1) << value))
            continue;
        fprintf(stream, "%s\"%s\"", first ? ": " : " or ", other->enum_name(value));
        first = false;
    }
    fputs(outside ? " }" : "", stream);
}

/* What defaults.json says is for those whom it concerns. */
bool table_is_written(const TableReader *reader, const char *pointer)
{
    const JsonPlace *place = json_find(reader->document, pointer);
    size_t length = reader->below ? strlen(reader->below) : 0;
    bool below = place && place->file && length > 0 && strncmp(place->file, reader->below, length) == 0;

    return place && !below;
}

static bool has_idle_row(const KeyTable *table, const void *source)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        if (row->only[0].key && !table_is_default(row, source) && unmet(table, row, source))
            return true;
    }
    return false;
}

static void check_row(const TableReader *reader, const KeyTable *table, const KeyRow *row, const void *source,
                      const char *pointer)
{
    bool conditional = row->only[0].key && !table_is_default(row, source);
    const KeyCondition *condition = conditional ? unmet(table, row, source) : NULL;
    size_t n_items = row->type == KEY_OBJECTS ? COUNT(row, source) : 0, size;
    _cleanup_free_ char *at = NULL, *words = NULL;
    FILE *stream;

    if (!condition && n_items == 0)
        return;
    at = table_key_pointer(pointer, row->key);
    if (condition && at && table_is_written(reader, at) && (stream = open_memstream(&words, &size))) {
        table_print_condition(table, row, condition, stream);
        if (fclose(stream) == 0)
            table_problem(reader, row->misleads ? PROBLEM_ERROR : PROBLEM_WARNING, at, true,
                          "\"%s\" has no effect without %s: add that, or remove this", leaf(row->key), words);
    }
    for (size_t i = 0; at && i < n_items; i++) {
        const char *item = FIELD(row, source, char *) + i * row->items->item_size;
        _cleanup_free_ char *element = NULL;
        if (!has_idle_row(row->items, item)) /* mostly, and then nobody needs a pointer */
            continue;
        if (asprintf(&element, "%s/%zu", at, i) < 0)
            element = NULL;
        else
            table_check_effects(reader, row->items, item, element);
    }
}

void table_check_effects(const TableReader *reader, const KeyTable *table, const void *source,
                         const char *pointer)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (row_has_value(&table->rows[i]))
            check_row(reader, table, &table->rows[i], source, pointer);
}
