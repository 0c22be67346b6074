/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Values of the wrong kind, for each key of the table, alone and in lists, with each driver and hypervisor:
 * what a key could not be taken from is missing in what drivers look at, and must not harm them.
 */
#include "definition.h"

#include "spec/spec-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const char *const wrong[] = {"null",        "-1",        "1e300", "true",      "\"\"",
                                    "\"\\u0001\"", "\"sub/.\"", "{}",    "{\"\": 1}", "[]",
                                    "[null]",      "[\"\"]",    "[{}]",  "[[]]"};

static const char *const bases[] = {
    "{\"driver\": \"libvirt\", \"kernel\": \"/k\"}",
    "{\"driver\": \"direct\", \"kernel\": \"/k\"}",
    "{\"driver\": \"direct\", \"kernel\": \"/k\", \"qemu\": {\"machine\": \"q35\"}}",
    "{\"driver\": \"libvirt\", \"kernel\": \"/k\", \"qemu\": {\"machine\": \"q35\"}}",
    "{\"driver\": \"direct\", \"hypervisor\": \"command\", \"command\": {\"start\": [\"/bin/sh\"]}}",
};

/* Sets the value at a key with dots. */
static void put(cJSON *object, const char *key, cJSON *value)
{
    _cleanup_free_ char *copy = strdup(key);
    char *rest = copy, *part;

    assert_non_null(copy);
    while ((part = strsep(&rest, "."))) {
        cJSON *below = cJSON_GetObjectItemCaseSensitive(object, part);
        if (rest && !cJSON_IsObject(below)) {
            cJSON_DeleteItemFromObjectCaseSensitive(object, part);
            below = cJSON_AddObjectToObject(object, part);
        } else if (!rest) {
            cJSON_DeleteItemFromObjectCaseSensitive(object, part);
            cJSON_AddItemToObject(object, part, value);
        }
        object = below;
    }
}

/* Takes the definition. */
static void load(cJSON *definition)
{
    static const SpecContext plain = {.accel = ACCEL_AUTO};
    _cleanup_problems_ ProblemList problems = {0};
    char *text = cJSON_PrintUnformatted(definition);
    VmSpec *spec = NULL;
    int r;

    assert_non_null(text);
    r = definition_load_text("web", text, &plain, &problems, &spec);
    assert_true(r == 0 || (r == -EBADMSG && problem_count(&problems, PROBLEM_ERROR) > 0));
    vm_spec_unref(spec);
    cJSON_free(text);
    cJSON_Delete(definition);
}

static void test_each_key(void **state)
{
    for (size_t base = 0; base < ELEMENTSOF(bases); base++)
        for (size_t i = 0; i < vm_table.n_rows; i++)
            for (size_t k = 0; k < ELEMENTSOF(wrong); k++) {
                cJSON *definition = cJSON_Parse(bases[base]);
                put(definition, vm_table.rows[i].key, cJSON_Parse(wrong[k]));
                load(definition);
            }
}

/* Beside what an element of its kind may need. */
static void test_each_key_in_lists(void **state)
{
    for (size_t base = 0; base < ELEMENTSOF(bases); base++)
        for (size_t i = 0; i < vm_table.n_rows; i++) {
            const KeyRow *list = &vm_table.rows[i];
            for (size_t j = 0; list->type == KEY_OBJECTS && j < list->items->n_rows; j++)
                for (size_t k = 0; k < ELEMENTSOF(wrong); k++) {
                    cJSON *definition = cJSON_Parse(bases[base]), *array = cJSON_CreateArray();
                    cJSON *item = cJSON_Parse("{\"image\": \"a.img\", \"source\": \"/s\", \"tag\": \"t\"}");
                    put(item, list->items->rows[j].key, cJSON_Parse(wrong[k]));
                    cJSON_AddItemToArray(array, item);
                    put(definition, list->key, array);
                    load(definition);
                }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_key),
        cmocka_unit_test(test_each_key_in_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
