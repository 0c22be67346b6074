/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory of a test's own; after cmocka.h. */
#ifndef TEST_SCRATCH_H
#define TEST_SCRATCH_H

#include "base/file.h"

#include <sys/stat.h>

typedef struct Scratch {
    char path[64];
    char file[512]; /* of the last scratch_path() */
} Scratch;

/* cmocka's setup and teardown. */
static _unused_ int scratch_setup(void **context)
{
    Scratch *scratch = calloc(1, sizeof(*scratch));

    strcpy(scratch->path, "/tmp/microvmd-unit.XXXXXX");
    assert_non_null(mkdtemp(scratch->path));
    *context = scratch;
    return 0;
}

static _unused_ int scratch_teardown(void **context)
{
    Scratch *scratch = *context;
    int r = remove_tree(scratch->path);

    free(scratch);
    return r;
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

/* "DIR/NAME", good until the next call. */
static _unused_ const char *scratch_path(Scratch *scratch, const char *name)
{
    snprintf(scratch->file, sizeof(scratch->file), "%s/%s", scratch->path, name);
    return scratch->file;
}

/* The directories above it may be new. */
static _unused_ const char *scratch_write(Scratch *scratch, const char *name, const void *data, size_t size)
{
    const char *path = scratch_path(scratch, name);
    _cleanup_free_ char *directory = strdup(path);

    *strrchr(directory, '/') = '\0';
    assert_int_equal(mkdir_parents(directory, 0755), 0);
    assert_int_equal(write_file_atomic(path, data, size, 0644), 0);
    return path;
}

static _unused_ const char *scratch_text(Scratch *scratch, const char *name, const char *text)
{
    return scratch_write(scratch, name, text, strlen(text));
}

#endif
