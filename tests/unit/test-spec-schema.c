/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is made of the tables says what they say, all of it: parser, dump, schema, reference, completion. */
#include "host/config.h"

#include "base/file.h"
#include "spec/spec-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "parse-file.h"

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

static const cJSON *get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool has_string(const cJSON *array, const char *wanted)
{
    const cJSON *element;

    cJSON_ArrayForEach (element, array) {
        if (streq(cJSON_GetStringValue(element), wanted))
            return true;
    }
    return false;
}

/* What a schema says of a value beside null. */
static const cJSON *value_of(const cJSON *schema)
{
    const cJSON *either = get(schema, "anyOf"),
                *last = cJSON_GetArrayItem(either, cJSON_GetArraySize(either) - 1);

    return streq(cJSON_GetStringValue(get(last, "type")), "null") ? cJSON_GetArrayItem(either, 0) : schema;
}

/* The object schema that holds the last part of a dotted key. */
static const cJSON *object_of(const cJSON *schema, const char *key, const char **ret_leaf)
{
    for (const char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)(dot - key), key);
        schema = value_of(get(get(schema, "properties"), name));
        assert_string_equal(cJSON_GetStringValue(get(schema, "type")), "object");
        assert_true(cJSON_IsFalse(get(schema, "additionalProperties")));
    }
    *ret_leaf = key;
    return schema;
}

/* Every row is there, with its documentation. What its values may be, test-json-schema.py proves. */
static void check_object(const cJSON *schema, const KeyTable *table, bool patch)
{
    assert_string_equal(cJSON_GetStringValue(get(schema, "type")), "object");
    assert_true(cJSON_IsFalse(get(schema, "additionalProperties")));
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        const char *leaf;
        const cJSON *object = object_of(schema, row->key, &leaf),
                    *value = get(get(object, "properties"), leaf), *items;
        if (!value)
            fail_msg("%s is not in the schema", row->key);
        assert_string_equal(cJSON_GetStringValue(get(value, "description")), row->doc);
        assert_true((get(value, "default") != NULL) == (row->fallback != NULL));
        assert_int_equal(has_string(get(object, "required"), leaf), row->required && !patch);
        if (row->type != KEY_OBJECTS)
            continue;
        items = get(value_of(value), "items");
        check_object(table_has_short(row->items) ? cJSON_GetArrayItem(get(items, "anyOf"), 1) : items,
                     row->items, patch && row->items->merge_key);
    }
}

static void test_definition(void **context)
{
    _cleanup_free_ char *text = vm_spec_schema();
    _cleanup_(cJSON_Deletep)
    cJSON *schema = cJSON_Parse(text);

    assert_string_equal(cJSON_GetStringValue(get(schema, "$schema")),
                        "https://json-schema.org/draft/2020-12/schema");
    check_object(schema, &vm_table, false);
    check_object(get(get(schema, "$defs"), "drop-in"), &vm_table, true);
}

static void test_host(void **context)
{
    _cleanup_free_ char *text = host_config_schema();
    _cleanup_(cJSON_Deletep)
    cJSON *schema = cJSON_Parse(text);
    const cJSON *properties = get(schema, "properties"), *nix = get(properties, "microvm");

    assert_string_equal(cJSON_GetStringValue(get(schema, "$schema")),
                        "https://json-schema.org/draft/2020-12/schema");
    assert_true(cJSON_IsFalse(get(schema, "additionalProperties")));
    assert_non_null(get(get(get(properties, "libvirt"), "properties"), "uri"));
    assert_true(cJSON_IsFalse(get(get(properties, "guest"), "additionalProperties")));
    /* a NixOS host's config.microvm says much more */
    assert_null(get(nix, "additionalProperties"));
    assert_null(get(get(get(nix, "properties"), "guest"), "additionalProperties"));
    assert_non_null(get(get(get(get(nix, "properties"), "guest"), "properties"), "enable"));
}

static const char *leaf_of(const cJSON **object, const char *key)
{
    for (const char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)(dot - key), key);
        *object = get(*object, name);
    }
    return key;
}

/* Every row of the table that holds a value is in one of the dumped objects, and none under its other name.
 */
static void check_dump(const cJSON *dumps, const KeyTable *table)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        bool found = false;
        const cJSON *dump;
        cJSON_ArrayForEach (dump, dumps) {
            const cJSON *object = dump;
            const char *leaf = leaf_of(&object, row->key);
            found = found || get(object, leaf);
            if (row->type == KEY_OBJECTS)
                check_dump(get(object, leaf), row->items);
        }
        if (found == (row->alias_of || row->type == KEY_REFUSED))
            fail_msg("%s of %s: %s", row->key, table->title, found ? "dumped" : "not dumped");
    }
}

/* The definition that has every key: none can be lost on its way through table and dump. */
static void test_dump_keys(void **context)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
    _cleanup_(cJSON_Deletep)
    cJSON *dumps = NULL;
    _cleanup_free_ char *json = NULL;

    if (parse_file(SOURCE_DIR "/tests/data/good/every-key.json", &problems, &spec) < 0)
        fail_msg("%s", problems.count > 0 ? problems.items[0].text : "?");
    json = vm_spec_to_json(spec);
    dumps = cJSON_CreateArray();
    cJSON_AddItemToArray(dumps, cJSON_Parse(json));
    check_dump(dumps, &vm_table);
}

/* In that definition each key has, somewhere, a value that is not its default: capabilities see each row. */
static void check_not_default(const KeyTable *table, const char *items, size_t n)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        bool seen = row->alias_of || row->type == KEY_REFUSED || row->needs == CAP_NONE;
        for (size_t k = 0; k < n; k++) {
            const char *item = items + k * table->item_size;
            seen |= !table_is_default(row, item);
            if (row->type == KEY_OBJECTS)
                check_not_default(row->items, FIELD(row, item, char *), COUNT(row, item));
        }
        if (!seen)
            fail_msg("%s of %s is its default", row->key, table->title);
    }
}

static void test_defaults(void **context)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;

    assert_int_equal(parse_file(SOURCE_DIR "/tests/data/good/every-key.json", &problems, &spec), 0);
    check_not_default(&vm_table, (const char *)spec, 1);
}

/* The object that only has `key`, a dotted one, with a value that is no key's. */
static char *object_with(const char *key)
{
    const char *dot = strchr(key, '.');
    _cleanup_free_ char *inner = dot ? object_with(dot + 1) : strdup("[[]]");
    char *text = NULL;

    assert_true(asprintf(&text, "{\"%.*s\": %s}", (int)strcspn(key, "."), key, inner) > 0);
    return text;
}

/* Every key of a definition is known to the parser: it is not called unknown, but has its own say. */
static void test_parser(void **context)
{
    for (size_t i = 0; i < vm_table.n_rows; i++) {
        const KeyRow *row = &vm_table.rows[i];
        _cleanup_free_ char *text = object_with(row->key);
        _cleanup_problems_ ProblemList problems = {0};
        VmSpec *spec = NULL;
        bool said = false;
        assert_int_equal(vm_spec_parse("web", NULL, text, strlen(text), &(SpecContext){0}, &problems, &spec),
                         -EBADMSG);
        for (size_t k = 0; k < problems.count; k++) {
            const char *told = problems.items[k].text;
            if (strstr(told, "there is no key"))
                fail_msg("%s: %s", text, told);
            said |= row->type == KEY_REFUSED ? strstr(told, row->doc) != NULL
                                             : strstr(told, "this must be") != NULL;
        }
        if (!said)
            fail_msg("of %s is said: %s", text, problems.items[0].text);
    }
}

static char *read_product(const char *path)
{
    char *text;
    size_t size;

    assert_int_equal(read_file(path, 1024 * 1024, &text, &size), 0);
    return text;
}

/* As roff has it: a minus is a minus. */
static char *roff_entry(const char *key)
{
    char *entry = NULL;
    size_t size;
    FILE *stream = open_memstream(&entry, &size);

    fputs("\n.TP\n\\fB", stream);
    for (; *key; key++)
        fprintf(stream, *key == '-' ? "\\-" : "%c", *key);
    fputs("\\fR", stream);
    fclose(stream);
    return entry;
}

/* Looks for all keys of the table from `at` on, in its order; returns what is behind the last one. */
static const char *check_reference(const char *at, const KeyTable *table, bool refused)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        _cleanup_free_ char *entry = roff_entry(row->key);
        if ((row->type == KEY_REFUSED) != refused)
            continue;
        at = strstr(at, entry);
        if (!at)
            fail_msg("%s of %s is not in the reference", row->key, table->title);
        at += strlen(entry);
        if (row->type == KEY_OBJECTS)
            at = check_reference(at, row->items, false);
    }
    return at;
}

static void test_reference(void **context)
{
    _cleanup_free_ char *text = read_product(BINARY_DIR "/docs/microvm-definition.5");

    check_reference(check_reference(text, &vm_table, false), &vm_table, true);
    assert_null(strstr(text, "@KEYS@"));
}

static void test_completion(void **context)
{
    _cleanup_free_ char *text = read_product(BINARY_DIR "/docs/microvmctl.bash");

    for (size_t i = 0; i < vm_table.n_rows; i++) {
        char line[80];
        snprintf(line, sizeof(line), "\n%s\n", vm_table.rows[i].key);
        if (!strstr(text, line) != (vm_table.rows[i].type == KEY_REFUSED))
            fail_msg("%s in the completion", vm_table.rows[i].key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition), cmocka_unit_test(test_host),   cmocka_unit_test(test_dump_keys),
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_parser), cmocka_unit_test(test_reference),
        cmocka_unit_test(test_completion),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
