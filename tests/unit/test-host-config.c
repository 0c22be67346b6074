/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host configuration and the guard: a system is a host or a guest, never both. */
#include "host/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

typedef struct Loaded {
    HostVerdict verdict;
    char *refusal;
    HostConfig config;
    ProblemList problems;
} Loaded;

static void loaded_clear(Loaded *loaded)
{
    free(loaded->refusal);
    host_config_clear(&loaded->config);
    problem_list_clear(&loaded->problems);
}

#define _cleanup_loaded_ _cleanup_(loaded_clear)

static Loaded load(Scratch *scratch)
{
    Loaded loaded = {0};

    assert_int_equal(host_config_load(scratch_path(scratch, "host.json"), &loaded.problems, &loaded.verdict,
                                      &loaded.refusal, &loaded.config),
                     0);
    if (loaded.verdict == HOST_OK) {
        assert_null(loaded.refusal);
        assert_non_null(loaded.config.libvirt_uri);
        assert_int_equal(problem_count(&loaded.problems, PROBLEM_ERROR), 0);
    } else {
        assert_non_null(loaded.refusal);
        assert_null(loaded.config.libvirt_uri);
        assert_true(problem_count(&loaded.problems, PROBLEM_ERROR) > 0);
    }
    return loaded;
}

static void drop_ins(Scratch *scratch)
{
    assert_int_equal(mkdir(scratch_path(scratch, "host.json.d"), 0755), 0);
}

static void test_no_file(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded none = load(scratch);

    assert_int_equal(none.verdict, HOST_OK);
    assert_int_equal(none.problems.count, 0);
    assert_int_equal(none.config.max_concurrent_starts, 0);
    assert_int_equal(none.config.memory_reserve_mib, 0);
    assert_string_equal(none.config.libvirt_uri, "qemu:///system");
    assert_int_equal(none.config.defaults.driver, DRIVER_KIND_LIBVIRT);
    assert_int_equal(none.config.defaults.accel, ACCEL_AUTO);
    assert_false(none.config.watch_definitions);
    drop_ins(scratch);
    _cleanup_loaded_ Loaded empty = load(scratch);
    assert_int_equal(empty.verdict, HOST_OK);
}

static void test_all_keys(void **context)
{
    Scratch *scratch = *context;
    static const char text[] =
        "{ // everything\n"
        "  \"images\": { \"directories\": [\"/srv/a\", \"/srv/b\"] },\n"
        "  \"host\": { \"enable\": true, \"maxConcurrentStarts\": 8, \"memoryReserve\": \"2G\" },\n"
        "  \"guest\": { \"enable\": false },\n"
        "  \"microvm\": { \"host\": { \"enable\": true, \"startupTimeout\": 150 },\n"
        "    \"guest\": { \"enable\": false }, \"stateDir\": \"/x\", \"vms\": { \"a\": [ null ] } },\n"
        "  \"libvirt\": { \"uri\": \"qemu:///embed?root=/srv/q\" },\n"
        "  \"defaults\": { \"driver\": \"libvirt\", \"accel\": \"tcg\" },\n"
        "  \"definitions\": { \"watch\": true },\n"
        "}\n";

    scratch_text(scratch, "host.json", text);
    _cleanup_loaded_ Loaded loaded = load(scratch);
    assert_int_equal(loaded.verdict, HOST_OK);
    assert_int_equal(loaded.config.max_concurrent_starts, 8);
    assert_int_equal(loaded.config.memory_reserve_mib, 2048);
    assert_string_equal(loaded.config.libvirt_uri, "qemu:///embed?root=/srv/q");
    assert_int_equal(loaded.config.n_image_directories, 2);
    assert_string_equal(loaded.config.image_directories[1], "/srv/b");
    assert_int_equal(loaded.config.defaults.accel, ACCEL_TCG);
    assert_true(loaded.config.watch_definitions);
}

static void test_drop_ins_in_order(void **context)
{
    Scratch *scratch = *context;

    scratch_text(scratch, "host.json", "{ \"host\": { \"maxConcurrentStarts\": 1, \"memoryReserve\": 7 } }");
    drop_ins(scratch);
    scratch_text(scratch, "host.json.d/20-b.json", "{ \"host\": { \"maxConcurrentStarts\": 3 } }");
    scratch_text(scratch, "host.json.d/10-a.json",
                 "{ \"host\": { \"maxConcurrentStarts\": 2 }, \"defaults\": { \"accel\": \"kvm\" } }");
    scratch_text(scratch, "host.json.d/30-c.json~", "no JSON, and no drop-in either");
    scratch_text(scratch, "host.json.d/.hidden.json", "no drop-in");
    _cleanup_loaded_ Loaded loaded = load(scratch);
    assert_int_equal(loaded.verdict, HOST_OK);
    assert_int_equal(loaded.config.max_concurrent_starts, 3);
    assert_int_equal(loaded.config.memory_reserve_mib, 7);
    assert_int_equal(loaded.config.defaults.accel, ACCEL_KVM);
}

/* Every way to say that this is a guest, or no host; in the main file and, all the same, in a drop-in. */
static void test_roles(void **context)
{
    static const struct {
        const char *text, *pointer;
        HostVerdict verdict;
        const char *mended;
    } cases[] = {
        {"{ \"guest\": { \"enable\": true } }", "/guest/enable", HOST_GUEST_MODE,
         "    \"guest\": { \"enable\": false }"},
        {"{ \"microvm\": { \"guest\": { \"enable\": true } } }", "/microvm/guest/enable", HOST_GUEST_MODE,
         "    \"microvm\": { \"guest\": { \"enable\": false } }"},
        {"{ \"host\": { \"enable\": false } }", "/host/enable", HOST_DISABLED,
         "    \"host\": { \"enable\": true }"},
        {"{ \"microvm\": { \"host\": { \"enable\": false } } }", "/microvm/host/enable", HOST_DISABLED,
         "    \"microvm\": { \"host\": { \"enable\": true } }"},
        /* beside what looks like permission */
        {"{ \"guest\": { \"enable\": true }, \"host\": { \"enable\": true }, \"microvm\": { \"guest\": { "
         "\"enable\": false } } }",
         "/guest/enable", HOST_GUEST_MODE, NULL},
        /* beside another mistake, the role is what is told */
        {"{ \"guest\": { \"enable\": true }, \"flavour\": 01 }", "/guest/enable", HOST_GUEST_MODE, NULL},
        /* both: the graver one */
        {"{ \"host\": { \"enable\": false }, \"guest\": { \"enable\": true } }", "/guest/enable",
         HOST_GUEST_MODE, NULL},
    };
    static const char *const files[] = {"host.json", "host.json.d/50-x.json"};
    Scratch *scratch = *context;

    drop_ins(scratch);
    for (size_t i = 0; i < ELEMENTSOF(cases) * ELEMENTSOF(files); i++) {
        size_t k = i / ELEMENTSOF(files);
        const char *file = files[i % ELEMENTSOF(files)];
        scratch_text(scratch, file, cases[k].text);
        _cleanup_loaded_ Loaded loaded = load(scratch);
        scratch_path(scratch, file);
        assert_int_equal(loaded.verdict, cases[k].verdict);
        assert_non_null(strstr(loaded.refusal, scratch->file));
        assert_non_null(strstr(loaded.refusal, cases[k].pointer));
        if (cases[k].mended)
            assert_non_null(strstr(loaded.refusal, cases[k].mended));
        if (cases[k].verdict == HOST_GUEST_MODE) /* what breaks */
            assert_non_null(strstr(loaded.refusal, "switch-to-configuration"));
        assert_int_not_equal(loaded.refusal[strlen(loaded.refusal) - 1], '\n');
        assert_int_equal(unlink(scratch->file), 0);
    }
}

static void test_refusal_words(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *expected = NULL;

    scratch_text(scratch, "host.json", "{\n  \"guest\": { \"enable\": true }\n}\n");
    _cleanup_loaded_ Loaded loaded = load(scratch);
    assert_true(
        asprintf(
            &expected,
            "This host's configuration enables guest mode; microvmd runs on hosts only.\n"
            "%s/host.json:2:24 says true at /guest/enable.\n"
            "A system is a host of microVMs or a microVM guest, never both: guest optimisations switch off "
            "what a host needs\n"
            "(on NixOS system.switch.enable: switch-to-configuration is gone, and the host can't be "
            "rebuilt).\n"
            "To mend it, write there instead (or remove it):\n"
            "    \"guest\": { \"enable\": false }",
            scratch->path) > 0);
    assert_string_equal(loaded.refusal, expected);
    assert_int_equal(loaded.problems.count, 1);
    assert_string_equal(loaded.problems.items[0].pointer, "/guest/enable");
    assert_int_equal(loaded.problems.items[0].line, 2);
    assert_int_equal(loaded.problems.items[0].column, 24);
}

/* No file can take back what another one says. */
static void test_no_permission_from_elsewhere(void **context)
{
    static const char guest[] = "{ \"guest\": { \"enable\": true } }",
                      host[] = "{ \"guest\": { \"enable\": false } }";
    Scratch *scratch = *context;

    drop_ins(scratch);
    scratch_text(scratch, "host.json", guest);
    scratch_text(scratch, "host.json.d/99.json", host);
    _cleanup_loaded_ Loaded later = load(scratch);
    assert_int_equal(later.verdict, HOST_GUEST_MODE);
    scratch_text(scratch, "host.json", host);
    scratch_text(scratch, "host.json.d/10.json", guest);
    _cleanup_loaded_ Loaded earlier = load(scratch);
    assert_int_equal(earlier.verdict, HOST_GUEST_MODE);
    assert_non_null(strstr(earlier.refusal, "10.json"));
}

static void test_gravest_first(void **context)
{
    Scratch *scratch = *context;

    drop_ins(scratch);
    scratch_text(scratch, "host.json", "{");
    scratch_text(scratch, "host.json.d/10.json", "{ \"host\": { \"enable\": false } }");
    _cleanup_loaded_ Loaded disabled = load(scratch);
    assert_int_equal(disabled.verdict, HOST_DISABLED);
    scratch_text(scratch, "host.json.d/20.json", "{ \"guest\": { \"enable\": true } }");
    _cleanup_loaded_ Loaded guest = load(scratch);
    assert_int_equal(guest.verdict, HOST_GUEST_MODE);
    assert_int_equal(guest.problems.count, 3); /* and all are told */
}

/* What can't be read, parsed or understood might say that this is a guest. */
static void test_fail_closed(void **context)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "null",
        "\"host\"",
        "{ \"guest\": true }",
        "{ \"guest\": { \"enable\": \"false\" } }",
        "{ \"guest\": { \"enable\": 0 } }",
        "{ \"guest\": { \"enable\": null } }",
        "{ \"guest\": { \"enabled\": true } }",
        "{ \"Guest\": { \"enable\": true } }",
        /* the documentation's way to name a key is no key */
        "{ \"guest.enable\": true }",
        "{ \"host.enable\": false }",
        "{ \"microvm.guest.enable\": true }",
        "{ \"microvm.guest\": { \"enable\": true } }",
        "{ \"microvm\": { \"guest.enable\": true } }",
        "{ \"microvm\": true }",
        "{ \"microvm\": { \"guest\": [] } }",
        "{ \"microvm\": { \"guest\": { \"enable\": \"yes\" } } }",
        "{ \"guest\": { \"enable\": false, \"enable\": true } }",
        "{ \"guest\": { \"enable\": false }, \"guest\": { \"enable\": true } }",
        "{ \"guest\": { \"enable\": True } }",
        "{ \"flavour\": 1 }",
        "{ \"host\": { \"maxConcurrentStarts\": -1 } }",
        "{ \"host\": { \"maxConcurrentStarts\": 10001 } }",
        "{ \"host\": { \"memoryReserve\": \"lots\" } }",
        "{ \"defaults\": { \"driver\": \"vbox\" } }",
        "{ \"defaults\": { \"accel\": \"fast\" } }",
        "{ \"definitions\": { \"watch\": 1 } }",
        "{ \"images\": { \"directories\": [\"srv\"] } }",
        "{ \"images\": { \"directories\": \"/srv\" } }",
        "{ \"libvirt\": { \"uri\": \"qemu+ssh://elsewhere/system\" } }",
        "{ \"libvirt\": { \"uri\": \"qemu://elsewhere/system\" } }",
        "{ \"libvirt\": { \"uri\": \"xen:///\" } }",
        "{ \"libvirt\": { \"uri\": \"\" } }",
        "{ \"host\": { \"enable\": true } }\xff",
    };
    Scratch *scratch = *context;

    for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
        scratch_text(scratch, "host.json", texts[i]);
        _cleanup_loaded_ Loaded loaded = load(scratch);
        if (loaded.verdict == HOST_OK)
            fail_msg("%s passes", texts[i]);
        assert_non_null(strstr(loaded.refusal, scratch_path(scratch, "host.json")));
    }
}

static void test_no_regular_file(void **context)
{
    static const char *const files[] = {"host.json", "host.json.d/10.json"};
    Scratch *scratch = *context;

    drop_ins(scratch);
    for (size_t i = 0; i < ELEMENTSOF(files); i++) {
        assert_int_equal(mkdir(scratch_path(scratch, files[i]), 0755), 0);
        _cleanup_loaded_ Loaded directory = load(scratch);
        assert_int_equal(directory.verdict, HOST_UNREADABLE);
        assert_int_equal(rmdir(scratch_path(scratch, files[i])), 0);
        assert_int_equal(symlink("nowhere", scratch->file), 0);
        _cleanup_loaded_ Loaded dangling = load(scratch);
        assert_int_equal(dangling.verdict, HOST_UNREADABLE);
        assert_int_equal(unlink(scratch_path(scratch, files[i])), 0);
        assert_int_equal(mkfifo(scratch->file, 0600), 0);
        _cleanup_loaded_ Loaded fifo = load(scratch);
        assert_int_equal(fifo.verdict, HOST_UNREADABLE);
        assert_int_equal(unlink(scratch_path(scratch, files[i])), 0);
    }
    assert_int_equal(rmdir(scratch_path(scratch, "host.json.d")), 0);
    assert_int_equal(symlink("nowhere", scratch->file), 0);
    _cleanup_loaded_ Loaded dangling = load(scratch);
    assert_int_equal(dangling.verdict, HOST_UNREADABLE);
    assert_int_equal(unlink(scratch_path(scratch, "host.json.d")), 0);
    scratch_text(scratch, "host.json.d", "{}");
    _cleanup_loaded_ Loaded file = load(scratch);
    assert_int_equal(file.verdict, HOST_UNREADABLE);
}

/* Where the file itself is a link (NixOS has such), it is read. */
static void test_link(void **context)
{
    Scratch *scratch = *context;

    scratch_text(scratch, "real.json", "{ \"guest\": { \"enable\": true } }");
    assert_int_equal(symlink("real.json", scratch_path(scratch, "host.json")), 0);
    _cleanup_loaded_ Loaded loaded = load(scratch);
    assert_int_equal(loaded.verdict, HOST_GUEST_MODE);
}

/* What others keep under "microvm" may be anything, and as much as they like. */
static void test_ignored_neighbours(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *text = NULL;
    size_t size;

    drop_ins(scratch);
    for (int file = 0; file < 3; file++) {
        FILE *stream = open_memstream(&text, &size);
        fprintf(stream, "{ \"microvm\": { \"list%d\": [", file);
        for (int i = 0; i < 60000; i++)
            fputs("0,", stream);
        fputs("], \"n\": 1e999, \"host\": { \"x\": { \"y\": null } } } }", stream);
        fclose(stream);
        scratch_text(scratch,
                     file == 0   ? "host.json"
                     : file == 1 ? "host.json.d/1.json"
                                 : "host.json.d/2.json",
                     text);
        free(TAKE_PTR(text));
    }
    _cleanup_loaded_ Loaded loaded = load(scratch);
    assert_int_equal(loaded.verdict, HOST_OK);
}

static void test_nixos(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *warning = NULL;

    assert_null(host_nixos_warning(scratch->path)); /* not NixOS */
    assert_int_equal(mkdir_parents(scratch_path(scratch, "run"), 0755), 0);
    assert_int_equal(mkdir_parents(scratch_path(scratch, "store/system/bin"), 0755), 0);
    assert_int_equal(symlink("../store/system", scratch_path(scratch, "run/current-system")), 0);
    warning = host_nixos_warning(scratch->path);
    assert_non_null(warning);
    assert_non_null(strstr(warning, "system.switch.enable"));
    assert_non_null(strstr(warning, "/run/current-system/bin/switch-to-configuration"));
    scratch_text(scratch, "store/system/bin/switch-to-configuration", "#!/bin/sh\n");
    assert_null(host_nixos_warning(scratch->path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_no_file),
        IN_SCRATCH(test_all_keys),
        IN_SCRATCH(test_drop_ins_in_order),
        IN_SCRATCH(test_roles),
        IN_SCRATCH(test_refusal_words),
        IN_SCRATCH(test_no_permission_from_elsewhere),
        IN_SCRATCH(test_gravest_first),
        IN_SCRATCH(test_fail_closed),
        IN_SCRATCH(test_no_regular_file),
        IN_SCRATCH(test_link),
        IN_SCRATCH(test_ignored_neighbours),
        IN_SCRATCH(test_nixos),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
