/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the handle of a microVM is to do, over all states; and which handles are enabled. */
#include "bus/handle-words.h"
#include "bus/handle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "scratch.h"

static const HandlePhase off[] = {HANDLE_OFF, HANDLE_FAILED}, on[] = {HANDLE_COMING, HANDLE_UP};

static void test_phase(void **state)
{
    for (MicrovmState s = 0; s < MICROVM_STATE_MAX; s++) {
        HandlePhase phase = handle_phase(s, MICROVM_READINESS_NONE, false);
        assert_int_equal(handle_is_wanted(phase),
                         s != MICROVM_INACTIVE && s != MICROVM_FAILED && s != MICROVM_STOPPING);
    }
    assert_int_equal(handle_phase(MICROVM_RUNNING, MICROVM_READINESS_NONE, false), HANDLE_UP);
    assert_int_equal(handle_phase(MICROVM_RUNNING, MICROVM_READINESS_WAITING, false), HANDLE_COMING);
    assert_int_equal(handle_phase(MICROVM_RUNNING, MICROVM_READINESS_READY, false), HANDLE_UP);
    /* A booted guest is not given up for being slow. */
    assert_int_equal(handle_phase(MICROVM_RUNNING, MICROVM_READINESS_TIMED_OUT, false), HANDLE_UP);
    assert_int_equal(handle_phase(MICROVM_PAUSED, MICROVM_READINESS_LOST, false), HANDLE_UP);
    assert_int_equal(handle_phase(MICROVM_BACKOFF, MICROVM_READINESS_NONE, false), HANDLE_COMING);
    assert_int_equal(handle_phase(MICROVM_STOPPING, MICROVM_READINESS_NONE, false), HANDLE_STOPPING);
    /* Of a restart. */
    assert_int_equal(handle_phase(MICROVM_STOPPING, MICROVM_READINESS_NONE, true), HANDLE_COMING);
}

static void test_order(void **state)
{
    HandleLook none = {0}, told = {.told = true}, starting = {.told = true, .starts = true},
               attached = {.told = true, .connected = true},
               ready = {.told = true, .connected = true, .ready = true}, due = {.due = true};

    for (size_t i = 0; i < ELEMENTSOF(on); i++) {
        assert_int_equal(handle_order(on[i], &none, true), HANDLE_ORDER_START);
        assert_int_equal(handle_order(on[i], &none, false), HANDLE_ORDER_LATER);
        assert_int_equal(handle_order(on[i], &due, false), HANDLE_ORDER_LATER);
        assert_int_equal(handle_order(on[i], &told, true), HANDLE_NO_ORDER);
    }
    /* What systemd was never told is not taken back. */
    for (size_t i = 0; i < ELEMENTSOF(off); i++)
        assert_int_equal(handle_order(off[i], &none, true), HANDLE_NO_ORDER);
    assert_int_equal(handle_order(HANDLE_STOPPING, &none, true), HANDLE_NO_ORDER);
    assert_int_equal(handle_order(HANDLE_OFF, &due, true), HANDLE_NO_ORDER);
    assert_int_equal(handle_order(HANDLE_STOPPING, &ready, true), HANDLE_ORDER_STOP);
    /* Its process can end by itself... */
    assert_int_equal(handle_order(HANDLE_OFF, &ready, true), HANDLE_NO_ORDER);
    assert_int_equal(handle_order(HANDLE_FAILED, &ready, true), HANDLE_NO_ORDER);
    assert_int_equal(handle_order(HANDLE_FAILED, &attached, true), HANDLE_NO_ORDER);
    /* ...but not well, before it was ready. */
    assert_int_equal(handle_order(HANDLE_OFF, &attached, true), HANDLE_ORDER_STOP);
    /* It is about to come: to fail, or for nothing. */
    assert_int_equal(handle_order(HANDLE_FAILED, &starting, true), HANDLE_NO_ORDER);
    assert_int_equal(handle_order(HANDLE_OFF, &starting, true), HANDLE_ORDER_STOP);
    assert_int_equal(handle_order(HANDLE_FAILED, &due, true), HANDLE_ORDER_START);
    /* It has died, and systemd would start it again: for a microVM that is off by now. */
    assert_int_equal(handle_order(HANDLE_FAILED, &told, true), HANDLE_ORDER_STOP);
}

static void expect(HandlePhase phase, HandleTalk *talk, const char *notify, int code)
{
    HandleWords words = handle_words(phase, talk);

    if (notify)
        assert_string_equal(words.notify, notify);
    else
        assert_null(words.notify);
    assert_int_equal(words.code, code);
}

static void test_life(void **state)
{
    HandleTalk talk = {0};

    expect(HANDLE_COMING, &talk, NULL, -1);
    expect(HANDLE_UP, &talk, "READY=1", -1);
    expect(HANDLE_UP, &talk, NULL, -1);
    /* It died, and comes again. */
    expect(HANDLE_COMING, &talk, "RELOADING=1", -1);
    expect(HANDLE_COMING, &talk, NULL, -1);
    expect(HANDLE_UP, &talk, "READY=1", -1);
    expect(HANDLE_OFF, &talk, NULL, 0);
}

static void test_ends(void **state)
{
    HandleTalk fresh = {0}, ready = {.ready = true}, reloading = {.ready = true, .reloading = true};

    expect(HANDLE_FAILED, &fresh, NULL, 1);
    expect(HANDLE_OFF, &fresh, NULL, 1); /* a start that came to nothing */
    expect(HANDLE_FAILED, &ready, NULL, 1);
    expect(HANDLE_FAILED, &reloading, NULL, 1);
    expect(HANDLE_OFF, &reloading, NULL, 0);
}

static void test_leaving(void **state)
{
    HandleTalk unready = {.leaving = true}, ready = {.leaving = true, .ready = true},
               asked = {.leaving = true, .asked = true};

    expect(HANDLE_STOPPING, &ready, NULL, -1);
    expect(HANDLE_OFF, &ready, NULL, 0);
    expect(HANDLE_FAILED, &ready, NULL, 1);
    /* A run that comes after is not this one's. */
    expect(HANDLE_COMING, &ready, NULL, 0);
    expect(HANDLE_UP, &ready, NULL, 0);
    /* An end before systemd has asked for it would be a failure. */
    expect(HANDLE_OFF, &unready, NULL, -1);
    expect(HANDLE_STOPPING, &asked, NULL, -1);
    expect(HANDLE_OFF, &asked, NULL, 0);
}

/* After a restart of microvmd: systemd takes a second READY=1 for nothing, and the end of a reload. */
static void test_again(void **state)
{
    HandleTalk talk = {.ready = true};

    expect(HANDLE_UP, &talk, "READY=1", -1);
    talk = (HandleTalk){.ready = true};
    expect(HANDLE_COMING, &talk, "RELOADING=1", -1);
}

static void count_change(MicroVM *vm, void *userdata)
{
    ++*(unsigned *)userdata;
}

static void link_handle(Scratch *scratch, const char *directory, const char *link)
{
    char path[sizeof(scratch->file) + 64];

    snprintf(path, sizeof(path), "%s/%s", scratch->path, directory);
    assert_int_equal(mkdir_parents(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/%s/%s", scratch->path, directory, link);
    assert_int_equal(symlink("/usr/lib/systemd/system/microvmd@.service", path), 0);
}

static void test_enabled(void **context)
{
    Scratch *scratch = *context;
    unsigned changes = 0;
    VmHost host = {.changed = count_change, .userdata = &changes};
    MicroVM db = {.host = &host, .name = (char *)"db"}, inst = {.host = &host, .name = (char *)"web@1"},
            web = {.host = &host, .name = (char *)"web", .enabled = true};
    MicroVM *vms[] = {&db, &web, &inst};
    Manager manager = {.vms = vms, .n_vms = ELEMENTSOF(vms)};

    link_handle(scratch, "etc/systemd/system/multi-user.target.wants", "microvmd@db.service");
    link_handle(scratch, "run/systemd/system/client.service.requires", "microvmd@web@1.service");
    link_handle(scratch, "etc/systemd/system/multi-user.target.wants", "microvm@web.service");
    link_handle(scratch, "etc/systemd/system/multi-user.target.wants", "microvmd@gone.service");
    link_handle(scratch, "etc/systemd/system", "microvmd@web.service");
    handles_find_enabled(&manager, scratch->path);
    assert_true(db.enabled);
    assert_true(inst.enabled);
    assert_false(web.enabled);
    assert_int_equal(changes, 3);
    handles_find_enabled(&manager, scratch->path);
    assert_int_equal(changes, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phase),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_again),
        IN_SCRATCH(test_enabled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
