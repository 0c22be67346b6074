/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What other versions have left in the runtime directory is read: tests/data/records. That of earlier ones is
 * as they wrote it; that of a later one has what this version does not know. */
#include "driver/direct/internal.h"
#include "supervise/vm.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "scratch.h"

#define RECORDS SOURCE_DIR "/tests/data/records/"

static const char generation[] = "cb7570c5fdb74d5591db415e889376fe";

static MicroVM *restore(Scratch *scratch, VmHost *host, const char *record)
{
    MicroVM *vm;

    host->state_dir = host->runtime_dir = scratch->path;
    assert_int_equal(mkdir_parents(scratch_path(scratch, "vm/web"), 0755), 0);
    assert_int_equal(copy_file(record, scratch_path(scratch, "vm/web/record.json"), 0600), 0);
    assert_int_equal(vm_new(host, "web", &vm), 0);
    return vm;
}

static void check_run(const MicroVM *vm)
{
    char text[SD_ID128_STRING_MAX];

    assert_int_equal(vm->record.state, MICROVM_RUNNING);
    assert_string_equal(sd_id128_to_string(vm->record.generation, text), generation);
    assert_int_equal(vm->record.driver, DRIVER_KIND_DIRECT);
    assert_int_equal(vm->record.accel, ACCEL_TCG);
    assert_true(vm->record.decided && vm->record.wanted);
    assert_int_equal(vm->record.files.kernel.inode, 11070453);
    /* What it was started with, without which it could not be told to be outdated, or hold what it has. */
    assert_non_null(vm->booted);
    assert_string_equal(vm->booted->kernel, "/boot/guest/vmlinuz");
    assert_int_equal(vm->booted->mem_mib, 512);
    assert_int_equal(vm->booted->restart_delay_usec, UINT64_C(3600) * 1000000);
}

static void test_earlier(void **context)
{
    VmHost host = {0};
    _cleanup_(vm_freep)
    MicroVM *vm = restore(*context, &host, RECORDS "1.json");

    check_run(vm);
    assert_int_equal(vm->record.result, MICROVM_RESULT_SUCCESS);
    /* What it was given by default is not held against it when the default is another one now. */
    assert_int_equal(vm->booted->readiness_type, READINESS_AUTO);
}

static void test_later(void **context)
{
    VmHost host = {0};
    _cleanup_(vm_freep)
    MicroVM *vm = restore(*context, &host, RECORDS "next.json");

    check_run(vm);
    assert_int_equal(vm->record.n_restarts, 3);
    assert_int_equal(vm->record.history.n_starts, 2);
    assert_int_equal(vm->booted->n_volumes, 1);
    assert_string_equal(vm->booted->volumes[0].image, "/srv/data.img");
}

/* In a definition that a person writes it stays an error. */
static void test_definition(void **context)
{
    static const char text[] = "{ \"kernel\": \"/boot/vmlinuz\", \"telepathy\": {} }";
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    assert_int_equal(vm_spec_parse("web", NULL, text, strlen(text), &(SpecContext){0}, &problems, &spec),
                     -EBADMSG);
    assert_int_equal(
        vm_spec_parse("web", NULL, text, strlen(text), &(SpecContext){.recorded = true}, &problems, &spec),
        0);
    vm_spec_unref(spec);
}

static void check_process(Scratch *scratch, const char *record)
{
    char text[SD_ID128_STRING_MAX], target[sizeof(scratch->path) + sizeof("/hypervisor.json")];
    ProcessRecord process;

    snprintf(target, sizeof(target), "%s/hypervisor.json", scratch->path);
    assert_int_equal(copy_file(record, target, 0600), 0);
    assert_int_equal(process_record_read(scratch->path, &process), 0);
    assert_int_equal(process.launched.id.pid, 28458);
    assert_int_equal(process.launched.id.start_ticks, 3845133);
    assert_string_equal(sd_id128_to_string(process.generation, text), generation);
    assert_int_equal(process.hypervisor, HYPERVISOR_QEMU);
    assert_false(process.silent);
    process_record_clear(&process);
}

static void test_processes(void **context)
{
    check_process(*context, RECORDS "1-process.json");
    check_process(*context, RECORDS "next-process.json");
}

/* What it is waited for is there until it has come up; other versions know nothing of it. */
static void test_ready(void **context)
{
    Scratch *scratch = *context;
    char *words[] = {(char *)"/bin/sh", (char *)"", NULL};
    ProcessRecord process = {.hypervisor = HYPERVISOR_COMMAND, .ready = words, .launched.id.pid = 4242}, read;

    for (int i = 0; i < 2; i++) {
        assert_int_equal(process_record_write(scratch->path, &process), 0);
        assert_int_equal(process_record_read(scratch->path, &read), 0);
        assert_int_equal(read.hypervisor, HYPERVISOR_COMMAND);
        assert_null(read.stop);
        if (i == 0) {
            assert_string_equal(read.ready[0], "/bin/sh");
            assert_string_equal(read.ready[1], "");
            assert_null(read.ready[2]);
        } else {
            assert_null(read.ready);
        }
        process_record_clear(&read);
        process.ready = NULL;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_earlier),
        IN_SCRATCH(test_later),
        cmocka_unit_test(test_definition),
        IN_SCRATCH(test_processes),
        IN_SCRATCH(test_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
