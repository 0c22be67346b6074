/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One value of a settings table: from JSON into its field. */
#include "spec/table-value.h"
#include "base/parse.h"
#include "spec/spec.h"

#include <inttypes.h>

static const char *kind_of(const cJSON *json)
{
    return cJSON_IsBool(json)     ? "a boolean"
           : cJSON_IsNumber(json) ? "a number"
           : cJSON_IsString(json) ? "a string"
           : cJSON_IsArray(json)  ? "a list"
           : cJSON_IsObject(json) ? "an object"
                                  : "null";
}

void table_wrong_type(const TableReader *reader, const cJSON *json, const char *pointer, const char *wanted)
{
    table_problem(reader, PROBLEM_ERROR, pointer, false, "this must be %s, not %s", wanted, kind_of(json));
}

/* --- scalars --- */

/* What a bare number means in the stored unit: cJSON's double would lose digits, so from the text. */
int table_parse_number(const KeyRow *row, const char *text, uint64_t *ret_value)
{
    char *end;

    if (row->type == KEY_SIZE)
        return parse_size_mib(text, ret_value);
    if (row->type == KEY_DURATION)
        return parse_duration(text, ret_value);
    errno = 0;
    if (!*text ||
        text[strspn(text, "0123456789")] != (row->type == KEY_PERCENT && strchr(text, '%') ? '%' : '\0'))
        return -EINVAL;
    *ret_value = strtoull(text, &end, 10);
    if (errno)
        return -ERANGE;
    return *end == '%' && end[1] ? -EINVAL : 0;
}

static const char *wanted_number(const KeyRow *row)
{
    return row->type == KEY_SIZE       ? "a size: a number of MiB, or a string such as \"2G\""
           : row->type == KEY_DURATION ? "a time: a number of seconds, or a string such as \"1min 30s\""
           : row->type == KEY_PERCENT  ? "a percentage: a number, or a string such as \"150%\""
                                       : "a whole number";
}

static void format_number(const KeyRow *row, uint64_t value, char *buffer, size_t size)
{
    if (row->type == KEY_DURATION)
        format_duration(value, buffer, size);
    else if (row->type == KEY_SIZE && value > 0 && value % (1 << 20) == 0)
        snprintf(buffer, size, "%" PRIu64 " TiB", value >> 20);
    else
        snprintf(buffer, size, "%" PRIu64 "%s", value,
                 row->type == KEY_SIZE      ? " MiB"
                 : row->type == KEY_PERCENT ? "%"
                                            : "");
}

/* A problem with the value itself has been told by the scanner: what the tree holds is a filler. */
bool table_is_flawed(const TableReader *reader, const char *pointer)
{
    const JsonPlace *place = json_find(reader->document, pointer);

    return place && place->flawed;
}

/* JSON has one kind of number: 1.0 is 1. */
static char *whole_number(const char *text)
{
    size_t length = strlen(text), digits = strcspn(text, ".");

    if (digits < length && strspn(text + digits + 1, "0") == length - digits - 1)
        length = digits;
    return strndup(text, length);
}

static void read_number(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                        void *target)
{
    const JsonPlace *place = json_find(reader->document, pointer);
    const char *text = cJSON_IsNumber(json) && place ? place->number : NULL;
    _cleanup_free_ char *whole = NULL;
    char least[64], most[64];
    uint64_t value;
    int r;

    if (cJSON_IsString(json) && row->type != KEY_NUMBER)
        text = json->valuestring;
    if (!text) {
        table_wrong_type(reader, json, pointer, wanted_number(row));
        return;
    }
    if (cJSON_IsNumber(json) && !(whole = whole_number(text)))
        return;
    r = table_parse_number(row, whole ? whole : text, &value);
    if (r == -EINVAL) {
        table_problem(reader, PROBLEM_ERROR, pointer, false,
                      cJSON_IsString(json) ? "\"%s\" is not %s" : "%s is not %s", text, wanted_number(row));
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
        table_wrong_type(reader, json, pointer, "a string");
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

    if (table_is_flawed(reader, pointer))
        return 0;
    if (!cJSON_IsString(json)) {
        table_wrong_type(reader, json, pointer, "a string");
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
    table_problem(reader, PROBLEM_ERROR, pointer, false, "this has %d entries; %" PRIu64 " is the most", n,
                  row->maximum);
    return false;
}

static int read_strings(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                        void *target)
{
    const cJSON *element;
    size_t n = 0;

    if (!cJSON_IsArray(json)) {
        table_wrong_type(reader, json, pointer, "a list of strings");
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

static int read_short(const TableReader *reader, const KeyTable *table, const cJSON *json,
                      const char *pointer, void *item)
{
    cJSON *object = table_expand_short(table, json->valuestring);
    int r = object ? table_read(reader, table, object, pointer, item) : -ENOMEM;

    cJSON_Delete(object);
    return r;
}

static int read_objects(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                        void *target)
{
    const cJSON *element;

    if (!cJSON_IsArray(json)) {
        table_wrong_type(reader, json, pointer, "a list");
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
        if (table_is_flawed(reader, at))
            continue;
        if (cJSON_IsString(element) && table_has_short(row->items))
            r = read_short(reader, row->items, element, at, item);
        else
            r = table_read(reader, row->items, element, at, item);
        if (r < 0)
            return r;
    }
    return 0;
}

/* --- maps and what is somebody else's --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const StringPair *)a)->name, ((const StringPair *)b)->name);
}

/* One entry. A value that is no string but plain is taken as it is written: {"acpi": true}. */
static int read_pair(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                     StringPair *pair)
{
    const JsonPlace *place = json_find(reader->document, pointer);
    const char *wrong = row->take_name ? row->take_name(json->string, &pair->name) : NULL;
    const char *text = cJSON_IsString(json)            ? json->valuestring
                       : cJSON_IsBool(json)            ? (cJSON_IsTrue(json) ? "true" : "false")
                       : cJSON_IsNumber(json) && place ? place->number
                                                       : NULL;

    if (wrong) {
        table_problem(reader, PROBLEM_ERROR, pointer, true, "\"%s\": %s", json->string, wrong);
        return 0;
    }
    if (!text) {
        table_wrong_type(reader, json, pointer, "a string");
        return 0;
    }
    wrong = row->take(text, &pair->value);
    if (wrong) {
        table_problem(reader, PROBLEM_ERROR, pointer, false, "%s", wrong);
        return 0;
    }
    return pair->name && pair->value ? 1 : -ENOMEM;
}

static int read_map(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                    void *target)
{
    const cJSON *child;
    StringPair *pairs;
    size_t n = 0;

    if (!cJSON_IsObject(json)) {
        table_wrong_type(reader, json, pointer, "an object");
        return 0;
    }
    if (!has_room(reader, row, json, pointer))
        return 0;
    pairs = calloc((size_t)cJSON_GetArraySize(json) + 1, sizeof(*pairs));
    if (!pairs)
        return -ENOMEM;
    FIELD(row, target, StringPair *) = pairs;
    cJSON_ArrayForEach (child, json) {
        _cleanup_free_ char *at = json_pointer_join(pointer, child->string);
        int r = at ? read_pair(reader, row, child, at, &pairs[n]) : -ENOMEM;
        if (r > 0) {
            COUNT(row, target) = ++n;
            continue;
        }
        free(pairs[n].name);
        free(pairs[n].value);
        pairs[n] = (StringPair){0};
        if (r < 0)
            return r;
    }
    if (n > 0)
        qsort(pairs, n, sizeof(*pairs), by_name);
    return 0;
}

/* A copy with the numbers as they are written: a double would lose digits. NULL: out of memory. */
static cJSON *copy_json(const TableReader *reader, const cJSON *json, const char *pointer)
{
    const JsonPlace *place = cJSON_IsNumber(json) ? json_find(reader->document, pointer) : NULL;
    cJSON *copy = place && place->number ? cJSON_CreateRaw(place->number) : cJSON_Duplicate(json, false);
    const cJSON *child;
    size_t n = 0;

    cJSON_ArrayForEach (child, json) {
        _cleanup_free_ char *at =
            child->string ? json_pointer_join(pointer, child->string) : element_pointer(pointer, n++);
        cJSON *inner = copy && at ? copy_json(reader, child, at) : NULL;
        if (inner && (child->string ? cJSON_AddItemToObject(copy, child->string, inner)
                                    : cJSON_AddItemToArray(copy, inner)))
            continue;
        cJSON_Delete(inner);
        cJSON_Delete(copy);
        return NULL;
    }
    return copy;
}

static int read_json(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                     void *target)
{
    cJSON *copy;

    if (!cJSON_IsObject(json)) {
        table_wrong_type(reader, json, pointer, "an object");
        return 0;
    }
    copy = copy_json(reader, json, pointer);
    FIELD(row, target, char *) = copy ? cJSON_PrintUnformatted(copy) : NULL;
    cJSON_Delete(copy);
    return FIELD(row, target, char *) ? 0 : -ENOMEM;
}

/* --- any value --- */

int table_read_value(const TableReader *reader, const KeyRow *row, const cJSON *json, const char *pointer,
                     void *target)
{
    if (table_is_flawed(reader, pointer))
        return 0;
    switch (row->type) {
    case KEY_BOOL:
        if (cJSON_IsBool(json))
            FIELD(row, target, bool) = cJSON_IsTrue(json);
        else
            table_wrong_type(reader, json, pointer, "true or false");
        return 0;
    case KEY_NUMBER:
    case KEY_SIZE:
    case KEY_DURATION:
    case KEY_PERCENT:
        read_number(reader, row, json, pointer, target);
        return 0;
    case KEY_ENUM:
        read_enum(reader, row, json, pointer, target);
        return 0;
    case KEY_STRING:
        return read_string(reader, row, json, pointer, target);
    case KEY_STRINGS:
        return read_strings(reader, row, json, pointer, target);
    case KEY_MAP:
        return read_map(reader, row, json, pointer, target);
    case KEY_JSON:
        return read_json(reader, row, json, pointer, target);
    case KEY_REFUSED:
        table_problem(reader, PROBLEM_ERROR, pointer, true, "\"%s\" can't be used here: %s", row->key,
                      row->doc);
        return 0;
    default:
        return read_objects(reader, row, json, pointer, target);
    }
}

int table_set_default(const KeyRow *row, void *target)
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
        return table_parse_number(row, row->fallback, &FIELD(row, target, uint64_t));
    }
}
