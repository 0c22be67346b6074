/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Arguments in the making. */
#include "driver/direct/command.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_arguments(void **state)
{
    _cleanup_(command_clear)
    Command command = {0};

    command_add(&command, "-m");
    command_add(&command, "size=%dM", 512);
    command_add_text(&command, "%s, as it is");
    assert_int_equal(command.n_arguments, 3);
    assert_string_equal(command.argv[0], "-m");
    assert_string_equal(command.argv[1], "size=512M");
    assert_string_equal(command.argv[2], "%s, as it is");
    assert_null(command.argv[3]);
    assert_false(command.oom);
}

static void test_appending(void **state)
{
    static const struct {
        const char *value, *written;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {",", ",,"},
        {"a,b", "a,,b"},
        {",,", ",,,,"},
        {"a,b,", "a,,b,,"},
        {"a=b \"c\" 'd'", "a=b \"c\" 'd'"},
        {"\n", "\n"},
        {"%s%n", "%s%n"},
        {"fd:3", "fd:3"},
        {"json:{\"a\":1,\"b\":2}", "json:{\"a\":1,,\"b\":2}"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_(command_clear)
        Command command = {0};
        _cleanup_free_ char *expected = NULL;
        command_add(&command, "before");
        command_add(&command, "x,id=%d,path=", 7);
        command_put_option(&command, cases[i].value);
        command_put(&command, ",n=%d", 8);
        command_put_text(&command, ",as=%s,it=is");
        assert_true(asprintf(&expected, "x,id=7,path=%s,n=8,as=%%s,it=is", cases[i].written) > 0);
        assert_int_equal(command.n_arguments, 2);
        assert_string_equal(command.argv[0], "before");
        assert_string_equal(command.argv[1], expected);
        assert_false(command.oom);
    }
}

/* A number for each, and only one. */
static void test_descriptors(void **state)
{
    _cleanup_(command_clear)
    Command command = {0};

    assert_int_equal(command_descriptor(&command, DESCRIPTOR_CONTROL, 0), 3);
    assert_int_equal(command_descriptor(&command, DESCRIPTOR_VOLUME, 1), 4);
    assert_int_equal(command_descriptor(&command, DESCRIPTOR_VOLUME, 0), 5);
    assert_int_equal(command_descriptor(&command, DESCRIPTOR_VOLUME, 1), 4);
    assert_int_equal(command_descriptor(&command, DESCRIPTOR_CONTROL, 0), 3);
    assert_int_equal(command.n_descriptors, 3);
    assert_int_equal(command.descriptors[2].kind, DESCRIPTOR_VOLUME);
    assert_int_equal(command.descriptors[2].index, 0);
}

static void test_clear(void **state)
{
    Command command = {0};

    command_add(&command, "a");
    command_descriptor(&command, DESCRIPTOR_CONTROL, 0);
    command_clear(&command);
    assert_null(command.argv);
    assert_null(command.descriptors);
    command_clear(&command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_appending),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_clear),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
