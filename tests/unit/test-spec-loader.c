/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From bytes to a checked definition and back. tests/data/broken/NAME.txt is what is said of NAME.json, word
 * for word. */
#include "definition.h"
#include "spec/spec-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "parse-file.h"

#include "scratch.h"

#include <dirent.h>

enum {
    FILE_MAX = 1024 * 1024
};

static const SpecContext plain = {.accel = ACCEL_AUTO};

static VmSpec *parse(const char *name, const char *text)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;
    int r = vm_spec_parse(name, NULL, text, strlen(text), &plain, &problems, &spec);

    if (r < 0)
        fail_msg("%s: %d, %s", text, r, problems.count ? problems.items[0].text : "no problem");
    return spec;
}

static size_t refuse(const char *text)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    assert_int_equal(vm_spec_parse("web", NULL, text, strlen(text), &plain, &problems, &spec), -EBADMSG);
    assert_null(spec);
    return problem_count(&problems, PROBLEM_ERROR);
}

static int is_definition(const struct dirent *entry)
{
    return strstr(entry->d_name, ".json") != NULL;
}

/* Calls `check` with each NAME.json below tests/data; returns how many there were. */
static size_t for_each(const char *directory, void (*check)(const char *path))
{
    struct dirent **entries;
    int n = scandir(directory, &entries, is_definition, alphasort);

    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
        check(path);
        free(entries[i]);
    }
    free(entries);
    return (size_t)n;
}

/* --- broken ones --- */

static char *all_said(const ProblemList *problems, const char *path)
{
    char *said = NULL;
    size_t size;
    FILE *stream = open_memstream(&said, &size);

    for (size_t i = 0; i < problems->count; i++) {
        _cleanup_free_ char *text = problem_format(&problems->items[i]);
        assert_memory_equal(text, path, strlen(path));
        fprintf(stream, "%s\n", text + strlen(path) + 1);
    }
    fclose(stream);
    return said;
}

static void check_broken(const char *path)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *said = NULL, *expected = NULL;
    char golden[512];
    VmSpec *spec = NULL;
    size_t size;

    if (parse_file(path, &problems, &spec) != -EBADMSG)
        fail_msg("%s is taken", path);
    assert_null(spec);
    snprintf(golden, sizeof(golden), "%.*stxt", (int)(strlen(path) - 4), path);
    said = all_said(&problems, path);
    if (getenv("UPDATE_GOLDEN")) /* then read what git diff says */
        assert_int_equal(write_file_atomic(golden, said, strlen(said), 0644), 0);
    assert_int_equal(read_file(golden, FILE_MAX, &expected, &size), 0);
    if (!streq(said, expected))
        fail_msg("of %s is said:\n%sinstead of:\n%s", path, said, expected);
}

static void test_broken(void **context)
{
    assert_true(for_each(SOURCE_DIR "/tests/data/broken", check_broken) >= 30);
}

static void test_not_files(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *big = malloc(FILE_MAX + 1);
    static const struct {
        const char *name, *said;
    } cases[] = {
        {"fifo.json", "not a regular file"}, {"directory.json", "directory"},
        {"dangling.json", "No such file"},   {"loop.json", "symbolic links"},
        {"big.json", "too large"},           {"brackets.json", "64 levels"},
        {"zero.json", "not a regular file"},
    };

    memset(big, '[', FILE_MAX + 1);
    scratch_write(scratch, "big.json", big, FILE_MAX + 1);
    scratch_write(scratch, "brackets.json", big, FILE_MAX);
    assert_int_equal(mkfifo(scratch_path(scratch, "fifo.json"), 0600), 0);
    assert_int_equal(mkdir(scratch_path(scratch, "directory.json"), 0700), 0);
    assert_int_equal(symlink("nowhere", scratch_path(scratch, "dangling.json")), 0);
    assert_int_equal(symlink("loop.json", scratch_path(scratch, "loop.json")), 0);
    assert_int_equal(symlink("/dev/zero", scratch_path(scratch, "zero.json")), 0);
    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_problems_ ProblemList problems = {0};
        VmSpec *spec = NULL;
        const char *path = scratch_path(scratch, cases[i].name);
        LayerFile file = {.path = (char *)path};
        assert_int_equal(
            definition_load_files("web", NULL, &(LayerFiles){&file, 1, 0}, &plain, &problems, &spec),
            -EBADMSG);
        assert_int_equal(problems.count, 1);
        assert_string_equal(problems.items[0].file, path);
        if (!strstr(problems.items[0].text, cases[i].said))
            fail_msg("%s: %s", cases[i].name, problems.items[0].text);
    }
}

/* --- good ones --- */

static void check_good(const char *path)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL, *again = NULL, *elsewhere = NULL;
    _cleanup_free_ char *text = NULL, *same = NULL;

    if (parse_file(path, &problems, &spec) < 0)
        fail_msg("%s: %s", path, problems.items[0].text);
    /* Where every key is, some have no effect. */
    assert_true(problems.count == 0 || strstr(path, "every-key"));
    assert_string_equal(spec->path, path);
    text = vm_spec_to_json(spec);
    again = parse("web", text);
    assert_true(vm_spec_equal(spec, again));
    same = vm_spec_to_json(again);
    assert_string_equal(text, same);
    /* everything is in the dump: a reader with another name gets the same */
    elsewhere = parse("other", text);
    assert_true(vm_spec_equal(spec, elsewhere));
}

static void test_round_trip(void **context)
{
    assert_true(for_each(SOURCE_DIR "/tests/data/good", check_good) >= 5);
}

static void test_three_lines(void **context)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = parse("web", "{ \"kernel\": \"/k\", \"initrd\": \"/i\" }");

    assert_string_equal(spec->name, "web");
    assert_null(spec->path);
    assert_int_equal(spec->hypervisor, HYPERVISOR_QEMU);
    assert_int_equal(spec->driver, DRIVER_KIND_LIBVIRT);
    assert_int_equal(spec->accel, ACCEL_AUTO);
    assert_int_equal(spec->vcpu, 1);
    assert_int_equal(spec->mem_mib, 512);
    assert_string_equal(spec->kernel, "/k");
    assert_string_equal(spec->initrd, "/i");
    assert_int_equal(spec->n_kernel_params + spec->n_volumes + spec->n_interfaces + spec->n_forward_ports, 0);
    assert_true(spec->autostart);
    assert_int_equal(spec->restart_policy, RESTART_ON_FAILURE);
    assert_int_equal(spec->restart_delay_usec, 1000000);
    assert_int_equal(spec->stop_timeout_usec, 90000000);
    /* SHA-256 of "microvm.nix:web" */
    assert_string_equal(spec->machine_id, "dc449f31-234a-af5f-a0e8-2c21ab644d76");
}

static void test_full(void **context)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;

    assert_int_equal(parse_file(SOURCE_DIR "/tests/data/good/full.json", &problems, &spec), 0);
    assert_int_equal(spec->accel, ACCEL_TCG);
    assert_int_equal(spec->vcpu, 4);
    assert_int_equal(spec->mem_mib, 2048);
    assert_string_equal(spec->initrd, "/boot/initrd.img");
    assert_int_equal(spec->n_kernel_params, 3);
    assert_string_equal(spec->kernel_params[1], "root=LABEL=r\xc3\xb6\xc3\xb6t");
    assert_string_equal(spec->kernel_params[2], "dyndbg=\"+p\"");
    assert_false(spec->autostart);
    assert_string_equal(spec->machine_id, "6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c");
    assert_int_equal(spec->restart_policy, RESTART_ALWAYS);
    assert_int_equal(spec->restart_delay_usec, 90000000);
    assert_int_equal(spec->stop_timeout_usec, 500000);

    assert_int_equal(spec->n_volumes, 5);
    assert_int_equal(spec->volumes[0].size_mib, 1536);
    assert_true(spec->volumes[0].auto_create); /* relative, with a size */
    assert_string_equal(spec->volumes[0].serial, "data-1");
    assert_true(spec->volumes[1].read_only);
    assert_false(spec->volumes[1].auto_create);
    assert_true(spec->volumes[2].auto_create); /* absolute, in so many words */
    assert_false(spec->volumes[3].auto_create);
    assert_string_equal(spec->volumes[4].image, "/srv/web.img");
    assert_false(spec->volumes[4].auto_create);

    assert_int_equal(spec->n_interfaces, 2);
    assert_string_equal(spec->interfaces[0].mac, "52:54:00:ab:cd:ef");
    assert_string_equal(spec->interfaces[0].id, "net0");
    assert_int_equal(spec->interfaces[1].type, INTERFACE_USER);
    assert_string_equal(spec->interfaces[1].mac, "02:3b:2e:bc:6d:39");

    assert_int_equal(spec->n_forward_ports, 3);
    assert_string_equal(spec->forward_ports[0].host_address, "127.0.0.1");
    assert_int_equal(spec->forward_ports[0].proto, FORWARD_TCP);
    assert_null(spec->forward_ports[0].guest_address);
    assert_int_equal(spec->forward_ports[1].proto, FORWARD_UDP);
    assert_string_equal(spec->forward_ports[1].guest_address, "10.0.2.15");
    assert_int_equal(spec->forward_ports[2].from, FORWARD_FROM_GUEST);
    assert_int_equal(spec->forward_ports[2].guest_port, 5432);
}

static void test_host_defaults(void **context)
{
    static const SpecContext tcg = {.accel = ACCEL_TCG};
    static const char silent[] = "{ \"kernel\": \"/k\" }",
                      loud[] = "{ \"kernel\": \"/k\", \"accel\": \"kvm\" }";
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *first = NULL, *second = NULL;

    assert_int_equal(vm_spec_parse("web", NULL, silent, strlen(silent), &tcg, &problems, &first), 0);
    assert_int_equal(first->accel, ACCEL_TCG);
    assert_int_equal(vm_spec_parse("web", NULL, loud, strlen(loud), &tcg, &problems, &second), 0);
    assert_int_equal(second->accel, ACCEL_KVM);
}

/* What is made from a name never changes: guests know their cards and disks by it. */
static void test_made_from_the_name(void **context)
{
    _cleanup_free_ char *web = default_mac("web", 0), *second = default_mac("web", 1),
                        *other = default_mac("db", 0), *id = default_interface_id("web", 0),
                        *uuid = default_machine_id("db@1");
    char checked[18];

    assert_string_equal(web, "02:58:0e:e0:72:a7");
    assert_string_equal(second, "02:3b:2e:bc:6d:39");
    assert_string_not_equal(web, other);
    assert_string_equal(id, "mvm-fd2574de1a");
    assert_true(strlen(id) <= 15);
    assert_string_equal(uuid, "954b09a3-1ba0-6ce5-d204-37f4a51e9e56");
    assert_true(sscanf(web, "%17s", checked) == 1);
}

static void test_equal(void **context)
{
    static const char *const others[] = {
        "{ \"kernel\": \"/l\" }",
        "{ \"kernel\": \"/k\", \"initrd\": \"/i\" }",
        "{ \"kernel\": \"/k\", \"accel\": \"tcg\" }",
        "{ \"kernel\": \"/k\", \"vcpu\": 2 }",
        "{ \"kernel\": \"/k\", \"mem\": 513 }",
        "{ \"kernel\": \"/k\", \"kernelParams\": [ \"a\" ] }",
        "{ \"kernel\": \"/k\", \"volumes\": [ \"a\" ] }",
        "{ \"kernel\": \"/k\", \"interfaces\": [ \"user\" ] }",
        "{ \"kernel\": \"/k\", \"autostart\": false }",
        "{ \"kernel\": \"/k\", \"machineId\": \"6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c\" }",
        "{ \"kernel\": \"/k\", \"restart\": { \"policy\": \"no\" } }",
        "{ \"kernel\": \"/k\", \"restart\": { \"delay\": \"1001ms\" } }",
        "{ \"kernel\": \"/k\", \"stop\": { \"timeout\": 91 } }",
    };
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = parse("web", "{ \"kernel\": \"/k\" }"),
           *same = parse("web", "// the same\n{ \"mem\": \"512M\", \"kernel\": \"/k\", \"vcpu\": 1 }");

    assert_true(vm_spec_equal(spec, same));
    assert_true(vm_spec_equal(spec, spec));
    assert_true(vm_spec_equal(NULL, NULL));
    assert_false(vm_spec_equal(spec, NULL));
    for (size_t i = 0; i < ELEMENTSOF(others); i++) {
        _cleanup_(vm_spec_unrefp)
        VmSpec *other = parse("web", others[i]);
        if (vm_spec_equal(spec, other))
            fail_msg("%s is no difference", others[i]);
    }
}

static void test_references(void **context)
{
    VmSpec *spec = parse("web", "{ \"kernel\": \"/k\" }");

    assert_ptr_equal(vm_spec_ref(spec), spec);
    assert_null(vm_spec_unref(spec));
    assert_string_equal(spec->name, "web");
    assert_null(vm_spec_unref(spec));
    assert_null(vm_spec_unref(NULL));
    assert_null(vm_spec_ref(NULL));
}

static void test_names(void **context)
{
    static const char *const good[] = {"a",       "0",    "web", "web-1", "web_1", "web.example.org",
                                       "A.b-C_d", "db@1", "a@b"};
    static const char *const bad[] = {"",    ".",    "..",     "-a",       "a-",   ".a",    "a.",
                                      "_a",  "a@",   "@a",     "a..b",     "a@@b", "a@b@c", "a b",
                                      "a/b", "a\nb", "../etc", "\xc3\xa4", "a%",   "a:b"};
    char longest[66];

    for (size_t i = 0; i < ELEMENTSOF(good); i++)
        if (!vm_name_valid(good[i]))
            fail_msg("\"%s\" is refused", good[i]);
    for (size_t i = 0; i < ELEMENTSOF(bad); i++)
        if (vm_name_valid(bad[i]))
            fail_msg("\"%s\" passes", bad[i]);
    memset(longest, 'a', sizeof(longest));
    longest[64] = '\0';
    assert_true(vm_name_valid(longest));
    longest[64] = 'a';
    longest[65] = '\0';
    assert_false(vm_name_valid(longest));
}

/* Lists are bounded, so that comparing their entries with each other is. */
static void test_long_lists(void **context)
{
    static const char *const lists[][2] = {
        {"volumes", "\"a\""}, {"kernelParams", "\"a\""}, {"interfaces", "\"user\""}, {"forwardPorts", "{}"}};

    for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);
        fprintf(stream, "{\"kernel\":\"/k\",\"%s\":[", lists[i][0]);
        for (int k = 0; k < 50000; k++)
            fprintf(stream, "%s,", lists[i][1]);
        fputs("]}", stream);
        fclose(stream);
        assert_int_equal(refuse(text), 1);
    }
}

/* What no system call takes is no file that is only missing yet. */
static void test_long_paths(void **context)
{
    static const char *const formats[] = {"{\"kernel\": \"/%s\"}",
                                          "{\"kernel\": \"/k\", \"initrd\": \"/%s\"}",
                                          "{\"kernel\": \"/k\", \"volumes\": [\"%s\"]}"};
    char path[4096 + 1];

    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
        _cleanup_free_ char *text = NULL;
        assert_true(asprintf(&text, formats[i], path) > 0);
        assert_int_equal(refuse(text), 1);
    }
}

/* What is refused in one entry does not make up more mistakes elsewhere. */
static void test_no_follow_up(void **context)
{
    assert_int_equal(refuse("{ \"kernel\": 5 }"), 1);
    assert_int_equal(refuse("{ \"kernel\": \"/k\", \"volumes\": [ 1, \"a\", 2, \"b\" ] }"), 2);
    assert_int_equal(refuse("{ \"kernel\": \"/k\", \"volumes\": [ { \"image\": 1, \"size\": 01 } ] }"), 2);
    assert_int_equal(refuse("{ \"kernel\": \"/k\", \"interfaces\": [ 5 ], \"forwardPorts\": 5 }"), 2);
}

/* The rows themselves: a default is what a definition could say, and everything is documented. */
static void check_rows(const KeyTable *table)
{
    assert_true(table->n_rows <= TABLE_ROWS_MAX);
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        size_t length = strlen(row->doc);
        if (length == 0 || (row->doc[length - 1] == '.') != (row->type != KEY_REFUSED))
            fail_msg("documentation of %s: \"%s\"", row->key, row->doc);
        assert_false(row->required && (row->fallback || row->computed));
        if (row->type == KEY_ENUM)
            assert_true(row->enum_max > 0 && (!row->fallback || row->enum_value(row->fallback) >= 0));
        if (row->type == KEY_OBJECTS)
            check_rows(row->items);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(row->key, table->rows[k].key);
    }
}

static void test_rows(void **context)
{
    check_rows(&vm_table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken),
        IN_SCRATCH(test_not_files),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_three_lines),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_host_defaults),
        cmocka_unit_test(test_made_from_the_name),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_long_lists),
        cmocka_unit_test(test_long_paths),
        cmocka_unit_test(test_no_follow_up),
        cmocka_unit_test(test_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
