/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logs that microvmd bounds while somebody else writes them. */
#include "resource/console-log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

static const char *said_meanwhile; /* when a copy is there, and its log not cut yet; NULL: nothing */
static const char *said_to;

static void append(const char *path, const char *text, size_t times)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    for (size_t i = 0; i < times; i++)
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* In the place of libc's: the last thing before the copy counts. */
int rename(const char *from, const char *to)
{
    if (said_meanwhile)
        append(said_to, said_meanwhile, 1);
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static off_t size_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void test_cut_whatever_comes(void **context)
{
    _cleanup_free_ char *log = console_log_path(((Scratch *)*context)->path, 0, -1);
    _cleanup_free_ char *copy = console_log_path(((Scratch *)*context)->path, 0, 0);

    assert_int_equal(log_bound(log, 1), 0);
    append(log, "short\n", 1);
    assert_int_equal(log_bound(log, 1), 0);
    append(log, "0123456789abcdef", 3 * CONSOLE_LOG_MAX / 16); /* grew faster than it was looked at */
    assert_int_equal(log_bound(log, 1), 1);
    assert_int_equal(size_of(log), 0);
    assert_int_equal(size_of(copy), CONSOLE_LOG_MAX);
    /* Where there can be no copy, the disk must not fill up either. */
    assert_int_equal(unlink(copy), 0);
    assert_int_equal(mkdir(copy, 0700), 0);
    append(log, "0123456789abcdef", CONSOLE_LOG_MAX / 16 + 1);
    assert_int_equal(log_bound(log, 1), -EISDIR);
    assert_int_equal(size_of(log), 0);
}

/* The copy of two megabytes takes its time, in which a guest goes on. */
static void test_keeps_what_comes_meanwhile(void **context)
{
    _cleanup_free_ char *log = console_log_path(((Scratch *)*context)->path, 0, -1);
    _cleanup_free_ char *copy = console_log_path(((Scratch *)*context)->path, 0, 0);
    _cleanup_free_ char *text = NULL;
    size_t size;

    append(log, "0123456789abcdef", CONSOLE_LOG_MAX / 16 + 1);
    said_meanwhile = "meanwhile\n";
    said_to = log;
    assert_int_equal(log_bound(log, 1), 1);
    said_meanwhile = NULL;
    assert_int_equal(size_of(log), 0);
    assert_int_equal(log_tail(copy, strlen("0123456789abcdefmeanwhile\n"), &text, &size), 0);
    assert_int_equal(size, strlen("0123456789abcdefmeanwhile\n"));
    assert_memory_equal(text, "0123456789abcdefmeanwhile\n", size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_cut_whatever_comes),
        IN_SCRATCH(test_keeps_what_comes_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
