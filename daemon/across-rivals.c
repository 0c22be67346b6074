/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Claims of the same thing are a group. A definition is decided when all those are decided that would have
 * one of its things in preference to it: it is good if none of them is, and if nothing that it asks for was
 * taken otherwise. Each claim is looked at once, and nothing recurs.
 */
#include "across-claims.h"
#include "across.h"

/* Who goes before whom; then the name decides. */
enum {
    RANK_RUN,      /* a microVM runs with it */
    RANK_RETAINED, /* a definition that was accepted before asked for it then, too */
    RANK_RUNS,     /* the microVM that is to have it runs */
    RANK_KNOWN,    /* its definition was accepted before */
    RANK_NEW,
};

/* Claims of one thing by at least two, in the order in which they have it. */
typedef struct Group {
    size_t first, end;
    size_t next_strong, next_any; /* who is to be decided next, before one that is weak or strong */
    bool has_strong, has_any;     /* somebody has it */
} Group;

struct Rivals {
    Across *across;
    Claims claims; /* group by group */
    Group *groups;
    size_t n_groups;
    size_t *first; /* by definition: its first claim in a group; SIZE_MAX: none */
    size_t *waits; /* by definition: who waits for its verdict */
    bool *runs;    /* by definition: its microVM runs */
};

Rivals *rivals_free(Rivals *rivals)
{
    if (!rivals)
        return NULL;
    claims_clear(&rivals->claims);
    free(rivals->groups);
    free(rivals->first);
    free(rivals->waits);
    free(rivals->runs);
    free(rivals);
    return NULL;
}

static const Definition *definition_of(const Rivals *rivals, const Claim *claim)
{
    return &rivals->across->definitions->items[claim->owner];
}

static const Run *run_of(const Rivals *rivals, const Claim *claim)
{
    return &rivals->across->around->runs[claim->owner];
}

/* --- groups --- */

static int add_claims(Rivals *rivals)
{
    const Across *across = rivals->across;
    const Surroundings *around = across->around;
    int r = 0;

    for (size_t i = 0; i < around->n_runs && r >= 0; i++) {
        const Definition *its = definitions_find(across->definitions, around->runs[i].name);
        if (its)
            rivals->runs[its - across->definitions->items] = true;
        r = claims_add(&rivals->claims, CLAIMANT_RUN, i, around->runs[i].spec, around->runs[i].name,
                       around->state_dir);
    }
    for (size_t i = 0; i < across->definitions->count && r >= 0; i++) {
        const Definition *definition = &across->definitions->items[i];
        if (!definition->read)
            continue;
        r = claims_add(&rivals->claims, CLAIMANT_DEFINITION, i, definition->read, definition->name,
                       around->state_dir);
        /* Where it says the same as before, there is nothing to compare. */
        if (r >= 0 && across->before[i] && across->before[i] != definition->read)
            r = claims_add(&rivals->claims, CLAIMANT_BEFORE, i, across->before[i], definition->name,
                           around->state_dir);
    }
    return r;
}

static int rank_of(const Rivals *rivals, const Claim *claim, bool retained)
{
    if (claim->claimant == CLAIMANT_RUN)
        return RANK_RUN;
    if (retained || rivals->across->before[claim->owner] == definition_of(rivals, claim)->read)
        return RANK_RETAINED;
    return rivals->runs[claim->owner]             ? RANK_RUNS
           : rivals->across->before[claim->owner] ? RANK_KNOWN
                                                  : RANK_NEW;
}

/* Ranks the claims, and moves those of before to the end. Returns how many there are without them. */
static size_t rank(const Rivals *rivals, Claim *claims, size_t n)
{
    size_t past = SIZE_MAX, left = 0;

    for (size_t i = 0; i < n; i++) {
        Claim claim = claims[i];
        if (claim.claimant == CLAIMANT_BEFORE) {
            past = claim.owner; /* that of now is the next one, if there is one */
            continue;
        }
        claim.rank = rank_of(rivals, &claim, past == claim.owner);
        claims[i] = claims[left];
        claims[left++] = claim;
    }
    return left;
}

/* Two paths of one image, in one definition. */
static void check_twice(Rivals *rivals, const Claim *claims, size_t n)
{
    char pointer[64];

    for (size_t i = 1; i < n; i++) {
        const Claim *one = &claims[i - 1], *other = &claims[i];
        if (other->kind != CLAIM_IMAGE || one->claimant != CLAIMANT_DEFINITION ||
            other->claimant != CLAIMANT_DEFINITION || one->owner != other->owner ||
            (!one->strong && !other->strong))
            continue;
        claim_pointer(other, pointer, sizeof(pointer));
        across_find(rivals->across, PROBLEM_ERROR, other->owner, pointer,
                    "image %s is here twice (also at /volumes/%zu, as %s)", other->path, one->item,
                    one->path);
    }
}

static int by_preference(const void *left, const void *right)
{
    const Claim *a = left, *b = right;

    if (a->rank != b->rank)
        return a->rank - b->rank;
    if (a->owner != b->owner)
        return a->owner < b->owner ? -1 : 1;
    return a->item < b->item ? -1 : a->item > b->item;
}

static void add_group(Rivals *rivals, size_t first, size_t end)
{
    Claim *claims = rivals->claims.items;

    end = first + rank(rivals, &claims[first], end - first);
    if (end - first < 2)
        return;
    check_twice(rivals, &claims[first], end - first);
    qsort(&claims[first], end - first, sizeof(*claims), by_preference);
    for (size_t i = first; i < end; i++) {
        claims[i].group = rivals->n_groups;
        if (claims[i].claimant != CLAIMANT_DEFINITION)
            continue;
        claims[i].next = rivals->first[claims[i].owner];
        rivals->first[claims[i].owner] = i;
    }
    rivals->groups[rivals->n_groups++] = (Group){.first = first, .end = end};
}

int rivals_new(Across *across, Rivals **ret_rivals)
{
    _cleanup_(rivals_freep)
    Rivals *rivals = calloc(1, sizeof(*rivals));
    size_t count = across->definitions->count, n;
    int r;

    if (!rivals)
        return -ENOMEM;
    rivals->across = across;
    rivals->runs = calloc(count + 1, sizeof(*rivals->runs));
    r = rivals->runs ? add_claims(rivals) : -ENOMEM;
    n = rivals->claims.count;
    rivals->groups = calloc(n + 1, sizeof(*rivals->groups));
    rivals->first = calloc(count + 1, sizeof(*rivals->first));
    rivals->waits = calloc(count + 1, sizeof(*rivals->waits));
    if (r < 0 || !rivals->groups || !rivals->first || !rivals->waits)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        rivals->first[i] = SIZE_MAX;
    if (n > 0)
        qsort(rivals->claims.items, n, sizeof(*rivals->claims.items), claims_compare);
    for (size_t first = 0, end; first < n; first = end) {
        for (end = first + 1;
             end < n && claims_meet(&rivals->claims.items[first], &rivals->claims.items[end]);)
            end++;
        if (end - first > 1)
            add_group(rivals, first, end);
    }
    *ret_rivals = TAKE_PTR(rivals);
    return 0;
}

/* --- verdicts --- */

static bool is_own(const Rivals *rivals, const Claim *mine, const Claim *other)
{
    if (other->claimant == CLAIMANT_RUN)
        return streq(run_of(rivals, other)->name, definition_of(rivals, mine)->name);
    return other->owner == mine->owner;
}

/* Who else has what a definition asks for; NULL: nobody. */
static const Claim *holder_of(const Rivals *rivals, const Claim *mine)
{
    const Group *group = &rivals->groups[mine->group];

    if (!(mine->strong ? group->has_any : group->has_strong))
        return NULL;
    for (size_t i = group->first; i < group->end; i++) {
        const Claim *other = &rivals->claims.items[i];
        if (other->held && (mine->strong || other->strong) && !is_own(rivals, mine, other))
            return other;
    }
    return NULL;
}

static void hold(Rivals *rivals, Claim *claim)
{
    Group *group = &rivals->groups[claim->group];

    claim->held = true;
    group->has_any = true;
    group->has_strong |= claim->strong;
}

static void judge(Rivals *rivals, size_t index)
{
    const Across *across = rivals->across;
    Claim *claims = rivals->claims.items;
    bool good = !across->barred[index];

    for (size_t i = rivals->first[index]; good && i != SIZE_MAX; i = claims[i].next)
        good = !holder_of(rivals, &claims[i]);
    across->verdicts[index] = good ? VERDICT_GOOD : VERDICT_REFUSED;
    for (size_t i = rivals->first[index]; good && i != SIZE_MAX; i = claims[i].next)
        hold(rivals, &claims[i]);
}

/* Whose verdict that of `index` depends on, of those who have none; SIZE_MAX: nobody's. Where two depend on
 * each other, each having had something that the other asks for now, the one that was asked about second goes
 * first. */
static size_t depends_on(Rivals *rivals, size_t index)
{
    const Claim *claims = rivals->claims.items;

    for (size_t i = rivals->first[index]; i != SIZE_MAX; i = claims[i].next) {
        Group *group = &rivals->groups[claims[i].group];
        size_t *next = claims[i].strong ? &group->next_any : &group->next_strong;
        for (; *next < i; (*next)++) {
            const Claim *front = &claims[*next];
            if (front->claimant == CLAIMANT_DEFINITION && (claims[i].strong || front->strong) &&
                rivals->across->verdicts[front->owner] == VERDICT_NONE)
                return front->owner;
        }
    }
    return SIZE_MAX;
}

static void begin(Rivals *rivals)
{
    const Across *across = rivals->across;

    for (size_t i = 0; i < across->definitions->count; i++)
        across->verdicts[i] = across->barred[i] ? VERDICT_REFUSED : VERDICT_NONE;
    for (size_t g = 0; g < rivals->n_groups; g++) {
        Group *group = &rivals->groups[g];
        group->next_any = group->next_strong = group->first;
        group->has_any = group->has_strong = false;
        for (size_t i = group->first; i < group->end; i++) {
            Claim *claim = &rivals->claims.items[i];
            claim->held = false;
            if (claim->claimant == CLAIMANT_RUN)
                hold(rivals, claim);
        }
    }
}

void rivals_decide(Rivals *rivals)
{
    const Across *across = rivals->across;

    begin(rivals);
    for (size_t i = 0; i < across->definitions->count; i++) {
        if (across->verdicts[i] != VERDICT_NONE)
            continue;
        rivals->waits[i] = SIZE_MAX;
        for (size_t at = i; at != SIZE_MAX;) {
            size_t other;
            across->verdicts[at] = VERDICT_OPEN;
            other = depends_on(rivals, at);
            if (other == SIZE_MAX) {
                judge(rivals, at);
                at = rivals->waits[at];
            } else {
                rivals->waits[other] = at;
                at = other;
            }
        }
    }
}

/* --- for people --- */

/* Whether the definition of a run has the same. */
static bool is_defined(const Rivals *rivals, const Claim *run)
{
    const Group *group = &rivals->groups[run->group];

    for (size_t i = group->first; i < group->end; i++) {
        const Claim *other = &rivals->claims.items[i];
        if (other->claimant == CLAIMANT_DEFINITION && other->held && is_own(rivals, other, run))
            return true;
    }
    return false;
}

static void tell_run(Rivals *rivals, const Claim *mine, const Claim *holder, const char *pointer,
                     const char *what, const char *there)
{
    Across *across = rivals->across;
    const Run *run = run_of(rivals, holder);
    Definition *definition = &across->definitions->items[mine->owner];
    const Definition *its = definitions_find(across->definitions, run->name);
    const char *path = its ? its->path : run->path;

    if (its && is_defined(rivals, holder)) {
        across_find(across, PROBLEM_ERROR, mine->owner, pointer,
                    "%s is that of the running microVM %s already, in %s%s; only one of them can have it",
                    what, run->name, path, there);
        return;
    }
    across_find(
        across, PROBLEM_ERROR, mine->owner, pointer,
        "%s is that of the running microVM %s, which was started with it%s (its definition%s%s%s %s); "
        "it is free when that is stopped",
        what, run->name, there, path ? ", " : "", path ? path : "", path ? "," : "",
        !its                                                                 ? "is gone"
        : across->verdicts[its - across->definitions->items] != VERDICT_GOOD ? "can't be used"
                                                                             : "says something else by now");
    vm_spec_unref(definition->rival);
    definition->rival = vm_spec_ref(run->spec);
}

static void tell_taken(Rivals *rivals, const Claim *mine, const Claim *holder)
{
    _cleanup_free_ char *what = claim_describe(mine), *there = NULL;
    const Definition *other;
    char pointer[64];

    if (!what ||
        (mine->path && !streq(mine->path, holder->path) && asprintf(&there, " as %s", holder->path) < 0)) {
        rivals->across->oom = true;
        return;
    }
    claim_pointer(mine, pointer, sizeof(pointer));
    if (holder->claimant == CLAIMANT_RUN) {
        tell_run(rivals, mine, holder, pointer, what, there ? there : "");
        return;
    }
    other = definition_of(rivals, holder);
    across_find(rivals->across, PROBLEM_ERROR, mine->owner, pointer,
                "%s is that of the microVM %s already, in %s%s; only one of them can have it", what,
                other->name, other->path, there ? there : "");
}

/* Of who has it by preference, or (`instead`) only because the definition is refused. */
static void tell_claims(Rivals *rivals, size_t index, bool instead)
{
    const Claim *claims = rivals->claims.items;

    for (size_t i = rivals->first[index]; i != SIZE_MAX; i = claims[i].next) {
        const Claim *holder = holder_of(rivals, &claims[i]);
        if (holder && (holder > &claims[i]) == instead)
            tell_taken(rivals, &claims[i], holder);
    }
}

void rivals_tell(Rivals *rivals)
{
    const Across *across = rivals->across;

    for (size_t i = 0; i < across->definitions->count; i++)
        if (across->verdicts[i] == VERDICT_REFUSED) {
            tell_claims(rivals, i, false); /* the cause comes first */
            tell_claims(rivals, i, true);
        }
}
