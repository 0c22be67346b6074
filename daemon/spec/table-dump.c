/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way back: from a struct to JSON by the rows. */
#include "base/parse.h"
#include "spec/spec.h"
#include "spec/table-value.h"

#include <inttypes.h>

static cJSON *dump_list(const KeyRow *row, const void *source)
{
    cJSON *array = cJSON_CreateArray();

    for (size_t i = 0; array && i < COUNT(row, source); i++) {
        cJSON *element = row->type == KEY_STRINGS
                             ? cJSON_CreateString(FIELD(row, source, char **)[i])
                             : table_dump(row->items, FIELD(row, source, char *) + i * row->items->item_size);
        if (!element || !cJSON_AddItemToArray(array, element)) {
            cJSON_Delete(element);
            cJSON_Delete(array);
            return NULL;
        }
    }
    return array;
}

static cJSON *dump_map(const KeyRow *row, const void *source)
{
    const StringPair *pairs = FIELD(row, source, StringPair *);
    cJSON *object = cJSON_CreateObject();

    for (size_t i = 0; object && i < COUNT(row, source); i++)
        if (!cJSON_AddStringToObject(object, pairs[i].name, pairs[i].value)) {
            cJSON_Delete(object);
            return NULL;
        }
    return object;
}

/* A value that the parser reads back as the same; *ret_none: there is none, which is no error. */
cJSON *table_dump_row(const KeyRow *row, const void *source, bool *ret_none)
{
    bool numeric = row->type == KEY_NUMBER || row->type == KEY_SIZE || row->type == KEY_PERCENT ||
                   row->type == KEY_DURATION;
    char text[64];

    if (numeric && FIELD(row, source, uint64_t) == 0 && row->minimum > 0) {
        *ret_none = true;
        return NULL;
    }
    switch (row->type) {
    case KEY_BOOL:
        return cJSON_CreateBool(FIELD(row, source, bool));
    case KEY_ENUM:
        return cJSON_CreateString(row->enum_name(FIELD(row, source, int)));
    case KEY_NUMBER:
    case KEY_SIZE:
    case KEY_PERCENT:
        snprintf(text, sizeof(text), "%" PRIu64, FIELD(row, source, uint64_t));
        return cJSON_CreateRaw(text);
    case KEY_DURATION:
        format_duration(FIELD(row, source, uint64_t), text, sizeof(text));
        return cJSON_CreateString(text);
    case KEY_STRING:
        *ret_none = !FIELD(row, source, char *);
        return *ret_none ? NULL : cJSON_CreateString(FIELD(row, source, char *));
    case KEY_JSON:
        *ret_none = !FIELD(row, source, char *);
        return *ret_none ? NULL : cJSON_CreateRaw(FIELD(row, source, char *));
    case KEY_MAP:
        return dump_map(row, source);
    default:
        return dump_list(row, source);
    }
}

/* The object that a dotted key goes into, and its last part. */
static cJSON *descend(cJSON *object, const char *key, const char **ret_leaf)
{
    for (const char *dot; object && (dot = strchr(key, '.')); key = dot + 1) {
        _cleanup_free_ char *name = strndup(key, (size_t)(dot - key));
        cJSON *inner = name ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
        object = inner ? inner : name ? cJSON_AddObjectToObject(object, name) : NULL;
    }
    *ret_leaf = key;
    return object;
}

static cJSON *dump(const KeyTable *table, const void *source, bool defaults)
{
    cJSON *object = cJSON_CreateObject();

    for (size_t i = 0; object && i < table->n_rows; i++) {
        bool none = false;
        const char *leaf;
        cJSON *value, *inner;
        if (!row_has_value(&table->rows[i]) || (!defaults && table_is_default(&table->rows[i], source)))
            continue;
        value = table_dump_row(&table->rows[i], source, &none);
        if (none)
            continue;
        inner = value ? descend(object, table->rows[i].key, &leaf) : NULL;
        if (!inner || !cJSON_AddItemToObject(inner, leaf, value)) {
            cJSON_Delete(value);
            cJSON_Delete(object);
            return NULL;
        }
    }
    return object;
}

cJSON *table_dump(const KeyTable *table, const void *source)
{
    return dump(table, source, true);
}

cJSON *table_dump_short(const KeyTable *table, const void *source)
{
    return dump(table, source, false);
}

bool table_is_default(const KeyRow *row, const void *source)
{
    uint64_t number = 0;

    switch (row->type) {
    case KEY_BOOL:
        return row->fallback ? FIELD(row, source, bool) == streq(row->fallback, "true")
                             : !FIELD(row, source, bool);
    case KEY_ENUM:
        return row->fallback && FIELD(row, source, int) == row->enum_value(row->fallback);
    case KEY_NUMBER:
    case KEY_SIZE:
    case KEY_DURATION:
    case KEY_PERCENT:
        if (row->fallback && table_parse_number(row, row->fallback, &number) < 0)
            return false;
        return FIELD(row, source, uint64_t) == number;
    case KEY_STRING:
        return streq(FIELD(row, source, char *), row->fallback);
    case KEY_JSON:
        return !FIELD(row, source, char *);
    case KEY_REFUSED:
        return true;
    default:
        return COUNT(row, source) == 0;
    }
}
