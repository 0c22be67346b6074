/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON Schema 2020-12 from the tables. */
#include "base/parse.h"
#include "spec/loader.h"
#include "spec/spec-table.h"

#include <inttypes.h>

static bool add_type(cJSON *schema, const char *type)
{
    return cJSON_AddStringToObject(schema, "type", type);
}

static bool add_u64(cJSON *schema, const char *key, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    return cJSON_AddRawToObject(schema, key, text);
}

static cJSON *row_schema(const KeyRow *row);

static const char *quantity_pattern(KeyType type)
{
    return type == KEY_DURATION  ? "^ *[0-9]+(\\.[0-9]+)? *[a-z]*( *[0-9]+(\\.[0-9]+)? *[a-z]*)*$"
           : type == KEY_PERCENT ? "^[0-9]+%?$"
                                 : "^[0-9]+(\\.[0-9]+)? *([KMGT](i?B)?|B)?$";
}

/* A bare number, or a string with units. The number is in whole seconds, MiB or percent. */
static bool add_quantity(cJSON *schema, const KeyRow *row)
{
    uint64_t unit = row->type == KEY_DURATION ? 1000000 : 1;
    cJSON *either = cJSON_AddArrayToObject(schema, "oneOf");
    cJSON *number = cJSON_CreateObject(), *string = cJSON_CreateObject();
    bool ok =
        either && number && string && add_type(number, row->type == KEY_DURATION ? "number" : "integer") &&
        add_u64(number, "minimum", row->minimum / unit) &&
        (row->maximum == 0 || add_u64(number, "maximum", row->maximum / unit)) &&
        add_type(string, "string") && cJSON_AddStringToObject(string, "pattern", quantity_pattern(row->type));

    if (!either || !cJSON_AddItemToArray(either, number))
        cJSON_Delete(number);
    if (!either || !cJSON_AddItemToArray(either, string))
        cJSON_Delete(string);
    return ok;
}

static bool add_enum(cJSON *schema, const KeyRow *row)
{
    cJSON *values = cJSON_AddArrayToObject(schema, "enum");

    for (int i = 0; values && i < row->enum_max; i++)
        if (!cJSON_AddItemToArray(values, cJSON_CreateString(row->enum_name(i))))
            return false;
    return values;
}

static bool add_string(cJSON *schema, const KeyRow *row)
{
    return add_type(schema, "string") &&
           (!row->pattern || cJSON_AddStringToObject(schema, "pattern", row->pattern));
}

/* Of the string that stands for an object. */
static cJSON *short_schema(const KeyTable *table)
{
    cJSON *schema;

    if (!table->expand)
        return row_schema(table_row(table, table->short_key));
    schema = cJSON_CreateObject();
    if (schema && add_type(schema, "string") &&
        cJSON_AddStringToObject(schema, "pattern", table->short_pattern))
        return schema;
    cJSON_Delete(schema);
    return NULL;
}

static bool add_list(cJSON *schema, const KeyRow *row)
{
    cJSON *items = row->type == KEY_STRINGS ? cJSON_CreateObject() : table_schema(row->items), *either,
          *string;

    if (!items || !add_type(schema, "array") || (row->type == KEY_STRINGS && !add_string(items, row))) {
        cJSON_Delete(items);
        return false;
    }
    if (row->maximum > 0 && !add_u64(schema, "maxItems", row->maximum)) {
        cJSON_Delete(items);
        return false;
    }
    if (row->type == KEY_STRINGS || !table_has_short(row->items))
        return cJSON_AddItemToObject(schema, "items", items);
    string = short_schema(row->items);
    schema = cJSON_AddObjectToObject(schema, "items");
    either = schema ? cJSON_AddArrayToObject(schema, "oneOf") : NULL;
    if (!either || !string) {
        cJSON_Delete(items);
        cJSON_Delete(string);
        return false;
    }
    return cJSON_AddItemToArray(either, string) && cJSON_AddItemToArray(either, items);
}

/* Values that are plain are taken as they are written. */
static bool add_map(cJSON *schema)
{
    cJSON *values = cJSON_AddObjectToObject(schema, "additionalProperties");
    cJSON *types = values ? cJSON_AddArrayToObject(values, "type") : NULL;
    static const char *const plain[] = {"string", "number", "boolean"};

    for (size_t i = 0; types && i < ELEMENTSOF(plain); i++)
        if (!cJSON_AddItemToArray(types, cJSON_CreateString(plain[i])))
            return false;
    return types && add_type(schema, "object");
}

static bool add_default(cJSON *schema, const KeyRow *row)
{
    if (!row->fallback)
        return true;
    /* A duration's may have units. */
    if (row->type == KEY_STRING || row->type == KEY_ENUM ||
        (row->type == KEY_DURATION && row->fallback[strspn(row->fallback, "0123456789")]))
        return cJSON_AddStringToObject(schema, "default", row->fallback);
    return cJSON_AddRawToObject(schema, "default", row->fallback);
}

static cJSON *row_schema(const KeyRow *row)
{
    cJSON *schema = cJSON_CreateObject();
    bool ok = schema && cJSON_AddStringToObject(schema, "description", row->doc);

    switch (row->type) {
    case KEY_BOOL:
        ok = ok && add_type(schema, "boolean");
        break;
    case KEY_NUMBER:
        ok = ok && add_type(schema, "integer") && add_u64(schema, "minimum", row->minimum) &&
             (row->maximum == 0 || add_u64(schema, "maximum", row->maximum));
        break;
    case KEY_SIZE:
    case KEY_DURATION:
    case KEY_PERCENT:
        ok = ok && add_quantity(schema, row);
        break;
    case KEY_ENUM:
        ok = ok && add_enum(schema, row);
        break;
    case KEY_STRING:
        ok = ok && add_string(schema, row);
        break;
    case KEY_MAP:
        ok = ok && add_map(schema);
        break;
    case KEY_JSON:
        ok = ok && add_type(schema, "object");
        break;
    case KEY_REFUSED:
        ok = ok && cJSON_AddObjectToObject(schema, "not");
        break;
    default:
        ok = ok && add_list(schema, row);
    }
    if (ok && add_default(schema, row))
        return schema;
    cJSON_Delete(schema);
    return NULL;
}

/* Properties of the object that a dotted key goes into; made on the way. */
static cJSON *object_schema(cJSON *schema, const char *key, bool required, const char **ret_leaf,
                            cJSON **ret_object)
{
    for (const char *dot;; key = dot + 1) {
        cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties"), *inner, *names;
        _cleanup_free_ char *name = NULL;
        dot = strchr(key, '.');
        if (!properties)
            return NULL;
        if (!dot) {
            *ret_leaf = key;
            *ret_object = schema;
            return properties;
        }
        name = strndup(key, (size_t)(dot - key));
        inner = name ? cJSON_GetObjectItemCaseSensitive(properties, name) : NULL;
        if (name && !inner) {
            inner = cJSON_AddObjectToObject(properties, name);
            if (!inner || !add_type(inner, "object") ||
                !cJSON_AddFalseToObject(inner, "additionalProperties") ||
                !cJSON_AddObjectToObject(inner, "properties"))
                return NULL;
            if (required) {
                names = cJSON_GetObjectItemCaseSensitive(schema, "required");
                names = names ? names : cJSON_AddArrayToObject(schema, "required");
                if (!names || !cJSON_AddItemToArray(names, cJSON_CreateString(name)))
                    return NULL;
            }
        }
        if (!inner)
            return NULL;
        schema = inner;
    }
}

static bool add_row(cJSON *schema, const KeyRow *row)
{
    cJSON *object = NULL, *properties, *value, *names;
    const char *leaf;

    properties = object_schema(schema, row->key, row->required, &leaf, &object);
    value = properties ? row_schema(row) : NULL;
    if (!value || !cJSON_AddItemToObject(properties, leaf, value)) {
        cJSON_Delete(value);
        return false;
    }
    if (!row->required)
        return true;
    names = cJSON_GetObjectItemCaseSensitive(object, "required");
    names = names ? names : cJSON_AddArrayToObject(object, "required");
    return names && cJSON_AddItemToArray(names, cJSON_CreateString(leaf));
}

/* The object in which unknown keys are ignored, and those in it. */
static void open_groups(cJSON *properties, const char *group)
{
    cJSON *object = cJSON_GetObjectItemCaseSensitive(properties, group), *inner;

    cJSON_DeleteItemFromObjectCaseSensitive(object, "additionalProperties");
    cJSON_ArrayForEach (inner, cJSON_GetObjectItemCaseSensitive(object, "properties"))
        cJSON_DeleteItemFromObjectCaseSensitive(inner, "additionalProperties");
}

cJSON *table_schema(const KeyTable *table)
{
    cJSON *schema = cJSON_CreateObject();
    bool ok = schema && cJSON_AddStringToObject(schema, "title", table->title) &&
              add_type(schema, "object") && cJSON_AddFalseToObject(schema, "additionalProperties") &&
              cJSON_AddObjectToObject(schema, "properties");

    for (size_t i = 0; ok && i < table->n_rows; i++)
        ok = add_row(schema, &table->rows[i]);
    if (ok && table->open_group)
        open_groups(cJSON_GetObjectItemCaseSensitive(schema, "properties"), table->open_group);
    if (ok)
        return schema;
    cJSON_Delete(schema);
    return NULL;
}

/* A kernel, unless it boots from a disk. */
static bool require_kernel(cJSON *schema)
{
    cJSON *rule =
        cJSON_Parse("{\"if\": {\"properties\": {\"boot\": {\"const\": \"disk\"}}, \"required\": [\"boot\"]},"
                    " \"else\": {\"required\": [\"kernel\"]}}");
    cJSON *part;

    if (!rule)
        return false;
    while ((part = cJSON_DetachItemFromArray(rule, 0)))
        cJSON_AddItemToObject(schema, part->string, part);
    cJSON_Delete(rule);
    return cJSON_HasObjectItem(schema, "else");
}

char *vm_spec_schema(void)
{
    cJSON *schema = table_schema(&vm_table);
    char *text = NULL;

    if (schema && require_kernel(schema) &&
        cJSON_AddStringToObject(schema, "$schema", "https://json-schema.org/draft/2020-12/schema"))
        text = cJSON_Print(schema);
    cJSON_Delete(schema);
    return text;
}
