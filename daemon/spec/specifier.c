/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/specifier.h"

#include "spec/table-value.h"
#include "spec/take.h"

#include <limits.h>
#include <pwd.h>
#include <systemd/sd-id128.h>

/* What is done with each string in which specifiers count. */
typedef struct Walk Walk;
struct Walk {
    int (*visit)(const Walk *walk, cJSON *json, const char *pointer);
    const TableReader *reader;
    const char *name;
};

static char *home(void)
{
    const struct passwd *user = getpwuid(getuid());

    return user ? strdup(user->pw_dir) : NULL;
}

static char *machine_id(void)
{
    char text[SD_ID128_STRING_MAX];
    sd_id128_t id;

    return sd_id128_get_machine(&id) < 0 ? NULL : strdup(sd_id128_to_string(id, text));
}

static char *host_name(void)
{
    char text[HOST_NAME_MAX + 1] = "";

    return gethostname(text, sizeof(text) - 1) < 0 ? NULL : strdup(text);
}

/* What a letter stands for; NULL: nothing, or it can't be found out. */
static char *value_of(const char *name, char letter)
{
    const char *at = strchr(name, '@');

    switch (letter) {
    case 'n':
        return strdup(name);
    case 'p':
        return at ? strndup(name, (size_t)(at - name)) : strdup(name);
    case 'i':
        return strdup(at ? at + 1 : "");
    case 'h':
        return home();
    case 'H':
        return host_name();
    case 'm':
        return machine_id();
    case '%':
        return strdup("%");
    default:
        return NULL;
    }
}

static void unknown(const Walk *walk, const char *pointer, const char *percent)
{
    size_t length = percent[1] ? 1 : 0;

    while (length > 0 && (((unsigned char)percent[1 + length] & 0xc0) == 0x80)) /* the rest of one in UTF-8 */
        length++;
    if (percent[1] && strchr("hHm", percent[1]))
        table_problem(walk->reader, PROBLEM_ERROR, pointer, false,
                      "what %%%c stands for can't be found out here", percent[1]);
    else
        table_problem(walk->reader, PROBLEM_ERROR, pointer, false,
                      "%%%.*s stands for nothing: there are %%n, %%p, %%i, %%h, %%H and %%m; a percent sign "
                      "is written %%%%",
                      (int)length, percent + 1);
}

static int expand_text(const Walk *walk, cJSON *json, const char *pointer)
{
    _cleanup_free_ char *expanded = NULL;
    size_t size;
    FILE *stream;
    const char *wrong = NULL;

    if (!strchr(json->valuestring, '%') || table_is_flawed(walk->reader, pointer))
        return 0;
    stream = open_memstream(&expanded, &size);
    if (!stream)
        return -ENOMEM;
    for (const char *at = json->valuestring; *at && !wrong; at++) {
        _cleanup_free_ char *value = *at == '%' ? value_of(walk->name, at[1]) : NULL;
        if (*at != '%') {
            putc(*at, stream);
            continue;
        }
        if (!value)
            wrong = at;
        else
            fputs(value, stream);
        at += value ? 1 : 0;
    }
    if (wrong)
        unknown(walk, pointer, wrong);
    if (fclose(stream) != 0 || (!wrong && !cJSON_SetValuestring(json, expanded)))
        return -ENOMEM;
    return 0;
}

static int escape_text(const Walk *walk, cJSON *json, const char *pointer)
{
    _cleanup_free_ char *escaped = NULL;
    char *to;

    if (!strchr(json->valuestring, '%'))
        return 0;
    to = escaped = malloc(2 * strlen(json->valuestring) + 1);
    if (!escaped)
        return -ENOMEM;
    for (const char *from = json->valuestring; *from; from++) {
        if (*from == '%')
            *to++ = '%';
        *to++ = *from;
    }
    *to = '\0';
    return cJSON_SetValuestring(json, escaped) ? 0 : -ENOMEM;
}

/* --- which strings --- */

bool specifiers_count(const KeyRow *row)
{
    return row->type != KEY_JSON && row->type != KEY_REFUSED && row->type != KEY_PERCENT &&
           row->type != KEY_ENUM && row->take != take_script;
}

static int walk_value(const Walk *walk, cJSON *json, const char *pointer, const KeyTable *table,
                      const char *prefix);

static int walk_member(const Walk *walk, cJSON *child, const char *pointer, const KeyTable *table,
                       const char *prefix)
{
    _cleanup_free_ char *key = NULL, *deeper = NULL, *at = json_pointer_join(pointer, child->string);
    const KeyRow *row;

    if (!at || asprintf(&key, "%s%s", prefix, child->string) < 0 || asprintf(&deeper, "%s.", key) < 0)
        return -ENOMEM;
    if (table && table_appends_to(table, key))
        key[strlen(key) - 1] = '\0';
    row = table ? table_row(table, key) : NULL;
    if (row && !specifiers_count(row))
        return 0;
    return walk_value(walk, child, at, row ? row->items : table, row ? "" : deeper);
}

static int walk_value(const Walk *walk, cJSON *json, const char *pointer, const KeyTable *table,
                      const char *prefix)
{
    cJSON *child;
    size_t n = 0;
    int r = 0;

    if (cJSON_IsString(json))
        return walk->visit(walk, json, pointer);
    cJSON_ArrayForEach (child, json) {
        _cleanup_free_ char *at = NULL;
        if (r < 0)
            break;
        if (child->string)
            r = walk_member(walk, child, pointer, table, prefix);
        else if (asprintf(&at, "%s/%zu", pointer, n++) < 0)
            r = -ENOMEM;
        else
            r = walk_value(walk, child, at, table, prefix);
    }
    return r;
}

/* Most definitions have none. */
static bool has_any(const cJSON *json)
{
    const cJSON *child;

    if (cJSON_IsString(json))
        return strchr(json->valuestring, '%');
    cJSON_ArrayForEach (child, json)
        if (has_any(child))
            return true;
    return false;
}

int specifiers_expand(const TableReader *reader, JsonDocument *document, const KeyTable *table,
                      const char *name)
{
    Walk walk = {expand_text, reader, name};

    return has_any(document->root) ? walk_value(&walk, document->root, "", table, "") : 0;
}

int specifiers_escape(cJSON *json, const KeyTable *table)
{
    Walk walk = {.visit = escape_text};

    return has_any(json) ? walk_value(&walk, json, "", table, "") : 0;
}
