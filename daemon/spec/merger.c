/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the values of a merged document come from. */
#include "spec/merger.h"

int merger_add_place(Merger *m, const char *pointer, const JsonPlace *from, bool removed)
{
    JsonPlace place = from ? *from : (JsonPlace){0};

    if (m->n_added == m->room) {
        size_t room = m->room ? 2 * m->room : 32;
        JsonPlace *grown = reallocarray(m->added, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        m->added = grown;
        m->room = room;
    }
    place.file = m->file;
    place.removed = removed;
    place.pointer = strdup(pointer);
    place.number = place.number ? strdup(place.number) : NULL;
    if (!place.pointer || (from && from->number && !place.number)) {
        free(place.pointer);
        free(place.number);
        return -ENOMEM;
    }
    m->added[m->n_added++] = place;
    return 0;
}

int merger_graft_places(Merger *m, const char *from, const char *to)
{
    size_t first, n, length = strlen(from);
    int r = merger_add_place(m, to, json_find_nearest(m->upper, from), false);

    n = json_places_inside(m->upper, from, &first);
    for (size_t i = first; i < first + n && r >= 0; i++) {
        _cleanup_free_ char *moved = NULL;
        if (!streq(from, to) && asprintf(&moved, "%s%s", to, m->upper->places[i].pointer + length) < 0)
            return -ENOMEM;
        r = merger_add_place(m, moved ? moved : m->upper->places[i].pointer, &m->upper->places[i], false);
    }
    return r;
}

void merger_cut_places(Merger *m, const char *pointer)
{
    JsonPlace *place = (JsonPlace *)json_find_any(m->lower, pointer);
    size_t first, n = json_places_inside(m->lower, pointer, &first);

    if (place)
        place->cut = true;
    for (size_t i = first; i < first + n; i++)
        m->lower->places[i].cut = true;
}

int merger_move_place(Merger *m, const char *from, const char *to)
{
    JsonPlace *place = (JsonPlace *)json_find_any(m->lower, to);

    if (place)
        place->cut = true;
    return merger_add_place(m, to, json_find_nearest(m->upper, from), false);
}

int merger_finish_places(Merger *m)
{
    JsonDocument *lower = m->lower;
    JsonPlace *all = reallocarray(NULL, lower->n_places + m->n_added + 1, sizeof(*all));
    size_t n = 0;

    for (size_t i = 0; i < lower->n_places; i++) {
        if (all && !lower->places[i].cut) {
            all[n++] = lower->places[i];
            continue;
        }
        free(lower->places[i].pointer);
        free(lower->places[i].number);
    }
    for (size_t i = 0; all && i < m->n_added; i++)
        all[n++] = m->added[i];
    free(lower->places);
    lower->places = all;
    lower->n_places = n;
    if (all)
        json_document_sort(lower);
    else
        for (size_t i = 0; i < m->n_added; i++) {
            free(m->added[i].pointer);
            free(m->added[i].number);
        }
    free(m->added);
    return all ? 0 : -ENOMEM;
}
