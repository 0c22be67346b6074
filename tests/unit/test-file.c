/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files: bounded reads that never block, replacement, removal that no link leads astray. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <fcntl.h>

static void test_read(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *text = NULL, *bytes = NULL, *empty = NULL, *proc = NULL;
    size_t size;

    assert_int_equal(read_file(scratch_text(scratch, "a", "hello"), 5, &text, &size), 0);
    assert_string_equal(text, "hello");
    assert_int_equal(size, 5);
    assert_int_equal(read_file(scratch_write(scratch, "a", "a\0b", 3), 100, &bytes, &size), 0);
    assert_int_equal(size, 3);
    assert_memory_equal(bytes, "a\0b", 4);
    assert_int_equal(read_file(scratch_text(scratch, "a", ""), 0, &empty, &size), 0);
    assert_int_equal(size, 0);
    assert_string_equal(empty, "");
    /* no size beforehand */
    assert_int_equal(read_file("/proc/self/status", 1024 * 1024, &proc, &size), 0);
    assert_int_equal(size, strlen(proc));
    assert_true(size > 100);
}

static void test_read_refuses(void **context)
{
    Scratch *scratch = *context;
    char *text = (char *)"untouched";
    size_t size = 7;

    assert_int_equal(read_file(scratch_text(scratch, "long", "123456"), 5, &text, &size), -EFBIG);
    assert_int_equal(read_file("/proc/self/status", 10, &text, &size), -EFBIG);
    assert_int_equal(read_file(scratch_path(scratch, "none"), 5, &text, &size), -ENOENT);
    assert_int_equal(read_file(scratch->path, 5, &text, &size), -EISDIR);
    assert_int_equal(read_file("/dev/null", 5, &text, &size), -EINVAL);
    assert_int_equal(read_file("/dev/zero", 5, &text, &size), -EINVAL);
    /* nobody writes to it: an open that waits would hang here */
    assert_int_equal(mkfifo(scratch_path(scratch, "fifo"), 0600), 0);
    assert_int_equal(read_file(scratch->file, 5, &text, &size), -EINVAL);
    assert_int_equal(symlink("nowhere", scratch_path(scratch, "dangling")), 0);
    assert_int_equal(read_file(scratch->file, 5, &text, &size), -ENOENT);
    assert_int_equal(symlink("loop", scratch_path(scratch, "loop")), 0);
    assert_int_equal(read_file(scratch->file, 5, &text, &size), -ELOOP);
    assert_string_equal(text, "untouched");
    assert_int_equal(size, 7);
}

static void test_problems_have_words(void **context)
{
    assert_non_null(strstr(read_file_problem(-EISDIR), "directory"));
    assert_non_null(strstr(read_file_problem(-EINVAL), "regular"));
    assert_non_null(strstr(read_file_problem(-EFBIG), "large"));
    assert_string_equal(read_file_problem(-EACCES), strerror(EACCES));
}

static void test_write(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *text = NULL;
    struct stat st;
    size_t size;

    scratch_text(scratch, "a", "old");
    assert_int_equal(write_file_atomic(scratch_path(scratch, "a"), "new", 3, 0640), 0);
    assert_int_equal(read_file(scratch->file, 100, &text, &size), 0);
    assert_string_equal(text, "new");
    assert_int_equal(stat(scratch->file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(write_file_atomic(scratch_path(scratch, "no/such/place"), "x", 1, 0600), -ENOENT);
    /* over a directory it fails, and leaves no temporary behind */
    assert_int_equal(mkdir(scratch_path(scratch, "d"), 0700), 0);
    assert_true(write_file_atomic(scratch->file, "x", 1, 0600) < 0);
    assert_int_equal(unlink(scratch_path(scratch, "a")), 0);
    assert_int_equal(rmdir(scratch_path(scratch, "d")), 0);
    assert_int_equal(rmdir(scratch->path), 0);
    assert_int_equal(mkdir(scratch->path, 0700), 0);
}

static void test_mkdir(void **context)
{
    Scratch *scratch = *context;
    struct stat st;

    assert_int_equal(mkdir_parents(scratch_path(scratch, "a/b//c/"), 0711), 0);
    assert_int_equal(mkdir_parents(scratch->file, 0711), 0);
    assert_int_equal(stat(scratch_path(scratch, "a/b/c"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    assert_int_equal(mkdir_parents("/", 0711), 0);
    assert_int_equal(mkdir_parents("", 0711), -ENOENT);
    scratch_text(scratch, "file", "x");
    assert_int_equal(mkdir_parents(scratch_path(scratch, "file"), 0711), -ENOTDIR);
    assert_int_equal(mkdir_parents(scratch_path(scratch, "file/below"), 0711), -ENOTDIR);
}

static void test_remove_tree(void **context)
{
    Scratch *scratch = *context;

    assert_int_equal(remove_tree(scratch_path(scratch, "none")), 0);
    scratch_text(scratch, "kept", "x");
    assert_int_equal(mkdir_parents(scratch_path(scratch, "outside"), 0700), 0);
    scratch_text(scratch, "outside/kept", "x");
    assert_int_equal(mkdir_parents(scratch_path(scratch, "tree/a/b/c"), 0700), 0);
    scratch_text(scratch, "tree/a/b/file", "x");
    assert_int_equal(mkfifo(scratch_path(scratch, "tree/a/fifo"), 0600), 0);
    assert_int_equal(symlink("../outside", scratch_path(scratch, "tree/link")), 0);
    assert_int_equal(symlink("nowhere", scratch_path(scratch, "tree/dangling")), 0);
    assert_int_equal(remove_tree(scratch_path(scratch, "tree")), 0);
    assert_int_equal(access(scratch->file, F_OK), -1);
    assert_int_equal(access(scratch_path(scratch, "outside/kept"), F_OK), 0);
    /* of a link the link goes, not what it points to */
    assert_int_equal(symlink("outside", scratch_path(scratch, "link")), 0);
    assert_int_equal(remove_tree(scratch->file), 0);
    assert_int_equal(access(scratch_path(scratch, "outside/kept"), F_OK), 0);
    assert_int_equal(remove_tree(scratch_path(scratch, "kept")), 0);
    assert_int_equal(access(scratch->file, F_OK), -1);
}

static void copy_and_compare(Scratch *scratch, const char *to, const char *data, size_t size)
{
    _cleanup_free_ char *copy = NULL;
    struct stat st;
    size_t copied;

    assert_int_equal(copy_file(scratch_path(scratch, "source"), to, 0400), 0);
    assert_int_equal(read_file(to, size + 1, &copy, &copied), 0);
    assert_int_equal(copied, size);
    assert_memory_equal(copy, data, size);
    assert_int_equal(stat(to, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0400);
}

static void test_copy(void **context)
{
    enum {
        SIZE = 3 * 1024 * 1024 + 17
    };
    Scratch *scratch = *context;
    _cleanup_free_ char *data = malloc(SIZE), *target = NULL;
    char elsewhere[] = "/dev/shm/microvmd-unit.XXXXXX";
    int fd;

    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 31 >> 5);
    scratch_write(scratch, "source", data, SIZE);
    target = strdup(scratch_path(scratch, "target"));
    copy_and_compare(scratch, target, data, SIZE);
    copy_and_compare(scratch, target, data, SIZE); /* over the old one */
    fd = mkstemp(elsewhere);
    if (fd >= 0) { /* another file system */
        close(fd);
        copy_and_compare(scratch, elsewhere, data, SIZE);
        unlink(elsewhere);
    }
    scratch_text(scratch, "source", "");
    copy_and_compare(scratch, target, "", 0);
    assert_int_equal(copy_file(scratch->path, target, 0400), -EISDIR);
    assert_int_equal(copy_file("/dev/zero", target, 0400), -EINVAL);
    assert_int_equal(copy_file("/nonexistent", target, 0400), -ENOENT);
}

/* Files without a size are copied whole too. */
static void test_copy_proc(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *text = NULL;
    size_t size;

    assert_int_equal(copy_file("/proc/version", scratch_path(scratch, "version"), 0600), 0);
    assert_int_equal(read_file(scratch->file, 4096, &text, &size), 0);
    assert_true(size > 0);
}

/* What a write that was killed leaves goes; nothing else does. */
static void test_unfinished_writes(void **context)
{
    Scratch *scratch = *context;
    char path[512], half[600], other[600], deeper[600];

    snprintf(path, sizeof(path), "%s", scratch_text(scratch, "record.json", "whole"));
    snprintf(half, sizeof(half), "%s", scratch_text(scratch, "record.json.aB3xY9", "ha"));
    snprintf(other, sizeof(other), "%s", scratch_text(scratch, "record.json.d", "other"));
    snprintf(deeper, sizeof(deeper), "%s", scratch_text(scratch, "xrecord.json.aB3xY9", "other"));
    write_file_forget(path);
    assert_int_equal(access(half, F_OK), -1);
    assert_int_equal(access(path, F_OK) | access(other, F_OK) | access(deeper, F_OK), 0);
    write_file_forget(path);
    write_file_forget("/nonexistent/file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_read),
        IN_SCRATCH(test_read_refuses),
        cmocka_unit_test(test_problems_have_words),
        IN_SCRATCH(test_write),
        IN_SCRATCH(test_unfinished_writes),
        IN_SCRATCH(test_mkdir),
        IN_SCRATCH(test_remove_tree),
        IN_SCRATCH(test_copy),
        IN_SCRATCH(test_copy_proc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
