/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties of a unit as a message has them, read back by sd-bus. */
#include "launch/unit-settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

#define STRINGS(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct Wire {
    sd_bus *bus;
    sd_bus_message *message;
    int other;
} Wire;

/* A bus that nobody is at the other end of: messages can be made on it. */
static int setup(void **state)
{
    Wire *wire = calloc(1, sizeof(*wire));
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    wire->other = pair[1];
    assert_true(sd_bus_new(&wire->bus) >= 0);
    assert_true(sd_bus_set_fd(wire->bus, pair[0], pair[0]) >= 0);
    assert_true(sd_bus_start(wire->bus) >= 0);
    assert_true(sd_bus_message_new_method_call(wire->bus, &wire->message, "a.b", "/a", "a.b", "C") >= 0);
    assert_true(sd_bus_message_open_container(wire->message, 'a', "(sv)") >= 0);
    *state = wire;
    return 0;
}

static int teardown(void **state)
{
    Wire *wire = *state;

    sd_bus_message_unref(wire->message);
    sd_bus_close(wire->bus);
    sd_bus_unref(wire->bus);
    close(wire->other);
    free(wire);
    return 0;
}

/* Ready to be read. */
static sd_bus_message *sent(Wire *wire, const UnitSettings *settings)
{
    assert_int_equal(unit_settings_append(wire->message, settings), 0);
    assert_true(sd_bus_message_close_container(wire->message) >= 0);
    assert_true(sd_bus_message_seal(wire->message, 1, 0) >= 0);
    assert_true(sd_bus_message_rewind(wire->message, 1) >= 0);
    assert_true(sd_bus_message_enter_container(wire->message, 'a', "(sv)") > 0);
    return wire->message;
}

static void enter(sd_bus_message *message, const char *name, const char *signature)
{
    const char *text;

    assert_true(sd_bus_message_enter_container(message, 'r', "sv") > 0);
    assert_true(sd_bus_message_read(message, "s", &text) > 0);
    assert_string_equal(text, name);
    assert_true(sd_bus_message_enter_container(message, 'v', signature) > 0);
}

static void leave(sd_bus_message *message)
{
    assert_true(sd_bus_message_exit_container(message) > 0);
    assert_true(sd_bus_message_exit_container(message) > 0);
}

static void test_plain(void **state)
{
    _cleanup_unit_settings_ UnitSettings settings = {0};
    const char *text;
    uint64_t big;
    uint32_t mask;
    int32_t adjust;
    int flag;
    sd_bus_message *m;

    unit_settings_add(&settings, "PrivateNetwork", "b", 1, NULL);
    unit_settings_add(&settings, "MemoryMax", "t", UINT64_C(0x123456789a), NULL);
    unit_settings_add(&settings, "UMask", "u", 0077, NULL);
    unit_settings_add(&settings, "OOMScoreAdjust", "i", (uint64_t)-200, NULL);
    unit_settings_add(&settings, "User", "s", 0, STRINGS("1900000007"));
    m = sent(*state, &settings);
    enter(m, "PrivateNetwork", "b");
    assert_true(sd_bus_message_read(m, "b", &flag) > 0);
    assert_int_equal(flag, 1);
    leave(m);
    enter(m, "MemoryMax", "t");
    assert_true(sd_bus_message_read(m, "t", &big) > 0);
    assert_int_equal(big, UINT64_C(0x123456789a));
    leave(m);
    enter(m, "UMask", "u");
    assert_true(sd_bus_message_read(m, "u", &mask) > 0);
    assert_int_equal(mask, 0077);
    leave(m);
    enter(m, "OOMScoreAdjust", "i");
    assert_true(sd_bus_message_read(m, "i", &adjust) > 0);
    assert_int_equal(adjust, -200);
    leave(m);
    enter(m, "User", "s");
    assert_true(sd_bus_message_read(m, "s", &text) > 0);
    assert_string_equal(text, "1900000007");
    leave(m);
    assert_true(sd_bus_message_at_end(m, 0) > 0);
}

static void test_lists(void **state)
{
    _cleanup_unit_settings_ UnitSettings settings = {0};
    const char *first, *second;
    int flag;
    sd_bus_message *m;

    unit_settings_add(&settings, "InaccessiblePaths", "as", 0, STRINGS("-+/tmp", "/x y"));
    unit_settings_add(&settings, "RestrictAddressFamilies", "(bas)", 1, NULL);
    unit_settings_add(&settings, "SystemCallFilter", "(bas)", 0, STRINGS("@keyring"));
    unit_settings_add(&settings, "DeviceAllow", "a(ss)", 0, STRINGS("/dev/kvm", "rw"));
    m = sent(*state, &settings);
    enter(m, "InaccessiblePaths", "as");
    assert_true(sd_bus_message_read(m, "as", 2, &first, &second) > 0);
    assert_string_equal(first, "-+/tmp");
    assert_string_equal(second, "/x y");
    leave(m);
    enter(m, "RestrictAddressFamilies", "(bas)");
    assert_true(sd_bus_message_read(m, "(bas)", &flag, 0) > 0);
    assert_int_equal(flag, 1);
    leave(m);
    enter(m, "SystemCallFilter", "(bas)");
    assert_true(sd_bus_message_read(m, "(bas)", &flag, 1, &first) > 0);
    assert_int_equal(flag, 0);
    assert_string_equal(first, "@keyring");
    leave(m);
    enter(m, "DeviceAllow", "a(ss)");
    assert_true(sd_bus_message_read(m, "a(ss)", 1, &first, &second) > 0);
    assert_string_equal(first, "/dev/kvm");
    assert_string_equal(second, "rw");
    leave(m);
}

/* The next one of "a(ssbt)". */
static void expect_mount(sd_bus_message *m, const char *from, const char *to, int if_there)
{
    const char *is_from, *is_to;
    uint64_t flags;
    int is_if_there;

    assert_true(sd_bus_message_read(m, "(ssbt)", &is_from, &is_to, &is_if_there, &flags) > 0);
    assert_string_equal(is_from, from);
    assert_string_equal(is_to, to);
    assert_int_equal(is_if_there, if_there);
}

static void test_mounts(void **state)
{
    _cleanup_unit_settings_ UnitSettings settings = {0};
    sd_bus_message *m;

    unit_settings_add(&settings, "BindPaths", "a(ssbt)", 0, STRINGS("/srv/a:b", "-/dev/kvm"));
    m = sent(*state, &settings);
    enter(m, "BindPaths", "a(ssbt)");
    assert_true(sd_bus_message_enter_container(m, 'a', "(ssbt)") > 0);
    expect_mount(m, "/srv/a:b", "/srv/a:b", 0);
    expect_mount(m, "/dev/kvm", "/dev/kvm", 1);
}

static void test_mounts_elsewhere(void **state)
{
    _cleanup_unit_settings_ UnitSettings settings = {0};
    sd_bus_message *m;

    unit_settings_add(&settings, "BindPaths", "a(ssbt)", 1, STRINGS("/a", "/b", "-/c", "/d"));
    m = sent(*state, &settings);
    enter(m, "BindPaths", "a(ssbt)");
    assert_true(sd_bus_message_enter_container(m, 'a', "(ssbt)") > 0);
    expect_mount(m, "/a", "/b", 0);
    expect_mount(m, "/c", "/d", 1);
    assert_int_equal(sd_bus_message_at_end(m, false), 1);
}

/* Processor N is bit N % 8 of byte N / 8. */
static void test_sets(void **state)
{
    _cleanup_unit_settings_ UnitSettings settings = {0};
    const uint8_t expected[] = {0x2f, 0, 1}, *bits;
    const void *data;
    size_t size;
    sd_bus_message *m;

    unit_settings_add(&settings, "CPUAffinity", "ay", 0, STRINGS("0-3,5,16"));
    m = sent(*state, &settings);
    enter(m, "CPUAffinity", "ay");
    assert_true(sd_bus_message_read_array(m, 'y', &data, &size) > 0);
    bits = data;
    assert_int_equal(size, sizeof(expected));
    assert_memory_equal(bits, expected, sizeof(expected));
}

static void test_no_set(void **state)
{
    static const char *const wrong[] = {"3-1", "x", "1,,2", "8192", "1-", "-1"};
    Wire *wire = *state;

    for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
        _cleanup_unit_settings_ UnitSettings settings = {0};
        sd_bus_message *message = NULL;
        assert_true(sd_bus_message_new_method_call(wire->bus, &message, "a.b", "/a", "a.b", "C") >= 0);
        assert_true(sd_bus_message_open_container(message, 'a', "(sv)") >= 0);
        unit_settings_add(&settings, "CPUAffinity", "ay", 0, STRINGS(wrong[i]));
        assert_int_equal(unit_settings_append(message, &settings), -EINVAL);
        sd_bus_message_unref(message);
    }
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_plain), TEST(test_lists),  TEST(test_mounts), TEST(test_mounts_elsewhere),
        TEST(test_sets),  TEST(test_no_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
