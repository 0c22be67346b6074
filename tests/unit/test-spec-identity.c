/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A dump is a definition that says the same: load, dump, load is the identity, for every row and whatever its
 * value. */
#include "layers.h"
#include "spec/loader.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "corpus.h"

/* As a definition file is read, but for what its keys must be to each other. NULL: it is refused. */
static VmSpec *load(const char *name, const char *text)
{
    static const SpecContext plain = {.accel = ACCEL_AUTO};
    static const Layers nothing;
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;
    int r;

    r = layers_merge_text(name, &nothing, text, strlen(text), &problems, &document);
    if (r >= 0)
        r = vm_spec_read(name, NULL, &document, &plain, &problems, &spec);
    if (r >= 0 && problem_count(&problems, PROBLEM_ERROR) == 0)
        return spec;
    vm_spec_unref(spec);
    return NULL;
}

/* As a record is read. */
static VmSpec *load_record(const char *name, const char *text)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    (void)vm_spec_parse(name, NULL, text, strlen(text), &(SpecContext){.accel = ACCEL_TCG}, &problems, &spec);
    return spec;
}

/* Of one row after the other. */
typedef struct Tally {
    const KeyRow *row;
    size_t good, all; /* of this row */
} Tally;

/* A sanitizer makes all of them take minutes, and sees as much in a part of them: the first of each row. */
enum {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    EACH_ROW = 12,
#else
    EACH_ROW = INT_MAX,
#endif
};

/* What is never good is not tested. */
static void check_tally(Tally *tally, const KeyRow *next)
{
    if (tally->row == next)
        return;
    if (tally->row && tally->good == 0 && tally->row->type != KEY_REFUSED)
        fail_msg("%s has no good value", tally->row->key);
    *tally = (Tally){.row = next};
}

static void check_identity(const KeyRow *row, const char *pointer, const char *text, void *userdata)
{
    Tally *tally = userdata;
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL, *again = NULL, *elsewhere = NULL, *record = NULL;
    _cleanup_free_ char *dump = NULL, *same = NULL;

    check_tally(tally, row);
    if (tally->good > 0 && tally->all++ > EACH_ROW)
        return;
    spec = load("web@1", text);
    if (!spec)
        return;
    tally->good++;
    dump = vm_spec_to_json(spec);
    again = load("web@1", dump);
    elsewhere = load("other", dump);
    record = load_record("web@1", dump);
    if (!again || !elsewhere || !record || !vm_spec_equal(spec, again) || !vm_spec_equal(spec, elsewhere) ||
        !vm_spec_equal(spec, record))
        fail_msg("of %s, in %.200s, the dump says something else: %s", pointer, text, dump);
    same = vm_spec_to_json(again);
    assert_string_equal(dump, same);
}

static void test_every_row(void **context)
{
    /* Beside the row, what it can't do without. */
    static const char *const bases[] = {
        "{\"kernel\": \"/k\", \"mem\": \"4G\", \"balloon\": true, \"hotplugMem\": \"1G\", \"interfaces\": "
        "[\"user\"]}",
        "{\"kernel\": \"/k\", \"hypervisor\": \"firecracker\", \"cpu\": \"max\", \"interfaces\": [\"user\"]}",
    };
    Tally tally = {0};

    for (size_t i = 0; i < ELEMENTSOF(bases); i++)
        corpus_each(&vm_table, NULL, bases[i], "", check_identity, &tally);
    check_tally(&tally, NULL);
}

/* Digits that a double has not, and numbers that it can't hold, in what is somebody else's. */
static void test_foreign_numbers(void **context)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = load(
        "web",
        "{\"kernel\": \"/k\", \"firecracker\": {\"extraConfig\": {\"a\": [9007199254740993, 1e400, 1.0]}}}");

    assert_non_null(spec);
    assert_string_equal(spec->firecracker_config, "{\"a\":[9007199254740993,1e400,1.0]}");
}

/* A percent sign is one for people, too: in what they get to see, it is written as they would write it. */
static void test_percent(void **context)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec =
        load("web", "{\"kernel\": \"/50%%\", \"preStart\": \"date +%s\", \"labels\": {\"a\": \"%n\"}}");
    _cleanup_free_ char *dump = NULL;

    assert_non_null(spec);
    assert_string_equal(spec->kernel, "/50%");
    assert_string_equal(spec->labels[0].value, "web");
    dump = vm_spec_to_json(spec);
    assert_non_null(strstr(dump, "\"/50%%\""));
    assert_non_null(strstr(dump, "\"date +%s\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_foreign_numbers),
        cmocka_unit_test(test_percent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
