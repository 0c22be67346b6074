/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories of definitions: which file counts, and that broken ones are named and harm nobody. */
#include "definitions.h"

#include "launch/launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <dirent.h>

static const SpecContext plain = {.accel = ACCEL_AUTO};
static const char good[] = "{ \"kernel\": \"/k\" }";

/* Loads "high" over "low". */
static void load(Scratch *scratch, ProblemList *problems, Definitions *ret_definitions)
{
    char high[128], low[128], none[128];
    const char *const directories[] = {high, none, low};

    snprintf(high, sizeof(high), "%s/high", scratch->path);
    snprintf(low, sizeof(low), "%s/low", scratch->path);
    snprintf(none, sizeof(none), "%s/none", scratch->path);
    assert_int_equal(definitions_load(directories, ELEMENTSOF(directories), &plain, NULL,
                                      &(Surroundings){.state_dir = "/state"}, problems, ret_definitions),
                     0);
}

static int setup(void **context)
{
    int r = scratch_setup(context);
    Scratch *scratch = *context;

    assert_int_equal(mkdir(scratch_path(scratch, "high"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(scratch, "low"), 0755), 0);
    return r;
}

static void test_precedence(void **context)
{
    Scratch *scratch = *context;
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(definitions_clear)
    Definitions found = {0};

    scratch_text(scratch, "low/web.json", "{ \"kernel\": \"/low\" }");
    scratch_text(scratch, "high/web.json", "{ \"kernel\": \"/high\" }");
    scratch_text(scratch, "low/db.json", good);
    scratch_text(scratch, "low/masked.json", good);
    scratch_text(scratch, "high/masked.json", "");
    scratch_text(scratch, "low/gone.json", good);
    assert_int_equal(symlink("/dev/null", scratch_path(scratch, "high/gone.json")), 0);
    scratch_text(scratch, "low/README", "no definition");
    scratch_text(scratch, "low/.hidden.json", "no definition");
    scratch_text(scratch, "low/web.json~", "no definition");
    load(scratch, &problems, &found);
    assert_int_equal(problems.count, 0);
    assert_int_equal(found.count, 2);
    assert_string_equal(found.items[0].name, "db");
    assert_string_equal(found.items[1].name, "web");
    assert_string_equal(found.items[1].spec->kernel, "/high");
    assert_null(found.items[1].error);
}

/* A broken file does not give way to a lower one: that would be another microVM than the one that is meant.
 */
static void test_broken_above_good(void **context)
{
    Scratch *scratch = *context;
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(definitions_clear)
    Definitions found = {0};

    scratch_text(scratch, "low/web.json", good);
    scratch_text(scratch, "high/web.json", "{");
    load(scratch, &problems, &found);
    assert_int_equal(found.count, 1);
    assert_null(found.items[0].spec);
    assert_non_null(strstr(found.items[0].error, "high/web.json:1:2"));
}

static void test_names(void **context)
{
    Scratch *scratch = *context;
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(definitions_clear)
    Definitions found = {0};

    scratch_text(scratch, "low/-a.json", good);
    scratch_text(scratch, "low/a b.json", good);
    scratch_text(scratch, "low/\xff.json", good);
    scratch_text(scratch, "low/Web.json", good);
    scratch_text(scratch, "low/web.json", good);
    load(scratch, &problems, &found);
    assert_int_equal(found.count, 1);
    assert_int_equal(problem_count(&problems, PROBLEM_ERROR), 4);
}

/* Copies the corpus, and adds what no repository can hold. Returns how many broken ones there are. */
static size_t make_broken(Scratch *scratch)
{
    enum {
        MIB = 1024 * 1024
    };
    _cleanup_free_ char *big = malloc(MIB + 1);
    struct dirent **entries;
    int n = scandir(SOURCE_DIR "/tests/data/broken", &entries, NULL, NULL);
    size_t count = 0;

    for (int i = 0; i < n; i++) {
        char from[512], to[512];
        if (strstr(entries[i]->d_name, ".json")) {
            snprintf(from, sizeof(from), SOURCE_DIR "/tests/data/broken/%s", entries[i]->d_name);
            snprintf(to, sizeof(to), "%s/low/%s", scratch->path, entries[i]->d_name);
            assert_int_equal(copy_file(from, to, 0644), 0);
            count++;
        }
        free(entries[i]);
    }
    free(entries);
    memset(big, '[', MIB + 1);
    scratch_write(scratch, "low/brackets.json", big, MIB);
    scratch_write(scratch, "low/too-big.json", big, MIB + 1);
    assert_int_equal(mkfifo(scratch_path(scratch, "low/fifo.json"), 0600), 0);
    assert_int_equal(mkdir(scratch_path(scratch, "low/directory.json"), 0700), 0);
    assert_int_equal(symlink("nowhere", scratch_path(scratch, "low/dangling.json")), 0);
    assert_int_equal(symlink("loop.json", scratch_path(scratch, "low/loop.json")), 0);
    return count + 6;
}

static void test_one_good_among_the_broken(void **context)
{
    Scratch *scratch = *context;
    size_t broken = make_broken(scratch);

    assert_true(broken >= 30);
    scratch_text(scratch, "low/good.json", good);
    for (int round = 0; round < 3; round++) {
        _cleanup_problems_ ProblemList problems = {0};
        _cleanup_(definitions_clear)
        Definitions found = {0};
        load(scratch, &problems, &found);
        assert_int_equal(found.count, broken + 1);
        for (size_t i = 0; i < found.count; i++) {
            const Definition *definition = &found.items[i];
            if (streq(definition->name, "good")) {
                assert_non_null(definition->spec);
                assert_null(definition->error);
                continue;
            }
            assert_null(definition->spec);
            assert_non_null(strstr(definition->error, definition->path)); /* the place, in one sentence */
            assert_null(strchr(definition->error, '\n'));
        }
    }
}

static bool is_said(const ProblemList *problems, ProblemSeverity severity, const char *pointer,
                    const char *text)
{
    for (size_t i = 0; i < problems->count; i++)
        if (problems->items[i].severity == severity && streq(problems->items[i].pointer, pointer) &&
            strstr(problems->items[i].text, text))
            return problems->items[i].line > 0;
    return false;
}

/* What can't be done is refused with its place and who could do it, and never ignored. */
static void test_capabilities(void **context)
{
    static const char text[] =
        "{ \"kernel\": \"/k\", \"prettyProcnames\": true,\n"
        "  \"interfaces\": [\"user\", {\"type\": \"macvtap\", \"macvtap\": {\"link\": \"eth0\", "
        "\"mode\": \"source\"}}],\n"
        "  \"firecracker\": {\"driveIoEngine\": \"Sync\"}, \"kvmtool\": {\"extraArgs\": []} }";
    static const char other[] = "{ \"kernel\": \"/k\", \"hypervisor\": \"vfkit\", \"user\": \"joe\" }";
    _cleanup_problems_ ProblemList problems = {0}, other_problems = {0};
    VmSpec *spec = NULL;

    assert_int_equal(definition_load_text("web", text, &plain, &problems, &spec), -EBADMSG);
    assert_true(is_said(&problems, PROBLEM_ERROR, "/prettyProcnames",
                        "driver \"libvirt\" and QEMU's machine \"microvm\": naming"));
    assert_true(
        is_said(&problems, PROBLEM_ERROR, "/interfaces/1/macvtap/mode", "a later version of microvmd will"));
    assert_true(is_said(&problems, PROBLEM_WARNING, "/firecracker/driveIoEngine",
                        "for the hypervisor \"firecracker\""));
    assert_false(is_said(&problems, PROBLEM_WARNING, "/kvmtool/extraArgs", ""));
    assert_int_equal(definition_load_text("web", other, &plain, &other_problems, &spec), -EBADMSG);
    assert_int_equal(other_problems.count, 1);
    assert_true(is_said(&other_problems, PROBLEM_ERROR, "/hypervisor", "macOS"));
}

/* Each of the two could do what the other can't: no driver can do both, but nobody is told that no driver
 * could. */
static void test_each_can_a_part(void **context)
{
    static const char text[] =
        "{ \"kernel\": \"/k\", \"driver\": \"direct\", \"interfaces\": [\"bridge:br0\"],\n"
        "  \"sandbox\": { \"network\": false } }";
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    assert_int_equal(definition_load_text("web", text, &plain, &problems, &spec), -EBADMSG);
    assert_int_equal(problem_count(&problems, PROBLEM_ERROR), 1);
    assert_true(is_said(&problems, PROBLEM_ERROR, "/interfaces/0",
                        "the driver \"libvirt\" can, but not all else that is asked for"));
}

static void expect_load(const char *text, int expected, const char *pointer, const char *words)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    assert_int_equal(definition_load_text("web", text, &plain, &problems, &spec), expected);
    assert_true(!pointer || is_said(&problems, PROBLEM_ERROR, pointer, words));
    vm_spec_unref(spec);
}

/* Limits of the driver "direct" are its units': without units they are refused. */
static void test_what_units_can(void **context)
{
    static const char limits[] =
        "{ \"kernel\": \"/k\", \"driver\": \"direct\", \"limits\": { \"cpuQuota\": \"50%\", "
        "\"cpuAffinity\": \"0\", \"memoryMax\": \"4G\", \"ioWeight\": 10, \"tasksMax\": 99 } }";
    static const char loose[] =
        "{ \"kernel\": \"/k\", \"driver\": \"direct\", \"sandbox\": { \"network\": false } }";
    static const char *const keys[] = {"cpuQuota", "cpuAffinity", "memoryMax", "ioWeight", "tasksMax"};

    launcher_use(LAUNCHER_FORK);
    for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/limits/%s", keys[i]);
        expect_load(limits, -EBADMSG, pointer, "systemd can, for the driver \"direct\"");
    }
    expect_load(loose, 0, NULL, NULL);
    launcher_use(LAUNCHER_SYSTEMD);
    expect_load(limits, 0, NULL, NULL);
    expect_load(loose, 0, NULL, NULL);
    launcher_use(LAUNCHER_FORK);
    expect_load("{ \"kernel\": \"/k\", \"sandbox\": { \"network\": false } }", -EBADMSG, "/sandbox/network",
                "set \"driver\": \"direct\", which can");
}

/* Text comes from anybody on the bus: what it may cost is bounded. */
static void test_large_text(void **context)
{
    _cleanup_free_ char *large = malloc(SPEC_FILE_MAX + 2), *keys = NULL;
    _cleanup_problems_ ProblemList problems = {0}, many = {0};
    VmSpec *spec = NULL;
    size_t size;
    FILE *stream;

    memset(large, ' ', SPEC_FILE_MAX + 1);
    large[SPEC_FILE_MAX + 1] = '\0';
    memcpy(large, good, strlen(good));
    assert_int_equal(definition_load_text("web", large, &plain, &problems, &spec), -EBADMSG);
    assert_int_equal(problems.count, 1);
    large[SPEC_FILE_MAX] = '\0';
    assert_int_equal(definition_load_text("web", large, &plain, &problems, &spec), 0);
    spec = vm_spec_unref(spec);

    stream = open_memstream(&keys, &size);
    fputc('{', stream);
    for (int i = 0; i < 50000; i++)
        fprintf(stream, "\"kernelParam%d\":1,", i);
    fputc('}', stream);
    fclose(stream);
    assert_int_equal(definition_load_text("web", keys, &plain, &many, &spec), -EBADMSG);
    keys = (free(keys), NULL);
    stream = open_memstream(&keys, &size);
    fputs("{\"kernel\":\"/k\",\"kernelParams+\":[1", stream);
    for (int i = 0; i < 90000; i++)
        fputs(",1", stream);
    fputs("]}", stream);
    fclose(stream);
    assert_int_equal(definition_load_text("web", keys, &plain, &problems, &spec),
                     -EBADMSG);               /* not in minutes */
    assert_true(problem_list_is_full(&many)); /* a suggestion for each would take seconds */
    assert_non_null(strstr(many.items[0].text, "did you mean"));
}

/* As a daemon reads them, through layers and specifiers: only what no driver can do is said of them. */
static void test_good_files(void **context)
{
    static const char *const paths[] = {SOURCE_DIR "/tests/data/good/full.json",
                                        SOURCE_DIR "/tests/data/good/every-key.json"};

    for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
        _cleanup_problems_ ProblemList problems = {0};
        _cleanup_free_ char *text = NULL;
        VmSpec *spec = NULL;
        size_t size;
        assert_int_equal(read_file(paths[i], SPEC_FILE_MAX, &text, &size), 0);
        definition_load_text("web", text, &plain, &problems, &spec);
        for (size_t k = 0; k < problems.count; k++)
            if (problems.items[k].severity == PROBLEM_ERROR &&
                !strstr(problems.items[k].text, "not possible with"))
                fail_msg("%s: %s", paths[i], problems.items[k].text);
        vm_spec_unref(spec);
    }
}

/* Refused at once, by its number, not by each of them. */
static void test_a_thousand_volumes(void **context)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *text = NULL;
    VmSpec *spec = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    fputs("{\"kernel\": \"/k\", \"volumes\": [", stream);
    for (int i = 0; i < 1000; i++)
        fprintf(stream, "%s\"/srv/%d.img\"", i > 0 ? ", " : "", i);
    fputs("]}", stream);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(definition_load_text("web", text, &plain, &problems, &spec), -EBADMSG);
    assert_int_equal(problems.count, 1);
    assert_string_equal(problems.items[0].text, "this has 1000 entries; 64 is the most");
    assert_string_equal(problems.items[0].pointer, "/volumes");
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_precedence),
        TEST(test_broken_above_good),
        TEST(test_names),
        cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_each_can_a_part),
        cmocka_unit_test(test_what_units_can),
        cmocka_unit_test(test_a_thousand_volumes),
        TEST(test_one_good_among_the_broken),
        cmocka_unit_test(test_good_files),
        TEST(test_large_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
