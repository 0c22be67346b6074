/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/table.h"

#include "base/parse.h"
#include "spec/table-value.h"

#include <stdarg.h>

void table_problem(const TableReader *reader, ProblemSeverity severity, const char *pointer, bool at_key,
                   const char *format, ...)
{
    _cleanup_free_ char *text = NULL;
    const JsonPlace *place = json_find_nearest(reader->document, pointer);
    bool key = at_key && place && place->key_line > 0;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    problem_add(reader->problems, severity, place && place->file ? place->file : reader->file,
                place ? place->pointer : "",
                !place ? 0
                : key  ? place->key_line
                       : place->line,
                !place ? 0
                : key  ? place->key_column
                       : place->column,
                "%s", text ? text : "out of memory");
}

/* What is behind `prefix` in a key; NULL: it begins otherwise. */
static const char *behind(const char *key, const char *prefix)
{
    while (*prefix)
        if (*key++ != *prefix++)
            return NULL;
    return key;
}

static bool in_group(const KeyRow *row, const char *prefix, const char *name)
{
    const char *rest = behind(row->key, prefix);

    rest = rest ? behind(rest, name) : NULL;
    return rest && *rest == '.';
}

static void unknown_key(const TableReader *reader, const KeyTable *table, const char *prefix,
                        const char *name, const char *pointer)
{
    const char *names[TABLE_ROWS_MAX];
    char segments[TABLE_ROWS_MAX][48];
    const char *meant;
    size_t n = 0;

    /* Anybody may ask what is wrong with a text (Validate), and who is meant takes as long as all else. */
    if (problem_list_is_full(reader->problems)) {
        table_problem(reader, reader->recorded ? PROBLEM_WARNING : PROBLEM_ERROR, pointer, true,
                      "there is no key \"%s\"", name);
        return;
    }
    for (size_t i = 0; i < table->n_rows && n < TABLE_ROWS_MAX; i++) {
        if (table->rows[i].type == KEY_REFUSED || strncmp(table->rows[i].key, prefix, strlen(prefix)) != 0)
            continue;
        snprintf(segments[n], sizeof(segments[n]), "%s", table->rows[i].key + strlen(prefix));
        segments[n][strcspn(segments[n], ".")] = '\0';
        names[n] = segments[n];
        n++;
    }
    meant = did_you_mean(name, names, n);
    if (reader->recorded)
        table_problem(reader, PROBLEM_WARNING, pointer, true, "there is no key \"%s\"; it is left out", name);
    else if (meant)
        table_problem(reader, PROBLEM_ERROR, pointer, true, "there is no key \"%s\"; did you mean \"%s\"?",
                      name, meant);
    else
        table_problem(reader, PROBLEM_ERROR, pointer, true, "there is no key \"%s\"", name);
}

typedef struct ObjectReader {
    const TableReader *reader;
    const KeyTable *table;
    void *target;
    KeysGiven given;
} ObjectReader;

static size_t main_row(const KeyTable *table, size_t index)
{
    if (table->rows[index].alias_of)
        for (size_t i = 0; i < table->n_rows; i++)
            if (streq(table->rows[i].key, table->rows[index].alias_of))
                return i;
    return index;
}

static int read_group(ObjectReader *object, const cJSON *json, const char *prefix, const char *pointer);

static bool is_open(const KeyTable *table, const char *prefix)
{
    size_t length = table->open_group ? strlen(table->open_group) : 0;

    return length > 0 && strncmp(prefix, table->open_group, length) == 0 && prefix[length] == '.';
}

/* Whether an earlier member of the same object has the same key. */
static bool is_repeated(const cJSON *child)
{
    for (const cJSON *before = child->prev; before && before->next; before = before->prev)
        if (streq(before->string, child->string))
            return true;
    return false;
}

/* "a.b", as the documentation calls it, where { "a": { "b": ... } } is meant; no neighbours' key, either. */
static bool is_dotted(const KeyTable *table, const char *prefix, const char *name)
{
    size_t length = strlen(prefix), end = length + strlen(name);

    if (!strchr(name, '.'))
        return false;
    for (size_t i = 0; i < table->n_rows; i++)
        if (strncmp(table->rows[i].key, prefix, length) == 0 &&
            strncmp(table->rows[i].key + length, name, strlen(name)) == 0 &&
            (table->rows[i].key[end] == '.' || table->rows[i].key[end] == '\0'))
            return true;
    return false;
}

static int read_member(ObjectReader *object, const cJSON *child, const char *prefix, const char *pointer)
{
    const KeyTable *table = object->table;
    _cleanup_free_ char *at = json_pointer_join(pointer, child->string), *deeper = NULL;

    if (!at)
        return -ENOMEM;
    if (is_dotted(table, prefix, child->string)) {
        table_problem(object->reader, PROBLEM_ERROR, at, true,
                      "there is no key \"%s\"; write \"%.*s\": { \"%s\": ... }", child->string,
                      (int)strcspn(child->string, "."), child->string, strchr(child->string, '.') + 1);
        return 0;
    }
    for (size_t i = 0; i < table->n_rows; i++) {
        const char *key = behind(table->rows[i].key, prefix);
        size_t row;
        if (!key || *key != *child->string || !streq(key, child->string))
            continue;
        row = main_row(table, i);
        if (object->given.row[row]) {
            /* Not the same key again, which the scanner has told already, but another name of it. */
            if (row != i || !is_repeated(child))
                table_problem(object->reader, PROBLEM_ERROR, at, true,
                              "this is another name of a key that is there already");
            return 0;
        }
        object->given.row[row] = true;
        return table_read_value(object->reader, &table->rows[row], child, at, object->target);
    }
    for (size_t i = 0; i < table->n_rows; i++) {
        if (!in_group(&table->rows[i], prefix, child->string))
            continue;
        if (!cJSON_IsObject(child)) {
            table_wrong_type(object->reader, child, at, "an object");
            return 0;
        }
        if (asprintf(&deeper, "%s%s.", prefix, child->string) < 0)
            return -ENOMEM;
        return read_group(object, child, deeper, at);
    }
    if (!is_open(table, prefix))
        unknown_key(object->reader, table, prefix, child->string, at);
    return 0;
}

static int read_group(ObjectReader *object, const cJSON *json, const char *prefix, const char *pointer)
{
    const cJSON *child;

    cJSON_ArrayForEach (child, json) {
        int r = read_member(object, child, prefix, pointer);
        if (r < 0)
            return r;
    }
    return 0;
}

const KeyRow *table_row(const KeyTable *table, const char *key)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (*table->rows[i].key == *key && streq(table->rows[i].key, key))
            return &table->rows[main_row(table, i)];
    return NULL;
}

bool table_appends_to(const KeyTable *table, const char *key)
{
    size_t length = strlen(key);

    return length > 1 && key[length - 1] == '+' && !table_row(table, key);
}

bool key_given(const KeysGiven *given, const char *key)
{
    const KeyRow *row = table_row(given->table, key);

    return row && given->row[row - given->table->rows];
}

char *table_key_pointer(const char *pointer, const char *key)
{
    char *joined = NULL;

    if (asprintf(&joined, "%s/%s", pointer, key) < 0)
        return NULL;
    for (char *at = joined + strlen(pointer) + 1; *at; at++)
        if (*at == '.')
            *at = '/';
    return joined;
}

/* With the first sentence of its documentation, without the full stop. */
void table_missing(const TableReader *reader, const KeyRow *row, const char *pointer)
{
    const char *end = strstr(row->doc, ". ");
    size_t length = end ? (size_t)(end - row->doc) : strlen(row->doc);
    _cleanup_free_ char *at = table_key_pointer(pointer, row->key);

    if (!end && length > 0 && row->doc[length - 1] == '.')
        length--;
    table_problem(reader, PROBLEM_ERROR, at ? at : pointer, false, "\"%s\" is missing: %.*s", row->key,
                  (int)length, row->doc);
}

int table_read(const TableReader *reader, const KeyTable *table, const cJSON *json, const char *pointer,
               void *target)
{
    ObjectReader object = {.reader = reader, .table = table, .target = target, .given.table = table};
    int r;

    for (size_t i = 0; i < table->n_rows; i++) {
        r = table_set_default(&table->rows[i], target);
        if (r < 0)
            return r;
    }
    if (!cJSON_IsObject(json)) {
        if (!table_is_flawed(reader, pointer)) /* what it is has been told already */
            table_wrong_type(reader, json, pointer, "an object");
        return 0;
    }
    r = read_group(&object, json, "", pointer);
    if (r < 0)
        return r;
    for (size_t i = 0; i < table->n_rows; i++)
        if (table->rows[i].required && !object.given.row[i] && !(reader->incomplete && table->merge_key))
            table_missing(reader, &table->rows[i], pointer);
    return table->finish ? table->finish(target, &object.given) : 0;
}

bool table_has_short(const KeyTable *table)
{
    return table->short_key || table->expand;
}

cJSON *table_expand_short(const KeyTable *table, const char *text)
{
    cJSON *object;

    if (table->expand)
        return table->expand(text);
    object = cJSON_CreateObject();
    if (object && cJSON_AddStringToObject(object, table->short_key, text))
        return object;
    cJSON_Delete(object);
    return NULL;
}
