/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definition files that are written by microvmd: nothing of somebody else's is lost. */
#include "resource/definition-writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

static int write_text(Scratch *scratch, const char *name, const char *content, const char *expected)
{
    _cleanup_free_ char *error = NULL;
    int r = definition_file_write(scratch_path(scratch, name), content, expected, &error);

    assert_int_equal(r < 0, error != NULL);
    return r;
}

static void assert_content(Scratch *scratch, const char *name, const char *wanted)
{
    _cleanup_free_ char *text = NULL;
    size_t size;

    assert_int_equal(read_file(scratch_path(scratch, name), 1000, &text, &size), 0);
    assert_string_equal(text, wanted);
}

static void test_compare_and_swap(void **context)
{
    assert_int_equal(write_text(*context, "a.json", "x", "old"), -EBUSY);
    assert_int_equal(write_text(*context, "a.json", "one", ""), 0);
    assert_int_equal(write_text(*context, "a.json", "two", ""), -EBUSY);
    assert_int_equal(write_text(*context, "a.json", "two", "on"), -EBUSY);
    assert_int_equal(write_text(*context, "a.json", "two", "onee"), -EBUSY);
    assert_content(*context, "a.json", "one");
    assert_int_equal(write_text(*context, "a.json", "two", "one"), 0);
    assert_int_equal(write_text(*context, "a.json", "three", NULL), 0);
    assert_content(*context, "a.json", "three");
}

static void test_places_and_modes(void **context)
{
    struct stat st;

    assert_int_equal(write_text(*context, "deep/er/a.json.d/x.json", "1", ""), 0);
    assert_int_equal(stat(scratch_path(*context, "deep/er/a.json.d"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);
    assert_int_equal(stat(scratch_path(*context, "deep/er/a.json.d/x.json"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_int_equal(chmod(scratch_path(*context, "deep/er/a.json.d/x.json"), 0600), 0);
    assert_int_equal(write_text(*context, "deep/er/a.json.d/x.json", "2", "1"), 0);
    assert_int_equal(stat(scratch_path(*context, "deep/er/a.json.d/x.json"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_links_are_not_followed(void **context)
{
    Scratch *scratch = *context;

    scratch_text(scratch, "elsewhere", "theirs");
    assert_int_equal(symlink("elsewhere", scratch_path(scratch, "link.json")), 0);
    assert_int_equal(write_text(scratch, "link.json", "ours", NULL), -EOPNOTSUPP);
    assert_int_equal(write_text(scratch, "link.json", "ours", ""), -EBUSY);
    assert_content(scratch, "elsewhere", "theirs");
    assert_int_equal(mkdir(scratch_path(scratch, "directory.json"), 0755), 0);
    assert_int_equal(write_text(scratch, "directory.json", "ours", NULL), -EOPNOTSUPP);
}

static void test_removal(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *error = NULL;

    assert_int_equal(write_text(scratch, "a.json.d/x.json", "1", NULL), 0);
    assert_int_equal(write_text(scratch, "a.json.d/y.json", "2", NULL), 0);
    assert_int_equal(definition_file_remove(scratch_path(scratch, "a.json.d/x.json"), "other", &error),
                     -EBUSY);
    assert_int_equal(definition_file_remove(scratch_path(scratch, "a.json.d/x.json"), "1", &error), 0);
    assert_int_equal(access(scratch_path(scratch, "a.json.d"), F_OK), 0);
    assert_int_equal(definition_file_remove(scratch_path(scratch, "a.json.d/y.json"), NULL, &error), 0);
    assert_int_not_equal(access(scratch_path(scratch, "a.json.d"), F_OK), 0);
    assert_int_equal(definition_file_remove(scratch_path(scratch, "a.json.d/y.json"), NULL, &error), 0);
}

static void test_masks(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *error = NULL, *again = NULL;
    char target[16] = "";

    assert_int_equal(definition_file_mask(scratch_path(scratch, "vms/m.json"), &error), 0);
    assert_int_equal(readlink(scratch_path(scratch, "vms/m.json"), target, sizeof(target)), 9);
    assert_string_equal(target, "/dev/null");
    assert_int_equal(definition_file_mask(scratch_path(scratch, "vms/m.json"), &error), 0);
    assert_int_equal(write_text(scratch, "vms/m.json", "x", NULL), -EOPNOTSUPP);
    assert_true(definition_file_is_mask(scratch_path(scratch, "vms/m.json")));
    assert_int_equal(definition_file_unmask(scratch_path(scratch, "vms/m.json"), &error), 0);
    assert_int_equal(definition_file_unmask(scratch_path(scratch, "vms/m.json"), &error), 0);
    assert_false(definition_file_is_mask(scratch_path(scratch, "vms/m.json")));
    assert_true(definition_file_is_mask(scratch_text(scratch, "empty.json", "")));
    assert_int_equal(definition_file_unmask(scratch_path(scratch, "empty.json"), &error), 0);
    assert_int_equal(definition_file_mask(scratch_text(scratch, "real.json", "{}"), &error), -EBUSY);
    assert_int_equal(definition_file_unmask(scratch_path(scratch, "real.json"), &again), -EBUSY);
    assert_content(scratch, "real.json", "{}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_compare_and_swap),
        IN_SCRATCH(test_places_and_modes),
        IN_SCRATCH(test_links_are_not_followed),
        IN_SCRATCH(test_removal),
        IN_SCRATCH(test_masks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
