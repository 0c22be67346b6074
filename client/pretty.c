/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON as a person would write it: two spaces, a line a member, short lists on one. cJSON's own print uses
 * tabs. */
#include "json.h"

#include <stdlib.h>

enum {
    LINE_MAX_BYTES = 100, /* of a list that stays on one line */
};

static void put_indent(FILE *stream, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        fputs("  ", stream);
}

/* cJSON has no function for a string alone. */
static void put_string(FILE *stream, const char *text)
{
    _cleanup_json_ cJSON *string = cJSON_CreateString(text);
    _cleanup_free_ char *quoted = string ? cJSON_PrintUnformatted(string) : NULL;

    fputs(quoted ? quoted : "\"\"", stream);
}

static bool has_structure(const cJSON *list)
{
    const cJSON *item;

    cJSON_ArrayForEach (item, list)
        if (item->child)
            return true;
    return false;
}

static void put_value(FILE *stream, const cJSON *json, unsigned depth);

/* "[1, 2, 3]"; false, and nothing put, when that is too long. */
static bool put_flat(FILE *stream, const cJSON *list)
{
    _cleanup_free_ char *text = NULL;
    const cJSON *item;
    size_t size;
    FILE *line;

    if (has_structure(list) || !(line = open_memstream(&text, &size)))
        return false;
    fputc('[', line);
    cJSON_ArrayForEach (item, list) {
        put_value(line, item, 0);
        fputs(item->next ? ", " : "", line);
    }
    fputc(']', line);
    if (fclose(line) != 0 || size > LINE_MAX_BYTES)
        return false;
    fputs(text, stream);
    return true;
}

static void put_members(FILE *stream, const cJSON *json, unsigned depth)
{
    bool object = cJSON_IsObject(json);
    const cJSON *item;

    fputs(object ? "{\n" : "[\n", stream);
    cJSON_ArrayForEach (item, json) {
        put_indent(stream, depth + 1);
        if (object) {
            put_string(stream, item->string);
            fputs(": ", stream);
        }
        put_value(stream, item, depth + 1);
        fputs(item->next ? ",\n" : "\n", stream);
    }
    put_indent(stream, depth);
    fputc(object ? '}' : ']', stream);
}

static void put_value(FILE *stream, const cJSON *json, unsigned depth)
{
    _cleanup_free_ char *text = NULL;

    if (cJSON_IsArray(json) && put_flat(stream, json))
        return;
    if (json->child) {
        put_members(stream, json, depth);
        return;
    }
    text = cJSON_IsObject(json) ? strdup("{}") : cJSON_PrintUnformatted(json);
    fputs(text ? text : "null", stream);
}

char *json_pretty(const cJSON *json)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return NULL;
    put_value(stream, json, 0);
    if (fclose(stream) == 0)
        return text;
    free(text);
    return NULL;
}
