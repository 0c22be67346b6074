/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Naming files, and removing those that were named. */
#include "base/strv.h"
#include "resource/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

static void write_at(Scratch *scratch, const char *name)
{
    _cleanup_free_ char *directory = strdup(scratch_path(scratch, name));

    *strrchr(directory, '/') = '\0';
    assert_int_equal(mkdir_parents(directory, 0755), 0);
    scratch_text(scratch, name, "x");
}

/* The files of `name`, as many as expected. */
static char **list(Scratch *scratch, const char *name, size_t expected)
{
    _cleanup_free_ char *error = NULL;
    char **files = NULL;
    size_t n = 0;

    assert_int_equal(files_list(scratch_path(scratch, name), &files, &n, &error), 0);
    assert_int_equal(n, expected);
    assert_true(n == 0 ? !files : !files[n]);
    return files;
}

static void remove_all(Scratch *scratch, const char *name, char **files, int expected)
{
    _cleanup_free_ char *error = NULL;

    assert_int_equal(files_remove(scratch_path(scratch, name), files, &error), expected);
    assert_true(!error == (expected == 0));
}

static void assert_there(Scratch *scratch, const char *name, bool there)
{
    struct stat st;

    assert_int_equal(lstat(scratch_path(scratch, name), &st), there ? 0 : -1);
}

static void test_all_of_it(void **context)
{
    Scratch *scratch = *context;
    _cleanup_strv_ char **files = NULL;

    assert_null(list(scratch, "none", 0));
    write_at(scratch, "t/b/x");
    write_at(scratch, "t/a");
    write_at(scratch, "tb/x");
    assert_int_equal(symlink("/etc", scratch_path(scratch, "t/link")), 0);
    files = list(scratch, "t", 3); /* what a link leads to is not in it */
    assert_string_equal(files[0], scratch_path(scratch, "t/a"));
    assert_string_equal(files[1], scratch_path(scratch, "t/b/x"));
    assert_string_equal(files[2], scratch_path(scratch, "t/link"));
    remove_all(scratch, "t", files, 0);
    assert_there(scratch, "t", false);
    remove_all(scratch, "t", files, 0); /* again */
    assert_there(scratch, "tb/x", true);
    assert_int_equal(access("/etc/passwd", F_OK), 0);
    remove_all(scratch, "t", NULL, 0);
}

static void test_a_single_file(void **context)
{
    Scratch *scratch = *context;
    _cleanup_strv_ char **files = NULL;

    write_at(scratch, "d/web.json");
    write_at(scratch, "d/web.json.d/x.json");
    files = list(scratch, "d/web.json", 1);
    remove_all(scratch, "d/web.json", files, 0);
    assert_there(scratch, "d/web.json", false);
    assert_there(scratch, "d/web.json.d/x.json", true);
}

static void test_only_what_was_named(void **context)
{
    Scratch *scratch = *context;
    _cleanup_strv_ char **files = NULL;

    write_at(scratch, "t/a");
    write_at(scratch, "t/empty/x");
    files = list(scratch, "t", 2);
    write_at(scratch, "t/late");
    remove_all(scratch, "t", files, 0);
    assert_there(scratch, "t/a", false);
    assert_there(scratch, "t/empty", false);
    assert_there(scratch, "t/late", true);
}

static void test_a_swapped_directory_leads_nowhere(void **context)
{
    Scratch *scratch = *context;
    _cleanup_strv_ char **files = NULL;
    _cleanup_free_ char *error = NULL, *elsewhere = NULL;

    write_at(scratch, "t/a");
    write_at(scratch, "t/b/c/x");
    write_at(scratch, "t/z");
    write_at(scratch, "elsewhere/c/x");
    files = list(scratch, "t", 3);
    assert_int_equal(remove_tree(scratch_path(scratch, "t/b")), 0);
    elsewhere = strdup(scratch_path(scratch, "elsewhere"));
    assert_int_equal(symlink(elsewhere, scratch_path(scratch, "t/b")), 0);
    assert_true(files_remove(scratch_path(scratch, "t"), files, &error) < 0);
    assert_non_null(strstr(error, "t/b/c/x can't be removed"));
    assert_there(scratch, "elsewhere/c/x", true);
    assert_there(scratch, "t/a", false);
    assert_there(scratch, "t/z", false); /* one that can't go does not save the others */
}

static void test_several_failures_are_counted(void **context)
{
    Scratch *scratch = *context;
    _cleanup_strv_ char **files = NULL;
    _cleanup_free_ char *error = NULL;

    write_at(scratch, "t/a");
    write_at(scratch, "t/b");
    files = list(scratch, "t", 2);
    assert_int_equal(unlink(files[0]), 0);
    assert_int_equal(unlink(files[1]), 0);
    assert_int_equal(mkdir(files[0], 0755), 0);
    assert_int_equal(mkdir(files[1], 0755), 0);
    assert_int_equal(files_remove(scratch_path(scratch, "t"), files, &error), -EISDIR);
    assert_non_null(strstr(error, "t/a can't be removed"));
    assert_non_null(strstr(error, "nor can 1 other"));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_all_of_it),
        TEST(test_a_single_file),
        TEST(test_only_what_was_named),
        TEST(test_a_swapped_directory_leads_nowhere),
        TEST(test_several_failures_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
