/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values as people write them. */
#include "base/parse.h"

#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define SEC UINT64_C(1000000)

typedef struct Case {
    const char *text;
    int error;
    uint64_t value;
} Case;

static void check(const Case *cases, size_t n, int (*parse)(const char *, uint64_t *))
{
    for (size_t i = 0; i < n; i++) {
        uint64_t value = 4711;
        int r = parse(cases[i].text, &value);
        if (r != cases[i].error || value != (r < 0 ? 4711 : cases[i].value))
            fail_msg("\"%s\": %d, %llu", cases[i].text, r, (unsigned long long)value);
    }
}

static void test_sizes(void **context)
{
    static const Case cases[] = {
        {"512", 0, 512},
        {"0", 0, 0},
        {"512M", 0, 512},
        {"512 M", 0, 512},
        {"512MiB", 0, 512},
        {"512MB", 0, 512},
        {"2G", 0, 2048},
        {"2GiB", 0, 2048},
        {"1.5G", 0, 1536},
        {"1T", 0, 1 << 20},
        {"1024K", 0, 1},
        {"1048576B", 0, 1},
        {"0.25G", 0, 256},
        {"", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"G", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {"1e3", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"2g", -EINVAL, 0},
        {"2P", -EINVAL, 0},
        {"2GG", -EINVAL, 0},
        {"2G 1M", -EINVAL, 0},
        {"1.", -EINVAL, 0},
        {".5G", -EINVAL, 0},
        {"1.5", -EINVAL, 0}, /* no whole MiB */
        {"1K", -EINVAL, 0},
        {"0.3G", -EINVAL, 0},
        {"1,5G", -EINVAL, 0},
        {"99999999999999999999", -ERANGE, 0},
        {"18446744073709551615", -ERANGE, 0},
        {"99999999999T", -ERANGE, 0},
    };

    check(cases, ELEMENTSOF(cases), parse_size_mib);
}

static void test_durations(void **context)
{
    static const Case cases[] = {
        {"90", 0, 90 * SEC},
        {"0", 0, 0},
        {"90s", 0, 90 * SEC},
        {"90 s", 0, 90 * SEC},
        {"1.5", 0, 1500000},
        {"0.5s", 0, 500000},
        {"500ms", 0, 500000},
        {"7us", 0, 7},
        {"1min 30s", 0, 90 * SEC},
        {"1min30s", 0, 90 * SEC},
        {"1m", 0, 60 * SEC},
        {"2 hours", 0, 7200 * SEC},
        {"1d", 0, 86400 * SEC},
        {"1w 1d", 0, 8 * 86400 * SEC},
        {"", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"1 fortnight", -EINVAL, 0},
        {"infinity", -EINVAL, 0},
        {"1min,30s", -EINVAL, 0},
        {"1.s", -EINVAL, 0},
        {"1.2345678s", -EINVAL, 0},
        {"99999999999999999999s", -ERANGE, 0},
        {"18446744073709551615s", -ERANGE, 0},
        {"30500568904943us 18446744073709551615us", -ERANGE, 0},
    };

    check(cases, ELEMENTSOF(cases), parse_duration);
}

static void test_duration_round_trip(void **context)
{
    static const struct {
        uint64_t usec;
        const char *text;
    } cases[] = {
        {0, "0"},           {1, "1us"},
        {SEC, "1s"},        {90 * SEC, "1min 30s"},
        {SEC / 2, "500ms"}, {8 * 86400 * SEC + 3600 * SEC + 1001, "1w 1d 1h 1ms 1us"},
        {UINT64_MAX, NULL},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        char text[128], small[5];
        uint64_t again;
        format_duration(cases[i].usec, text, sizeof(text));
        if (cases[i].text)
            assert_string_equal(text, cases[i].text);
        assert_int_equal(parse_duration(text, &again), 0);
        assert_true(again == cases[i].usec);
        format_duration(cases[i].usec, small, sizeof(small)); /* cut, not overrun */
        assert_true(strlen(small) < sizeof(small));
    }
}

static void test_mac(void **context)
{
    static const char *const bad[] = {
        "",
        "52:54:00:ab:cd",
        "52:54:00:ab:cd:ef:01",
        "52-54-00-ab-cd-ef",
        "5:254:00:ab:cd:ef",
        "52:54:00:ab:cd:eg",
        " 2:54:00:ab:cd:ef",
        "+2:54:00:ab:cd:ef",
        "0x:54:00:ab:cd:ef",
        "52:54:00:ab:cd:ef ",
        "01:00:5e:00:00:01", /* multicast */
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
    };
    char mac[18] = "untouched";

    for (size_t i = 0; i < ELEMENTSOF(bad); i++)
        if (parse_mac(bad[i], mac) != -EINVAL)
            fail_msg("\"%s\" passes", bad[i]);
    assert_string_equal(mac, "untouched");
    assert_int_equal(parse_mac("52:54:00:AB:cd:EF", mac), 0);
    assert_string_equal(mac, "52:54:00:ab:cd:ef");
}

static void test_uuid(void **context)
{
    static const char *const bad[] = {
        "",
        "6a2c9b1e0f5d4c3b9a875d1e2f3a4b5c",
        "6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5",
        "6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5cd",
        "6a2c9b1g-0f5d-4c3b-9a87-5d1e2f3a4b5c",
        "6a2c9b1-e0f5d-4c3b-9a87-5d1e2f3a4b5c",
        "{a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5}",
        "00000000-0000-0000-0000-000000000000",
    };
    char uuid[37] = "untouched";

    for (size_t i = 0; i < ELEMENTSOF(bad); i++)
        if (parse_uuid(bad[i], uuid) != -EINVAL)
            fail_msg("\"%s\" passes", bad[i]);
    assert_string_equal(uuid, "untouched");
    assert_int_equal(parse_uuid("6A2C9B1E-0F5D-4C3B-9A87-5D1E2F3A4B5C", uuid), 0);
    assert_string_equal(uuid, "6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c");
}

static void test_ipv4(void **context)
{
    static const char *const bad[] = {"",    "1.2.3",    "1.2.3.4.5",  "256.0.0.1", "localhost",
                                      "::1", "1.2.3.4 ", "0x7f.0.0.1", "1.2.3.04"};

    for (size_t i = 0; i < ELEMENTSOF(bad); i++)
        if (ipv4_valid(bad[i]))
            fail_msg("\"%s\" passes", bad[i]);
    assert_true(ipv4_valid("127.0.0.1"));
    assert_true(ipv4_valid("0.0.0.0"));
}

static void test_did_you_mean(void **context)
{
    static const char *const keys[] = {"vcpu",   "mem",     "kernel",     "kernelParams",
                                       "initrd", "volumes", "interfaces", "restart"};
    static const struct {
        const char *word, *meant;
    } cases[] = {
        {"vpcu", "vcpu"},
        {"vcpus", "vcpu"},
        {"cpu", "vcpu"},
        {"MEM", "mem"},
        {"memory", "mem"},
        {"kernal", "kernel"},
        {"kernelparams", "kernelParams"},
        {"kernelParam", "kernelParams"},
        {"volume", "volumes"},
        {"interface", "interfaces"},
        {"shares", NULL},
        {"balloon", NULL},
        {"", NULL},
        {"a-key-that-is-much-too-long-to-be-anything-at-all-in-this-table-of-keys", NULL},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        const char *meant = did_you_mean(cases[i].word, keys, ELEMENTSOF(keys));
        if (cases[i].meant ? !streq(meant, cases[i].meant) : meant != NULL)
            fail_msg("\"%s\": %s", cases[i].word, meant ? meant : "nothing");
    }
    assert_null(did_you_mean("mem", keys, 0));
}

static void test_printable(void **context)
{
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"Grüße 🐧", "Grüße 🐧"},
        {"\033[31m\n\x7f", "?[31m??"},
        {"a\xff\xfe z", "a?? z"},
        {"cut \xe2\x82", "cut ??"},
        {"\xc0\xaf", "??"},
        {"\xc2\x9b"
         "31m",
         "??31m"}, /* CSI in one character */
        {"\xed\xa0\x80", "???"},
        {"\xf4\x90\x80\x80", "????"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_free_ char *text = strdup(cases[i].text);
        utf8_make_printable(text);
        assert_string_equal(text, cases[i].shown);
    }
}

/* What is encoded is recognized, and is what it was. */
static void test_utf8(void **context)
{
    static const uint32_t edges[] = {1, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff};

    for (size_t i = 0; i < ELEMENTSOF(edges); i++) {
        char bytes[4];
        size_t length = utf8_encode(edges[i], bytes);
        assert_int_equal(utf8_sequence(bytes, length), length);
        if (length > 1)
            assert_int_equal(utf8_sequence(bytes, length - 1), 0);
    }
    assert_int_equal(utf8_sequence("\x80", 1), 0);
    assert_int_equal(utf8_sequence("\xf8\x88\x80\x80", 4), 0);
    assert_int_equal(utf8_sequence("", 1), 1); /* NUL is a character */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_duration_round_trip),
        cmocka_unit_test(test_mac),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_did_you_mean),
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
