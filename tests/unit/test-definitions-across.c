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
    Definitions definitions;
    ProblemList problems;
} Host;

static int setup(void **context)
{
    Host *host = calloc(1, sizeof(*host));

    scratch_setup((void **)&host->scratch);
    *context = host;
    return 0;
}

static int teardown(void **context)
{
    Host *host = *context;
    int r = scratch_teardown((void **)&host->scratch);

    definitions_clear(&host->definitions);
    problem_list_clear(&host->problems);
    free(host);
    return r;
}

/* In the order of their names. `keys` go behind a kernel. */
static void add(Host *host, const char *name, const char *keys)
{
    Definitions *definitions = &host->definitions;
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *text = NULL, *file = NULL;
    Definition *definition;

    assert_true(asprintf(&text, "{ \"kernel\": \"/k\",\n  %s\n}\n", keys) > 0);
    assert_true(asprintf(&file, "%s.json", name) > 0);
    definitions->items =
        reallocarray(definitions->items, definitions->count + 1, sizeof(*definitions->items));
    assert_non_null(definitions->items);
    definition = &definitions->items[definitions->count++];
    *definition = (Definition){.name = strdup(name), .path = strdup(scratch_text(host->scratch, file, text))};
    assert_int_equal(layer_files_add(&definition->files, definition->path, false), 0);
    if (vm_spec_parse(name, definition->path, text, strlen(text), &(SpecContext){0}, &problems,
                      &definition->spec) < 0)
        fail_msg("%s: %s", text, problems.items[0].text);
}

static void check(Host *host)
{
    assert_int_equal(definitions_check_across(&host->definitions, NULL, 0, &host->problems), 0);
}

static void refused(Host *host, const char *name, const char *said)
{
    const Definition *definition = definitions_find(&host->definitions, name);

    assert_null(definition->spec);
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
    refused(host, "f", "the microVM d already"); /* d is refused, but asked first */
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

static void test_names(void **context)
{
    Host *host = *context;

    add(host, "a", "\"requires\": [\"db\"]");
    add(host, "b", "\"wants\": [\"db\"], \"after\": [\"db:ready\", \"c\"]");
    add(host, "c", "\"after\": [\"d:ready\", \"e:ready\"]");
    add(host, "d", "\"readiness\": {\"type\": \"notify\"}");
    add(host, "e", "\"requires\": [\"d\"]");
    check(host);
    refused(host, "a", ":2:16: error: no microVM is called \"db\"; without it this one can't start");
    kept(host, "b");
    assert_int_equal(problem_count(&host->problems, PROBLEM_WARNING), 2);
    refused(host, "c", ":2:24: error: e never tells that it is ready");
    refused(host, "c", "e.json");
    kept(host, "d");
    kept(host, "e");
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
    problem_list_clear(&host->problems);
    check(host);
    kept(host, "a");
    assert_int_equal(host->problems.count, 0);
}

static void test_circles(void **context)
{
    Host *host = *context;

    add(host, "a", "\"after\": [\"x\", \"c\"]");
    add(host, "b", "\"after\": [\"a\"]");
    add(host, "c", "\"after\": [\"b\"]");
    add(host, "d", "\"after\": [\"c\"]");
    add(host, "x", "\"requires\": [\"y\"]");
    add(host, "y", "\"requires\": [\"x\"]"); /* no order */
    check(host);
    kept(host, "a");
    refused(host, "b", ":2:13: error: these would wait for each other: a -> c -> b -> a;");
    kept(host, "c");
    kept(host, "d");
    kept(host, "x");
    kept(host, "y");
    /* without the one that is refused there is none left */
    problem_list_clear(&host->problems);
    check(host);
    assert_int_equal(host->problems.count, 0);
}

static void test_memory(void **context)
{
    Host *host = *context;

    add(host, "a", "\"mem\": 600");
    add(host, "b", "\"mem\": 401");
    add(host, "c", "\"mem\": 9000, \"autostart\": false");
    assert_int_equal(definitions_check_across(&host->definitions, NULL, 1001, &host->problems), 0);
    assert_int_equal(host->problems.count, 0);
    assert_int_equal(definitions_check_across(&host->definitions, NULL, 1000, &host->problems), 0);
    assert_int_equal(host->problems.count, 1);
    assert_int_equal(host->problems.items[0].severity, PROBLEM_WARNING);
    assert_non_null(
        strstr(host->problems.items[0].text, "the 2 microVMs that start with the host ask for 1001"));
    kept(host, "a");
    kept(host, "b");
    assert_true(host_memory_mib() > 0);
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
    refused(host, "vm999", "vm000 -> vm001 -> vm002");
    kept(host, "vm998");
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clashes),   TEST(test_ports),   TEST(test_all_are_told), TEST(test_names),
        TEST(test_broken_ones_are_there), TEST(test_circles), TEST(test_memory),       TEST(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
