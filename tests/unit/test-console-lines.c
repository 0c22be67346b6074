/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest says cut into lines for the journal, and how many of them pass. */
#include "supervise/console-lines.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* All lines of the text, each behind a '|', given in pieces of `step` bytes; and what is begun, behind a '~'.
 */
static void cut(const char *text, size_t size, size_t step, char *ret, size_t room)
{
    LineCutter cutter = {0};
    const char *line;
    size_t used = 0, raw = 0;

    *ret = '\0';
    for (size_t at = 0; at < size;) {
        size_t piece = MIN(step, size - at), taken = line_cutter_take(&cutter, text + at, piece, &line);
        assert_true(taken > 0 && taken <= piece);
        assert_true(line || taken == piece);
        at += taken;
        raw += taken;
        if (line) {
            used += (size_t)snprintf(ret + used, room - used, "|%s", line);
            raw = 0;
        }
        assert_true(cutter.raw <= raw + CONSOLE_LINE_MAX);
    }
    line = line_cutter_end(&cutter);
    if (line)
        snprintf(ret + used, room - used, "~%s", line);
    assert_int_equal(cutter.raw, 0);
}

static void test_lines(void **context)
{
    static const struct {
        const char *text, *lines;
    } cases[] = {
        {"", ""},
        {"one\ntwo\n", "|one|two"},
        {"one\r\ntwo\r\n\r\n\n", "|one|two"},
        {" 10%\r 20%\r 30%\n", "| 10%| 20%| 30%"},
        {"login: ", "~login: "},
        {"a\tb\n", "|a b"},
        {"bell\a, back\b, delete\x7f and so on\x01\n", "|bell, back, delete and so on"},
        {"\x1b[1;31mred\x1b[0m and \x1b[2Kplain\n", "|red and plain"},
        {"\x1b]0;title\aone\n\x1b]0;title\x1b\\two\n", "|one|two"},
        {"\x1b(Bone\x1b=two\x1b\n", "|onetwo"},
        {"\x1b[1;\nnext\n", "|next"},
        {"\x1b]0;no end\nnext\n", "|next"},
        {"gr\xc3\xbc\xc3\x9f\x65\n", "|gr\xc3\xbc\xc3\x9f\x65"},
        {"\xff\xfe bad \xc3\n", "|?? bad ?"},
        {"MESSAGE=forged\x01PRIORITY=0\n", "|MESSAGE=forgedPRIORITY=0"},
    };
    char got[256];

    for (size_t i = 0; i < ELEMENTSOF(cases); i++)
        for (size_t step = 1; step < 40; step++) {
            cut(cases[i].text, strlen(cases[i].text), step, got, sizeof(got));
            assert_string_equal(got, cases[i].lines);
        }
    cut("nul\0in it\n", 10, 3, got, sizeof(got));
    assert_string_equal(got, "|nulin it");
}

static void test_long_lines(void **context)
{
    static char text[3 * CONSOLE_LINE_MAX], got[4 * CONSOLE_LINE_MAX];
    LineCutter cutter = {0};
    const char *line;
    size_t taken;

    memset(text, 'x', sizeof(text));
    for (size_t at = 0; at < sizeof(text); at += taken) {
        taken = line_cutter_take(&cutter, text + at, sizeof(text) - at, &line);
        assert_int_equal(taken, CONSOLE_LINE_MAX);
        assert_int_equal(strlen(line), CONSOLE_LINE_MAX);
    }
    assert_null(line_cutter_end(&cutter));
    /* A character of two, three or four bytes is not cut in two, wherever the limit falls. */
    for (int shift = 0; shift < 4; shift++)
        for (int which = 0; which < 3; which++) {
            const char *character = (const char *[]){"\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}[which];
            size_t size = 0;
            for (int i = 0; i < shift; i++)
                text[size++] = '.';
            while (size + 4 < sizeof(text)) {
                memcpy(text + size, character, strlen(character));
                size += strlen(character);
            }
            cut(text, size, 1000, got, sizeof(got));
            assert_null(strchr(got, '?'));
        }
}

static void test_rate(void **context)
{
    LineRate rate = {0};
    uint64_t now = 1000000000;

    for (int i = 0; i < LINE_RATE_BURST; i++)
        assert_true(line_rate_take(&rate, now));
    assert_false(line_rate_take(&rate, now));
    assert_false(line_rate_take(&rate, now + 1000));
    assert_int_equal(rate.suppressed, 2);
    now += 1000000;
    for (int i = 0; i < LINE_RATE_PER_SECOND; i++)
        assert_true(line_rate_take(&rate, now));
    assert_false(line_rate_take(&rate, now));
    assert_int_equal(rate.suppressed, 3);
    now += UINT64_C(1000000) * 3600; /* it fills, and does not flow over */
    for (int i = 0; i < LINE_RATE_BURST; i++)
        assert_true(line_rate_take(&rate, now));
    assert_false(line_rate_take(&rate, now));
    assert_false(line_rate_take(&rate, now - 5000000)); /* a clock that goes back gives nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
