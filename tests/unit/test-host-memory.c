/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a start has room in the host's memory. */
#include "host/memory.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char meminfo[] = "MemTotal:        4194304 kB\n"
                              "MemFree:          102400 kB\n"
                              "MemAvailable:    2097152 kB\n"
                              "HugePages_Total:     256\n"
                              "HugePages_Free:      100\n"
                              "Hugepagesize:       2048 kB\n"
                              "Hugetlb:          524288 kB\n";

static int admit(MemoryNeed need, const char *wanted)
{
    HostMemory memory = host_memory_parse(meminfo);
    _cleanup_free_ char *reason = NULL;
    int r = host_memory_admits(&memory, &need, &reason);

    if (wanted)
        assert_string_equal(reason, wanted);
    else
        assert_null(reason);
    return r;
}

static void test_plain_pages(void **state)
{
    assert_int_equal(admit((MemoryNeed){.mib = 2048}, NULL), 1);
    assert_int_equal(
        admit((MemoryNeed){.mib = 2049},
              "held: it needs 2049 MiB of memory; 2048 MiB are available, of which 0 MiB are for "
              "those that have just started"),
        0);
    assert_int_equal(admit((MemoryNeed){.mib = 1000, .promised_mib = 1000, .reserve_mib = 48}, NULL), 1);
    assert_int_equal(
        admit((MemoryNeed){.mib = 1000, .promised_mib = 1000, .reserve_mib = 49},
              "held: it needs 1000 MiB of memory; 2048 MiB are available, of which 1000 MiB are for "
              "those that have just started, and the host.memoryReserve stays free"),
        0);
    /* Huge pages, and what the host keeps, are never to be had. */
    assert_int_equal(
        admit((MemoryNeed){.mib = 3584, .promised_mib = 1},
              "held: it needs 3584 MiB of memory; 2048 MiB are available, of which 1 MiB are for "
              "those that have just started"),
        0);
    assert_int_equal(
        admit((MemoryNeed){.mib = 3585},
              "it needs 3585 MiB of memory, and this host has 3584 MiB for microVMs, whatever else runs"),
        -ENOMEM);
    assert_int_equal(
        admit((MemoryNeed){.mib = 1, .reserve_mib = 9999},
              "it needs 1 MiB of memory, and this host has 0 MiB for microVMs, whatever else runs"),
        -ENOMEM);
}

static void test_huge_pages(void **state)
{
    assert_int_equal(admit((MemoryNeed){.mib = 200, .huge = true, .reserve_mib = 9999}, NULL), 1);
    assert_int_equal(admit((MemoryNeed){.mib = 150, .huge = true, .promised_mib = 51},
                           "held: it needs 150 MiB of memory; 200 MiB in huge pages of the default size are "
                           "available, of which 51 MiB are for those that have just started"),
                     0);
    assert_int_equal(
        admit((MemoryNeed){.mib = 513, .huge = true},
              "it needs 513 MiB of memory, and this host has 512 MiB in huge pages of the default "
              "size for microVMs, whatever else runs"),
        -ENOMEM);
}

static void test_not_known(void **state)
{
    HostMemory memory = host_memory_parse("");
    char *reason = NULL;

    assert_int_equal(host_memory_admits(&memory, &(MemoryNeed){.mib = 1 << 30}, &reason), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_pages),
        cmocka_unit_test(test_huge_pages),
        cmocka_unit_test(test_not_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
