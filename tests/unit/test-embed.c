/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is prepared for the QEMU driver inside our process. */
#include "driver/libvirt/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#define STATUS "<!-- libvirt's -->\n<domstatus state='%s' reason='%s' pid='%d'>\n  <domain/>\n</domstatus>\n"

static void write_status(Scratch *scratch, const char *name, const char *state, const char *reason, int pid)
{
    char text[256];

    snprintf(text, sizeof(text), STATUS, state, reason, pid);
    scratch_text(scratch, name, text);
}

static bool there(Scratch *scratch, const char *name)
{
    return access(scratch_path(scratch, name), F_OK) == 0;
}

static void test_settings_are_written_once(void **context)
{
    char uri[128];

    snprintf(uri, sizeof(uri), "qemu:///embed?root=%s&x=y", ((Scratch *)*context)->path);
    assert_int_equal(embed_prepare(uri), 0);
    assert_true(there(*context, "etc/qemu.conf"));
    scratch_text(*context, "etc/qemu.conf", "");
    assert_int_equal(embed_prepare(uri), 0);
    _cleanup_free_ char *text = NULL;
    size_t size;
    assert_int_equal(read_file(scratch_path(*context, "etc/qemu.conf"), 4096, &text, &size), 0);
    assert_int_equal(size, 0);
    assert_int_equal(embed_prepare("qemu:///embed"), -EINVAL);
}

static void test_only_what_has_no_process_is_dropped(void **context)
{
    char uri[128];

    assert_int_equal(mkdir_parents(scratch_path(*context, "run/qemu"), 0755), 0);
    write_status(*context, "run/qemu/unborn.xml", "paused", "starting up", 0);
    write_status(*context, "run/qemu/launched.xml", "paused", "starting up", 4242);
    write_status(*context, "run/qemu/runs.xml", "running", "booted", 4243);
    snprintf(uri, sizeof(uri), "qemu:///embed?root=%s", ((Scratch *)*context)->path);
    assert_int_equal(embed_prepare(uri), 0);
    assert_false(there(*context, "run/qemu/unborn.xml"));
    assert_true(there(*context, "run/qemu/launched.xml"));
    assert_true(there(*context, "run/qemu/runs.xml"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_settings_are_written_once),
        IN_SCRATCH(test_only_what_has_no_process_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
