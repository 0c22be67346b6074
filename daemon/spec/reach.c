/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/reach.h"

#include "spec/spec-table.h"

/* Values that reach beyond the microVM, as text: what is there word for word before and after is nothing new.
 */
typedef struct Reaches {
    const char *const *directories;
    size_t n_directories;
    const char **keys;
    char **values;
    size_t count;
} Reaches;

static void reaches_clear(Reaches *reaches)
{
    for (size_t i = 0; i < reaches->count; i++)
        free(reaches->values[i]);
    free(reaches->values);
    free(reaches->keys);
}

/* --- paths --- */

static bool is_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);

    while (length > 0 && directory[length - 1] == '/')
        length--;
    return strncmp(path, directory, length) == 0 && path[length] == '/';
}

static bool climbs(const char *path)
{
    for (const char *at = path; (at = strstr(at, "..")); at += 2)
        if ((at == path || at[-1] == '/') && (at[2] == '/' || !at[2]))
            return true;
    return false;
}

/* A link within a declared directory may have been put there by a guest that the directory is shared with. */
static bool leads_below(const char *path, const char *directory)
{
    _cleanup_free_ char *real_path = realpath(path, NULL), *real_directory = realpath(directory, NULL);

    return !real_path || !real_directory || is_below(real_path, real_directory);
}

/* A relative path is one in the microVM's state directory. */
static bool is_declared(const Reaches *reaches, const char *path)
{
    if (climbs(path))
        return false;
    for (size_t i = 0; i < reaches->n_directories; i++)
        if (is_below(path, reaches->directories[i]) && leads_below(path, reaches->directories[i]))
            return true;
    return path[0] != '/';
}

/* --- values --- */

static int add(Reaches *reaches, const char *key, const cJSON *json)
{
    char **values = reallocarray(reaches->values, reaches->count + 1, sizeof(*values));
    const char **keys;

    if (values)
        reaches->values = values;
    keys = values ? reallocarray(reaches->keys, reaches->count + 1, sizeof(*keys)) : NULL;
    if (!keys)
        return -ENOMEM;
    reaches->keys = keys;
    keys[reaches->count] = key;
    values[reaches->count] = cJSON_PrintUnformatted(json);
    return values[reaches->count] ? (reaches->count++, 0) : -ENOMEM;
}

static const cJSON *value_of(const cJSON *object, const char *key)
{
    char name[64];

    for (const char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        snprintf(name, sizeof(name), "%.*s", (int)(dot - key), key);
        object = cJSON_GetObjectItemCaseSensitive(object, name);
    }
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool reaches_out(const Reaches *reaches, const KeyTable *table, const void *source);

static bool row_reaches_out(const Reaches *reaches, const KeyRow *row, const void *source)
{
    if (row->type == KEY_REFUSED || row->alias_of || table_is_default(row, source))
        return false;
    if (row->reach == REACH_HOST)
        return true;
    if (row->type == KEY_OBJECTS) {
        for (size_t i = 0; i < COUNT(row, source); i++)
            if (reaches_out(reaches, row->items, FIELD(row, source, char *) + i * row->items->item_size))
                return true;
        return false;
    }
    if (row->reach != REACH_PATH)
        return false;
    if (row->type == KEY_STRING)
        return !is_declared(reaches, FIELD(row, source, char *));
    for (size_t i = 0; i < COUNT(row, source); i++) /* a map */
        if (!is_declared(reaches, FIELD(row, source, StringPair *)[i].value))
            return true;
    return false;
}

static bool reaches_out(const Reaches *reaches, const KeyTable *table, const void *source)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (row_reaches_out(reaches, &table->rows[i], source))
            return true;
    return false;
}

/* Of a list each element counts for itself, as a whole: a share that becomes writable reaches further. */
static int collect(Reaches *reaches, const VmSpec *spec)
{
    cJSON *dump = table_dump(&vm_table, spec);
    int r = dump ? 0 : -ENOMEM;

    for (size_t i = 0; i < vm_table.n_rows && r >= 0; i++) {
        const KeyRow *row = &vm_table.rows[i];
        const cJSON *value = value_of(dump, row->key), *element;
        size_t n = 0;
        if (!row_reaches_out(reaches, row, spec))
            continue;
        if (row->type != KEY_OBJECTS) {
            r = add(reaches, row->key, value);
            continue;
        }
        cJSON_ArrayForEach (element, value) {
            const void *item = FIELD(row, spec, char *) + n++ * row->items->item_size;
            if (r >= 0 && (row->reach == REACH_HOST || reaches_out(reaches, row->items, item)))
                r = add(reaches, row->key, element);
        }
    }
    cJSON_Delete(dump);
    return r;
}

static bool has(const Reaches *reaches, const char *key, const char *value)
{
    for (size_t i = 0; i < reaches->count; i++)
        if (reaches->keys[i] == key && streq(reaches->values[i], value))
            return true;
    return false;
}

int vm_spec_reaches_further(const VmSpec *before, const VmSpec *after, const char *const *directories,
                            size_t n_directories, const char **ret_key)
{
    _cleanup_(reaches_clear)
    Reaches old = {.directories = directories, .n_directories = n_directories};
    _cleanup_(reaches_clear)
    Reaches new = {.directories = directories, .n_directories = n_directories};
    int r;

    r = before ? collect(&old, before) : 0;
    if (r >= 0)
        r = collect(&new, after);
    if (r < 0)
        return r;
    *ret_key = NULL;
    for (size_t i = 0; i < new.count && !*ret_key; i++)
        if (!has(&old, new.keys[i], new.values[i]))
            *ret_key = new.keys[i];
    return 0;
}
