/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When two paths are one file, or would become one. */
#include "base/file-place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

static bool same(const char *one, const char *other)
{
    _cleanup_(file_places_clear)
    FilePlaces places = {0};
    FilePlace a, b;
    bool equal;

    assert_int_equal(file_place(&places, one, &a), 0);
    assert_int_equal(file_place(&places, other, &b), 0);
    equal = a.device == b.device && a.inode == b.inode && streq(a.rest, b.rest);
    free(a.rest);
    free(b.rest);
    return equal;
}

/* A directory "d" with a file "f", "l" that leads to "d", "h" beside "f", links that lead nowhere. */
static void test_places(void **context)
{
    static const struct {
        const char *one, *other;
        bool same;
    } cases[] = {
        {"d/f", "d/f", true},
        {"d/f", "d//./f", true},
        {"d/f", "d/../d/f", true},
        {"d/f", "l/f", true},
        {"d/f", "d/h", true},
        {"d/f", "f", true},
        {"d/f", "d/g", false},
        {"d/f", "d", false},
        /* not there, nor maybe the directory */
        {"d/new", "d/new", true},
        {"d/new", "d//./new", true},
        {"d/new", "l/new", true},
        {"d/new", "new", false},
        {"d/new", "d/news", false},
        {"d/x/new", "l/x/./new", true},
        {"d/x/new", "d/x/y/../new", true},
        {"d/x/new", "d/y/../x/new", true},
        {"d/new", "d/x/../new", true},
        {"new", "d/x/../../new", true},
        {"d/x", "d/x/", true},
        {"d/f/new", "l/f/new", true},
        /* links to what is not there */
        {"nowhere", "d/none", true},
        {"absolute", "d/none", true},
        {"nowhere/new", "l/none/new", true},
        {"nowhere", "absolute", true},
        {"self", "self", true},
    };
    Scratch *scratch = *context;
    char one[512], other[512], target[512];

    strcpy(one, scratch_path(scratch, "d"));
    assert_int_equal(mkdir(one, 0755), 0);
    assert_int_equal(symlink("d", scratch_path(scratch, "l")), 0);
    strcpy(one, scratch_text(scratch, "d/f", "x"));
    assert_int_equal(link(one, scratch_path(scratch, "d/h")), 0);
    assert_int_equal(symlink("l/f", scratch_path(scratch, "f")), 0);
    assert_int_equal(symlink("d/none", scratch_path(scratch, "nowhere")), 0);
    strcpy(target, scratch_path(scratch, "l/none"));
    assert_int_equal(symlink(target, scratch_path(scratch, "absolute")), 0);
    assert_int_equal(symlink("self", scratch_path(scratch, "self")), 0);
    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        strcpy(one, scratch_path(scratch, cases[i].one));
        strcpy(other, scratch_path(scratch, cases[i].other));
        if (same(one, other) != cases[i].same)
            fail_msg("%s and %s are %s", cases[i].one, cases[i].other, cases[i].same ? "two" : "one");
    }
}

static void test_relative(void **context)
{
    Scratch *scratch = *context;
    char before[512], path[512];

    assert_non_null(getcwd(before, sizeof(before)));
    strcpy(path, scratch_text(scratch, "f", "x"));
    assert_int_equal(chdir(scratch->path), 0);
    assert_true(same("f", path));
    assert_true(same("./f", path));
    assert_true(same("new/", scratch_path(scratch, "new")));
    assert_true(same("new/x", scratch_path(scratch, "new/x")));
    assert_true(same("/", "/.."));
    assert_int_equal(chdir(before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_places),
        IN_SCRATCH(test_relative),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
