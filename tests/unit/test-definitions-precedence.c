/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who goes before whom where two microVMs of a host want the same. */
#include "across-host.h"

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

/* What runs keeps what it has, even if its definition can't be used. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_incumbent_wins),
        TEST(test_incumbent_of_what_it_had),
        TEST(test_refused_hold_nothing),
        TEST(test_incumbents_cross),
        TEST(test_runs_go_first),
        TEST(test_known_before_new),
        TEST(test_any_order),
        TEST(test_chain),
        TEST(test_run_of_a_broken_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
