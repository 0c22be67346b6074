/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/table.h"

#include "base/parse.h"

#include <inttypes.h>
#include <stdarg.h>

/* Cuts `pointer` down to what is in the document: the inside of a short form is not, the string itself is. */
static const JsonPlace *nearest_place(const JsonDocument *document, char *pointer)
{
    const JsonPlace *place;

    for (;;) {
        char *slash = strrchr(pointer, '/');
        place = json_find(document, pointer);
        if (place || !slash)
            return place;
        *slash = '\0';
    }
}

void table_problem(const TableReader *reader, ProblemSeverity severity, const char *pointer, bool at_key,
                   const char *format, ...)
{
    _cleanup_free_ char *text = NULL, *at = strdup(pointer);
    const JsonPlace *place = at ? nearest_place(reader->document, at) : NULL;
    bool key = at_key && place && place->key_line > 0;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    problem_add(reader->problems, severity, reader->file, at ? at : "",
                !place ? 0
                : key  ? place->key_line
                       : place->line,
                !place ? 0
                : key  ? place->key_column
                       : place->column,
                "%s", text ? text : "out of memory");
}

static const char *kind_of(const cJSON *json)
{
    return cJSON_IsBool(json)     ? "a boolean"
           : cJSON_IsNumber(json) ? "a number"
           : cJSON_IsString(json) ? "a string"
           : cJSON_IsArray(json)  ? "a list"
           : cJSON_IsObject(json) ? "an object"
                                  : "null";
}

static void wrong_type(const TableReader *reader, const cJSON *json, const char *pointer, const char *wanted)
{
    table_problem(reader, PROBLEM_ERROR, pointer, false, "this must be %s, not %s", wanted, kind_of(json));
}

/* --- scalars --- */

/* What a bare number means in the stored unit: cJSON's double would lose digits, so from the text. */
static int number_from_text(const KeyRow *row, const char *text, uint64_t *ret_value)
{
    char *end;

    if (row->type == KEY_SIZE)
        return parse_size_mib(text, ret_value);
    if (row->type == KEY_DURATION)
        return parse_duration(text, ret_value);
    errno = 0;
    if (text[strspn(text, "0123456789")] != '\0')
        return -EINVAL;
    *ret_value = strtoull(text, &end, 10);
    return errno ? -ERANGE : 0;
}

static const char *wanted_number(const KeyRow *row)
{
    return row->type == KEY_SIZE       ? "a size: a number of MiB, or a string such as \"2G\""
           : row->type == KEY_DURATION ? "a time: a number of seconds, or a string such as \"1min 30s\""
                                       : "a whole number";
}

static void format_number(const KeyRow *row, uint64_t value, char *buffer, size_t size)
{
    if (row->type == KEY_DURATION)
        format_duration(value, buffer, size);
    else
        snprintf(buffer, size, "%" PRIu64 "%s", value, row->type == KEY_SIZE ? " MiB" : "");
}

/* A problem with the value itself has been told by the scanner: what the tree holds is a filler. */
static bool is_flawed(const TableReader *reader, const char *pointer)
{
    const JsonPlace *place = json_find(reader->document, pointer);

    return place && place->flawed;
}

static void read_number(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                        void *target)
{
    const JsonPlace *place = json_find(reader->document, pointer);
    const char *text = cJSON_IsNumber(json) && place ? place->number : NULL;
    char least[64], most[64];
    uint64_t value;
    int r;

    if (cJSON_IsString(json) && row->type != KEY_NUMBER)
        text = json->valuestring;
    if (!text) {
        wrong_type(reader, json, pointer, wanted_number(row));
        return;
    }
    r = number_from_text(row, text, &value);
    if (r == -EINVAL) {
        table_problem(reader, PROBLEM_ERROR, pointer, false, "%s is not %s", text, wanted_number(row));
        return;
    }
    if (r < 0 || value < row->minimum || (row->maximum > 0 && value > row->maximum)) {
        format_number(row, row->minimum, least, sizeof(least));
        format_number(row, row->maximum, most, sizeof(most));
        table_problem(reader, PROBLEM_ERROR, pointer, false, "%s is out of range: it can be from %s to %s",
                      text, least, row->maximum > 0 ? most : "as much as there is");
        return;
    }
    FIELD(row, target, uint64_t) = value;
}

static void read_enum(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                      void *target)
{
    _cleanup_free_ char *all = NULL;
    size_t size;
    FILE *stream;
    int value;

    if (!cJSON_IsString(json)) {
        wrong_type(reader, json, pointer, "a string");
        return;
    }
    value = row->enum_value(json->valuestring);
    if (value >= 0) {
        FIELD(row, target, int) = value;
        return;
    }
    stream = open_memstream(&all, &size);
    if (!stream)
        return;
    for (int i = 0; i < row->enum_max; i++)
        fprintf(stream, "%s\"%s\"", i ? ", " : "", row->enum_name(i));
    if (fclose(stream) == 0)
        table_problem(reader, PROBLEM_ERROR, pointer, false, "\"%s\" is not known here; it can be %s",
                      json->valuestring, all);
}

static int take_string(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                       char **ret_value)
{
    const char *wrong;

    if (is_flawed(reader, pointer))
        return 0;
    if (!cJSON_IsString(json)) {
        wrong_type(reader, json, pointer, "a string");
        return 0;
    }
    if (!row->take) {
        *ret_value = strdup(json->valuestring);
        return *ret_value ? 1 : -ENOMEM;
    }
    wrong = row->take(json->valuestring, ret_value);
    if (wrong) {
        table_problem(reader, PROBLEM_ERROR, pointer, false, "%s", wrong);
        return 0;
    }
    return *ret_value ? 1 : -ENOMEM;
}

static int read_string(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                       void *target)
{
    char *value = NULL;
    int r = take_string(reader, row, json, pointer, &value);

    if (r <= 0)
        return r;
    free(FIELD(row, target, char *));
    FIELD(row, target, char *) = value;
    return 0;
}

/* --- lists --- */

static char *element_pointer(const char *pointer, size_t index)
{
    char *joined = NULL;

    return asprintf(&joined, "%s/%zu", pointer, index) < 0 ? NULL : joined;
}

static bool has_room(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer)
{
    int n = cJSON_GetArraySize(json);

    if (row->maximum == 0 || (uint64_t)n <= row->maximum)
        return true;
    table_problem(reader, PROBLEM_ERROR, pointer, false, "this list has %d entries; %" PRIu64 " is the most",
                  n, row->maximum);
    return false;
}

static int read_strings(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                        void *target)
{
    const cJSON *element;
    size_t n = 0;

    if (!cJSON_IsArray(json)) {
        wrong_type(reader, json, pointer, "a list of strings");
        return 0;
    }
    if (!has_room(reader, row, json, pointer))
        return 0;
    FIELD(row, target, char **) = calloc((size_t)cJSON_GetArraySize(json) + 1, sizeof(char *));
    if (!FIELD(row, target, char **))
        return -ENOMEM;
    cJSON_ArrayForEach (element, json) {
        _cleanup_free_ char *at = element_pointer(pointer, n);
        int r = at ? take_string(reader, row, element, at, &FIELD(row, target, char **)[COUNT(row, target)])
                   : -ENOMEM;
        if (r < 0)
            return r;
        COUNT(row, target) += (size_t)r;
        n++;
    }
    return 0;
}

/* "IMAGE" stands for {"image": "IMAGE"}. */
static int read_short(const TableReader *reader, const KeyTable *table, const cJSON *json,
                      const char *pointer, void *item)
{
    cJSON *object = cJSON_CreateObject();
    int r = -ENOMEM;

    if (object && cJSON_AddStringToObject(object, table->short_key, json->valuestring))
        r = table_read(reader, table, object, pointer, item);
    cJSON_Delete(object);
    return r;
}

static int read_objects(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                        void *target)
{
    const cJSON *element;

    if (!cJSON_IsArray(json)) {
        wrong_type(reader, json, pointer, "a list");
        return 0;
    }
    if (!has_room(reader, row, json, pointer))
        return 0;
    FIELD(row, target, char *) = calloc((size_t)cJSON_GetArraySize(json) + 1, row->items->item_size);
    if (!FIELD(row, target, char *))
        return -ENOMEM;
    cJSON_ArrayForEach (element, json) {
        void *item = FIELD(row, target, char *) + COUNT(row, target) * row->items->item_size;
        _cleanup_free_ char *at = element_pointer(pointer, COUNT(row, target));
        int r;
        COUNT(row, target)++;
        if (!at)
            return -ENOMEM;
        if (is_flawed(reader, at))
            continue;
        if (cJSON_IsString(element) && row->items->short_key)
            r = read_short(reader, row->items, element, at, item);
        else
            r = table_read(reader, row->items, element, at, item);
        if (r < 0)
            return r;
    }
    return 0;
}

/* --- objects --- */

static int read_row(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                    void *target)
{
    if (is_flawed(reader, pointer))
        return 0;
    switch (row->type) {
    case KEY_BOOL:
        if (cJSON_IsBool(json))
            FIELD(row, target, bool) = cJSON_IsTrue(json);
        else
            wrong_type(reader, json, pointer, "true or false");
        return 0;
    case KEY_NUMBER:
    case KEY_SIZE:
    case KEY_DURATION:
        read_number(reader, row, json, pointer, target);
        return 0;
    case KEY_ENUM:
        read_enum(reader, row, json, pointer, target);
        return 0;
    case KEY_STRING:
        return read_string(reader, row, json, pointer, target);
    case KEY_STRINGS:
        return read_strings(reader, row, json, pointer, target);
    default:
        return read_objects(reader, row, json, pointer, target);
    }
}

static int apply_default(const KeyRow *row, void *target)
{
    if (!row->fallback)
        return 0;
    switch (row->type) {
    case KEY_BOOL:
        FIELD(row, target, bool) = streq(row->fallback, "true");
        return 0;
    case KEY_ENUM:
        FIELD(row, target, int) = row->enum_value(row->fallback);
        return 0;
    case KEY_STRING:
        FIELD(row, target, char *) = strdup(row->fallback);
        return FIELD(row, target, char *) ? 0 : -ENOMEM;
    default:
        return number_from_text(row, row->fallback, &FIELD(row, target, uint64_t));
    }
}

static bool in_group(const KeyRow *row, const char *prefix, const char *name)
{
    size_t length = strlen(prefix);

    return strncmp(row->key, prefix, length) == 0 && strncmp(row->key + length, name, strlen(name)) == 0 &&
           row->key[length + strlen(name)] == '.';
}

static void unknown_key(const TableReader *reader, const KeyTable *table, const char *prefix,
                        const char *name, const char *pointer)
{
    const char *names[TABLE_ROWS_MAX];
    char segments[TABLE_ROWS_MAX][48];
    const char *meant;
    size_t n = 0;

    for (size_t i = 0; i < table->n_rows && n < TABLE_ROWS_MAX; i++) {
        if (strncmp(table->rows[i].key, prefix, strlen(prefix)) != 0)
            continue;
        snprintf(segments[n], sizeof(segments[n]), "%s", table->rows[i].key + strlen(prefix));
        segments[n][strcspn(segments[n], ".")] = '\0';
        names[n] = segments[n];
        n++;
    }
    meant = did_you_mean(name, names, n);
    if (meant)
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

static int read_member(ObjectReader *object, const cJSON *child, const char *prefix, const char *pointer)
{
    const KeyTable *table = object->table;
    _cleanup_free_ char *at = json_pointer_join(pointer, child->string), *deeper = NULL;

    if (!at)
        return -ENOMEM;
    for (size_t i = 0; i < table->n_rows; i++) {
        size_t row = main_row(table, i);
        if (strncmp(table->rows[i].key, prefix, strlen(prefix)) != 0 ||
            !streq(table->rows[i].key + strlen(prefix), child->string))
            continue;
        if (object->given.row[row]) {
            /* Not the same key again, which the scanner has told already, but another name of it. */
            if (row != i || !is_repeated(child))
                table_problem(object->reader, PROBLEM_ERROR, at, true,
                              "this is another name of a key that is there already");
            return 0;
        }
        object->given.row[row] = true;
        return read_row(object->reader, &table->rows[row], child, at, object->target);
    }
    for (size_t i = 0; i < table->n_rows; i++) {
        if (!in_group(&table->rows[i], prefix, child->string))
            continue;
        if (!cJSON_IsObject(child)) {
            wrong_type(object->reader, child, at, "an object");
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

bool key_given(const KeysGiven *given, const char *key)
{
    for (size_t i = 0; i < given->table->n_rows; i++)
        if (streq(given->table->rows[i].key, key))
            return given->row[main_row(given->table, i)];
    return false;
}

/* The first sentence of its documentation, without the full stop. */
static void missing_key(const TableReader *reader, const KeyRow *row, const char *pointer)
{
    const char *end = strstr(row->doc, ". ");
    size_t length = end ? (size_t)(end - row->doc) : strlen(row->doc);

    if (!end && length > 0 && row->doc[length - 1] == '.')
        length--;
    table_problem(reader, PROBLEM_ERROR, pointer, false, "\"%s\" is missing: %.*s", row->key, (int)length,
                  row->doc);
}

int table_read(const TableReader *reader, const KeyTable *table, const cJSON *json, const char *pointer,
               void *target)
{
    ObjectReader object = {.reader = reader, .table = table, .target = target, .given.table = table};
    int r;

    for (size_t i = 0; i < table->n_rows; i++) {
        r = apply_default(&table->rows[i], target);
        if (r < 0)
            return r;
    }
    if (!cJSON_IsObject(json)) {
        if (!is_flawed(reader, pointer)) /* what it is has been told already */
            wrong_type(reader, json, pointer, "an object");
        return 0;
    }
    r = read_group(&object, json, "", pointer);
    if (r < 0)
        return r;
    for (size_t i = 0; i < table->n_rows; i++)
        if (table->rows[i].required && !object.given.row[i])
            missing_key(reader, &table->rows[i], pointer);
    return table->finish ? table->finish(target, &object.given) : 0;
}
