/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What two microVMs of a host can't both have, whom they name, and orders that go round in a circle. */
#include "across-host.h"

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
        host_setup((void **)&host);
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
        host_teardown((void **)&host);
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
        host_setup((void **)&host);
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
        host_teardown((void **)&host);
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
        cmocka_unit_test(test_images),
        TEST(test_image_by_two_names),
        TEST(test_memory),
        cmocka_unit_test(test_memory_of_a_host),
        TEST(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
