/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* KVM or emulation, over all facts there can be. */
#include "host/accel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const AccelFacts good = {.device_exists = true, .cpu_needs_flags = true, .cpu_has_flags = true},
                        absent = {.device_error = -ENOENT, .cpu_needs_flags = true, .cpu_has_flags = true},
                        forbidden = {.device_exists = true,
                                     .device_error = -EACCES,
                                     .cpu_needs_flags = true,
                                     .cpu_has_flags = true},
                        no_flags = {.device_exists = true, .cpu_needs_flags = true},
                        no_need = {.device_exists = true};

typedef struct Case {
    const AccelFacts *facts;
    Accel wanted;
    bool had_kvm;
    int error;
    Accel accel;
    const char *said;
} Case;

static void test_choice(void **context)
{
    static const Case cases[] = {
        {&good, ACCEL_AUTO, false, 0, ACCEL_KVM, "KVM"},
        {&good, ACCEL_AUTO, true, 0, ACCEL_KVM, "KVM"},
        {&good, ACCEL_KVM, false, 0, ACCEL_KVM, "definition"},
        {&good, ACCEL_TCG, false, 0, ACCEL_TCG, "definition"},
        {&good, ACCEL_TCG, true, 0, ACCEL_TCG, "definition"},
        {&no_need, ACCEL_AUTO, false, 0, ACCEL_KVM, "KVM"}, /* no x86 */
        {&absent, ACCEL_AUTO, false, 0, ACCEL_TCG, "does not exist"},
        {&absent, ACCEL_AUTO, true, -ENODEV, 0, "has run under KVM before"},
        {&absent, ACCEL_KVM, false, -ENODEV, 0, "does not exist"},
        {&absent, ACCEL_TCG, true, 0, ACCEL_TCG, "definition"},
        {&forbidden, ACCEL_AUTO, false, 0, ACCEL_TCG, "Permission denied"},
        {&forbidden, ACCEL_AUTO, true, -ENODEV, 0, "\"accel\": \"tcg\""},
        {&forbidden, ACCEL_KVM, true, -ENODEV, 0, "Permission denied"},
        {&no_flags, ACCEL_AUTO, false, 0, ACCEL_TCG, "vmx nor svm"},
        {&no_flags, ACCEL_AUTO, true, -ENODEV, 0, "vmx nor svm"},
        {&no_flags, ACCEL_KVM, false, -ENODEV, 0, "\"accel\": \"kvm\""},
        {&no_flags, ACCEL_TCG, false, 0, ACCEL_TCG, "definition"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        const Case *c = &cases[i];
        _cleanup_free_ char *reason = NULL;
        Accel accel = ACCEL_MAX;
        int r = accel_choose(c->wanted, c->facts, c->had_kvm, &accel, &reason);
        if (r != c->error || (r == 0 ? accel != c->accel : accel != ACCEL_MAX) || !strstr(reason, c->said))
            fail_msg("case %zu: %d, %s", i, r, reason);
        assert_int_not_equal(reason[strlen(reason) - 1], '.'); /* it becomes a part of sentences */
    }
}

/* Whatever the facts, what is chosen can be run, and tcg always can. */
static void test_all_facts(void **context)
{
    for (unsigned bits = 0; bits < 64; bits++)
        for (Accel wanted = 0; wanted < ACCEL_MAX; wanted++) {
            AccelFacts facts = {
                .device_exists = bits & 1,
                .device_error = bits & 2 ? -EACCES : 0,
                .cpu_needs_flags = bits & 4,
                .cpu_has_flags = bits & 8,
            };
            bool usable = facts.device_exists && facts.device_error == 0 &&
                          (!facts.cpu_needs_flags || facts.cpu_has_flags);
            _cleanup_free_ char *reason = NULL;
            Accel accel = ACCEL_MAX;
            int r = accel_choose(wanted, &facts, bits & 16, &accel, &reason);
            assert_non_null(reason);
            assert_true(accel != ACCEL_AUTO);
            if (accel == ACCEL_KVM)
                assert_true(usable);
            if (wanted == ACCEL_TCG)
                assert_true(r == 0 && accel == ACCEL_TCG);
            else if (usable)
                assert_true(r == 0 && accel == ACCEL_KVM);
            else
                assert_true(r == (wanted == ACCEL_KVM || (bits & 16) ? -ENODEV : 0));
        }
}

static void test_facts_of_this_host(void **context)
{
    AccelFacts facts = {0};

    accel_facts_read((HostUser){geteuid(), getegid()}, &facts);
    assert_true(facts.device_error <= 0);
    assert_int_equal(facts.device_exists, access("/dev/kvm", F_OK) == 0);
    if (!facts.device_exists)
        assert_int_equal(facts.device_error, -ENOENT);
#if defined(__x86_64__)
    assert_true(facts.cpu_needs_flags);
    assert_true(facts.tsc_khz > 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_all_facts),
        cmocka_unit_test(test_facts_of_this_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
