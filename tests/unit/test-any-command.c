/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The recipe of a hypervisor that microvmd does not know. */
#include "definition.h"
#include "driver/direct/recipe.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static VmSpec *load(const char *text)
{
    SpecContext context = {.driver = DRIVER_KIND_DIRECT, .accel = ACCEL_TCG};
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    if (vm_spec_parse("web@1", "web@1.json", text, strlen(text), &context, &problems, &spec) < 0)
        fail_msg("%s", problems.count > 0 ? problems.items[0].text : "no definition");
    return spec;
}

static void test_environment(void **state)
{
    static const char *const expected[] = {
        "MICROVM_NAME=web@1",
        "MICROVM_UUID=6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c",
        "MICROVM_ACCEL=tcg",
        "MICROVM_VCPU=2",
        "MICROVM_MEM=64",
        "MICROVM_CMDLINE=quiet a=\"b c\"",
        "MICROVM_KERNEL=/dev/fd/3",
        "MICROVM_VOLUME_0=/dev/fd/4",
        "MICROVM_VOLUME_1=/dev/fd/5",
    };
    VmSpec *spec = load("{ \"hypervisor\": \"command\", \"vcpu\": 2, \"mem\": 64, "
                        "\"machineId\": \"6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c\", "
                        "\"volumes\": [\"a.img\", \"b.img\"], "
                        "\"command\": { \"start\": [\"/opt/monitor\", \"--name=%n\", \"a b\", \"\"] } }");
    StartRequest request = {
        .spec = spec, .accel = ACCEL_TCG, .kernel = "/run/kernel", .cmdline = "quiet a=\"b c\""};
    _cleanup_(command_clear)
    Command command = {0};

    assert_int_equal(recipe_command.render(&request, &command), 0);
    assert_int_equal(command.n_environment, ELEMENTSOF(expected));
    for (size_t i = 0; i < ELEMENTSOF(expected); i++)
        assert_string_equal(command.environment[i], expected[i]);
    assert_null(command.environment[command.n_environment]);
    assert_int_equal(command.n_arguments, 4);
    assert_string_equal(command.argv[0], "/opt/monitor");
    assert_string_equal(command.argv[1], "--name=web@1");
    assert_string_equal(command.argv[2], "a b");
    assert_string_equal(command.argv[3], "");
    assert_int_equal(command.n_descriptors, 3);
    vm_spec_unref(spec);
}

/* What a definition with `keys` is told, if anything, with the driver direct. */
static void expect(const char *keys, const char *words)
{
    SpecContext context = {.driver = DRIVER_KIND_DIRECT, .accel = ACCEL_TCG};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *text = NULL;
    VmSpec *spec = NULL;
    bool said = false;

    assert_true(asprintf(&text, "{ \"hypervisor\": \"command\", %s }", keys) > 0);
    (void)definition_load_text("web", text, &context, &problems, &spec);
    for (size_t i = 0; i < problems.count; i++)
        said |= words && strstr(problems.items[i].text, words);
    if (words ? !said : problems.count > 0)
        fail_msg("%s: %s", keys, problems.count > 0 ? problems.items[0].text : "nothing is said");
    vm_spec_unref(spec);
}

static void test_what_it_can_do(void **state)
{
#define START "\"command\": { \"start\": [\"/m\"] }"
    expect(START, NULL);
    expect(START ", \"kernel\": \"/k\", \"volumes\": [\"a.img\"]", NULL);
    expect("\"kernel\": \"/k\"", "\"command.start\" is missing");
    expect("\"command\": { \"start\": [] }", "\"command.start\" is missing");
    expect("\"command\": { \"start\": [\"monitor\"] }", "must be an absolute path, not \"monitor\"");
    expect("\"command\": { \"start\": [\"/m\"], \"ready\": [\"true\"] }",
           "must be an absolute path, not \"true\"");
    expect(START ", \"volumes\": [\"/srv/a.img\"]", "use a relative one");
    expect(START ", \"console\": { \"log\": \"journal\" }", NULL);
    expect(START ", \"interfaces\": [\"user\"]", "not possible");
    expect(START ", \"qemu\": { \"extraArgs\": [\"-S\"] }", "for the hypervisor \"qemu\" and has no effect");
    expect(START ", \"driver\": \"libvirt\"", "set \"driver\": \"direct\", which can");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_what_it_can_do),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
