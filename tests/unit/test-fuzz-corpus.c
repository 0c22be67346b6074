/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What fuzzing has found, and all examples, through the functions that are fuzzed (tests/fuzz). */
#include "../fuzz/fuzz.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/file.h"

#include <dirent.h>

static size_t replay(const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(stream);
    while ((entry = readdir(stream))) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        size_t size;
        if (entry->d_name[0] == '.')
            continue;
        assert_true(asprintf(&path, "%s/%s", directory, entry->d_name) > 0);
        assert_int_equal(read_file(path, SPEC_FILE_MAX, &text, &size), 0);
        fuzz_loader((const uint8_t *)text, size);
        fuzz_xml((const uint8_t *)text, size);
        n++;
    }
    closedir(stream);
    return n;
}

static void test_corpus(void **context)
{
    assert_true(replay(SOURCE_DIR "/tests/fuzz/corpus") > 0);
}

static void test_examples(void **context)
{
    assert_true(replay(SOURCE_DIR "/tests/data/good") > 0);
    assert_true(replay(SOURCE_DIR "/tests/data/broken") > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus),
        cmocka_unit_test(test_examples),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
