/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON Schema 2020-12 from the tables: what a file may say, as far as one can see without the others. */
#include "base/parse.h"
#include "spec/loader.h"
#include "spec/spec-table.h"
#include "spec/specifier.h"
#include "spec/take.h"

#include <inttypes.h>

typedef struct Writer {
    FILE *stream;
    bool specifiers; /* are expanded in strings */
} Writer;

/* How an object comes to be what it is. */
typedef enum Mode {
    MODE_STRICT, /* as it is written */
    MODE_FILE,   /* by a merge: null is nothing, "KEY+" appends; it is complete */
    MODE_PATCH,  /* the same, but the rest is in other files */
} Mode;

static void put_text(Writer *w, const char *text)
{
    cJSON *string = cJSON_CreateStringReference(text);
    _cleanup_free_ char *quoted = string ? cJSON_PrintUnformatted(string) : NULL;

    cJSON_Delete(string);
    fputs(quoted ? quoted : "", w->stream); /* without it is no JSON, which is noticed */
}

static void put_item(Writer *w, const char *key, const char *text)
{
    fprintf(w->stream, "\"%s\":", key);
    put_text(w, text);
}

/* --- strings --- */

/* A string as `pattern` says, once specifiers are expanded; what they expand to no schema knows. */
static void put_string(Writer *w, const char *pattern, bool specifiers)
{
    _cleanup_free_ char *doubled = NULL;

    fputs("\"type\":\"string\",", w->stream);
    if (!specifiers || !w->specifiers) {
        put_item(w, "pattern", pattern);
        return;
    }
    /* Percent signs are doubled; all patterns begin with '^'. */
    if (asprintf(&doubled, "^(?=([^%%]|%%%%)*$)%s", pattern + 1) < 0)
        return;
    fputs("\"anyOf\":[{", w->stream);
    put_item(w, "pattern", doubled);
    fputs("},{\"$ref\":\"#/$defs/specifiers\"}]", w->stream);
}

static const char *string_pattern(const KeyRow *row)
{
    return row->pattern ? row->pattern : take_pattern(row->take);
}

/* --- numbers --- */

/* In the unit that a bare number has, exactly. */
static void put_bound(Writer *w, const char *key, const KeyRow *row, uint64_t value)
{
    const uint64_t second = 1000000;

    if (row->type == KEY_DURATION && value % second != 0)
        fprintf(w->stream, ",\"%s\":%" PRIu64 ".%06" PRIu64, key, value / second, value % second);
    else
        fprintf(w->stream, ",\"%s\":%" PRIu64, key, row->type == KEY_DURATION ? value / second : value);
}

static void put_number(Writer *w, const KeyRow *row)
{
    fprintf(w->stream, "\"type\":\"%s\"", row->type == KEY_DURATION ? "number" : "integer");
    put_bound(w, "minimum", row, row->minimum);
    if (row->maximum > 0)
        put_bound(w, "maximum", row, row->maximum);
}

/* A bare number, or a string with units. */
static void put_quantity(Writer *w, const KeyRow *row)
{
    fputs("\"anyOf\":[{", w->stream);
    put_number(w, row);
    fputs("},{", w->stream);
    put_string(w,
               row->type == KEY_DURATION  ? PARSE_DURATION_PATTERN
               : row->type == KEY_PERCENT ? "^[0-9]+%?$"
                                          : PARSE_SIZE_PATTERN,
               specifiers_count(row));
    fputs("}]", w->stream);
}

/* --- the rest --- */

static void put_object(Writer *w, const KeyTable *table, const char *prefix, Mode mode, bool open);
static void put_value(Writer *w, const KeyRow *row, Mode mode);

static void put_enum(Writer *w, const KeyRow *row)
{
    fputs("\"enum\":[", w->stream);
    for (int i = 0; i < row->enum_max; i++) {
        fputs(i > 0 ? "," : "", w->stream);
        put_text(w, row->enum_name(i));
    }
    fputc(']', w->stream);
}

/* An object, or the string that stands for it. */
static void put_items(Writer *w, const KeyTable *table, Mode mode)
{
    if (table_has_short(table)) {
        fputs("\"anyOf\":[{", w->stream);
        if (table->expand)
            put_string(w, table->short_pattern, true);
        else
            put_value(w, table_row(table, table->short_key), MODE_STRICT);
        fputs("},{", w->stream);
    }
    put_object(w, table, "", mode, false);
    fputs(table_has_short(table) ? "}]" : "", w->stream);
}

static void put_list(Writer *w, const KeyRow *row, Mode mode)
{
    fprintf(w->stream, "\"type\":\"array\",\"maxItems\":%" PRIu64 ",\"items\":{", row->maximum);
    if (row->type == KEY_STRINGS)
        put_string(w, string_pattern(row), true);
    else
        put_items(w, row->items, row->items->merge_key ? mode : MODE_STRICT);
    fputc('}', w->stream);
}

static bool takes(const KeyRow *row, const char *text)
{
    _cleanup_free_ char *value = NULL;

    return !row->take(text, &value);
}

/* Values that are plain are taken as they are written. */
static void put_map(Writer *w, const KeyRow *row, Mode mode)
{
    fprintf(w->stream, "\"type\":\"object\",\"maxProperties\":%" PRIu64 ",\"propertyNames\":{", row->maximum);
    put_item(w, "pattern", take_pattern(row->take_name));
    fputs("},\"additionalProperties\":{\"anyOf\":[{", w->stream);
    put_string(w, string_pattern(row), true);
    fputc('}', w->stream);
    if (takes(row, "1") && takes(row, "true"))
        fputs(",{\"type\":[\"number\",\"boolean\"]}", w->stream);
    fputs(mode != MODE_STRICT ? ",{\"type\":\"null\"}]}" : "]}", w->stream);
}

static void put_value(Writer *w, const KeyRow *row, Mode mode)
{
    switch (row->type) {
    case KEY_BOOL:
        fputs("\"type\":\"boolean\"", w->stream);
        return;
    case KEY_NUMBER:
        put_number(w, row);
        return;
    case KEY_SIZE:
    case KEY_DURATION:
    case KEY_PERCENT:
        put_quantity(w, row);
        return;
    case KEY_ENUM:
        put_enum(w, row);
        return;
    case KEY_STRING:
        put_string(w, string_pattern(row), specifiers_count(row));
        return;
    case KEY_MAP:
        put_map(w, row, mode);
        return;
    case KEY_JSON:
        fputs("\"type\":\"object\"", w->stream);
        return;
    case KEY_REFUSED:
        fputs("\"not\":{}", w->stream);
        return;
    default:
        put_list(w, row, mode);
    }
}

static void put_default(Writer *w, const KeyRow *row)
{
    /* A duration's may have units. */
    bool quoted = row->type == KEY_STRING || row->type == KEY_ENUM ||
                  (row->type == KEY_DURATION && row->fallback[strspn(row->fallback, "0123456789")]);

    fputs(",\"default\":", w->stream);
    if (quoted)
        put_text(w, row->fallback);
    else
        fputs(row->fallback, w->stream);
}

static void put_row(Writer *w, const KeyRow *row, const char *name, Mode mode)
{
    bool nullable = mode == MODE_PATCH || (mode == MODE_FILE && !row->required);

    fprintf(w->stream, "\"%s\":{", name);
    put_item(w, "description", row->doc);
    if (row->fallback)
        put_default(w, row);
    fputs(nullable ? ",\"anyOf\":[{" : ",", w->stream);
    put_value(w, row, mode);
    fputs(nullable ? "},{\"type\":\"null\"}]}" : "}", w->stream);
    if (mode == MODE_STRICT || (row->type != KEY_STRINGS && row->type != KEY_OBJECTS))
        return;
    fprintf(w->stream, ",\"%s+\":{\"description\":\"Appended to %s.\",", name, name);
    put_list(w, row, MODE_STRICT);
    fputc('}', w->stream);
}

/* --- objects --- */

/* The part of a row's key that is a member of the object at `prefix`; 0: none. */
static size_t member_length(const KeyRow *row, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(row->key, prefix, length) == 0 ? strcspn(row->key + length, ".") : 0;
}

static bool is_first(const KeyTable *table, size_t index, const char *prefix)
{
    const char *name = table->rows[index].key + strlen(prefix);
    size_t length = member_length(&table->rows[index], prefix);

    for (size_t i = 0; i < index; i++)
        if (member_length(&table->rows[i], prefix) == length &&
            strncmp(table->rows[i].key + strlen(prefix), name, length) == 0)
            return false;
    return true;
}

/* Of what begins with `member`, which is a key, "GROUP" or "". */
static bool is_required(const KeyTable *table, const char *member)
{
    size_t length = strlen(member);

    for (size_t i = 0; i < table->n_rows; i++)
        if (table->rows[i].required && strncmp(table->rows[i].key, member, length) == 0 &&
            (length == 0 || member[length - 1] == '.' || strchr(".", table->rows[i].key[length])))
            return true;
    return false;
}

/* The object that dotted keys go into. */
static void put_group(Writer *w, const KeyTable *table, const char *prefix, const char *name, Mode mode,
                      bool open)
{
    bool nullable = mode == MODE_PATCH || (mode == MODE_FILE && !is_required(table, prefix));

    fprintf(w->stream, "\"%s\":{%s", name, nullable ? "\"anyOf\":[{" : "");
    put_object(w, table, prefix, mode, open || streq(name, table->open_group));
    fputs(nullable ? "},{\"type\":\"null\"}]}" : "}", w->stream);
}

static void put_required(Writer *w, const KeyTable *table, const char *prefix)
{
    const char *separator = "";

    fputs(",\"required\":[", w->stream);
    for (size_t i = 0; i < table->n_rows; i++) {
        size_t length = member_length(&table->rows[i], prefix);
        _cleanup_free_ char *member = strndup(table->rows[i].key, strlen(prefix) + length);
        if (!member || length == 0 || !is_first(table, i, prefix) || !is_required(table, member))
            continue;
        fprintf(w->stream, "%s\"%s\"", separator, member + strlen(prefix));
        separator = ",";
    }
    fputc(']', w->stream);
}

/* `open`: unknown keys are somebody else's. */
static void put_object(Writer *w, const KeyTable *table, const char *prefix, Mode mode, bool open)
{
    const char *separator = "";

    fprintf(w->stream, "\"type\":\"object\",%s\"properties\":{",
            open ? "" : "\"additionalProperties\":false,");
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        size_t length = member_length(row, prefix);
        _cleanup_free_ char *name = NULL, *deeper = NULL;
        if (length == 0 || !is_first(table, i, prefix))
            continue;
        name = strndup(row->key + strlen(prefix), length);
        if (!name || asprintf(&deeper, "%s%s.", prefix, name) < 0)
            return;
        fputs(separator, w->stream);
        separator = ",";
        if (row->key[strlen(prefix) + length] == '.')
            put_group(w, table, deeper, name, mode, open);
        else
            put_row(w, row, name, mode);
    }
    fputc('}', w->stream);
    if (mode != MODE_PATCH && is_required(table, prefix))
        put_required(w, table, prefix);
}

/* --- documents --- */

static void put_head(Writer *w, const KeyTable *table)
{
    fputs("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",", w->stream);
    put_item(w, "title", table->title);
    fputc(',', w->stream);
}

/* For people: text that was written by the above, indented. */
static char *finish(Writer *w, char **text)
{
    cJSON *json = fclose(w->stream) == 0 ? cJSON_Parse(*text) : NULL;
    char *printed = json ? cJSON_Print(json) : NULL;

    cJSON_Delete(json);
    free(*text);
    return printed;
}

char *table_schema(const KeyTable *table)
{
    char *text = NULL;
    size_t size;
    Writer w = {.stream = open_memstream(&text, &size)};

    if (!w.stream)
        return NULL;
    put_head(&w, table);
    put_object(&w, table, "", MODE_STRICT, false);
    fputc('}', w.stream);
    return finish(&w, &text);
}

char *vm_spec_schema(void)
{
    char *text = NULL;
    size_t size;
    Writer w = {.stream = open_memstream(&text, &size), .specifiers = true};

    if (!w.stream)
        return NULL;
    put_head(&w, &vm_table);
    put_object(&w, &vm_table, "", MODE_FILE, false);
    /* A kernel, unless it boots from a disk. */
    fputs(",\"if\":{\"properties\":{\"boot\":{\"const\":\"disk\"}},\"required\":[\"boot\"]},"
          "\"else\":{\"properties\":{\"kernel\":{\"type\":\"string\"}},\"required\":[\"kernel\"]},"
          "\"$defs\":{\"specifiers\":{",
          w.stream);
    put_item(&w, "description", "%n and its like, of which at least one, and doubled percent signs.");
    fputc(',', w.stream);
    put_item(&w, "pattern", "^(?=([^%]|%[npihHm%])*$)(?=([^%]|%%)*%[npihHm])[^\\u0000-\\u001f\\u007f]*$");
    fputs("},\"drop-in\":{", w.stream);
    put_item(&w, "title", "a drop-in, or defaults.json: a part of a definition");
    fputc(',', w.stream);
    put_object(&w, &vm_table, "", MODE_PATCH, false);
    fputs("}}}", w.stream);
    return finish(&w, &text);
}
