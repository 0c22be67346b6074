/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The scanner: what passes, where things are, and texts made to break it. What a person is told is in
 * tests/data. */
#include "base/json-scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

static int scan(const char *text, size_t size, JsonDocument *ret_document, ProblemList *problems)
{
    /* A copy of that very size: a byte read too far is found by the sanitizer. */
    _cleanup_free_ char *copy = malloc(size ? size : 1);

    memcpy(copy, text, size);
    return json_scan(copy, size, "t", problems, ret_document);
}

static void test_good(void **context)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        "0",
        "-0",
        "\"\"",
        " null ",
        "[1,2,]",
        "{\"a\":1,}",
        "// c\n{}",
        "{}// c",
        "{/**/}",
        "/* ** / */[]",
        "[1/* x */,/* y */2]",
        "[\"// no comment\", \"/* nor this */\"]",
        "{\"\":0}",
        "[0.5,1e9,1E+9,1e-9,-1.25e2,1e999]",
        "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\ud83d\\ude00\"]",
        "{\"a\":{\"b\":1},\"a/b\":1,\"a~b\":1}",
        "{\"a\":1,\"A\":1}",
    };

    for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
        _cleanup_(json_document_clear)
        JsonDocument document = {0};
        _cleanup_problems_ ProblemList problems = {0};
        if (scan(texts[i], strlen(texts[i]), &document, &problems) != 0 || problems.count > 0 ||
            !document.root)
            fail_msg("%s: %s", texts[i], problems.count ? problems.items[0].text : "no tree");
    }
}

/* Each has one mistake. `tree`: the rest can be looked at all the same. */
static void test_bad(void **context)
{
    static const struct {
        const char *text;
        bool tree;
    } cases[] = {
        {"", false},
        {"//", false},
        {"/", false},
        {"[", false},
        {"{", false},
        {"[1", false},
        {"{\"a\"", false},
        {"{\"a\":", false},
        {"{\"a\":1", false},
        {"\"", false},
        {"\"\\", false},
        {"\"\\u", false},
        {"\"\\u12", false},
        {"[1}", false},
        {"{]", false},
        {"[,]", false},
        {"{,}", false},
        {"[1,,2]", false},
        {"{}{}", false},
        {"[] /", false},
        {"[1 /* ]", false},
        {"{1:2}", false},
        {"{'a':1}", false},
        {"[\"a\nb\"]", false},
        {"[01]", true},
        {"[-]", true},
        {"[1.]", true},
        {"[.1]", true},
        {"[+1]", true},
        {"[1e]", true},
        {"[0x1]", true},
        {"[NaN]", true},
        {"[Infinity]", true},
        {"[TRUE]", true},
        {"[nul]", true},
        {"[\"\\x\"]", true},
        {"[\"\\u00g0\"]", true},
        {"[\"\\u0000\"]", true},
        {"[\"\\ud800\"]", true},
        {"[\"\\ud800\\u0041\"]", true},
        {"[\"\\udc00\"]", true},
        {"[\"\x01\"]", true},
        {"[\"\xff\"]", true},
        {"[1 2]", true},
        {"{\"a\":1 \"b\":2}", true},
        {"{\"a\":1\"b\":2}", false}, /* no room for the comma */
        {"{\"a\":1,\"a\":2}", true},
        {"{\"a\":1,\"\\u0061\":2}", true},
        {"{\"\\q\":1}", false},
        {"\xef\xbb\xbf[]", true},
        {"/*\xff*/[]", true},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_(json_document_clear)
        JsonDocument document = {0};
        _cleanup_problems_ ProblemList problems = {0};
        int r = scan(cases[i].text, strlen(cases[i].text), &document, &problems);
        if (r != (cases[i].tree ? 0 : -EBADMSG) || problem_count(&problems, PROBLEM_ERROR) != 1)
            fail_msg("%s: %d, %zu problems", cases[i].text, r, problems.count);
        assert_true((document.root != NULL) == cases[i].tree);
        assert_true(problems.items[0].line > 0 && problems.items[0].column > 0);
        assert_string_equal(problems.items[0].file, "t");
    }
}

/* Any text, cut anywhere: a verdict and a place, never a crash. */
static void test_every_cut(void **context)
{
    static const char text[] =
        "/*c*/{\"a\\u00e4\":[1,-2.5e3,true,null,\"x\\ud83d\\ude00\\n\xc3\xa4\",{}],//d\n\"b\":{\"c\":[[]]},}";

    for (size_t size = 0; size < sizeof(text); size++) {
        _cleanup_(json_document_clear)
        JsonDocument document = {0};
        _cleanup_problems_ ProblemList problems = {0};
        int r = scan(text, size, &document, &problems);
        assert_int_equal(r == 0, size == sizeof(text) - 1);
        assert_int_equal(problems.count > 0, r < 0);
    }
}

/* Any one byte replaced by any other. */
static void test_every_byte(void **context)
{
    static const char text[] = "{\"a\":[1,\"\\u0041\"],\"b\":-1.5e1,/**/\"c\":true}";

    for (size_t at = 0; at < sizeof(text) - 1; at++)
        for (unsigned byte = 0; byte < 256; byte++) {
            _cleanup_(json_document_clear)
            JsonDocument document = {0};
            _cleanup_problems_ ProblemList problems = {0};
            char changed[sizeof(text)];
            memcpy(changed, text, sizeof(text));
            changed[at] = (char)byte;
            int r = scan(changed, sizeof(text) - 1, &document, &problems);
            if (r < 0 ? r != -EBADMSG || problems.count == 0 : !document.root)
                fail_msg("byte %u at %zu: %d", byte, at, r);
        }
}

static void test_places(void **context)
{
    static const char text[] = "{\n"
                               "  \"a\": 12345678901234567890, // c\n"
                               "\t\"l\": [ 1.50,\n"
                               "    \"\xc3\xa4\", { \"x/y~z\": true } ],\n"
                               "  \"\\u00e4\": {}\n"
                               "}\n";
    static const struct {
        const char *pointer;
        unsigned line, column, key_line, key_column;
        const char *number;
    } cases[] = {
        {"", 1, 1, 0, 0, NULL},
        {"/a", 2, 8, 2, 3, "12345678901234567890"},
        {"/l", 3, 7, 3, 2, NULL},
        {"/l/0", 3, 9, 0, 0, "1.50"},
        {"/l/1", 4, 5, 0, 0, NULL},
        {"/l/2", 4, 11, 0, 0, NULL},
        {"/l/2/x~1y~0z", 4, 22, 4, 13, NULL},
        {"/\xc3\xa4", 5, 13, 5, 3, NULL},
    };
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_problems_ ProblemList problems = {0};

    assert_int_equal(scan(text, strlen(text), &document, &problems), 0);
    assert_int_equal(document.n_places, ELEMENTSOF(cases));
    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        const JsonPlace *place = json_find(&document, cases[i].pointer);
        assert_non_null(place);
        if (place->line != cases[i].line || place->column != cases[i].column ||
            place->key_line != cases[i].key_line || place->key_column != cases[i].key_column)
            fail_msg("%s: %u:%u, key %u:%u", cases[i].pointer, place->line, place->column, place->key_line,
                     place->key_column);
        assert_true(streq(place->number, cases[i].number));
        assert_false(place->flawed);
    }
    assert_null(json_find(&document, "/none"));
    assert_null(json_find(&document, "/l/3"));
    assert_null(json_find(&document, "a"));
}

static void test_pointer_join(void **context)
{
    _cleanup_free_ char *plain = json_pointer_join("", "a"), *escaped = json_pointer_join("/a", "x/y~z"),
                        *empty = json_pointer_join("/a", "");

    assert_string_equal(plain, "/a");
    assert_string_equal(escaped, "/a/x~1y~0z");
    assert_string_equal(empty, "/a/");
}

/* The values of a tree with mistakes beside are the right ones; the wrong ones are marked. */
static void test_filler(void **context)
{
    static const char text[] =
        "{\"a\": 01, \"b\": 2, \"c\": \"x\\u0000y\", \"d\": \"\xff!\" \"e\": [Nope, 5]}";
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_problems_ ProblemList problems = {0};

    assert_int_equal(scan(text, strlen(text), &document, &problems), 0);
    assert_int_equal(problems.count, 5);
    assert_int_equal(cJSON_GetObjectItemCaseSensitive(document.root, "b")->valueint, 2);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(document.root, "d")->valuestring, "?!");
    assert_int_equal(cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(document.root, "e"), 1)->valueint,
                     5);
    assert_true(json_find(&document, "/a")->flawed);
    assert_false(json_find(&document, "/b")->flawed);
    assert_true(json_find(&document, "/c")->flawed);
    assert_true(json_find(&document, "/d")->flawed);
    assert_true(json_find(&document, "/e/0")->flawed);
    assert_false(json_find(&document, "/e/1")->flawed);
}

static void test_depth(void **context)
{
    char text[2 * JSON_MAX_DEPTH + 3] = "";

    for (size_t depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        _cleanup_(json_document_clear)
        JsonDocument document = {0};
        _cleanup_problems_ ProblemList problems = {0};
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(scan(text, 2 * depth, &document, &problems), depth > JSON_MAX_DEPTH ? -EBADMSG : 0);
        assert_int_equal(problems.count, depth > JSON_MAX_DEPTH);
    }
}

/* A mebibyte of `unit`, after `head`. */
static size_t repeat(const char *head, const char *unit, char **ret_text)
{
    enum {
        MIB = 1024 * 1024
    };
    char *text = malloc(MIB + 64);
    size_t size = strlen(head), length = strlen(unit);

    memcpy(text, head, size);
    for (; size + length <= MIB; size += length)
        memcpy(text + size, unit, length);
    *ret_text = text;
    return size;
}

/* Neither time nor memory nor the stack grows out of hand. */
static void test_big(void **context)
{
    static const struct {
        const char *head, *unit;
    } cases[] = {
        {"", "["},
        {"", "{\"a\":"},
        {"[", "0,"},
        {"[", "\"\","},
        {"[", "1 "},
        {"[", "01,"},
        {"[", "\"\\q\","},
        {"[", "\"\xff\","},
        {"{", "\"a\":0,"},
        {"{", "\"a\":{},"},
        {"", " "},
        {"", "/**/"},
        {"", "//\n"},
        {"\"", "a"},
        {"\"", "\\u0000"},
        {"\"", "\xff"},
        {"", "1"},
        {"[", "[],"},
        {"{", "\"\\q\":0,"},
        {"", "/*"},
        {"{\"", "~"},
        {"", "\xff"},
        {"[", "[1,{\"\":[]}],"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_(json_document_clear)
        JsonDocument document = {0};
        _cleanup_problems_ ProblemList problems = {0};
        _cleanup_free_ char *text = NULL;
        size_t size = repeat(cases[i].head, cases[i].unit, &text);
        clock_t before = clock();
        json_scan(text, size, "t", &problems, &document);
        assert_true(problems.count > 0 && problems.count <= 250);
        /* A hundred times what it takes: it is quadratic behaviour that must not pass. */
        if (clock() - before > 20 * CLOCKS_PER_SEC)
            fail_msg("%s%s...: %ld s", cases[i].head, cases[i].unit,
                     (long)((clock() - before) / CLOCKS_PER_SEC));
    }
}

/* A long key above many values: all their pointers together would be gigabytes. */
static void test_long_pointers(void **context)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *key = NULL, *text = NULL;
    size_t length = repeat("{\"", "k", &key), size;

    key[length / 2] = '\0';
    strcat(key, "\":[");
    size = repeat(key, "0,", &text);
    assert_int_equal(json_scan(text, size, "t", &problems, &document), -EBADMSG);
    assert_int_equal(problems.count, 1);
    assert_non_null(strstr(problems.items[0].text, "too long"));
    assert_true(strlen(problems.items[0].pointer) <= 1024);
}

static void test_problems(void **context)
{
    _cleanup_problems_ ProblemList problems = {0};
    static const struct {
        Problem problem;
        const char *text;
    } cases[] = {
        {{PROBLEM_ERROR, (char *)"/f", (char *)"/a", (char *)"no", 3, 4}, "/f:3:4: error: no (at /a)"},
        {{PROBLEM_WARNING, (char *)"/f", (char *)"", (char *)"hm", 0, 0}, "/f: warning: hm"},
        {{PROBLEM_ERROR, NULL, NULL, (char *)"no", 3, 4}, "3:4: error: no"},
        {{PROBLEM_ERROR, NULL, (char *)"/a", NULL, 0, 0}, "error: out of memory (at /a)"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_free_ char *text = problem_format(&cases[i].problem);
        assert_string_equal(text, cases[i].text);
    }
    /* One file fills its share, the next one is not silenced. */
    for (unsigned i = 0; i < 1000; i++)
        problem_add(&problems, i == 999 ? PROBLEM_ERROR : PROBLEM_WARNING, "/a", "", i, 1, "%u", i);
    assert_int_equal(problems.count, 200);
    assert_non_null(strstr(problems.items[199].text, "more"));
    assert_int_equal(problem_count(&problems, PROBLEM_ERROR), 1); /* though it is not shown */
    problem_add(&problems, PROBLEM_ERROR, "/b\n\xff", "", 1, 1, "b");
    problem_add(&problems, PROBLEM_ERROR, NULL, NULL, 1, 1, "c");
    assert_int_equal(problems.count, 202);
    assert_string_equal(problems.items[200].file, "/b??");
    assert_int_equal(problem_count(&problems, PROBLEM_WARNING), 199);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),      cmocka_unit_test(test_bad),
        cmocka_unit_test(test_every_cut), cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_places),    cmocka_unit_test(test_pointer_join),
        cmocka_unit_test(test_filler),    cmocka_unit_test(test_depth),
        cmocka_unit_test(test_big),       cmocka_unit_test(test_long_pointers),
        cmocka_unit_test(test_problems),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
