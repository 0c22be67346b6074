/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is done before a start, and undone when the hypervisor has read it. */
#include "plan/prepare.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "scratch.h"

#include <linux/major.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static VmSpec spec_for(Scratch *scratch)
{
    static char kernel[512];

    snprintf(kernel, sizeof(kernel), "%s", scratch_text(scratch, "vmlinuz", "a kernel"));
    return (VmSpec){.references = 1, .name = (char *)"web", .kernel = kernel, .qemu_serial_console = true};
}

/* A credential is copied to where only its hypervisor is let, and gone when that has read it. */
static void test_credentials(void **context)
{
    Scratch *scratch = *context;
    VmSpec spec = spec_for(scratch);
    char secret[512], runtime[512], state_dir[512];
    StringPair pair = {(char *)"..", secret}; /* as bad as names get */
    _cleanup_(plan_freep)
    Plan *plan = NULL;
    _cleanup_free_ char *error = NULL, *copy = NULL, *text = NULL;
    struct stat before, after;
    PlanResult result;
    size_t size;

    snprintf(secret, sizeof(secret), "%s", scratch_text(scratch, "secret", "hush"));
    snprintf(runtime, sizeof(runtime), "%s", scratch_path(scratch, "run"));
    snprintf(state_dir, sizeof(state_dir), "%s", scratch_path(scratch, "state"));
    assert_int_equal(chmod(secret, 0640), 0);
    assert_int_equal(stat(secret, &before), 0);
    spec.credentials = &pair;
    spec.n_credentials = 1;
    assert_int_equal(plan_new(&spec, state_dir, runtime, scratch_path(scratch, "spare"), &plan), 0);
    assert_int_equal(plan_run(plan, &result, &error), 0);
    copy = credential_copy_path(runtime, pair.name);
    assert_int_equal(read_file(copy, 64, &text, &size), 0);
    assert_string_equal(text, "hush");
    assert_int_equal(stat(copy, &after), 0);
    assert_int_equal(after.st_mode & 07777, 0600);
    plan_undo(plan);
    assert_int_equal(access(copy, F_OK), -1);
    assert_int_equal(stat(secret, &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_ino, before.st_ino);
}

/* Killed in the middle of a copy: what there is of it goes like the copy itself. */
static void test_half_a_copy(void **context)
{
    Scratch *scratch = *context;
    VmSpec spec = spec_for(scratch);
    char runtime[512], state_dir[512], half[1024];
    _cleanup_(plan_freep)
    Plan *plan = NULL;
    _cleanup_free_ char *error = NULL;
    PlanResult result;

    snprintf(runtime, sizeof(runtime), "%s", scratch_path(scratch, "run"));
    snprintf(state_dir, sizeof(state_dir), "%s", scratch_path(scratch, "state"));
    snprintf(half, sizeof(half), "%s/kernel.AbCdEf", runtime);
    assert_int_equal(plan_new(&spec, state_dir, runtime, scratch_path(scratch, "spare"), &plan), 0);
    assert_int_equal(plan_run(plan, &result, &error), 0);
    assert_int_equal(write_file_atomic(half, "a ker", 5, 0600), 0);
    plan_undo(plan);
    assert_int_equal(access(half, F_OK), -1);
}

/* One that is not there fails the start, in so many words, and leaves no copy of the others. */
static void test_missing_credential(void **context)
{
    Scratch *scratch = *context;
    VmSpec spec = spec_for(scratch);
    char secret[512], runtime[512], state_dir[512];
    StringPair pairs[] = {{(char *)"a", secret}, {(char *)"b", (char *)"/nonexistent/secret"}};
    _cleanup_(plan_freep)
    Plan *plan = NULL;
    _cleanup_free_ char *error = NULL, *copy = NULL, *seen = NULL;
    PlanResult result;

    snprintf(secret, sizeof(secret), "%s", scratch_text(scratch, "secret", "hush"));
    snprintf(runtime, sizeof(runtime), "%s", scratch_path(scratch, "run"));
    snprintf(state_dir, sizeof(state_dir), "%s", scratch_path(scratch, "state"));
    spec.credentials = pairs;
    spec.n_credentials = 2;
    assert_int_equal(plan_new(&spec, state_dir, runtime, scratch_path(scratch, "spare"), &plan), 0);
    /* A look before tells the same, and makes nothing. */
    assert_int_equal(plan_check(plan, &result, &seen), -ENOENT);
    assert_int_equal(access(runtime, F_OK), -1);
    assert_int_equal(access(state_dir, F_OK), -1);
    assert_int_equal(plan_run(plan, &result, &error), -ENOENT);
    assert_string_equal(error, "credential /nonexistent/secret: No such file or directory");
    assert_string_equal(seen, error);
    free(seen);
    assert_int_equal(unlink(spec.kernel), 0);
    assert_int_equal(plan_check(plan, &result, &seen), -ENOENT);
    assert_non_null(strstr(seen, "kernel /"));
    copy = credential_copy_path(runtime, "a");
    assert_int_equal(access(copy, F_OK), -1);
}

/* What boots from a disk has no kernel to copy. */
static void test_boot_from_disk(void **context)
{
    Scratch *scratch = *context;
    VmSpec spec = {.references = 1, .name = (char *)"web", .boot = BOOT_DISK};
    char runtime[512], state_dir[512];
    _cleanup_(plan_freep)
    Plan *plan = NULL;
    _cleanup_free_ char *error = NULL;
    PlanResult result;

    snprintf(runtime, sizeof(runtime), "%s", scratch_path(scratch, "run"));
    snprintf(state_dir, sizeof(state_dir), "%s", scratch_path(scratch, "state"));
    assert_int_equal(plan_new(&spec, state_dir, runtime, scratch_path(scratch, "spare"), &plan), 0);
    for (size_t i = 0; i < plan->n_steps; i++)
        assert_int_not_equal(plan->steps[i].kind, STEP_COPY);
    assert_int_equal(plan_run(plan, &result, &error), 0);
}

/* Whatever it is called; hypervisors have to be told. */
static void test_block_devices(void **context)
{
    Scratch *scratch = *context;
    VolumeSpec volumes[2] = {{.image = (char *)"link.img"}, {.image = (char *)"plain.img"}};
    VmSpec spec = {.references = 1, .name = (char *)"web", .n_volumes = 2};
    char runtime[512], state_dir[512], node[512];
    _cleanup_(plan_freep)
    Plan *plan = NULL;
    _cleanup_free_ char *error = NULL;
    PlanResult result = {0};

    if (geteuid() != 0)
        skip(); /* nobody else makes nodes */
    spec.volumes = volumes;
    snprintf(runtime, sizeof(runtime), "%s", scratch_path(scratch, "run"));
    snprintf(node, sizeof(node), "%s", scratch_path(scratch, "node"));
    assert_int_equal(mknod(node, S_IFBLK | 0600, makedev(LOOP_MAJOR, 200)), 0);
    scratch_text(scratch, "state/plain.img", "");
    assert_int_equal(symlink(node, scratch_path(scratch, "state/link.img")), 0);
    snprintf(state_dir, sizeof(state_dir), "%s", scratch_path(scratch, "state"));
    assert_int_equal(plan_new(&spec, state_dir, runtime, scratch_path(scratch, "spare"), &plan), 0);
    assert_int_equal(plan_run(plan, &result, &error), 0);
    assert_true(result.block_volumes && result.block_volumes[0] && !result.block_volumes[1]);
    free(result.block_volumes);
}

static void test_command_line(void **context)
{
    VmSpec spec = {.name = (char *)"web@1", .qemu_serial_console = true};
    VolumeSpec volume = {.image = (char *)"a.img", .read_only = true};
    char *params[] = {(char *)"quiet", (char *)"tsc=unstable"};
    char *line = kernel_command_line(&spec, 0);

    assert_string_equal(line, "console=ttyS0 reboot=t panic=-1 hostname=web-1");
    free(line);
    spec.qemu_machine = QEMU_MACHINE_VIRT; /* with another name a guest for aarch64 is silent */
    line = kernel_command_line(&spec, 0);
    assert_string_equal(line, "console=ttyAMA0 reboot=t panic=-1 hostname=web-1");
    free(line);
    spec.qemu_machine = QEMU_MACHINE_MICROVM;
    spec.qemu_serial_console = false; /* there is no ttyS0 to talk to */
    spec.volumes = &volume;
    spec.n_volumes = 1;
    line = kernel_command_line(&spec, 2000);
    assert_string_equal(line, "reboot=t panic=-1 root=/dev/vda ro hostname=web-1 tsc_early_khz=2000");
    free(line);
    spec.kernel_params = params;
    spec.n_kernel_params = ELEMENTSOF(params);
    line = kernel_command_line(&spec, 2000);
    assert_string_equal(line, "reboot=t panic=-1 root=/dev/vda ro hostname=web-1 quiet tsc=unstable");
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_credentials),        IN_SCRATCH(test_half_a_copy),
        IN_SCRATCH(test_missing_credential), IN_SCRATCH(test_boot_from_disk),
        cmocka_unit_test(test_command_line), IN_SCRATCH(test_block_devices),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
