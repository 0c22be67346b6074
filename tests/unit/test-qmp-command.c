/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands for QEMU that others write: what is one, and which only read. */
#include "driver/qmp-command.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void assert_parsed(const char *text, const char *name, const char *arguments, const char *id)
{
    QmpCommand command;
    const char *why = NULL;
    char *printed_arguments, *printed_id;

    assert_int_equal(qmp_command_parse(text, strlen(text), &command, &why), 0);
    assert_string_equal(command.name, name);
    printed_arguments = command.arguments ? cJSON_PrintUnformatted(command.arguments) : strdup("");
    printed_id = command.id ? cJSON_PrintUnformatted(command.id) : strdup("");
    assert_string_equal(printed_arguments, arguments);
    assert_string_equal(printed_id, id);
    free(printed_arguments);
    free(printed_id);
    qmp_command_clear(&command);
}

static void assert_refused(const char *text, size_t size, const char *expected, bool has_id)
{
    QmpCommand command;
    const char *why = NULL;

    assert_int_equal(qmp_command_parse(text, size, &command, &why), -EBADMSG);
    assert_string_equal(why, expected);
    assert_int_equal(command.id != NULL, has_id);
    assert_null(command.name);
    qmp_command_clear(&command);
}

static void test_commands(void **context)
{
    assert_parsed("{\"execute\": \"stop\"}", "stop", "", "");
    assert_parsed(
        " \r\n{\"id\": [1, \"x\"], \"execute\": \"x-y_z.1\", \"arguments\": {\"a\": {\"b\": -1.5}}}\r\n ",
        "x-y_z.1", "{\"a\":{\"b\":-1.5}}", "[1,\"x\"]");
    assert_parsed("{\"execute\": \"stop\", \"id\": null, \"arguments\": {}}", "stop", "{}", "null");
    /* Two of one name: the first one is the one that is looked at, and the one that is sent. */
    assert_parsed("{\"execute\": \"query-status\", \"execute\": \"quit\"}", "query-status", "", "");
}

#define REFUSED(text, why, has_id) assert_refused(text, sizeof(text) - 1, why, has_id)

static void test_no_commands(void **context)
{
    static char longest[QMP_COMMAND_MAX + 1];

    REFUSED("", "JSON parse error", false);
    REFUSED("hello", "JSON parse error", false);
    REFUSED("{\"execute\": \"stop\"", "JSON parse error", false);
    REFUSED("{'execute': 'stop'}", "JSON parse error", false);
    REFUSED("{\"execute\": \"query-status\"} {\"execute\": \"quit\"}", "JSON parse error", false);
    REFUSED("{\"execute\": \"stop\xff\"}", "JSON parse error", false);
    REFUSED("[]", "QMP input must be a JSON object", false);
    REFUSED("{\"id\": 7}", "QMP input lacks member 'execute'", true);
    REFUSED("{\"execute\": 1, \"id\": 7}", "QMP input member 'execute' must be a string", true);
    REFUSED("{\"execute\": \"\", \"id\": 7}", "QMP input member 'execute' is no name of a command", true);
    REFUSED("{\"execute\": \"a\\n\\\"b\"}", "QMP input member 'execute' is no name of a command", false);
    REFUSED("{\"execute\": \"stop\", \"arguments\": []}", "QMP input member 'arguments' must be an object",
            false);
    REFUSED("{\"execute\": \"stop\", \"more\": 1}", "QMP input has an unexpected member", false);
    REFUSED("{\"exec-oob\": \"stop\"}", "Out-of-band execution is not offered by microvmd", false);
    REFUSED("{\"execute\": \"pmemsave\", \"arguments\": {\"val\": [18446744073709551615]}, \"id\": 1}",
            "A number is too large for microvmd to pass on (2^53)", false);
    memset(longest, ' ', sizeof(longest));
    assert_refused(longest, sizeof(longest), "The command is longer than microvmd takes (64 KiB)", false);
}

/* What QEMU's parser would stumble over, and go on behind as with another command, does not get there. */
static void test_smuggling(void **context)
{
    assert_parsed("{\"execute\":\"query-status\",\"arguments\":{\"a\":\"\x01 {'execute':'quit'}\"}}",
                  "query-status", "{\"a\":\"\\u0001 {'execute':'quit'}\"}", "");
    assert_parsed("{\"execute\":\"query-status\",\"arguments\":{\"a\":01,\"b\":{\"execute\":\"quit\"}}}",
                  "query-status", "{\"a\":1,\"b\":{\"execute\":\"quit\"}}", "");
    REFUSED("{\"execute\":\"query-status\",\"arguments\":{\"a\":\"\xfe\"}}", "JSON parse error", false);
    REFUSED("{\"execute\":\"query-status\",\"arguments\":{/* {'execute':'quit'} */}}", "JSON parse error",
            false);
}

static void test_only_reads(void **context)
{
    static const char *const harmless[] = {"query-status",           "query-block",
                                           "query-qmp-schema",       "qom-list",
                                           "device-list-properties", "qmp_capabilities"};
    static const char *const mighty[] = {"qom-get",
                                         "qom-set",
                                         "quit",
                                         "stop",
                                         "human-monitor-command",
                                         "migrate",
                                         "query-sev-launch-measure",
                                         "x-query-ramblock",
                                         "query",
                                         "",
                                         "ringbuf-read",
                                         "Query-status",
                                         "dump-guest-memory",
                                         "screendump",
                                         "getfd"};

    for (size_t i = 0; i < ELEMENTSOF(harmless); i++)
        assert_true(qmp_command_only_reads(harmless[i]));
    for (size_t i = 0; i < ELEMENTSOF(mighty); i++)
        assert_false(qmp_command_only_reads(mighty[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_no_commands),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_only_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
