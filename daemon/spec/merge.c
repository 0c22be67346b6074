/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/merge.h"

typedef struct Merger {
    const JsonDocument *lower, *upper;
    const char *upper_file;
    ProblemList *problems;
    JsonDocument result;
    size_t room;
} Merger;

/* A value where it is written, or within what a short form stands for. */
typedef struct Source {
    const JsonDocument *document;
    const cJSON *json; /* NULL: there is none */
    const char *pointer;
} Source;

/* Which rows say how the members of an object are merged: those that begin with `prefix`. */
typedef struct Level {
    const KeyTable *table; /* NULL: none do */
    const char *prefix;
} Level;

static const Level free_level = {NULL, ""};

/* --- places --- */

static int add_place(Merger *m, const char *pointer, const Source *source)
{
    const JsonPlace *from = json_find_nearest(source->document, source->pointer);
    const char *file = from && from->file ? from->file : source->document == m->upper ? m->upper_file : NULL;
    JsonPlace place = from ? *from : (JsonPlace){0};

    if (m->result.n_places == m->room) {
        size_t room = m->room ? 2 * m->room : 64;
        JsonPlace *grown = reallocarray(m->result.places, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        m->result.places = grown;
        m->room = room;
    }
    place.file = file ? json_document_file(&m->result, file) : NULL;
    place.pointer = strdup(pointer);
    place.number = place.number ? strdup(place.number) : NULL;
    if (!place.pointer || (file && !place.file) || (from && from->number && !place.number)) {
        free(place.pointer);
        free(place.number);
        return -ENOMEM;
    }
    m->result.places[m->result.n_places++] = place;
    return 0;
}

/* --- values --- */

static char *join(const char *pointer, const cJSON *child, size_t index)
{
    char *joined = NULL;

    if (child->string)
        return json_pointer_join(pointer, child->string);
    return asprintf(&joined, "%s/%zu", pointer, index) < 0 ? NULL : joined;
}

static int add_child(cJSON *container, const char *key, cJSON *value)
{
    bool added = value && (key ? cJSON_AddItemToObject(container, key, value)
                               : cJSON_AddItemToArray(container, value));

    if (added)
        return 0;
    cJSON_Delete(value);
    return -ENOMEM;
}

/* As it is, whatever is in it. NULL: out of memory. */
static cJSON *copy_value(Merger *m, const char *pointer, const Source *source)
{
    cJSON *copy = cJSON_Duplicate(source->json, false);
    const cJSON *child;
    size_t n = 0;

    if (!copy || add_place(m, pointer, source) < 0) {
        cJSON_Delete(copy);
        return NULL;
    }
    cJSON_ArrayForEach (child, source->json) {
        _cleanup_free_ char *to = join(pointer, child, n), *from = join(source->pointer, child, n);
        Source inner = {source->document, child, from};
        n++;
        if (!to || !from || add_child(copy, child->string, copy_value(m, to, &inner)) < 0) {
            cJSON_Delete(copy);
            return NULL;
        }
    }
    return copy;
}

static cJSON *merge_value(Merger *m, Level level, const char *pointer, const Source *lower,
                          const Source *upper);

/* --- lists whose elements have a key --- */

typedef struct Element {
    cJSON *expanded; /* of a short form */
    const cJSON *json;
    const char *key; /* NULL: none */
    char *pointer;
    bool taken;
} Element;

static void free_elements(Element *elements, size_t n)
{
    for (size_t i = 0; elements && i < n; i++) {
        cJSON_Delete(elements[i].expanded);
        free(elements[i].pointer);
    }
    free(elements);
}

static Element *list_elements(const KeyTable *items, const Source *list, size_t *ret_n)
{
    size_t n = 0, room = (size_t)(list->json ? cJSON_GetArraySize(list->json) : 0) + 1;
    Element *elements = calloc(room, sizeof(*elements));
    const cJSON *child;

    if (!elements)
        return NULL;
    cJSON_ArrayForEach (child, list->json) {
        Element *element = &elements[n];
        element->json = child;
        element->pointer = join(list->pointer, child, n);
        n++;
        if (cJSON_IsString(child) && table_has_short(items))
            element->json = element->expanded = table_expand_short(items, child->valuestring);
        if (!element->pointer || !element->json) {
            free_elements(elements, n);
            return NULL;
        }
        element->key =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(element->json, items->merge_key));
    }
    *ret_n = n;
    return elements;
}

/* The first that no other one has been merged with. */
static Element *find_element(Element *elements, size_t n, const char *key)
{
    for (size_t i = 0; key && i < n; i++)
        if (!elements[i].taken && streq(elements[i].key, key))
            return &elements[i];
    return NULL;
}

static int merge_element(Merger *m, const KeyTable *items, cJSON *array, const char *pointer,
                         const Source *lower, const Source *upper)
{
    _cleanup_free_ char *at = NULL;

    if (asprintf(&at, "%s/%d", pointer, cJSON_GetArraySize(array)) < 0)
        return -ENOMEM;
    return add_child(array, NULL, merge_value(m, (Level){items, ""}, at, lower, upper));
}

static cJSON *merge_list(Merger *m, const KeyTable *items, const char *pointer, const Source *lower,
                         const Source *upper)
{
    size_t n_lower = 0, n_upper = 0;
    Element *below = list_elements(items, lower, &n_lower), *above = list_elements(items, upper, &n_upper);
    cJSON *array = below && above && add_place(m, pointer, upper) >= 0 ? cJSON_CreateArray() : NULL;
    int r = array ? 0 : -ENOMEM;

    for (size_t i = 0; i < n_lower && r >= 0; i++) {
        Element *other = find_element(above, n_upper, below[i].key);
        Source from = {lower->document, below[i].json, below[i].pointer},
               patch = {upper->document, other ? other->json : NULL, other ? other->pointer : NULL};
        if (!other) /* stays as it is written */
            from.json = cJSON_GetArrayItem(lower->json, (int)i);
        else
            other->taken = true;
        r = merge_element(m, items, array, pointer, &from, &patch);
    }
    for (size_t i = 0; i < n_upper && r >= 0; i++) {
        Source none = {0},
               from = {upper->document, cJSON_GetArrayItem(upper->json, (int)i), above[i].pointer};
        if (!above[i].taken)
            r = merge_element(m, items, array, pointer, &none, &from);
    }
    free_elements(below, n_lower);
    free_elements(above, n_upper);
    if (r >= 0)
        return array;
    cJSON_Delete(array);
    return NULL;
}

/* --- objects --- */

static const KeyRow *row_of(Level level, const char *key)
{
    size_t length = strlen(level.prefix);

    for (size_t i = 0; level.table && i < level.table->n_rows; i++)
        if (strncmp(level.table->rows[i].key, level.prefix, length) == 0 &&
            streq(level.table->rows[i].key + length, key))
            return &level.table->rows[i];
    return NULL;
}

/* By this name, or by another one that means the same. */
static const cJSON *find_member(Level level, const cJSON *object, const char *key)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, key);

    for (size_t i = 0; !member && level.table && !*level.prefix && i < level.table->n_rows; i++) {
        const KeyRow *row = &level.table->rows[i];
        if (row->alias_of && streq(row->alias_of, key))
            member = cJSON_GetObjectItemCaseSensitive(object, row->key);
        else if (row->alias_of && streq(row->key, key))
            member = cJSON_GetObjectItemCaseSensitive(object, row->alias_of);
    }
    return member;
}

/* "KEY+" with a list. */
static bool appends(Level level, const cJSON *child)
{
    size_t length = strlen(child->string);

    return level.table && length > 1 && child->string[length - 1] == '+';
}

/* One member of the result: `below` and `above` are the members of lower and upper, not both NULL. */
static int merge_member(Merger *m, Level level, cJSON *object, const char *pointer, const Source *lower,
                        const cJSON *below, const Source *upper, const cJSON *above)
{
    const char *key = above ? above->string : below->string;
    const KeyRow *row = row_of(level, key);
    _cleanup_free_ char *at = json_pointer_join(pointer, key), *from = NULL, *patch = NULL, *deeper = NULL;
    Source first = {lower->document, below, NULL}, second = {upper->document, above, NULL};
    cJSON *value;

    if (below)
        first.pointer = from = json_pointer_join(lower->pointer, below->string);
    if (above)
        second.pointer = patch = json_pointer_join(upper->pointer, above->string);
    if (!at || (below && !from) || (above && !patch) || asprintf(&deeper, "%s%s.", level.prefix, key) < 0)
        return -ENOMEM;
    if (!above)
        value = copy_value(m, at, &first);
    else if (row && row->items && row->items->merge_key && cJSON_IsArray(above) &&
             (uint64_t)cJSON_GetArraySize(above) <= row->maximum &&
             (!cJSON_IsArray(below) || (uint64_t)cJSON_GetArraySize(below) <= row->maximum))
        value = merge_list(m, row->items, at, cJSON_IsArray(below) ? &first : &(Source){0}, &second);
    else
        value = merge_value(m, row ? free_level : (Level){level.table, deeper}, at, &first, &second);
    return add_child(object, key, value);
}

/* The list that "KEY+" appends to, made where there is none; NULL: out of memory, or told. */
static cJSON *list_to_append(Merger *m, cJSON *object, const char *key, const char *pointer,
                             const Source *upper, int *ret_error)
{
    cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key);
    TableReader reader = {.document = m->upper, .file = m->upper_file, .problems = m->problems};

    *ret_error = 0;
    if (!cJSON_IsArray(upper->json) || (list && !cJSON_IsArray(list))) {
        table_problem(&reader, PROBLEM_ERROR, upper->pointer, true,
                      cJSON_IsArray(upper->json) ? "\"%s+\" appends to a list, but %s is none below"
                                                 : "\"%s+\" appends to %s, so this must be a list",
                      key, key);
        return NULL;
    }
    if (list)
        return list;
    list = cJSON_CreateArray();
    if (list && add_place(m, pointer, upper) >= 0 && cJSON_AddItemToObject(object, key, list))
        return list;
    cJSON_Delete(list);
    *ret_error = -ENOMEM;
    return NULL;
}

static int append_member(Merger *m, cJSON *object, const char *pointer, const Source *upper,
                         const cJSON *above)
{
    _cleanup_free_ char *key = strndup(above->string, strlen(above->string) - 1),
                        *from = json_pointer_join(upper->pointer, above->string),
                        *to = key ? json_pointer_join(pointer, key) : NULL;
    Source source = {upper->document, above, from};
    const cJSON *child;
    size_t n = 0;
    cJSON *list;
    int there, r;

    if (!to || !from)
        return -ENOMEM;
    list = list_to_append(m, object, key, to, &source, &r);
    if (!list)
        return r;
    there = cJSON_GetArraySize(list); /* counts them, so once */
    cJSON_ArrayForEach (child, above) {
        _cleanup_free_ char *inner = join(from, child, n), *at = NULL;
        Source element = {upper->document, child, inner};
        n++;
        if (!inner || asprintf(&at, "%s/%d", to, there++) < 0)
            return -ENOMEM;
        r = add_child(list, NULL, copy_value(m, at, &element));
        if (r < 0)
            return r;
    }
    return 0;
}

static int merge_members(Merger *m, Level level, cJSON *object, const char *pointer, const Source *lower,
                         const Source *upper)
{
    const cJSON *child, *other;
    int r = 0;

    /* First what is below, in its order, ... */
    cJSON_ArrayForEach (child, lower->json) {
        other = find_member(level, upper->json, child->string);
        if (r >= 0 && !cJSON_IsNull(other))
            r = merge_member(m, level, object, pointer, lower, child, upper, other);
    }
    /* ... then what is new, and at last what is appended to either. */
    cJSON_ArrayForEach (child, upper->json) {
        other = find_member(level, lower->json, child->string);
        if (other && find_member(level, upper->json, other->string) == child)
            continue;
        if (r >= 0 && !appends(level, child) && !cJSON_IsNull(child))
            r = merge_member(m, level, object, pointer, lower, NULL, upper, child);
    }
    cJSON_ArrayForEach (child, upper->json)
        if (r >= 0 && appends(level, child))
            r = append_member(m, object, pointer, upper, child);
    return r;
}

/* `upper` as a patch of `lower`, of which either may be missing. NULL: out of memory. */
static cJSON *merge_value(Merger *m, Level level, const char *pointer, const Source *lower,
                          const Source *upper)
{
    Source none = {0};
    cJSON *object;

    if (!upper->json)
        return copy_value(m, pointer, lower);
    if (!cJSON_IsObject(upper->json))
        return copy_value(m, pointer, upper);
    object = cJSON_CreateObject();
    if (object && add_place(m, pointer, upper) >= 0 &&
        merge_members(m, level, object, pointer, cJSON_IsObject(lower->json) ? lower : &none, upper) >= 0)
        return object;
    cJSON_Delete(object);
    return NULL;
}

int json_merge(const KeyTable *table, const JsonDocument *lower, const JsonDocument *upper, const char *file,
               ProblemList *problems, JsonDocument *ret_document)
{
    Merger m = {.lower = lower, .upper = upper, .upper_file = file, .problems = problems};
    Source below = {lower, lower ? lower->root : NULL, ""}, above = {upper, upper->root, ""};
    _cleanup_problems_ ProblemList none = {0};

    m.result.root = merge_value(&m, (Level){table, ""}, "", &below, &above);
    if (!m.result.root) {
        json_document_clear(&m.result);
        return -ENOMEM;
    }
    json_document_index(&m.result, file, &none); /* keys that are there twice have been told */
    *ret_document = m.result;
    return 0;
}
