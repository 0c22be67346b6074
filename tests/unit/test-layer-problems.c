/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is said of a definition that is made of several files: all of it, each at its place. */
#include "definitions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <time.h>

/* "FILE:LINE:COLUMN TEXT" of all problems, the files without their directory. */
static char *all_said(const Scratch *scratch, const ProblemList *problems)
{
    char *said = NULL;
    size_t size, length = strlen(scratch->path) + 1;
    FILE *stream = open_memstream(&said, &size);

    for (size_t i = 0; i < problems->count; i++) {
        const Problem *problem = &problems->items[i];
        fprintf(stream, "%s:%u:%u %s (at %s)\n", problem->file ? problem->file + length : "?", problem->line,
                problem->column, problem->text, problem->pointer);
    }
    fclose(stream);
    return said;
}

/* Loads vms/, above defaults.json. */
static char *load(Scratch *scratch, Definitions *ret_definitions)
{
    _cleanup_free_ char *vms = strdup(scratch_path(scratch, "vms")),
                        *defaults = strdup(scratch_path(scratch, "defaults.json"));
    const char *const directories[] = {vms};
    SpecContext context = {.defaults_path = defaults};
    _cleanup_problems_ ProblemList problems = {0};

    assert_int_equal(
        definitions_load(directories, 1, &context, NULL, &(Surroundings){0}, &problems, ret_definitions), 0);
    return all_said(scratch, &problems);
}

static int setup(void **context)
{
    int r = scratch_setup(context);
    Scratch *scratch = *context;

    assert_int_equal(mkdir(scratch_path(scratch, "vms"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(scratch, "vms/web.json.d"), 0755), 0);
    return r;
}

static void assert_said(const char *said, const char *const *wanted, size_t n)
{
    size_t lines = 0;

    for (const char *at = said; (at = strchr(at, '\n')); at++)
        lines++;
    for (size_t i = 0; i < n; i++)
        if (!strstr(said, wanted[i]))
            fail_msg("\"%s\" is not said, but:\n%s", wanted[i], said);
    if (lines != n)
        fail_msg("more is said:\n%s", said);
}

#define SAID(...)                                                                                            \
    assert_said(said, (const char *const[]){__VA_ARGS__}, ELEMENTSOF(((const char *const[]){__VA_ARGS__})))

/* A name is a name, however it is written. */
static void test_specifiers_before_merging(void **context)
{
    Scratch *scratch = *context;
    _cleanup_(definitions_clear)
    Definitions found = {0};
    _cleanup_free_ char *said = NULL;

    scratch_text(scratch, "defaults.json", "{\"shares\": [{\"tag\": \"%n\", \"source\": \"/srv/%n\"}]}");
    scratch_text(scratch, "vms/web.json",
                 "{\"kernel\": \"/k\", \"volumes\": [\"web.img\"], \"shares\": [{\"tag\": \"web\", "
                 "\"readOnly\": true}]}");
    scratch_text(scratch, "vms/web.json.d/1.json",
                 "{\"volumes\": [{\"image\": \"%n.img\", \"readOnly\": true}]}");
    said = load(scratch, &found);
    assert_string_equal(said, "");
    assert_int_equal(found.items[0].spec->n_volumes, 1);
    assert_true(found.items[0].spec->volumes[0].read_only);
    assert_int_equal(found.items[0].spec->n_shares, 1);
    assert_string_equal(found.items[0].spec->shares[0].source, "/srv/web");
    assert_true(found.items[0].spec->shares[0].read_only);
}

/* What a drop-in took out is missing there. */
static void test_place_of_null(void **context)
{
    Scratch *scratch = *context;
    _cleanup_(definitions_clear)
    Definitions found = {0}, again = {0};
    _cleanup_free_ char *said = NULL, *nothing = NULL;

    scratch_text(scratch, "vms/web.json",
                 "{\"kernel\": \"/k\", \"interfaces\": [\"tap:t0\"], \"restart\": {\"delay\": 5}}");
    scratch_text(scratch, "vms/web.json.d/1.json",
                 "{\n  \"kernel\": null,\n  \"interfaces\": [\n    {\"id\": \"t0\",\n     \"type\": null}]}");
    said = load(scratch, &found);
    SAID("vms/web.json.d/1.json:2:13 \"kernel\" is missing",
         "vms/web.json.d/1.json:5:14 \"type\" is missing");
    /* and not any more when a later one gives it again */
    scratch_text(scratch, "vms/web.json.d/2.json",
                 "{\"kernel\": \"/l\", \"interfaces\": [{\"id\": \"t0\", \"type\": \"tap\"}]}");
    nothing = load(scratch, &again);
    assert_string_equal(nothing, "");
    assert_string_equal(again.items[0].spec->kernel, "/l");
}

/* null of a key that does not exist removes nothing, and is a mistake. */
static void test_unknown_null(void **context)
{
    Scratch *scratch = *context;
    _cleanup_(definitions_clear)
    Definitions found = {0};
    _cleanup_free_ char *said = NULL;

    scratch_text(scratch, "vms/web.json",
                 "{\"kernel\": \"/k\", \"labels\": {\"a\": \"b\"}, \"vsock\": null, \"storeOnDisk\": null}");
    scratch_text(
        scratch, "vms/web.json.d/1.json",
        "{\"kernelParms\": null,\n\"restart\": {\"polcy\": null}, \"labels\": {\"a\": null, \"c\": null}}");
    said = load(scratch, &found);
    SAID("1.json:1:2 there is no key \"kernelParms\"; did you mean \"kernelParams\"?",
         "1.json:2:13 there is no key \"polcy\"");
}

/* Processor time for a definition with so many keys of this kind. */
static clock_t time_keys(const char *member, int count)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    clock_t start;

    fputs("{\"z\": null", stream);
    for (int k = 0; k < count; k++) {
        fputs(", ", stream);
        fprintf(stream, member, k);
    }
    fputs("}", stream);
    fclose(stream);
    start = clock();
    assert_int_equal(definition_load_text("web", text, &(SpecContext){0}, &problems, &spec), -EBADMSG);
    return clock() - start;
}

/* Who sends text with very many keys has the loop wait for no longer than it takes to read it: eight times as
 * many take eight times as long. With each key against each other it would be 64 times. */
static void test_many_keys(void **context)
{
    static const char *const members[] = {"\"k%d+\": []", "\"k%d\": null", "\"k%d\": 0"};

    for (size_t i = 0; i < ELEMENTSOF(members); i++) {
        clock_t few = time_keys(members[i], 4000), many = time_keys(members[i], 32000);
        if (many > 24 * MAX(few, CLOCKS_PER_SEC / 1000))
            fail_msg("%s: %.3f s, then %.3f s", members[i], (double)few / CLOCKS_PER_SEC,
                     (double)many / CLOCKS_PER_SEC);
    }
}

/* A file that can't be read hides nothing of the others. */
static void test_all_files_are_told(void **context)
{
    Scratch *scratch = *context;
    _cleanup_(definitions_clear)
    Definitions found = {0};
    _cleanup_free_ char *said = NULL;

    scratch_text(scratch, "vms/web.json", "{\"kernel\": \"/k\",\n\"vcpu\": \"x\", \"kernelParms\": []}");
    scratch_text(scratch, "vms/web.json.d/1.json", "{\"vcpu\": ");
    scratch_text(scratch, "vms/web.json.d/2.json", "{\"mem\": \"x\", \"initrd\": \"%x\"}");
    said = load(scratch, &found);
    SAID("web.json:2:9 this must be a whole number", "web.json:2:14 there is no key",
         "1.json:1:10 the file ends", "2.json:1:9 \"x\" is not a size", "2.json:1:24 %x stands for nothing",
         "2.json:1:24 this must be an absolute path");
    assert_null(found.items[0].spec);
}

/* Nor do defaults that can't be read; but what is missing may be in them. */
static void test_broken_defaults(void **context)
{
    Scratch *scratch = *context;
    _cleanup_(definitions_clear)
    Definitions found = {0};
    _cleanup_free_ char *said = NULL;

    scratch_text(scratch, "defaults.json", "{\"kernel\": ");
    scratch_text(scratch, "vms/web.json", "{\"vcpu\": 0}");
    scratch_text(scratch, "vms/other.json", "{}");
    said = load(scratch, &found);
    SAID("defaults.json:1:12 the file ends", "web.json:1:10 0 is out of range");
    for (size_t i = 0; i < 2; i++)
        assert_non_null(strstr(found.items[i].error, "defaults.json:1:12"));
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_specifiers_before_merging),
        TEST(test_place_of_null),
        TEST(test_unknown_null),
        TEST(test_many_keys),
        TEST(test_all_files_are_told),
        TEST(test_broken_defaults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
