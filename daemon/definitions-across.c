/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "definitions-across.h"

#include <inttypes.h>
#include <stdarg.h>

/* Found in definition number `index`. */
typedef struct Finding {
    size_t index;
    ProblemSeverity severity;
    char *pointer, *text;
} Finding;

/* Something of the host that a definition asks for. */
typedef struct Claim {
    const char *what; /* for people; claims of different things never meet */
    char *key;
    const char *sub; /* weak claims with the same one exclude each other; NULL: they don't */
    bool strong;     /* excludes every other claim of the key */
    size_t index;
    char *pointer;
} Claim;

typedef struct Across {
    Definitions *definitions;
    Claim *claims;
    size_t n_claims;
    Finding *findings;
    size_t n_findings;
    bool oom;
} Across;

static void across_clear(Across *across)
{
    for (size_t i = 0; i < across->n_claims; i++) {
        free(across->claims[i].key);
        free(across->claims[i].pointer);
    }
    for (size_t i = 0; i < across->n_findings; i++) {
        free(across->findings[i].pointer);
        free(across->findings[i].text);
    }
    free(across->claims);
    free(across->findings);
}

/* Room for one more, in powers of two; NULL: out of memory. */
static void *grow(Across *across, void *items, size_t n, size_t size)
{
    void *grown;

    if (n > 0 && (n & (n - 1)) != 0)
        return items;
    grown = reallocarray(items, n > 0 ? 2 * n : 1, size);
    if (!grown)
        across->oom = true;
    return grown;
}

static void find(Across *across, ProblemSeverity severity, size_t index, const char *pointer,
                 const char *format, ...) _printf_(5, 6);
static void find(Across *across, ProblemSeverity severity, size_t index, const char *pointer,
                 const char *format, ...)
{
    Finding *grown = grow(across, across->findings, across->n_findings, sizeof(*grown));
    Finding finding = {.index = index, .severity = severity};
    va_list arguments;

    if (!grown)
        return;
    across->findings = grown;
    va_start(arguments, format);
    if (vasprintf(&finding.text, format, arguments) < 0)
        finding.text = NULL;
    va_end(arguments);
    finding.pointer = strdup(pointer);
    across->oom |= !finding.pointer || !finding.text;
    grown[across->n_findings++] = finding;
}

/* --- what only one can have --- */

static void claim(Across *across, Claim like, const char *pointer, const char *key_format, ...)
    _printf_(4, 5);
static void claim(Across *across, Claim like, const char *pointer, const char *key_format, ...)
{
    Claim *grown = grow(across, across->claims, across->n_claims, sizeof(*grown));
    va_list arguments;

    if (!grown)
        return;
    across->claims = grown;
    va_start(arguments, key_format);
    if (vasprintf(&like.key, key_format, arguments) < 0)
        like.key = NULL;
    va_end(arguments);
    like.pointer = strdup(pointer);
    across->oom |= !like.key || !like.pointer;
    grown[across->n_claims++] = like;
}

static void claim_network(Across *across, size_t index, const VmSpec *spec)
{
    Claim mac = {.what = "MAC address", .strong = true, .index = index};
    Claim id = {.what = "interface", .strong = true, .index = index};
    char pointer[64];

    for (size_t i = 0; i < spec->n_interfaces; i++) {
        const InterfaceSpec *interface = &spec->interfaces[i];
        snprintf(pointer, sizeof(pointer), "/interfaces/%zu/mac", i);
        claim(across, mac, pointer, "%s", interface->mac);
        snprintf(pointer, sizeof(pointer), "/interfaces/%zu/id", i);
        if (interface->type != INTERFACE_USER) /* that has none on the host */
            claim(across, id, pointer, "%s", interface->id);
    }
    for (size_t i = 0; i < spec->n_forward_ports; i++) {
        const ForwardSpec *forward = &spec->forward_ports[i];
        Claim port = {.what = "port of the host",
                      .sub = forward->host_address,
                      .strong = streq(forward->host_address, "0.0.0.0"),
                      .index = index};
        snprintf(pointer, sizeof(pointer), "/forwardPorts/%zu/host/port", i);
        if (forward->from == FORWARD_FROM_HOST)
            claim(across, port, pointer, "%s %" PRIu64, forward_proto_to_string(forward->proto),
                  forward->host_port);
    }
}

static void claim_all(Across *across, size_t index, const VmSpec *spec)
{
    char pointer[64];

    claim(across, (Claim){.what = "machineId", .strong = true, .index = index}, "/machineId", "%s",
          spec->machine_id);
    if (spec->vsock_cid > 0)
        claim(across, (Claim){.what = "vsock CID", .strong = true, .index = index}, "/vsock/cid", "%" PRIu64,
              spec->vsock_cid);
    claim_network(across, index, spec);
    for (size_t i = 0; i < spec->n_volumes; i++) {
        const VolumeSpec *volume = &spec->volumes[i];
        snprintf(pointer, sizeof(pointer), "/volumes/%zu/image", i);
        /* A relative one is in the microVM's own directory. */
        if (volume->image[0] == '/')
            claim(across, (Claim){.what = "image", .strong = !volume->read_only, .index = index}, pointer,
                  "%s", volume->image);
    }
}

static int compare_texts(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

static int by_key(const void *left, const void *right)
{
    const Claim *a = left, *b = right;
    int order = strcmp(a->what, b->what);

    order = order ? order : strcmp(a->key, b->key);
    order = order ? order : compare_texts(a->sub, b->sub);
    return order ? order : a->index < b->index ? -1 : a->index > b->index;
}

static bool is_earlier(const Claim *a, const Claim *b)
{
    return a && (!b || a->index < b->index);
}

static void tell_taken(Across *across, const Claim *mine, const Claim *holder)
{
    const Definition *other = &across->definitions->items[holder->index];

    find(across, PROBLEM_ERROR, mine->index, mine->pointer,
         "%s %s is that of the microVM %s already, in %s; only one of them can have it", mine->what,
         mine->key, other->name, other->path);
}

/* All claims of one key, by `sub`, then by name. */
static void check_group(Across *across, const Claim *claims, size_t n)
{
    const Claim *first = NULL, *strong = NULL, *same = NULL;

    for (size_t i = 0; i < n; i++) {
        if (is_earlier(&claims[i], first))
            first = &claims[i];
        if (claims[i].strong && is_earlier(&claims[i], strong))
            strong = &claims[i];
    }
    for (size_t i = 0; i < n; i++) {
        const Claim *mine = &claims[i], *holder = mine->strong ? first : strong;
        if (!same || !same->sub || compare_texts(same->sub, mine->sub) != 0)
            same = mine;
        if (mine->sub && is_earlier(same, holder))
            holder = same;
        if (holder && holder->index < mine->index)
            tell_taken(across, mine, holder);
    }
}

static void check_claims(Across *across)
{
    for (size_t i = 0; i < across->definitions->count; i++)
        if (across->definitions->items[i].spec)
            claim_all(across, i, across->definitions->items[i].spec);
    if (across->oom || across->n_claims == 0)
        return;
    qsort(across->claims, across->n_claims, sizeof(*across->claims), by_key);
    for (size_t start = 0, end; start < across->n_claims; start = end) {
        const Claim *claims = &across->claims[start];
        for (end = start + 1; end < across->n_claims && streq(claims->what, across->claims[end].what) &&
                              streq(claims->key, across->claims[end].key);)
            end++;
        check_group(across, claims, end - start);
    }
}

/* --- names of others --- */

/* Of "db" and "db:ready". NULL: nobody is called so. */
static const Definition *named(const Across *across, const char *dependency)
{
    char name[256];

    snprintf(name, sizeof(name), "%.*s", (int)strcspn(dependency, ":"), dependency);
    return definitions_find(across->definitions, name);
}

/*
 * As with systemd, whose users this is for: what it requires must be there; to be started after somebody, or
 * to want him, is no error where he is not. It is said nevertheless: it may be a slip of the pen.
 */
static void check_names(Across *across, size_t index, ProblemSeverity severity, const char *key,
                        char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const Definition *other = named(across, names[i]);
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/%s/%zu", key, i);
        if (!other)
            find(across, severity, index, pointer, "no microVM is called \"%.*s\"%s",
                 (int)strcspn(names[i], ":"), names[i],
                 severity == PROBLEM_ERROR ? "; without it this one can't start" : "");
        else if (strchr(names[i], ':') && other->spec && other->spec->readiness_type == READINESS_NONE)
            find(across, PROBLEM_ERROR, index, pointer,
                 "%s never tells that it is ready: give it a \"readiness\" (%s), or write \"%s\"",
                 other->name, other->path, other->name);
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

/* `last`, whose entry `entry` names `first`, was reached from there. */
static void tell_circle(Across *across, const Visit *visits, size_t first, size_t last, size_t entry)
{
    const Definition *items = across->definitions->items;
    _cleanup_free_ char *circle = strdup(items[first].name);
    char pointer[64];

    for (size_t i = last; circle; i = visits[i].parent) {
        char *longer = NULL;
        if (asprintf(&longer, "%s -> %s", items[i].name, circle) < 0)
            longer = NULL;
        free(circle);
        circle = longer;
        if (i == first)
            break;
    }
    across->oom |= !circle;
    snprintf(pointer, sizeof(pointer), "/after/%zu", entry);
    find(across, PROBLEM_ERROR, last, pointer, "these would wait for each other: %s; remove one \"after\"",
         circle ? circle : "?");
}

/* Depth first, without recursion: each definition and each `after` is looked at once. */
static void walk_from(Across *across, Visit *visits, size_t root)
{
    const Definition *items = across->definitions->items;

    visits[root].state = VISIT_OPEN;
    visits[root].parent = SIZE_MAX;
    for (size_t at = root; at != SIZE_MAX;) {
        const VmSpec *spec = items[at].spec;
        Visit *visit = &visits[at];
        const Definition *other;
        size_t next;
        if (!spec || visit->next >= spec->n_after) {
            visit->state = VISIT_DONE;
            at = visit->parent;
            continue;
        }
        other = named(across, spec->after[visit->next++]);
        if (!other)
            continue;
        next = (size_t)(other - items);
        if (visits[next].state == VISIT_OPEN)
            tell_circle(across, visits, next, at, visit->next - 1);
        if (visits[next].state != VISIT_NEW)
            continue;
        visits[next].state = VISIT_OPEN;
        visits[next].parent = at;
        at = next;
    }
}

static void check_order(Across *across)
{
    const Definitions *definitions = across->definitions;
    _cleanup_free_ Visit *visits = calloc(definitions->count + 1, sizeof(*visits));

    if (!visits) {
        across->oom = true;
        return;
    }
    for (size_t i = 0; i < definitions->count; i++)
        if (visits[i].state == VISIT_NEW)
            walk_from(across, visits, i);
    for (size_t i = 0; i < definitions->count; i++) {
        const VmSpec *spec = definitions->items[i].spec;
        if (!spec)
            continue;
        check_names(across, i, PROBLEM_ERROR, "requires", spec->requires, spec->n_requires);
        check_names(across, i, PROBLEM_WARNING, "wants", spec->wants, spec->n_wants);
        check_names(across, i, PROBLEM_WARNING, "after", spec->after, spec->n_after);
    }
}

/* --- what follows --- */

static int by_definition(const void *left, const void *right)
{
    const Finding *a = left, *b = right;

    if (a->index != b->index)
        return a->index < b->index ? -1 : 1;
    return strcmp(a->pointer, b->pointer);
}

/* Tells the `n` findings in one definition, whose files are read once more for their lines. */
static int tell(Definition *definition, const Layers *below, const Finding *findings, size_t n,
                ProblemList *problems)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_problems_ ProblemList known = {0};
    TableReader reader = {.document = &document, .file = definition->path, .problems = problems};
    size_t before = problems->count, errors = problem_count(problems, PROBLEM_ERROR);

    (void)layers_merge(definition->name, below, &definition->files, &known, &document);
    definition->reusable = false;
    for (size_t i = 0; i < n; i++)
        table_problem(&reader, findings[i].severity, findings[i].pointer, false, "%s", findings[i].text);
    if (problem_count(problems, PROBLEM_ERROR) == errors)
        return 0;
    definition->spec = vm_spec_unref(definition->spec);
    definition->error = definition_summarize(problems, before);
    return definition->error ? 0 : -ENOMEM;
}

static void check_memory(const Definitions *definitions, uint64_t host_mib, ProblemList *problems)
{
    uint64_t together = 0;
    size_t n = 0;

    for (size_t i = 0; i < definitions->count; i++) {
        const VmSpec *spec = definitions->items[i].spec;
        if (!spec || !spec->autostart)
            continue;
        together += spec->mem_mib;
        n++;
    }
    if (host_mib > 0 && together > host_mib)
        problem_add(problems, PROBLEM_WARNING, NULL, "", 0, 0,
                    "the %zu microVMs that start with the host ask for %" PRIu64
                    " MiB of memory together, and it has %" PRIu64 " MiB: give some of them less \"mem\", or "
                    "\"autostart\": false",
                    n, together, host_mib);
}

int definitions_check_across(Definitions *definitions, const Layers *below, uint64_t host_mib,
                             ProblemList *problems)
{
    _cleanup_(across_clear)
    Across across = {.definitions = definitions};
    int r = 0;

    check_claims(&across);
    check_order(&across);
    if (across.oom)
        return -ENOMEM;
    if (across.n_findings > 0)
        qsort(across.findings, across.n_findings, sizeof(*across.findings), by_definition);
    for (size_t start = 0, end; start < across.n_findings && r >= 0; start = end) {
        const Finding *findings = &across.findings[start];
        for (end = start + 1; end < across.n_findings && across.findings[end].index == findings->index;)
            end++;
        r = tell(&definitions->items[findings->index], below, findings, end - start, problems);
    }
    check_memory(definitions, host_mib, problems);
    return r;
}

uint64_t host_memory_mib(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size >> 20 : 0;
}
