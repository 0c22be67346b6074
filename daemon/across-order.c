/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whom definitions name, and whether they could all be started in the order that they ask for. */
#include "across.h"

#include "base/parse.h"

/* --- names of others --- */

/* Of "db" and "db:ready". NULL: nobody is called so. */
static const Definition *named(const Across *across, const char *dependency)
{
    char name[256];

    snprintf(name, sizeof(name), "%.*s", (int)strcspn(dependency, ":"), dependency);
    return definitions_find(across->definitions, name);
}

/* Who is called nearly so; NULL: nobody, or it is not worth the time: each search looks at all names. */
static const char *meant(Across *across, const char *name)
{
    enum {
        SHORTEST = 3,
        SEARCHES_MAX = 50
    };
    const Definitions *definitions = across->definitions;
    _cleanup_free_ const char **names = NULL;

    if (strlen(name) < SHORTEST || across->n_searches++ >= SEARCHES_MAX)
        return NULL;
    names = calloc(definitions->count + 1, sizeof(*names));
    if (!names)
        return NULL;
    for (size_t i = 0; i < definitions->count; i++)
        names[i] = definitions->items[i].name;
    return did_you_mean(name, names, definitions->count);
}

static void tell_unknown(Across *across, size_t index, const char *pointer, const char *dependency)
{
    _cleanup_free_ char *name = strndup(dependency, strcspn(dependency, ":"));
    const char *other = name ? meant(across, name) : NULL;

    across->oom |= !name;
    across_find(across, PROBLEM_ERROR, index, pointer, "no microVM is called \"%s\"%s%s%s", name ? name : "?",
                other ? "; did you mean \"" : "", other ? other : "", other ? "\"?" : "");
}

/* All of them must be there, also where systemd would not mind: a slip of the pen starts nothing too early.
 */
static void check_names(Across *across, size_t index, const char *key, char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const Definition *other = named(across, names[i]);
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/%s/%zu", key, i);
        if (!other && !across->around->incomplete)
            tell_unknown(across, index, pointer, names[i]);
        else if (other && strchr(names[i], ':') && other->read && !vm_spec_declares_ready(other->read))
            across_find(across, PROBLEM_ERROR, index, pointer,
                        "%s never tells that it is ready: give it a \"readiness\" (%s), or write \"%s\"",
                        other->name, other->path, other->name);
    }
}

void across_check_names(Across *across)
{
    for (size_t i = 0; i < across->definitions->count; i++) {
        const VmSpec *spec = across->definitions->items[i].read;
        if (!spec)
            continue;
        check_names(across, i, "requires", spec->requires, spec->n_requires);
        check_names(across, i, "wants", spec->wants, spec->n_wants);
        check_names(across, i, "after", spec->after, spec->n_after);
    }
}

/* --- circles --- */

typedef struct Visit {
    enum {
        VISIT_NEW,
        VISIT_OPEN,
        VISIT_DONE
    } state;
    size_t next;   /* entry of `after` that is looked at next */
    size_t parent; /* who led here */
} Visit;

/* Whether the way from `index` to the next one is new: 0: it was there before, 1: it was not, 2: nor was the
 * definition. */
static int newness(const Across *across, const Visit *visits, size_t index)
{
    const VmSpec *before = across->before[index];
    const char *name = across->definitions->items[index].read->after[visits[index].next - 1];
    size_t length = strcspn(name, ":");

    if (!before)
        return 2;
    for (size_t i = 0; i < before->n_after; i++)
        if (strcspn(before->after[i], ":") == length && strncmp(before->after[i], name, length) == 0)
            return 0;
    return 1;
}

/* Where the circle can be opened with the least surprise: at what is new, else at the last name. */
static size_t weakest(const Across *across, const Visit *visits, size_t first, size_t last)
{
    size_t victim = last;

    for (size_t i = last; i != first;) {
        int a, b;
        i = visits[i].parent;
        a = newness(across, visits, i);
        b = newness(across, visits, victim);
        if (a > b || (a == b && i > victim))
            victim = i;
    }
    return victim;
}

static bool is_opened(const Across *across, const Visit *visits, size_t first, size_t last)
{
    for (size_t i = last; i != first; i = visits[i].parent)
        if (across->barred[i])
            return true;
    return across->barred[first];
}

/* From `victim` along the circle, and back to it. NULL: out of memory. */
static char *describe(const Across *across, const Visit *visits, size_t first, size_t last, size_t victim)
{
    const Definition *items = across->definitions->items;
    _cleanup_free_ size_t *members = calloc(across->definitions->count, sizeof(*members));
    _cleanup_free_ char *text = NULL;
    size_t n = 0, at = 0, size;
    FILE *stream = members ? open_memstream(&text, &size) : NULL;

    if (!stream)
        return NULL;
    for (size_t i = last;; i = visits[i].parent) {
        at = i == victim ? n : at;
        members[n++] = i;
        if (i == first)
            break;
    }
    /* They are there from the last to the first. */
    for (size_t i = 0; i < n; i++)
        fprintf(stream, "%s -> ", items[members[(at + n - i) % n]].name);
    fputs(items[victim].name, stream);
    return fclose(stream) == 0 ? TAKE_PTR(text) : NULL;
}

/* `last`, which was reached from `first`, leads there. */
static void open_circle(Across *across, const Visit *visits, size_t first, size_t last)
{
    size_t victim = weakest(across, visits, first, last);
    _cleanup_free_ char *circle = describe(across, visits, first, last, victim);
    char pointer[64];

    across->oom |= !circle;
    snprintf(pointer, sizeof(pointer), "/after/%zu", visits[victim].next - 1);
    across_find(across, PROBLEM_ERROR, victim, pointer,
                "these would wait for each other: %s; remove one \"after\"", circle ? circle : "?");
}

/* Depth first, without recursion: each definition and each `after` is looked at once. */
static bool walk_from(Across *across, Visit *visits, size_t root)
{
    const Definition *items = across->definitions->items;
    bool found = false;

    visits[root].state = VISIT_OPEN;
    visits[root].parent = SIZE_MAX;
    for (size_t at = root; at != SIZE_MAX;) {
        const VmSpec *spec = items[at].read;
        Visit *visit = &visits[at];
        const Definition *other;
        size_t next;
        if (visit->next >= spec->n_after) {
            visit->state = VISIT_DONE;
            at = visit->parent;
            continue;
        }
        other = named(across, spec->after[visit->next++]);
        if (!other || across->verdicts[other - items] != VERDICT_GOOD)
            continue;
        next = (size_t)(other - items);
        if (visits[next].state == VISIT_OPEN && !is_opened(across, visits, next, at)) {
            open_circle(across, visits, next, at);
            found = true;
        }
        if (visits[next].state != VISIT_NEW)
            continue;
        visits[next].state = VISIT_OPEN;
        visits[next].parent = at;
        at = next;
    }
    return found;
}

bool across_check_circles(Across *across)
{
    size_t count = across->definitions->count;
    _cleanup_free_ Visit *visits = calloc(count + 1, sizeof(*visits));
    bool any = false, found = true;

    across->oom |= !visits;
    while (found && !across->oom) {
        found = false;
        memset(visits, 0, count * sizeof(*visits));
        for (size_t i = 0; i < count; i++)
            if (visits[i].state == VISIT_NEW && across->verdicts[i] == VERDICT_GOOD)
                found |= walk_from(across, visits, i);
        for (size_t i = 0; i < count; i++)
            if (across->barred[i])
                across->verdicts[i] = VERDICT_REFUSED;
        any |= found;
    }
    return any;
}
