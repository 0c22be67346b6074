/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Layer over layer: RFC 7396, "KEY+", lists by key, where values came from; specifiers. */
#include "spec/merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spec/spec-table.h"
#include "spec/specifier.h"

static void scan(const char *text, const char *file, JsonDocument *ret_document)
{
    _cleanup_problems_ ProblemList problems = {0};

    if (json_scan(text, strlen(text), file, &problems, ret_document) < 0 || problems.count > 0)
        fail_msg("%s", text);
}

/* `upper`, of upper.json, over `lower`, of lower.json (NULL: nothing). */
static void merge(const KeyTable *table, const char *lower, const char *upper, ProblemList *problems,
                  JsonDocument *ret_document)
{
    JsonDocument document = {0};

    *ret_document = (JsonDocument){0};
    if (lower) {
        scan(lower, "lower.json", &document);
        assert_int_equal(json_merge(table, ret_document, &document, "lower.json", problems), 0);
    }
    scan(upper, "upper.json", &document);
    assert_int_equal(json_merge(table, ret_document, &document, "upper.json", problems), 0);
    assert_null(document.root);
}

static void assert_json(const cJSON *json, const char *expected)
{
    cJSON *wanted = cJSON_Parse(expected);
    _cleanup_free_ char *text = cJSON_PrintUnformatted(json);

    assert_non_null(wanted);
    if (!cJSON_Compare(json, wanted, true))
        fail_msg("%s instead of %s", text, expected);
    cJSON_Delete(wanted);
}

static void assert_merge(const KeyTable *table, const char *lower, const char *upper, const char *expected)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(json_document_clear)
    JsonDocument merged = {0};

    merge(table, lower, upper, &problems, &merged);
    assert_int_equal(problems.count, 0);
    assert_json(merged.root, expected);
}

/* RFC 7396, appendix A, but for the original documents that hold a null: below there is none any more. */
static void test_rfc_7396(void **context)
{
    static const char *const cases[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {NULL, "{\"a\":[null],\"b\":{\"c\":null}}", "{\"a\":[null],\"b\":{}}"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        assert_merge(NULL, cases[i][0], cases[i][1], cases[i][2]);
        if (!strstr(cases[i][1], "null") || streq(cases[i][2], "null"))
            assert_merge(&vm_table, cases[i][0], cases[i][1], cases[i][2]);
    }
}

static void test_append(void **context)
{
    assert_merge(&vm_table, "{\"kernelParams\":[\"a\"]}", "{\"kernelParams+\":[\"b\",\"c\"]}",
                 "{\"kernelParams\":[\"a\",\"b\",\"c\"]}");
    assert_merge(&vm_table, NULL, "{\"kernelParams+\":[\"b\"]}", "{\"kernelParams\":[\"b\"]}");
    assert_merge(&vm_table, "{\"kernelParams\":[\"a\"]}",
                 "{\"kernelParams+\":[\"c\"],\"kernelParams\":[\"b\"]}", "{\"kernelParams\":[\"b\",\"c\"]}");
    assert_merge(&vm_table, "{\"kernelParams\":[\"a\"]}", "{\"kernelParams\":null,\"kernelParams+\":[\"c\"]}",
                 "{\"kernelParams\":[\"c\"]}");
    assert_merge(&vm_table, "{\"qemu\":{\"extraArgs\":[\"a\"]}}", "{\"qemu\":{\"extraArgs+\":[\"b\"]}}",
                 "{\"qemu\":{\"extraArgs\":[\"a\",\"b\"]}}");
    assert_merge(&vm_table, "{\"volumes\":[\"a\"]}", "{\"volumes+\":[\"a\",{\"image\":\"b\"}]}",
                 "{\"volumes\":[\"a\",\"a\",{\"image\":\"b\"}]}");
    /* What is somebody else's has keys of its own, and a plain merge knows none. */
    assert_merge(&vm_table, "{\"firecracker\":{\"extraConfig\":{\"a\":[1]}}}",
                 "{\"firecracker\":{\"extraConfig\":{\"a+\":[2]}}}",
                 "{\"firecracker\":{\"extraConfig\":{\"a\":[1],\"a+\":[2]}}}");
    assert_merge(NULL, "{\"a\":[1]}", "{\"a+\":[2]}", "{\"a\":[1],\"a+\":[2]}");
}

static void test_append_to_no_list(void **context)
{
    static const char *const cases[][3] = {
        {"{\"kernel\":\"/k\"}", "{\n \"kernel+\": [\"/l\"]}", "but kernel is none below"},
        {"{}", "{\n \"kernelParams+\": \"a\"}", "so this must be a list"},
        {"{}", "{\n \"kernelParams+\": null}", "so this must be a list"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_problems_ ProblemList problems = {0};
        _cleanup_(json_document_clear)
        JsonDocument merged = {0};
        merge(&vm_table, cases[i][0], cases[i][1], &problems, &merged);
        assert_int_equal(problems.count, 1);
        assert_string_equal(problems.items[0].file, "upper.json");
        assert_int_equal(problems.items[0].line, 2);
        assert_non_null(strstr(problems.items[0].text, cases[i][2]));
        assert_json(merged.root, cases[i][0]);
    }
}

static void test_lists_by_key(void **context)
{
    /* A patch of one, and a new one. */
    assert_merge(
        &vm_table, "{\"volumes\":[{\"image\":\"a\",\"size\":1},{\"image\":\"b\"}]}",
        "{\"volumes\":[{\"image\":\"b\",\"readOnly\":true},{\"image\":\"c\"}]}",
        "{\"volumes\":[{\"image\":\"a\",\"size\":1},{\"image\":\"b\",\"readOnly\":true},{\"image\":\"c\"}]}");
    /* null removes within an element, and is nothing in a new one. */
    assert_merge(&vm_table, "{\"volumes\":[{\"image\":\"a\",\"size\":1}]}",
                 "{\"volumes\":[{\"image\":\"a\",\"size\":null},{\"image\":\"b\",\"size\":null}]}",
                 "{\"volumes\":[{\"image\":\"a\"},{\"image\":\"b\"}]}");
    /* Short forms are the objects that they stand for. */
    assert_merge(&vm_table, "{\"volumes\":[\"a\",\"b\"]}", "{\"volumes\":[{\"image\":\"a\",\"size\":2}]}",
                 "{\"volumes\":[{\"image\":\"a\",\"size\":2},\"b\"]}");
    assert_merge(&vm_table, "{\"volumes\":[{\"image\":\"a\",\"size\":2}]}", "{\"volumes\":[\"a\",\"c\"]}",
                 "{\"volumes\":[{\"image\":\"a\",\"size\":2},\"c\"]}");
    assert_merge(&vm_table, "{\"interfaces\":[\"tap:t0\"]}",
                 "{\"interfaces\":[{\"id\":\"t0\",\"mac\":\"02:00:00:00:00:01\"}]}",
                 "{\"interfaces\":[{\"type\":\"tap\",\"id\":\"t0\",\"mac\":\"02:00:00:00:00:01\"}]}");
    assert_merge(&vm_table, "{\"shares\":[{\"tag\":\"t\",\"source\":\"/a\"}]}",
                 "{\"shares\":[{\"tag\":\"t\",\"source\":\"/b\"}]}",
                 "{\"shares\":[{\"tag\":\"t\",\"source\":\"/b\"}]}");
    /* Without a key there is nothing to recognize it by; twice the same one is a mistake that stays one. */
    assert_merge(&vm_table, "{\"interfaces\":[\"user\"]}", "{\"interfaces\":[\"user\"]}",
                 "{\"interfaces\":[\"user\",\"user\"]}");
    assert_merge(&vm_table, "{\"volumes\":[\"a\"]}", "{\"volumes\":[\"a\",\"a\"]}",
                 "{\"volumes\":[{\"image\":\"a\"},\"a\"]}");
    /* Lists that have no key are replaced. */
    assert_merge(&vm_table, "{\"forwardPorts\":[{\"host\":{\"port\":1}}]}",
                 "{\"forwardPorts\":[{\"host\":{\"port\":2}}]}",
                 "{\"forwardPorts\":[{\"host\":{\"port\":2}}]}");
    /* Nonsense stays for the table to refuse. */
    assert_merge(&vm_table, "{\"volumes\":{\"image\":\"a\"}}", "{\"volumes\":[\"a\",1,null,{\"image\":2}]}",
                 "{\"volumes\":[\"a\",1,null,{\"image\":2}]}");
}

/* MicroVM.nix's name of a key is that key. */
static void test_other_names(void **context)
{
    assert_merge(&vm_table, "{\"initrd\":\"/a\"}", "{\"initrdPath\":\"/b\"}", "{\"initrdPath\":\"/b\"}");
    assert_merge(&vm_table, "{\"initrdPath\":\"/a\"}", "{\"initrd\":\"/b\"}", "{\"initrd\":\"/b\"}");
    assert_merge(&vm_table, "{\"initrdPath\":\"/a\"}", "{\"initrd\":null}", "{}");
    assert_merge(&vm_table, "{\"initrd\":\"/a\"}", "{\"initrd\":\"/b\",\"initrdPath\":\"/c\"}",
                 "{\"initrd\":\"/b\",\"initrdPath\":\"/c\"}"); /* which is refused */
}

static void assert_place(const JsonDocument *document, const char *pointer, const char *file, unsigned line,
                         const char *number)
{
    const JsonPlace *place = json_find(document, pointer);

    assert_non_null(place);
    assert_string_equal(place->file, file);
    assert_int_equal(place->line, line);
    if (number)
        assert_string_equal(place->number, number);
    else
        assert_null(place->number);
}

static void test_places(void **context)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(json_document_clear)
    JsonDocument merged = {0};

    merge(&vm_table,
          "{ \"vcpu\": 1, \"mem\": 9007199254740993,\n"
          "  \"volumes\": [\"a\",\n"
          "    {\"image\": \"b\", \"size\": 10}],\n"
          "  \"kernelParams\": [\"p\"] }",
          "{\n\n\n\n\n \"vcpu\": 2,\n"
          " \"volumes\": [{\"image\": \"b\", \"serial\": \"s\"},\n"
          "   {\"image\": \"a\",\n"
          "    \"size\": 20}],\n"
          " \"kernelParams+\": [\"q\"] }",
          &problems, &merged);
    assert_int_equal(problems.count, 0);
    assert_place(&merged, "/vcpu", "upper.json", 6, "2");
    assert_place(&merged, "/mem", "lower.json", 1, "9007199254740993"); /* digits that a double has not */
    assert_place(&merged, "/volumes/0/image", "upper.json", 8, NULL);
    assert_place(&merged, "/volumes/0/size", "upper.json", 9, "20");
    assert_place(&merged, "/volumes/1/size", "lower.json", 3, "10");
    assert_place(&merged, "/volumes/1/serial", "upper.json", 7, NULL);
    assert_place(&merged, "/kernelParams/0", "lower.json", 4, NULL);
    assert_place(&merged, "/kernelParams/1", "upper.json", 10, NULL);
    assert_null(json_find(&merged, "/kernelParams+"));
    for (size_t i = 1; i < merged.n_places; i++)
        assert_true(strcmp(merged.places[i - 1].pointer, merged.places[i].pointer) < 0);
}

/* --- specifiers --- */

static cJSON *expand(const char *text, const char *name, ProblemList *problems, JsonDocument *document)
{
    TableReader reader = {.document = document, .file = "web@.json", .problems = problems};

    scan(text, "web@.json", document);
    assert_int_equal(specifiers_expand(&reader, document, &vm_table, name), 0);
    return document->root;
}

static void test_specifiers(void **context)
{
    static const char text[] =
        "{\"kernel\":\"/%p/%i/%n\",\"volumes\":[\"%i.img\",{\"image\":\"/%n\",\"label\":\"100%%\"}],"
        "\"labels\":{\"a%i\":\"%i\"},\"preStart\":\"echo %i\",\"extraArgsScript\":\"%\","
        "\"firecracker\":{\"extraConfig\":{\"a\":\"%i\"}},\"qemu\":{\"machineOpts\":{\"x\":\"%p\"}}}";
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(json_document_clear)
    JsonDocument instance = {0}, plain = {0}, host = {0};
    char name[256];

    assert_json(
        expand(text, "web@1", &problems, &instance),
        "{\"kernel\":\"/web/1/web@1\",\"volumes\":[\"1.img\",{\"image\":\"/web@1\",\"label\":\"100%\"}],"
        "\"labels\":{\"a%i\":\"1\"},\"preStart\":\"echo %i\",\"extraArgsScript\":\"%\","
        "\"firecracker\":{\"extraConfig\":{\"a\":\"%i\"}},\"qemu\":{\"machineOpts\":{\"x\":\"web\"}}}");
    assert_json(expand("{\"kernel\":\"/%p/%i/%n\"}", "db", &problems, &plain), "{\"kernel\":\"/db//db\"}");
    expand("{\"a\":\"%H\",\"b\":\"%h\"}", "db", &problems, &host);
    assert_int_equal(problems.count, 0);
    assert_int_equal(gethostname(name, sizeof(name)), 0);
    assert_string_equal(cJSON_GetObjectItem(host.root, "a")->valuestring, name);
    assert_int_equal(cJSON_GetObjectItem(host.root, "b")->valuestring[0], '/');
}

static void test_unknown_specifiers(void **context)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(json_document_clear)
    JsonDocument document = {0};

    expand("{\"kernel\":\"/%x\",\n\"volumes\":[\"a\",\n \"50%\"], \"initrd\": \"%\u00e9\"}", "web@1",
           &problems, &document);
    assert_int_equal(problems.count, 3);
    assert_string_equal(problems.items[0].pointer, "/kernel");
    assert_non_null(strstr(problems.items[0].text, "%x stands for nothing"));
    assert_string_equal(problems.items[1].pointer, "/volumes/1");
    assert_int_equal(problems.items[1].line, 3);
    assert_non_null(strstr(problems.items[1].text, "a percent sign is written %%"));
    assert_non_null(strstr(problems.items[2].text, "%\u00e9 stands"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_7396),          cmocka_unit_test(test_append),
        cmocka_unit_test(test_append_to_no_list), cmocka_unit_test(test_lists_by_key),
        cmocka_unit_test(test_other_names),       cmocka_unit_test(test_places),
        cmocka_unit_test(test_specifiers),        cmocka_unit_test(test_unknown_specifiers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
