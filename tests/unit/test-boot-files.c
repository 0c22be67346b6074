/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether other files have taken the places of those that a run was started with. */
#include "resource/boot-files.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "scratch.h"

static void replace(Scratch *scratch, const char *name, const char *text)
{
    scratch_text(scratch, name, text);
}

static void test_kernel_and_initrd(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *kernel = strdup(scratch_text(scratch, "kernel", "one")),
                        *initrd = strdup(scratch_text(scratch, "initrd", "one")),
                        *copy = strdup(scratch_path(scratch, "copy"));
    _cleanup_(boot_files_clear)
    BootFiles files = {0};

    assert_int_equal(copy_file_stamped(kernel, copy, 0600, &files.kernel), 0);
    assert_int_equal(file_stamp(initrd, &files.initrd), 0);
    assert_int_equal(boot_files_outdated(&files, kernel, initrd), 0);
    replace(scratch, "kernel", "one"); /* the same words in another file */
    assert_int_equal(boot_files_outdated(&files, kernel, initrd), OUTDATED(MICROVM_OUTDATED_KERNEL));
    assert_int_equal(boot_files_outdated(&files, copy, initrd), OUTDATED(MICROVM_OUTDATED_KERNEL));
    assert_int_equal(unlink(initrd), 0);
    assert_int_equal(boot_files_outdated(&files, kernel, initrd),
                     OUTDATED(MICROVM_OUTDATED_KERNEL) | OUTDATED(MICROVM_OUTDATED_INITRD));
    /* What the definition does not name any more is the definition's change. */
    assert_int_equal(boot_files_outdated(&files, NULL, NULL), 0);
    /* What can't be looked at is taken for the same. */
    files.kernel.inode = 1;
    assert_int_equal(boot_files_outdated(&files, "/dev/null/kernel", NULL), 0);
    files = (BootFiles){0};
    assert_int_equal(boot_files_outdated(&files, kernel, NULL), 0);
}

static void test_a_write_makes_another_file(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *path = strdup(scratch_text(scratch, "kernel", "one"));
    _cleanup_(boot_files_clear)
    BootFiles files = {0};
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};

    assert_int_equal(file_stamp(path, &files.kernel), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(boot_files_outdated(&files, path, NULL), OUTDATED(MICROVM_OUTDATED_KERNEL));
    assert_int_equal(file_stamp(path, &files.kernel), 0);
    assert_int_equal(truncate(path, 1), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(boot_files_outdated(&files, path, NULL), OUTDATED(MICROVM_OUTDATED_KERNEL));
}

static void test_program_of_a_process(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *program = strdup(scratch_path(scratch, "qemu"));
    char *const argv[] = {program, (char *)"60", NULL}, *const environment[] = {NULL};
    _cleanup_(boot_files_clear)
    BootFiles files = {0}, late = {0}, copy = {0};
    pid_t pid;

    assert_int_equal(copy_file("/bin/sleep", program, 0700), 0);
    assert_int_equal(posix_spawn(&pid, program, NULL, NULL, argv, environment), 0);
    program_file_take(&files.hypervisor, pid);
    assert_string_equal(files.hypervisor.path, program);
    assert_int_equal(boot_files_outdated(&files, NULL, NULL), 0);
    /* An upgrade puts a new file in its place; the process goes on with the old one. */
    assert_int_equal(copy_file("/bin/sleep", program, 0700), 0);
    assert_int_equal(boot_files_outdated(&files, NULL, NULL), OUTDATED(MICROVM_OUTDATED_HYPERVISOR));
    /* It is told from the process itself, also by who comes late. */
    program_file_take(&late.hypervisor, pid);
    assert_string_equal(late.hypervisor.path, program);
    assert_int_equal(boot_files_outdated(&late, NULL, NULL), OUTDATED(MICROVM_OUTDATED_HYPERVISOR));
    assert_int_equal(boot_files_copy(&late, &copy), 0);
    assert_string_equal(copy.hypervisor.path, program);
    assert_true(file_stamp_equal(&copy.hypervisor.file, &files.hypervisor.file));
    boot_files_clear(&late);
    program_file_take(&late.helper, pid);
    assert_int_equal(boot_files_outdated(&late, NULL, NULL), OUTDATED(MICROVM_OUTDATED_HELPER));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    boot_files_clear(&late);
    program_file_take(&late.hypervisor, 0);
    assert_null(late.hypervisor.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_kernel_and_initrd),
        IN_SCRATCH(test_a_write_makes_another_file),
        IN_SCRATCH(test_program_of_a_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
