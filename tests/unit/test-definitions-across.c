/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What two microVMs of a host can't both have, whom they name, and orders that go round in a circle. */
#include "definitions-across.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

typedef struct Host {
    Scratch *scratch;
    Definitions definitions, before;
    Run runs[4];
    Surroundings around;
    ProblemList problems;
} Host;

static int setup(void **context)
{
    Host *host = calloc(1, sizeof(*host));

    scratch_setup((void **)&host->scratch);
    host->around = (Surroundings){.state_dir = host->scratch->path, .runs = host->runs};
    *context = host;
    return 0;
}

static int teardown(void **context)
{
    Host *host = *context;
    int r = scratch_teardown((void **)&host->scratch);

    definitions_clear(&host->definitions);
    definitions_clear(&host->before);
    for (size_t i = 0; i < host->around.n_runs; i++)
        vm_spec_unref(host->runs[i].spec);
    problem_list_clear(&host->problems);
    free(host);
    return r;
}

static VmSpec *parse(const char *name, const char *path, const char *keys)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *text = NULL;
    VmSpec *spec = NULL;

    assert_true(asprintf(&text, "{ \"kernel\": \"/k\",\n  %s\n}\n", keys) > 0);
    if (vm_spec_parse(name, path, text, strlen(text), &(SpecContext){0}, &problems, &spec) < 0)
        fail_msg("%s: %s", text, problems.items[0].text);
    return spec;
}

/* In the order of their names. `keys` go behind a kernel; NULL: it can't be read. */
static void add(Host *host, const char *name, const char *keys)
{
    Definitions *definitions = &host->definitions;
    _cleanup_free_ char *text = NULL, *file = NULL;
    Definition *definition;

    assert_true(asprintf(&text, "{ \"kernel\": \"/k\",\n  %s\n}\n", keys ? keys : "{") > 0);
    assert_true(asprintf(&file, "%s.json", name) > 0);
    (void)unlink(
        scratch_path(host->scratch, file)); /* to replace one makes some file systems write at once */
    definitions->items =
        reallocarray(definitions->items, definitions->count + 1, sizeof(*definitions->items));
    assert_non_null(definitions->items);
    definition = &definitions->items[definitions->count++];
    *definition = (Definition){.name = strdup(name), .path = strdup(scratch_text(host->scratch, file, text))};
    assert_int_equal(layer_files_add(&definition->files, definition->path, false), 0);
    if (keys)
        definition->read = parse(name, definition->path, keys);
    else
        definition->error = strdup("broken");
}

/* It runs, with this. */
static void run(Host *host, const char *name, const char *keys, const char *path)
{
    assert_true(host->around.n_runs < ELEMENTSOF(host->runs));
    host->runs[host->around.n_runs++] = (Run){name, parse(name, NULL, keys), path};
}

static void check(Host *host)
{
    problem_list_clear(&host->problems);
    assert_int_equal(
        definitions_check_across(&host->definitions, &host->before, NULL, &host->around, &host->problems), 0);
}

/* What there is now is what there was before; add() begins anew. */
static void next(Host *host)
{
    check(host);
    definitions_clear(&host->before);
    host->before = host->definitions;
    host->definitions = (Definitions){0};
}

static void refused(Host *host, const char *name, const char *said)
{
    const Definition *definition = definitions_find(&host->definitions, name);

    if (definition->spec)
        fail_msg("%s is good, not %s", name, said);
    if (!strstr(definition->error, said) || !strstr(definition->error, definition->path))
        fail_msg("%s, not %s", definition->error, said);
}

static void kept(Host *host, const char *name)
{
    const Definition *definition = definitions_find(&host->definitions, name);

    if (!definition->spec)
        fail_msg("%s is refused: %s", name, definition->error);
    assert_null(definition->error);
}

/* What each of two says, and what is said of the later one, with the file of the earlier one. */
static void test_clashes(void **context)
{
    static const struct {
        const char *first, *second, *said; /* NULL: both are good */
    } cases[] = {
        {"\"vsock\": {\"cid\": 5}", "\"vsock\": {\"cid\": 5}", ":2:20: error: vsock CID 5 is that of"},
        {"\"vsock\": {\"cid\": 5}", "\"vsock\": {\"cid\": 6}", NULL},
        {"\"machineId\": \"6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c\"",
         "\"machineId\": \"6A2C9B1E-0F5D-4C3B-9A87-5D1E2F3A4B5C\"", "machineId 6a2c9b1e"},
        {"\"interfaces\": [{\"type\": \"user\", \"mac\": \"02:00:00:00:00:0a\"}]",
         "\"interfaces\": [\"user\", {\"type\": \"user\", \"mac\": \"02:00:00:00:00:0A\"}]",
         "MAC address 02:00:00:00:00:0a is that of the microVM a already, in"},
        {"\"interfaces\": [\"tap:t0\"]", "\"interfaces\": [\"tap:t0\"]", ":2:18: error: interface t0 is"},
        {"\"interfaces\": [\"tap:t0\"]", "\"interfaces\": [\"tap:t1\", \"user\", \"bridge:br0\"]", NULL},
        {"\"interfaces\": [{\"type\": \"user\", \"id\": \"n0\"}]",
         "\"interfaces\": [{\"type\": \"user\", \"id\": \"n0\"}]", NULL},
        {"\"volumes\": [\"/srv/x.img\"]", "\"volumes\": [\"/srv/x.img\"]", "image /srv/x.img is that of"},
        {"\"volumes\": [\"x.img\"]", "\"volumes\": [\"x.img\"]", NULL},
        {"\"volumes\": [{\"image\": \"/x\", \"readOnly\": true}]",
         "\"volumes\": [{\"image\": \"/x\", \"readOnly\": true}]", NULL},
        {"\"volumes\": [{\"image\": \"/x\", \"readOnly\": true}]", "\"volumes\": [\"/x\"]", "image /x is"},
        {"\"volumes\": [\"/x\"]", "\"volumes\": [{\"image\": \"/x\", \"readOnly\": true}]", "image /x is"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        Host *host;
        setup((void **)&host);
        add(host, "a", cases[i].first);
        add(host, "b", cases[i].second);
        check(host);
        kept(host, "a");
        if (cases[i].said) {
            refused(host, "b", cases[i].said);
            refused(host, "b", host->definitions.items[0].path);
            assert_int_equal(host->problems.count, 1);
        } else {
            kept(host, "b");
            assert_int_equal(host->problems.count, 0);
        }
        teardown((void **)&host);
    }
}

#define FORWARD(proto, address, port)                                                                        \
    "{\"proto\": \"" proto "\", \"host\": {\"address\": \"" address "\", \"port\": " port                    \
    "}, \"guest\": {\"port\": 1}}"
#define PORTS(forwards) "\"interfaces\": [\"user\"], \"forwardPorts\": [" forwards "]"

static void test_ports(void **context)
{
    Host *host = *context;

    add(host, "a", PORTS(FORWARD("tcp", "127.0.0.2", "80")));
    add(host, "b", PORTS(FORWARD("tcp", "127.0.0.1", "80") "," FORWARD("tcp", "127.0.0.1", "443")));
    add(host, "c", PORTS(FORWARD("udp", "127.0.0.1", "80")));
    add(host, "d", PORTS(FORWARD("tcp", "0.0.0.0", "80")));
    add(host, "e", PORTS(FORWARD("tcp", "127.0.0.1", "80")));
    add(host, "f", PORTS(FORWARD("tcp", "127.0.0.3", "80")));
    add(host, "g", PORTS("{\"from\": \"guest\", \"host\": {\"port\": 443}, \"guest\": {\"port\": 1}}"));
    check(host);
    kept(host, "a");
    kept(host, "b");
    kept(host, "c");
    refused(host, "d", "port of the host tcp 80 is that of the microVM a already");
    refused(host, "e", "the microVM b already");
    kept(host, "f"); /* d is refused, so it has nothing */
    kept(host, "g");
}

/* Each problem is told, in the file that it is in, and the place in it. */
static void test_all_are_told(void **context)
{
    Host *host = *context;

    add(host, "a", "\"vsock\": {\"cid\": 5}, \"volumes\": [\"/x\"]");
    add(host, "b", "\"vsock\": {\"cid\": 5},\n \"volumes\": [\"/y\", \"/x\"]");
    add(host, "c", "\"vsock\": {\"cid\": 5}");
    check(host);
    assert_int_equal(host->problems.count, 3);
    assert_string_equal(host->problems.items[0].pointer, "/volumes/1");
    assert_int_equal(host->problems.items[0].line, 3);
    assert_int_equal(host->problems.items[0].column, 20);
    refused(host, "b", "and 1 more");
    refused(host, "c", "the microVM a already");
}

/* The place is in the layer that has the last word. */
static void test_layers(void **context)
{
    Host *host = *context;
    const char *drop_in = scratch_text(host->scratch, "drop-in.json", "{\n \"vsock\": {\"cid\": 5}\n}");
    _cleanup_free_ char *path = strdup(drop_in);

    add(host, "a", "\"vsock\": {\"cid\": 5}");
    add(host, "b", "\"vsock\": {\"cid\": 5}");
    assert_int_equal(layer_files_add(&host->definitions.items[1].files, path, false), 0);
    check(host);
    assert_int_equal(host->problems.count, 1);
    assert_string_equal(host->problems.items[0].file, path);
    assert_int_equal(host->problems.items[0].line, 2);
    assert_int_equal(host->problems.items[0].column, 19);
}

static void test_names(void **context)
{
    Host *host = *context;

    add(host, "a", "\"requires\": [\"db\"]");
    add(host, "b", "\"wants\": [\"db\"], \"after\": [\"db:ready\", \"c\"]");
    add(host, "c", "\"after\": [\"d:ready\", \"e:ready\"]");
    add(host, "d", "\"readiness\": {\"type\": \"notify\"}");
    add(host, "e", "\"requires\": [\"d\"]");
    add(host, "f", "\"requires\": [\"gatewy\"]");
    add(host, "gateway", "\"after\": [\"gatewya:ready\"]");
    add(host, "h", "\"readiness\": {\"type\": \"auto\"}");
    add(host, "i", "\"after\": [\"h:ready\"]");
    check(host);
    refused(host, "a", ":2:16: error: no microVM is called \"db\"");
    refused(host, "b", ":2:13: error: no microVM is called \"db\"");
    assert_int_equal(problem_count(&host->problems, PROBLEM_WARNING), 0);
    refused(host, "f", "no microVM is called \"gatewy\"; did you mean \"gateway\"?");
    refused(host, "gateway", "no microVM is called \"gatewya\"; did you mean \"gateway\"?");
    refused(host, "c", ":2:24: error: e never tells that it is ready");
    refused(host, "c", "e.json");
    refused(host, "i", "h never tells that it is ready"); /* it may stay silent */
    kept(host, "d");
    kept(host, "e");
    /* Of some definitions it can't be said whom they lack. */
    host->around.incomplete = true;
    check(host);
    kept(host, "a");
    refused(host, "c", "e never tells that it is ready");
    refused(host, "i", "h never tells that it is ready");
    assert_int_equal(host->problems.count, 2);
}

/* A definition that can't be used is not the same as none. */
static void test_broken_ones_are_there(void **context)
{
    Host *host = *context;

    add(host, "a", "\"requires\": [\"b\"], \"after\": [\"b\"], \"vsock\": {\"cid\": 5}");
    add(host, "b", "\"vsock\": {\"cid\": 5}");
    check(host);
    kept(host, "a");
    refused(host, "b", "vsock CID");
    check(host);
    kept(host, "a");
    refused(host, "b", "vsock CID");
}

static void test_circles(void **context)
{
    Host *host = *context;

    add(host, "a", "\"after\": [\"x\", \"c\"]");
    add(host, "b", "\"after\": [\"a\"]");
    add(host, "c", "\"after\": [\"b:ready\"]");
    add(host, "d", "\"after\": [\"c\"]");
    add(host, "x", "\"requires\": [\"y\"]");
    add(host, "y", "\"requires\": [\"x\"]"); /* no order */
    host->definitions.items[1].read->readiness_type = READINESS_NOTIFY;
    check(host);
    kept(host, "a");
    kept(host, "b");
    refused(host, "c", ":2:13: error: these would wait for each other: c -> b -> a -> c;");
    kept(host, "d");
    kept(host, "x");
    kept(host, "y");
    assert_int_equal(host->problems.count, 1);
}

static void test_two_circles(void **context)
{
    Host *host = *context;

    add(host, "a", "\"after\": [\"b\", \"c\"]");
    add(host, "b", "\"after\": [\"a\"]");
    add(host, "c", "\"after\": [\"b\"]");
    check(host);
    kept(host, "a");
    refused(host, "b", "wait for each other: b -> a -> b;");
    kept(host, "c");
}

/* A circle is opened where it was closed. */
static void test_circle_of_old_and_new(void **context)
{
    Host *host = *context;

    add(host, "a", "\"vcpu\": 1");
    add(host, "c", "\"after\": [\"a\"]");
    add(host, "d", "\"after\": [\"c\"]");
    next(host);
    add(host, "a", "\"after\": [\"d\"]");
    add(host, "c", "\"after\": [\"a\"], \"vcpu\": 2");
    add(host, "d", "\"after\": [\"c\"]");
    check(host);
    refused(host, "a", "wait for each other: a -> d -> c -> a;");
    kept(host, "c");
    kept(host, "d");
    definitions_clear(&host->definitions);
    add(host, "a", "\"after\": [\"b\"]");
    add(host, "b", "\"after\": [\"c\"]");
    add(host, "c", "\"after\": [\"a\"]");
    add(host, "d", "\"after\": [\"c\"]");
    check(host);
    refused(host, "b", "wait for each other: b -> c -> a -> b;");
    kept(host, "a");
}

/* --- who goes before whom --- */

#define MAC(number) "\"interfaces\": [{\"type\": \"user\", \"mac\": \"02:00:00:00:00:0" number "\"}]"
#define CID(number) "\"vsock\": {\"cid\": " number "}"

static void test_incumbent_wins(void **context)
{
    Host *host = *context;

    add(host, "b", CID("5"));
    add(host, "c", CID("6") "," MAC("1"));
    next(host);
    add(host, "a", CID("5"));                             /* new */
    add(host, "b", CID("5") ",\"vcpu\": 2");              /* changed, but not in this */
    add(host, "c", CID("7") "," MAC("1"));                /* gives up its own */
    add(host, "d", "\"vcpu\": 2," CID("6") "," MAC("2")); /* new, to what is free */
    check(host);
    refused(host, "a", "vsock CID 5 is that of the microVM b already, in ");
    kept(host, "b");
    kept(host, "c");
    kept(host, "d");
}

/* What is new in a definition that was there before is as new as a newcomer's. */
static void test_incumbent_of_what_it_had(void **context)
{
    Host *host = *context;

    add(host, "a", CID("5"));
    add(host, "b", CID("6"));
    next(host);
    add(host, "a", CID("6"));
    add(host, "b", CID("6") ",\"vcpu\": 2");
    check(host);
    refused(host, "a", "the microVM b already");
    kept(host, "b");
    next(host);
    add(host, "a", CID("6")); /* was refused, and did not get older by that */
    add(host, "b", CID("6"));
    check(host);
    refused(host, "a", "the microVM b already");
    next(host);
    add(host, "a", CID("6")); /* both swap */
    add(host, "b", CID("5"));
    check(host);
    kept(host, "a");
    kept(host, "b");
}

/* Who is refused keeps nothing from others, be it for an error of its own or for what others have. */
static void test_refused_hold_nothing(void **context)
{
    Host *host = *context;

    add(host, "a", CID("5"));
    add(host, "b", CID("5") "," MAC("1"));
    add(host, "c", MAC("1") ", \"volumes\": [\"/x\"]");
    add(host, "d", "\"volumes\": [\"/x\", \"/y\"]");
    add(host, "e", "\"volumes\": [\"/y\"]");
    add(host, "f", CID("7") ", \"requires\": [\"nobody\"]");
    add(host, "g", CID("7") ", \"after\": [\"h\"]");
    add(host, "h", CID("8") ", \"after\": [\"g\"]");
    add(host, "i", CID("8"));
    check(host);
    kept(host, "a");
    refused(host, "b", "the microVM a already"); /* and then, that c has got the other one meanwhile */
    refused(host, "b", "and 1 more");
    kept(host, "c");
    refused(host, "d", "image /x is that of the microVM c already");
    kept(host, "e");
    refused(host, "f", "nobody");
    kept(host, "g");
    refused(host, "h", "wait for each other");
    kept(host, "i");
    assert_int_equal(host->problems.count, 8); /* what each would still lack, too */
}

/* Each had what the other asks for: one of them is good, and always the same. */
static void test_incumbents_cross(void **context)
{
    Host *host = *context;

    add(host, "a", CID("5"));
    add(host, "b", MAC("1"));
    next(host);
    add(host, "a", CID("5") "," MAC("1"));
    add(host, "b", CID("5") "," MAC("1"));
    check(host);
    refused(host, "a", "the microVM b already");
    kept(host, "b");
}

static void test_runs_go_first(void **context)
{
    Host *host = *context;

    add(host, "c", CID("5"));
    next(host);
    run(host, "c", CID("5"), NULL);
    run(host, "d", MAC("1"), "/there/d.json");
    run(host, "gone", CID("6"), "/there/gone.json");
    run(host, "lost", CID("9"), NULL);
    add(host, "a", MAC("1"));
    add(host, "b", CID("6"));
    add(host, "c", CID("5"));
    add(host, "d", MAC("2")); /* it runs with another one */
    add(host, "e", CID("5"));
    add(host, "f", CID("9"));
    add(host, "g", MAC("2"));
    check(host);
    refused(host, "a",
            "MAC address 02:00:00:00:00:01 is that of the running microVM d, which was started with it "
            "(its definition, ");
    refused(host, "a", "d.json, says something else by now)");
    assert_ptr_equal(host->definitions.items[0].rival, host->runs[1].spec);
    refused(host, "b",
            "running microVM gone, which was started with it (its definition, /there/gone.json, is gone); "
            "it is free when that is stopped");
    kept(host, "c");
    kept(host, "d");
    refused(host, "e", "vsock CID 5 is that of the running microVM c already, in ");
    assert_null(host->definitions.items[4].rival);
    refused(host, "f", "running microVM lost, which was started with it (its definition is gone)");
    refused(host, "g", "is that of the microVM d already");
    /* With the run its claim is over. */
    vm_spec_unref(host->runs[3].spec);
    host->around.n_runs = 3;
    check(host);
    kept(host, "f");
    refused(host, "b", "running microVM gone");
}

/* What runs keeps what it has, even if its definition can't be used. */
/* To what neither of them had. */
static void test_known_before_new(void **context)
{
    Host *host = *context;

    add(host, "c", CID("5"));
    add(host, "d", CID("6"));
    add(host, "e", CID("7"));
    next(host);
    run(host, "d", CID("6"), NULL);
    add(host, "a", MAC("1"));
    add(host, "b", MAC("2"));
    add(host, "c", CID("5") "," MAC("2"));
    add(host, "d", CID("6") "," MAC("2"));
    add(host, "e", CID("7") "," MAC("1"));
    check(host);
    refused(host, "a", "that of the microVM e already");
    refused(host, "b", "that of the microVM d already");
    refused(host, "c", "that of the microVM d already");
    kept(host, "d");
    kept(host, "e");
}

static void test_run_of_a_broken_one(void **context)
{
    Host *host = *context;

    run(host, "b", CID("5"), NULL);
    add(host, "a", CID("5"));
    add(host, "b", NULL);
    check(host);
    refused(host, "a", "running microVM b, which was started with it (its definition, ");
    refused(host, "a", "b.json, can't be used)");
}

static bool share(const VmSpec *a, const VmSpec *b)
{
    return a->vsock_cid == b->vsock_cid || streq(a->interfaces[0].mac, b->interfaces[0].mac);
}

/* Of whatever came before: no two that are good want the same, and who is refused wants what a good one has.
 */
static void test_any_order(void **context)
{
    enum {
        COUNT = 12,
        ROUNDS = 30
    };
    Host *host = *context;

    srandom(1);
    for (int round = 0; round < ROUNDS; round++) {
        const Definition *items;
        for (int i = 0; i < COUNT; i++) {
            char name[8], keys[128];
            snprintf(name, sizeof(name), "vm%02d", i);
            snprintf(keys, sizeof(keys),
                     "\"vsock\": {\"cid\": %ld}, \"interfaces\": [{\"type\": \"user\", \"mac\": "
                     "\"02:00:00:00:00:0%ld\"}]",
                     3 + random() % 8, random() % 8);
            add(host, name, keys);
        }
        check(host);
        items = host->definitions.items;
        for (size_t i = 0; i < COUNT; i++) {
            bool rival = false;
            for (size_t k = 0; k < COUNT; k++)
                rival |= i != k && items[k].spec && share(items[i].read, items[k].read);
            assert_int_equal(!items[i].spec, rival);
        }
        next(host);
    }
}

/* Each asks for something of the one before it: every second one is refused, and nothing recurs. */
static void test_chain(void **context)
{
    enum {
        COUNT = 300
    };
    Host *host = *context;

    for (int i = 0; i < COUNT; i++) {
        char name[16], keys[64];
        snprintf(name, sizeof(name), "vm%03d", i);
        snprintf(keys, sizeof(keys), "\"volumes\": [\"/chain/%d\", \"/chain/%d\"]", i, i + 1);
        add(host, name, keys);
    }
    check(host);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(!host->definitions.items[i].spec, i % 2);
}

/* --- images --- */

static void add_with_image(Host *host, const char *name, const char *image, bool absolute, const char *more)
{
    _cleanup_free_ char *keys = NULL;

    assert_true(asprintf(&keys, "\"volumes\": [{\"image\": \"%s%s%s%s\"}]",
                         absolute ? host->scratch->path : "", absolute ? "/" : "", image, more) > 0);
    add(host, name, keys);
}

/* It counts which file it is, not how it is called. */
static void test_images(void **context)
{
    static const struct {
        const char *first, *second; /* absolute, below the state directory, if they begin with "vm/" */
        bool meet;
    } cases[] = {
        {"data.img", "data.img", false},
        {"data.img", "vm/a/data.img", true},
        {"data.img", "vm/b/link/data.img", true},
        {"data.img", "vm/link.img", true},
        {"data.img", "vm/hard.img", true},
        {"data.img", "link/data.img", true},
        {"data.img", "vm/a/other.img", false},
        /* not there yet */
        {"new.img", "new.img", false},
        {"new.img", "vm/a/new.img", true},
        {"new.img", "link/new.img", true},
        {"vm/x/new.img", "vm/b/up/x/new.img", true},
        {"vm/x/new.img", "vm/y/new.img", false},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        Host *host;
        char image[512];
        setup((void **)&host);
        assert_int_equal(mkdir_parents(scratch_path(host->scratch, "vm/a"), 0755), 0);
        assert_int_equal(mkdir_parents(scratch_path(host->scratch, "vm/b"), 0755), 0);
        strcpy(image, scratch_text(host->scratch, "vm/a/data.img", "x"));
        scratch_text(host->scratch, "vm/b/data.img", "x");
        assert_int_equal(symlink("a/data.img", scratch_path(host->scratch, "vm/link.img")), 0);
        assert_int_equal(link(image, scratch_path(host->scratch, "vm/hard.img")), 0);
        assert_int_equal(symlink("..", scratch_path(host->scratch, "vm/b/up")), 0);
        assert_int_equal(symlink("../a", scratch_path(host->scratch, "vm/b/link")), 0);
        add_with_image(host, "a", cases[i].first, strncmp(cases[i].first, "vm/", 3) == 0, "");
        add_with_image(host, "b", cases[i].second, strncmp(cases[i].second, "vm/", 3) == 0, "");
        check(host);
        kept(host, "a");
        if (cases[i].meet)
            refused(host, "b", "is that of the microVM a already, in");
        else
            kept(host, "b");
        teardown((void **)&host);
    }
}

static void test_image_by_two_names(void **context)
{
    Host *host = *context;

    assert_int_equal(symlink(".", scratch_path(host->scratch, "l")), 0);
    assert_int_equal(mkdir_parents(scratch_path(host->scratch, "vm/c"), 0755), 0);
    assert_int_equal(symlink("y.img", scratch_path(host->scratch, "vm/c/same.img")), 0);
    add_with_image(host, "a", "x.img", true, "");
    add_with_image(host, "b", "l/x.img", true, "");
    add(host, "c", "\"volumes\": [\"y.img\", \"z.img\", {\"image\": \"same.img\", \"readOnly\": true}]");
    add(host, "d",
        "\"volumes\": [{\"image\": \"/r\", \"readOnly\": true}, {\"image\": \"/proc/self/root/r\", "
        "\"readOnly\": true}]");
    add_with_image(host, "e", "r/x.img", true, "\", \"readOnly\": true, \"serial\": \"x");
    add_with_image(host, "f", "l/r/x.img", true, "\", \"readOnly\": true, \"serial\": \"x");
    add_with_image(host, "g", "l/l/r/x.img", true, "");
    check(host);
    refused(host, "b", "/l/x.img is that of the microVM a already, in ");
    refused(host, "b", "/a.json as ");
    refused(host, "c", "/vm/c/same.img is here twice (also at /volumes/0, as ");
    kept(host, "d");
    kept(host, "e");
    kept(host, "f");
    refused(host, "g", "is that of the microVM e already");
}

/* --- memory --- */

static void warned(Host *host, const char *said)
{
    check(host);
    if (!said) {
        assert_int_equal(host->problems.count, 0);
        return;
    }
    assert_int_equal(host->problems.count, 1);
    assert_int_equal(host->problems.items[0].severity, PROBLEM_WARNING);
    if (!strstr(host->problems.items[0].text, said))
        fail_msg("%s, not %s", host->problems.items[0].text, said);
}

static void test_memory(void **context)
{
    Host *host = *context;

    add(host, "a", "\"mem\": 600, \"hotplugMem\": 1000, \"hotpluggedMem\": 0");
    add(host, "b", "\"mem\": 401, \"autostart\": false");
    add(host, "c", "\"mem\": 2000, \"hugepageMem\": true");
    warned(host, NULL); /* it is not known what there is */
    host->around.memory = (HostMemory){.total_mib = 4501, .huge_mib = 2500, .guests_mib = 2000};
    warned(host, NULL);
    host->around.memory_reserve_mib = 1;
    warned(host,
           "together, 2 microVMs ask for 2001 MiB of memory (\"mem\" and \"hotplugMem\"; 1600 MiB for the "
           "1 with \"autostart\"; the most, 1600 MiB, is for a), and this host has 2000 MiB for them (4501 "
           "MiB, less 2500 MiB of huge pages and the host.memoryReserve of 1 MiB)");
    host->around.memory_reserve_mib = 9000;
    warned(host, "this host has 0 MiB");
    host->around.memory_reserve_mib = 0;
    host->around.memory.guests_mib = 1999;
    warned(host, "the microVM c asks for 2000 MiB of memory");
    warned(host, "this host has 1999 MiB in huge pages");
    host->around.memory.guests_mib = 2000;
    run(host, "a", "\"mem\": 9999", NULL); /* counts as it is going to be */
    warned(host, NULL);
    run(host, "gone", "\"mem\": 1", NULL);
    warned(host, "together, 3 microVMs ask for 2002 MiB");
}

static void test_memory_of_a_host(void **context)
{
    HostMemory memory =
        host_memory_parse("MemTotal:       16384000 kB\nMemFree:  1 kB\nHugePages_Total:      8\n"
                          "HugePages_Free: 2\nHugepagesize:       2048 kB\nHugetlb:  1064960 kB\n");

    assert_int_equal(memory.total_mib, 16000);
    assert_int_equal(memory.huge_mib, 1040);
    assert_int_equal(memory.guests_mib, 16);
    memory = host_memory_parse("");
    assert_int_equal(memory.total_mib, 0);
    assert_true(host_memory().total_mib > 0);
}

/* A thousand in a row, all at one port: nothing is done for each pair, nothing recurs. */
static void test_many(void **context)
{
    Host *host = *context;

    for (int i = 0; i < 1000; i++) {
        _cleanup_free_ char *name = NULL, *keys = NULL;
        assert_true(asprintf(&name, "vm%03d", i) > 0);
        assert_true(
            asprintf(&keys,
                     "\"after\": [\"vm%03d\"], \"interfaces\": [\"user\"], \"forwardPorts\": [{\"host\": "
                     "{\"address\": \"127.0.%d.%d\", \"port\": 80}, \"guest\": {\"port\": 80}}]",
                     (i + 1) % 1000, 1 + i / 250, 1 + i % 250) > 0);
        add(host, name, keys);
    }
    check(host);
    assert_int_equal(host->problems.count, 1);
    refused(host, "vm999", "vm999 -> vm000 -> vm001 -> vm002");
    kept(host, "vm998");
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clashes),
        TEST(test_ports),
        TEST(test_all_are_told),
        TEST(test_layers),
        TEST(test_names),
        TEST(test_broken_ones_are_there),
        TEST(test_circles),
        TEST(test_two_circles),
        TEST(test_circle_of_old_and_new),
        TEST(test_incumbent_wins),
        TEST(test_incumbent_of_what_it_had),
        TEST(test_refused_hold_nothing),
        TEST(test_incumbents_cross),
        TEST(test_runs_go_first),
        TEST(test_known_before_new),
        TEST(test_any_order),
        TEST(test_chain),
        TEST(test_run_of_a_broken_one),
        cmocka_unit_test(test_images),
        TEST(test_image_by_two_names),
        TEST(test_memory),
        cmocka_unit_test(test_memory_of_a_host),
        TEST(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
