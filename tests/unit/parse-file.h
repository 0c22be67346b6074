/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A definition of the microVM "web" in one file, for tests of what is said in it; after cmocka.h. */
#ifndef TESTS_PARSE_FILE_H
#define TESTS_PARSE_FILE_H

#include "base/file.h"
#include "spec/loader.h"

static int parse_file(const char *path, ProblemList *problems, VmSpec **ret_spec)
{
    _cleanup_free_ char *text = NULL;
    size_t size;

    assert_int_equal(read_file(path, SPEC_FILE_MAX, &text, &size), 0);
    return vm_spec_parse("web", path, text, size, &(SpecContext){0}, problems, ret_spec);
}

#endif
