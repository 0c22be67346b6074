/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Naming files, and removing those that were named. */
#include "base/strv.h"
#include "resource/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

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
    scratch_text(scratch, "t/b/x", "x");
    scratch_text(scratch, "t/a", "x");
    scratch_text(scratch, "tb/x", "x");
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

    scratch_text(scratch, "d/web.json", "x");
    scratch_text(scratch, "d/web.json.d/x.json", "x");
    files = list(scratch, "d/web.json", 1);
    remove_all(scratch, "d/web.json", files, 0);
    assert_there(scratch, "d/web.json", false);
    assert_there(scratch, "d/web.json.d/x.json", true);
}

static void test_only_what_was_named(void **context)
{
    Scratch *scratch = *context;
    _cleanup_strv_ char **files = NULL;

    scratch_text(scratch, "t/a", "x");
    scratch_text(scratch, "t/empty/x", "x");
    files = list(scratch, "t", 2);
    scratch_text(scratch, "t/late", "x");
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

    scratch_text(scratch, "t/a", "x");
    scratch_text(scratch, "t/b/c/x", "x");
    scratch_text(scratch, "t/z", "x");
    scratch_text(scratch, "elsewhere/c/x", "x");
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

    scratch_text(scratch, "t/a", "x");
    scratch_text(scratch, "t/b", "x");
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
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_all_of_it),
        IN_SCRATCH(test_a_single_file),
        IN_SCRATCH(test_only_what_was_named),
        IN_SCRATCH(test_a_swapped_directory_leads_nowhere),
        IN_SCRATCH(test_several_failures_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
