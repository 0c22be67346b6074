/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What differs between definitions, and what of it takes effect at once: for every row of the table. */
#include "spec/diff.h"

#include "spec/loader.h"
#include "spec/spec-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "parse-file.h"

#define EVERY_KEY SOURCE_DIR "/tests/data/good/every-key.json"

static VmSpec *load_every_key(void)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    assert_int_equal(parse_file(EVERY_KEY, &problems, &spec), 0);
    return spec;
}

static VmSpec *parse(const char *text)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;
    int r = vm_spec_parse("web", NULL, text, strlen(text), &(SpecContext){0}, &problems, &spec);

    if (r < 0)
        fail_msg("%s: %s", text, problem_format(&problems.items[0]));
    return spec;
}

static void *first_element(const KeyRow *row, const VmSpec *spec)
{
    return FIELD(row, spec, void *);
}

/* Only `row` differs, in `before` and `after`, which are at `prefix`; `expected` is what it takes. */
static void check_one_difference(const VmSpec *before, const VmSpec *after, const char *prefix,
                                 const KeyRow *row, KeyChange expected)
{
    _cleanup_(spec_changes_clear)
    SpecChanges changes = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *taken = NULL;
    char key[128];

    snprintf(key, sizeof(key), "%s%s", prefix, row->key);
    assert_int_equal(vm_spec_diff(before, after, &changes), 0);
    if (changes.count == 0)
        fail_msg("no difference was found in %s", key);
    for (size_t i = 0; i < changes.count; i++) {
        if (strncmp(changes.items[i].key, key, strlen(key)) != 0)
            fail_msg("%s was told for %s", changes.items[i].key, key);
        assert_true(changes.items[i].before || changes.items[i].after);
        assert_false(streq(changes.items[i].before, changes.items[i].after));
        assert_int_equal(changes.items[i].change, expected);
    }
    assert_true(spec_changes_have(&changes, expected));
    assert_false(vm_spec_equal(before, after));

    assert_int_equal(vm_spec_take_live(before, after, &taken), 0);
    if (expected == CHANGE_LIVE ? !vm_spec_equal(taken, after) : !vm_spec_equal(taken, before))
        fail_msg("%s is taken over wrongly", key);
}

static void test_every_row(void **context)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *every = load_every_key();
    _cleanup_(vm_spec_unrefp)
    VmSpec *bare = parse("{\"kernel\": \"/other\"}");
    size_t tested = 0;

    for (size_t i = 0; i < vm_table.n_rows; i++) {
        const KeyRow *row = &vm_table.rows[i];
        _cleanup_(vm_spec_unrefp)
        VmSpec *changed = NULL;
        if (!row_has_value(row))
            continue;
        /* Words of which there is one, or which leave the others no meaning. */
        if (table_row_equal(row, every, bare)) {
            if (!streq(row->key, "driver") && !streq(row->key, "boot"))
                fail_msg("%s is the default in " EVERY_KEY, row->key);
            continue;
        }
        assert_int_equal(vm_spec_take_live(every, every, &changed), 0);
        assert_true(vm_spec_equal(every, changed));
        assert_int_equal(table_row_copy(row, bare, changed), 0);
        check_one_difference(every, changed, "", row, row->change);
        check_one_difference(changed, every, "", row, row->change);
        tested++;
    }
    assert_true(tested > 70);
}

static void test_every_row_of_elements(void **context)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *every = load_every_key();
    size_t tested = 0;

    for (size_t i = 0; i < vm_table.n_rows; i++) {
        const KeyRow *list = &vm_table.rows[i];
        for (size_t k = 0; list->type == KEY_OBJECTS && k < list->items->n_rows; k++) {
            const KeyRow *row = &list->items->rows[k];
            _cleanup_(vm_spec_unrefp)
            VmSpec *changed = NULL;
            uint64_t blank[64] = {0};
            char prefix[128];
            assert_true(list->items->item_size <= sizeof(blank));
            if (table_row_equal(row, first_element(list, every), blank) ||
                streq(row->key, list->items->merge_key))
                continue;
            assert_int_equal(vm_spec_take_live(every, every, &changed), 0);
            assert_int_equal(table_row_copy(row, blank, first_element(list, changed)), 0);
            if (list->items->merge_key)
                snprintf(prefix, sizeof(prefix), "%s[%s].", list->key,
                         FIELD(table_row(list->items, list->items->merge_key), first_element(list, every),
                               char *));
            else
                snprintf(prefix, sizeof(prefix), "%s[0].", list->key);
            check_one_difference(every, changed, prefix, row,
                                 list->change != CHANGE_RESTART ? list->change : row->change);
            tested++;
        }
    }
    assert_true(tested > 30);
}

typedef struct Case {
    const char *before, *after;
    const char *wanted; /* "KEY OLD NEW TAKES;..." */
} Case;

static const char *takes(KeyChange change)
{
    return change == CHANGE_LIVE ? "live" : change == CHANGE_RESTART ? "restart" : "next-start";
}

static void test_what_is_told(void **context)
{
#define K "{\"kernel\": \"/k\""
#define V "\"volumes\": "
    static const Case cases[] = {
        {K "}", K "}", ""},
        {K "}", K ", \"mem\": \"512M\"}", ""},
        {K "}", K ", \"mem\": 1024}", "mem 512 1024 restart;"},
        {K "}", K ", \"description\": \"a \\\"b\\\"\"}", "description - \"a \\\"b\\\"\" live;"},
        {K ", \"labels\": {\"a\": \"1\", \"b\": \"2\"}}", K ", \"labels\": {\"b\": \"3\", \"c\": \"4\"}}",
         "labels[a] \"1\" - live;labels[b] \"2\" \"3\" live;labels[c] - \"4\" live;"},
        {K ", \"restart\": {\"delay\": 1}}", K ", \"restart\": {\"delay\": \"1500ms\"}}",
         "restart.delay \"1s\" \"1s 500ms\" live;"},
        {K ", \"kernelParams\": [\"a\"]}", K ", \"kernelParams\": [\"a\", \"b\"]}",
         "kernelParams [\"a\"] [\"a\",\"b\"] restart;"},
        {K "," V "[\"/a\", \"/b\"]}", K "," V "[{\"image\": \"/a\", \"mountPoint\": \"/m\"}, \"/b\"]}",
         "volumes[/a].mountPoint - \"/m\" live;"},
        {K "," V "[\"/a\", \"/b\"]}", K "," V "[\"/b\", \"/a\"]}",
         "volumes [\"/a\",\"/b\"] [\"/b\",\"/a\"] restart;"},
        {K "," V "[{\"image\": \"/a\", \"size\": 8}]}", K "," V "[{\"image\": \"/a\", \"size\": 9}]}",
         "volumes[/a].size 8 9 next-start;"},
        {K ", \"stop\": {\"steps\": [\"acpi\"]}}", K ", \"stop\": {\"steps\": [\"kill\"]}}",
         "stop.steps[0].action \"acpi\" \"kill\" live;"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_(vm_spec_unrefp)
        VmSpec *before = parse(cases[i].before);
        _cleanup_(vm_spec_unrefp)
        VmSpec *after = parse(cases[i].after);
        _cleanup_(spec_changes_clear)
        SpecChanges changes = {0};
        char told[1024] = "";
        assert_int_equal(vm_spec_diff(before, after, &changes), 0);
        for (size_t k = 0; k < changes.count; k++)
            snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s %s %s %s;", changes.items[k].key,
                     changes.items[k].before ? changes.items[k].before : "-",
                     changes.items[k].after ? changes.items[k].after : "-", takes(changes.items[k].change));
        assert_string_equal(told, cases[i].wanted);
        assert_int_equal(vm_spec_equal(before, after), changes.count == 0);
    }
}

static void test_elements_come_and_go(void **context)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *before = parse(K "," V "[\"/a\", \"/b\"]}");
    _cleanup_(vm_spec_unrefp)
    VmSpec *after = parse(K "," V "[\"/b\", \"/c\"]}");
    _cleanup_(spec_changes_clear)
    SpecChanges changes = {0};

    assert_int_equal(vm_spec_diff(before, after, &changes), 0);
    assert_int_equal(changes.count, 2);
    assert_string_equal(changes.items[0].key, "volumes[/a]");
    assert_string_equal(changes.items[0].before,
                        "{\"image\":\"/a\"}"); /* what goes without saying is not said */
    assert_null(changes.items[0].after);
    assert_string_equal(changes.items[1].key, "volumes[/c]");
    assert_null(changes.items[1].before);
    assert_int_equal(changes.items[1].change, CHANGE_RESTART);
}

/* Live keys are taken over, others are not, when both changed. */
static void test_both_at_once(void **context)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *booted = parse(K ", \"mem\": 256, \"stop\": {\"timeout\": 5}}");
    _cleanup_(vm_spec_unrefp)
    VmSpec *wanted = parse(K ", \"mem\": 512, \"stop\": {\"timeout\": 7}, \"labels\": {\"x\": \"y\"}}");
    _cleanup_(vm_spec_unrefp)
    VmSpec *taken = NULL;

    assert_int_equal(vm_spec_take_live(booted, wanted, &taken), 0);
    assert_int_equal(taken->mem_mib, 256);
    assert_int_equal(taken->stop_timeout_usec, 7000000);
    assert_int_equal(taken->n_labels, 1);
    assert_string_equal(taken->name, "web");
    assert_int_equal(booted->stop_timeout_usec, 5000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),    cmocka_unit_test(test_every_row_of_elements),
        cmocka_unit_test(test_what_is_told), cmocka_unit_test(test_elements_come_and_go),
        cmocka_unit_test(test_both_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
