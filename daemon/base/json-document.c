/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the scanner found: places by pointer. */
#include "base/json-scan.h"

void json_document_clear(JsonDocument *document)
{
    cJSON_Delete(document->root);
    for (size_t i = 0; i < document->n_places; i++) {
        free(document->places[i].pointer);
        free(document->places[i].number);
    }
    free(document->places);
    for (size_t i = 0; i < document->n_files; i++)
        free(document->files[i]);
    free(document->files);
    *document = (JsonDocument){0};
}

const char *json_document_file(JsonDocument *document, const char *file)
{
    char **grown;

    for (size_t i = 0; i < document->n_files; i++)
        if (streq(document->files[i], file))
            return document->files[i];
    grown = reallocarray(document->files, document->n_files + 1, sizeof(*grown));
    if (!grown)
        return NULL;
    document->files = grown;
    grown[document->n_files] = strdup(file);
    return grown[document->n_files] ? grown[document->n_files++] : NULL;
}

int json_document_set_file(JsonDocument *document, const char *file)
{
    const char *own = json_document_file(document, file);

    for (size_t i = 0; i < document->n_places; i++)
        document->places[i].file = own;
    return own ? 0 : -ENOMEM;
}

/* RFC 6901: '~' is "~0", '/' is "~1". */
char *json_pointer_join(const char *pointer, const char *token)
{
    char *joined = malloc(strlen(pointer) + 2 * strlen(token) + 2), *end;

    if (!joined)
        return NULL;
    end = stpcpy(joined, pointer);
    *end++ = '/';
    for (; *token; token++) {
        if (*token == '~' || *token == '/')
            *end++ = '~';
        *end++ = *token == '~' ? '0' : *token == '/' ? '1' : *token;
    }
    *end = '\0';
    return joined;
}

/* The number of the first place that is not before `pointer`, of equal ones: of a key that is there twice,
 * the one that the tree gives first. */
static size_t first_from(const JsonDocument *document, const char *pointer)
{
    size_t low = 0, high = document->n_places;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(pointer, document->places[middle].pointer) <= 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

const JsonPlace *json_find_any(const JsonDocument *document, const char *pointer)
{
    size_t first = first_from(document, pointer);

    return first < document->n_places && streq(document->places[first].pointer, pointer)
               ? &document->places[first]
               : NULL;
}

const JsonPlace *json_find(const JsonDocument *document, const char *pointer)
{
    const JsonPlace *place = json_find_any(document, pointer);

    return place && !place->removed ? place : NULL;
}

const JsonPlace *json_find_nearest(const JsonDocument *document, const char *pointer)
{
    const JsonPlace *place = json_find_any(document, pointer);
    _cleanup_free_ char *above = place ? NULL : strdup(pointer);

    for (char *slash; !place && above && (slash = strrchr(above, '/'));) {
        *slash = '\0';
        place = json_find_any(document, above);
    }
    return place;
}

size_t json_places_inside(const JsonDocument *document, const char *pointer, size_t *ret_first)
{
    size_t length = strlen(pointer), first = first_from(document, pointer), n = 0;

    /* Between "/a" and "/a/b" there may be "/a-". */
    while (first < document->n_places && strncmp(document->places[first].pointer, pointer, length) == 0 &&
           document->places[first].pointer[length] < '/')
        first++;
    while (first + n < document->n_places &&
           strncmp(document->places[first + n].pointer, pointer, length) == 0 &&
           document->places[first + n].pointer[length] == '/')
        n++;
    *ret_first = first;
    return n;
}

int json_document_copy(const JsonDocument *document, JsonDocument *ret_copy)
{
    _cleanup_(json_document_clear)
    JsonDocument copy = {.root = cJSON_Duplicate(document->root, true),
                         .places = calloc(document->n_places + 1, sizeof(JsonPlace))};

    if ((document->root && !copy.root) || !copy.places)
        return -ENOMEM;
    for (size_t i = 0; i < document->n_places; i++) {
        const JsonPlace *from = &document->places[i];
        JsonPlace *to = &copy.places[copy.n_places++];
        *to = *from;
        to->pointer = strdup(from->pointer);
        to->number = from->number ? strdup(from->number) : NULL;
        to->file = from->file ? json_document_file(&copy, from->file) : NULL;
        if (!to->pointer || (from->number && !to->number) || (from->file && !to->file))
            return -ENOMEM;
    }
    *ret_copy = copy;
    copy = (JsonDocument){0};
    return 0;
}

static int by_pointer(const void *a, const void *b)
{
    const JsonPlace *first = a, *second = b;
    int order = strcmp(first->pointer, second->pointer);

    return order ? order : first->offset < second->offset ? -1 : first->offset > second->offset;
}

static bool is_inside_duplicate(const char *pointer, const char *duplicate)
{
    return duplicate && strncmp(pointer, duplicate, strlen(duplicate)) == 0 &&
           pointer[strlen(duplicate)] == '/';
}

void json_document_sort(JsonDocument *document)
{
    if (document->n_places > 0)
        qsort(document->places, document->n_places, sizeof(*document->places), by_pointer);
}

void json_document_index(JsonDocument *document, const char *file, ProblemList *problems)
{
    const char *duplicate = NULL;

    json_document_sort(document);
    for (size_t i = 1; i < document->n_places; i++) {
        const JsonPlace *first = &document->places[i - 1], *again = &document->places[i];
        if (!streq(first->pointer, again->pointer) || is_inside_duplicate(again->pointer, duplicate))
            continue;
        duplicate = again->pointer;
        problem_add(problems, PROBLEM_ERROR, file, again->pointer, again->key_line, again->key_column,
                    "this key is here twice; its first place is line %u", first->key_line);
    }
}
