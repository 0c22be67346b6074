/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What reaches beyond a microVM, and what was there before. */
#include "spec/loader.h"
#include "spec/reach.h"
#include "spec/spec-table.h"
#include "spec/take.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

static VmSpec *parse(const char *text)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    if (vm_spec_parse("web", NULL, text, strlen(text), &(SpecContext){0}, &problems, &spec) < 0)
        fail_msg("%s: %s", text, problems.count > 0 ? problems.items[0].text : "?");
    return spec;
}

/* The key by which `after` reaches further than `before`. */
static const char *reach(Scratch *scratch, const char *before, const char *after)
{
    const char *const directories[] = {scratch->path, "/srv/images/"};
    VmSpec *old = before ? parse(before) : NULL, *new = parse(after);
    const char *key = "?";

    assert_int_equal(vm_spec_reaches_further(old, new, directories, ELEMENTSOF(directories), &key), 0);
    vm_spec_unref(old);
    vm_spec_unref(new);
    return key;
}

#define KERNEL "{\"kernel\": \"/srv/images/k\""

static void test_keys(void **context)
{
    static const struct {
        const char *key, *text;
    } cases[] = {
        {NULL, ""},
        {NULL,
         ", \"volumes\": [\"a.img\", \"/srv/images/b.img\"], \"interfaces\": [\"bridge:br0\"], \"mem\": 99"},
        {NULL,
         ", \"volumes\": [{\"image\": \"a\", \"mountPoint\": \"/etc\"}], \"readiness\": {\"timeout\": 1}"},
        {NULL, ", \"shares\": [{\"tag\": \"x\", \"source\": \"/srv/images/x\"}]"},
        {"initrd", ", \"initrd\": \"/srv/imagesX/i\""},
        {"initrd", ", \"initrd\": \"/srv/images/../i\""},
        {"initrd", ", \"initrdPath\": \"/i\""},
        {"volumes", ", \"volumes\": [\"a\", \"/dev/sda\"]"},
        {"volumes", ", \"volumes\": [{\"image\": \"a\", \"size\": 1, \"mkfsExtraArgs\": [\"-d/\"]}]"},
        {"shares", ", \"shares\": [{\"tag\": \"x\", \"source\": \"/etc\"}]"},
        {"shares",
         ", \"shares\": [{\"tag\": \"x\", \"source\": \"/srv/images/x\", \"extraArgs\": [\"-x\"]}]"},
        {"credentialFiles", ", \"credentialFiles\": {\"a\": \"/srv/images/a\", \"b\": \"/etc/shadow\"}"},
        {"devices", ", \"devices\": [{\"bus\": \"pci\", \"path\": \"0000:00:02.0\"}]"},
        {"preStart", ", \"preStart\": \"true\""},
        {"extraArgsScript", ", \"extraArgsScript\": \"true\""},
        {"readiness.command", ", \"readiness\": {\"type\": \"command\", \"command\": [\"/bin/true\"]}"},
        {"qemu.extraArgs", ", \"qemu\": {\"extraArgs\": [\"-S\"]}"},
        {"user", ", \"user\": \"root\""},
        {"sandbox.network", ", \"sandbox\": {\"network\": false}"},
        {NULL, ", \"sandbox\": {\"network\": true}"},
        {"socket", ", \"socket\": \"/run/x\""},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        char text[256];
        const char *key;
        snprintf(text, sizeof(text), KERNEL "%s}", cases[i].text);
        key = reach(*context, NULL, text);
        if (!streq(key, cases[i].key))
            fail_msg("%s: %s", text, key ? key : "nothing");
        assert_null(reach(*context, text, text));
    }
}

static void test_only_what_is_new(void **context)
{
    assert_null(
        reach(*context, "{\"kernel\": \"/k\", \"initrd\": \"/i\"}", "{\"kernel\": \"/k\", \"mem\": 99}"));
    assert_string_equal(reach(*context, "{\"kernel\": \"/k\"}", "{\"kernel\": \"/l\"}"), "kernel");
    assert_null(
        reach(*context, KERNEL ", \"volumes\": [\"/a\", \"/b\"]}", KERNEL ", \"volumes\": [\"/b\", \"c\"]}"));
    /* It can be written to now. */
    assert_string_equal(
        reach(*context, KERNEL ", \"shares\": [{\"tag\": \"x\", \"source\": \"/etc\", \"readOnly\": true}]}",
              KERNEL ", \"shares\": [{\"tag\": \"x\", \"source\": \"/etc\"}]}"),
        "shares");
}

static void test_links(void **context)
{
    Scratch *scratch = *context;
    char text[256];

    assert_int_equal(symlink("/etc/passwd", scratch_path(scratch, "link")), 0);
    snprintf(text, sizeof(text), "{\"kernel\": \"%s/link\"}", scratch->path);
    assert_string_equal(reach(scratch, NULL, text), "kernel");
    scratch_text(scratch, "file", "");
    snprintf(text, sizeof(text), "{\"kernel\": \"%s/file\"}", scratch->path);
    assert_null(reach(scratch, NULL, text));
}

/* A key that takes a path of the host must say so; what the guest does with a path is its own affair. */
static void check_paths(const KeyTable *table)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        if (row->type == KEY_OBJECTS)
            check_paths(row->items);
        if ((row->take == take_absolute || row->take == take_image) && !row->alias_of &&
            row->reach == REACH_GUEST && !streq(row->key, "mountPoint"))
            fail_msg("%s takes a path, but is not marked", row->key);
        if ((row->take == take_argument || row->take == take_script) && row->reach != REACH_HOST)
            fail_msg("%s takes arguments or commands, but is not marked", row->key);
        if (row->reach == REACH_PATH && row->type != KEY_STRING && row->type != KEY_MAP)
            fail_msg("%s is marked as a path, but is none", row->key);
    }
}

static void test_no_path_is_missed(void **context)
{
    check_paths(&vm_table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_keys),
        IN_SCRATCH(test_only_what_is_new),
        IN_SCRATCH(test_links),
        cmocka_unit_test(test_no_path_is_missed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
