/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/merge.h"

#include "spec/merger.h"

/* Which rows say how the members of an object are merged: those that begin with `prefix`. */
typedef struct Level {
    const KeyTable *table; /* NULL: none do */
    const char *prefix;
} Level;

static const Level free_level = {NULL, ""};

/* A value of the lower document, in the container that it is in, and where. */
typedef struct Spot {
    cJSON *container;
    cJSON *json; /* NULL: there is none yet */
    const char *pointer;
} Spot;

/* --- values --- */

/* Whether it stays as it is when it is merged into nothing: no null, no "KEY+". */
static bool is_plain(const cJSON *json)
{
    const cJSON *child;

    cJSON_ArrayForEach (child, json) {
        size_t length = child->string ? strlen(child->string) : 0;
        if ((child->string && cJSON_IsNull(child)) || (length > 1 && child->string[length - 1] == '+') ||
            !is_plain(child))
            return false;
    }
    return true;
}

static char *element_pointer(const char *pointer, int index)
{
    char *joined = NULL;

    return asprintf(&joined, "%s/%d", pointer, index) < 0 ? NULL : joined;
}

/* Puts a value, which is its own from now on, in the place of the one that is there, or behind all others. */
static int put(const Spot *spot, cJSON *value)
{
    bool done = spot->json ? cJSON_ReplaceItemViaPointer(spot->container, spot->json, value)
                : cJSON_IsObject(spot->container)
                    ? cJSON_AddItemToObject(spot->container, value->string, value)
                    : cJSON_AddItemToArray(spot->container, value);

    if (done)
        return 0;
    cJSON_Delete(value);
    return -ENOMEM;
}

/* What is in an object or list, moved into another one; NULL: out of memory. */
static cJSON *take_content(cJSON *json)
{
    cJSON *content = cJSON_IsObject(json) ? cJSON_CreateObject() : cJSON_CreateArray();

    if (!content)
        return NULL;
    content->child = json->child;
    json->child = NULL;
    return content;
}

static int merge_members(Merger *m, Level level, cJSON *object, const char *pointer, cJSON *upper,
                         const char *from);

/* `upper`, which is used up, as a patch. */
static int merge_value(Merger *m, Level level, const Spot *lower, cJSON *upper, const char *from)
{
    cJSON *object = lower->json, *patch = upper;
    int r;

    if (!cJSON_IsObject(upper) || (!cJSON_IsObject(object) && is_plain(upper))) {
        merger_cut_places(m, lower->pointer);
        r = put(lower, upper);
        return r < 0 ? r : merger_graft_places(m, from, lower->pointer);
    }
    if (!cJSON_IsObject(object)) { /* a patch of nothing */
        merger_cut_places(m, lower->pointer);
        patch = take_content(object = upper);
        r = put(lower, upper);
        if (r < 0 || !patch) {
            cJSON_Delete(patch);
            return -ENOMEM;
        }
    }
    r = merger_move_place(m, from, lower->pointer);
    if (r >= 0)
        r = merge_members(m, level, object, lower->pointer, patch, from);
    cJSON_Delete(patch);
    return r;
}

/* --- lists whose elements have a key --- */

typedef struct Element {
    cJSON *json, *expanded; /* of a short form */
    const char *key;        /* NULL: none */
    bool taken;
} Element;

static void free_elements(Element *elements, size_t n)
{
    for (size_t i = 0; elements && i < n; i++)
        cJSON_Delete(elements[i].expanded);
    free(elements);
}

static Element *list_elements(const KeyTable *items, cJSON *list, size_t *ret_n)
{
    Element *elements = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(*elements));
    size_t n = 0;
    cJSON *child;

    if (!elements)
        return NULL;
    cJSON_ArrayForEach (child, list) {
        Element *element = &elements[n++];
        element->json = child;
        if (cJSON_IsString(child) && table_has_short(items) &&
            !(element->expanded = table_expand_short(items, child->valuestring))) {
            free_elements(elements, n);
            return NULL;
        }
        element->key = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
            element->expanded ? element->expanded : child, items->merge_key));
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

/* Elements `above` and, if it is not NULL, `below`, which is number `index` or else the next one. */
static int merge_element(Merger *m, const KeyTable *items, cJSON *list, const char *pointer, Element *below,
                         int index, cJSON *upper, Element *above, const char *from)
{
    _cleanup_free_ char *at = element_pointer(pointer, index);
    Spot spot = {list, below ? below->json : NULL, at};
    cJSON *patch = cJSON_DetachItemViaPointer(upper, above->json);

    if (!at) {
        cJSON_Delete(patch);
        return -ENOMEM;
    }
    if (below && below->expanded) {
        cJSON_ReplaceItemViaPointer(list, below->json, below->expanded);
        spot.json = TAKE_PTR(below->expanded);
    }
    if (below && above->expanded) {
        cJSON_Delete(patch);
        patch = TAKE_PTR(above->expanded);
    }
    return merge_value(m, (Level){items, ""}, &spot, patch, from);
}

/* `upper` is emptied. */
static int merge_list(Merger *m, const KeyTable *items, cJSON *list, const char *pointer, cJSON *upper,
                      const char *from)
{
    size_t n_below = 0, n_above = 0;
    Element *below = list_elements(items, list, &n_below), *above = list_elements(items, upper, &n_above);
    int r = below && above ? merger_move_place(m, from, pointer) : -ENOMEM, next = (int)n_below;

    for (size_t i = 0; i < n_above && r >= 0; i++) {
        Element *other = find_element(below, n_below, above[i].key);
        _cleanup_free_ char *source = element_pointer(from, (int)i);
        if (other)
            other->taken = true;
        r = !source ? -ENOMEM
                    : merge_element(m, items, list, pointer, other, other ? (int)(other - below) : next++,
                                    upper, &above[i], source);
    }
    free_elements(below, n_below);
    free_elements(above, n_above);
    return r;
}

/* Whether lists of that key are merged by their elements' keys. Longer ones than may be are only refused. */
static const KeyTable *merged_items(const KeyRow *row, const cJSON *below, const cJSON *above)
{
    return row && row->items && row->items->merge_key && cJSON_IsArray(above) &&
                   (uint64_t)cJSON_GetArraySize(above) <= row->maximum &&
                   (!cJSON_IsArray(below) || (uint64_t)cJSON_GetArraySize(below) <= row->maximum)
               ? row->items
               : NULL;
}

/* A list over a list, or over nothing. */
static int merge_keyed(Merger *m, const KeyTable *items, const Spot *lower, cJSON *upper, const char *from)
{
    cJSON *list = lower->json, *patch = upper;
    int r = 0;

    if (!cJSON_IsArray(list) && is_plain(upper))
        return merge_value(m, free_level, lower, upper, from);
    if (!cJSON_IsArray(list)) {
        merger_cut_places(m, lower->pointer);
        patch = take_content(list = upper);
        r = put(lower, upper);
    }
    r = r < 0 || !patch ? -ENOMEM : merge_list(m, items, list, lower->pointer, patch, from);
    cJSON_Delete(patch);
    return r;
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

/* Whether it is a key, or an object that keys are in; without rows everything is. */
static bool is_known(Level level, const char *key)
{
    size_t length = strlen(level.prefix), inner = strlen(key);

    if (!level.table || row_of(level, key))
        return true;
    for (size_t i = 0; i < level.table->n_rows; i++) {
        const char *name = level.table->rows[i].key;
        if (strncmp(name, level.prefix, length) == 0 && strncmp(name + length, key, inner) == 0 &&
            name[length + inner] == '.')
            return true;
    }
    return false;
}

/* By this name, or by another one that means the same. */
static cJSON *find_member(Level level, cJSON *object, const char *key)
{
    cJSON *member = cJSON_GetObjectItemCaseSensitive(object, key);

    for (size_t i = 0; !member && level.table && !*level.prefix && i < level.table->n_rows; i++) {
        const KeyRow *row = &level.table->rows[i];
        if (row->alias_of && streq(row->alias_of, key))
            member = cJSON_GetObjectItemCaseSensitive(object, row->key);
        else if (row->alias_of && streq(row->key, key))
            member = cJSON_GetObjectItemCaseSensitive(object, row->alias_of);
    }
    return member;
}

/* "KEY+" of a key that there is. */
static bool appends(Level level, const cJSON *child)
{
    size_t length = strlen(child->string), before = strlen(level.prefix);

    if (length < 2 || child->string[length - 1] != '+')
        return false;
    for (size_t i = 0; level.table && i < level.table->n_rows; i++) {
        const char *key = level.table->rows[i].key;
        if (strncmp(key, level.prefix, before) == 0 &&
            strncmp(key + before, child->string, length - 1) == 0 && key[before + length - 1] == '\0')
            return true;
    }
    return false;
}

/* null. Where there is nothing to remove, a wrong name must not pass for a right one: the table will say. */
static int remove_member(Merger *m, Level level, const Spot *lower, cJSON *above, const char *from)
{
    bool known = lower->json || is_known(level, above->string);

    if (lower->json)
        cJSON_Delete(cJSON_DetachItemViaPointer(lower->container, lower->json));
    if (!known)
        return merge_value(m, free_level, lower, above, from);
    cJSON_Delete(above);
    merger_cut_places(m, lower->pointer);
    return merger_add_place(m, lower->pointer, json_find(m->upper, from), true);
}

/* `above` is used up. */
static int merge_member(Merger *m, Level level, cJSON *object, const char *pointer, cJSON *below,
                        cJSON *above, const char *from)
{
    const KeyRow *row = row_of(level, above->string);
    const KeyTable *items = merged_items(row, below, above);
    _cleanup_free_ char *at = json_pointer_join(pointer, above->string), *other = NULL, *deeper = NULL;
    Spot spot = {object, below, at};
    int r = -ENOMEM;

    if (below && at && !streq(below->string, above->string)) { /* by its other name */
        other = json_pointer_join(pointer, below->string);
        if (other)
            merger_cut_places(m, other);
    }
    if (!at || (below && !streq(below->string, above->string) && !other) ||
        (!row && asprintf(&deeper, "%s%s.", level.prefix, above->string) < 0))
        cJSON_Delete(above);
    else if (cJSON_IsNull(above))
        r = remove_member(m, level, &spot, above, from);
    else if (items)
        r = merge_keyed(m, items, &spot, above, from);
    else
        r = merge_value(m, row ? free_level : (Level){level.table, deeper}, &spot, above, from);
    return r;
}

/* Whether "KEY+" can be: both are lists. */
static bool can_append(Merger *m, const char *key, const cJSON *list, const cJSON *above, const char *from)
{
    TableReader reader = {.document = m->upper, .file = m->file, .problems = m->problems};
    bool is_list = cJSON_IsArray(above);

    if (is_list && (!list || cJSON_IsArray(list)))
        return true;
    table_problem(&reader, PROBLEM_ERROR, from, true,
                  is_list ? "\"%s+\" appends to a list, but %s is none below"
                          : "\"%s+\" appends to %s, so this must be a list",
                  key, key);
    return false;
}

/* `above` is used up. */
static int append_member(Merger *m, cJSON *object, const char *pointer, cJSON *above, const char *from)
{
    _cleanup_free_ char *key = strndup(above->string, strlen(above->string) - 1),
                        *to = key ? json_pointer_join(pointer, key) : NULL;
    cJSON *list = to ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL, *child;
    int r = to ? 0 : -ENOMEM, there, n = 0;

    if (r < 0 || !can_append(m, key, list, above, from)) {
        cJSON_Delete(above);
        return r;
    }
    if (!list) {
        merger_cut_places(m, to); /* of a null */
        if (!cJSON_AddItemToObject(object, key, above)) {
            cJSON_Delete(above);
            return -ENOMEM;
        }
        return merger_graft_places(m, from, to);
    }
    there = cJSON_GetArraySize(list); /* counts them, so once */
    while (r >= 0 && (child = cJSON_DetachItemFromArray(above, 0))) {
        _cleanup_free_ char *source = element_pointer(from, n++), *at = element_pointer(to, there++);
        r = put(&(Spot){list, NULL, at}, child);
        if (r >= 0)
            r = source && at ? merger_graft_places(m, source, at) : -ENOMEM;
    }
    cJSON_Delete(above);
    return r;
}

/* A member of the upper object, and the one of the lower object that it is over. */
typedef struct Pair {
    cJSON *above, *below;
} Pair;

static Pair *pair_members(Level level, cJSON *object, cJSON *upper, size_t *ret_n)
{
    Pair *pairs = calloc((size_t)cJSON_GetArraySize(upper) + 1, sizeof(*pairs));
    size_t n = 0;
    cJSON *child;

    if (!pairs)
        return NULL;
    cJSON_ArrayForEach (child, upper) {
        pairs[n] = (Pair){child, find_member(level, object, child->string)};
        for (size_t i = 0; i < n && pairs[n].below; i++)
            if (pairs[i].below == pairs[n].below) /* twice the same key, or by two names: that is refused */
                pairs[n].below = NULL;
        n++;
    }
    *ret_n = n;
    return pairs;
}

/* First all others, then what is appended to either. `upper` is emptied. */
static int merge_members(Merger *m, Level level, cJSON *object, const char *pointer, cJSON *upper,
                         const char *from)
{
    size_t n;
    _cleanup_free_ Pair *pairs = pair_members(level, object, upper, &n);
    int r = pairs ? 0 : -ENOMEM;

    for (size_t i = 0; i < 2 * n && r >= 0; i++) {
        Pair *pair = &pairs[i % n];
        _cleanup_free_ char *source = NULL;
        if (!pair->above || appends(level, pair->above) != (i >= n))
            continue;
        source = json_pointer_join(from, pair->above->string);
        if (!source)
            return -ENOMEM;
        cJSON_DetachItemViaPointer(upper, pair->above);
        r = i < n ? merge_member(m, level, object, pointer, pair->below, pair->above, source)
                  : append_member(m, object, pointer, pair->above, source);
        pair->above = NULL;
    }
    return r;
}

int json_merge(const KeyTable *table, JsonDocument *lower, JsonDocument *upper, const char *file,
               ProblemList *problems)
{
    Merger m = {.lower = lower, .upper = upper, .problems = problems};
    cJSON *root, *holder;
    int r, finished;

    if (!lower->root && is_plain(upper->root)) { /* most are that */
        json_document_clear(lower);
        *lower = *upper;
        *upper = (JsonDocument){0};
        return file ? json_document_set_file(lower, file) : 0;
    }
    root = TAKE_PTR(upper->root);
    holder = cJSON_CreateArray();

    m.file = file ? json_document_file(lower, file) : NULL;
    if ((file && !m.file) || !holder || (lower->root && !cJSON_AddItemToArray(holder, lower->root))) {
        cJSON_Delete(root);
        cJSON_Delete(holder);
        return -ENOMEM;
    }
    r = merge_value(&m, (Level){table, ""}, &(Spot){holder, lower->root, ""}, root, "");
    lower->root = cJSON_DetachItemFromArray(holder, 0);
    cJSON_Delete(holder);
    finished = merger_finish_places(&m);
    json_document_clear(upper);
    return r < 0 ? r : finished;
}
