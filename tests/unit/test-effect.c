/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys that say something only beside another one: nothing is ignored in silence. */
#include "definition.h"
#include "spec/spec-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

typedef struct Case {
    const char *text, *pointer;
    ProblemSeverity severity;
    const char *says;
} Case;

#define VOLUME(keys)    "{\"kernel\": \"/k\", \"volumes\": [{\"image\": \"/a\", " keys "}]}"
#define TAP(keys)       "{\"kernel\": \"/k\", \"interfaces\": [{\"type\": \"tap\", " keys "}]}"
#define SHARE(keys)     "{\"kernel\": \"/k\", \"shares\": [{\"tag\": \"t\", \"source\": \"/s\", " keys "}]}"
#define VIRTIOFS        "\"proto\": \"virtiofs\", "
#define TOP(keys)       "{\"kernel\": \"/k\", " keys "}"
#define NEVER(keys)     TOP("\"restart\": {\"policy\": \"no\", " keys "}")
#define READY(keys)     TOP("\"readiness\": {\"type\": \"auto\", " keys "}")
#define NOT_READY(keys) TOP("\"readiness\": {\"type\": \"none\", " keys "}")

static const Case cases[] = {
    {TOP("\"initialBalloonMem\": 8"), "/initialBalloonMem", PROBLEM_ERROR, "\"balloon\": true"},
    {TOP("\"deflateOnOOM\": false"), "/deflateOnOOM", PROBLEM_WARNING,
     "\"deflateOnOOM\" has no effect without \"balloon\": true: add that, or remove this"},
    {TOP("\"graphics\": {\"backend\": \"gtk\"}"), "/graphics/backend", PROBLEM_WARNING, "\"enable\": true"},
    {TOP("\"graphics\": {\"socket\": \"s\"}"), "/graphics/socket", PROBLEM_WARNING, "\"enable\": true"},
    {TOP("\"graphics\": {\"vulkan\": true}"), "/graphics/vulkan", PROBLEM_WARNING, "\"enable\": true"},
    {TOP("\"graphics\": {\"hostmem\": 8}"), "/graphics/hostmem", PROBLEM_WARNING, "\"enable\": true"},
    {NOT_READY("\"timeout\": 5"), "/readiness/timeout", PROBLEM_WARNING,
     "\"type\": \"auto\" or \"notify\" or"},
    {NOT_READY("\"onTimeout\": \"fail\""), "/readiness/onTimeout", PROBLEM_WARNING, "\"type\": \"auto\""},
    {READY("\"pattern\": \"a\""), "/readiness/pattern", PROBLEM_WARNING, "\"type\": \"console\""},
    {READY("\"port\": 80"), "/readiness/port", PROBLEM_WARNING, "\"type\": \"tcp\" or \"http\""},
    {READY("\"address\": \"10.0.0.2\""), "/readiness/address", PROBLEM_WARNING,
     "\"type\": \"tcp\" or \"http\""},
    {READY("\"path\": \"/\""), "/readiness/path", PROBLEM_WARNING, "\"type\": \"http\""},
    {READY("\"command\": [\"/a\"]"), "/readiness/command", PROBLEM_WARNING, "\"type\": \"command\""},
    {TOP("\"watchdog\": {\"type\": \"device\", \"timeout\": 5}"), "/watchdog/timeout", PROBLEM_WARNING,
     "\"type\": \"notify\""},
    {TOP("\"watchdog\": {\"action\": \"fail\"}"), "/watchdog/action", PROBLEM_WARNING,
     "\"type\": \"device\" or \"notify\""},
    {TOP("\"console\": {\"log\": \"journal\"}, \"qemu\": {\"serialConsole\": false}"), "/console/log",
     PROBLEM_WARNING, "\"log\" has no effect without \"qemu\": { \"serialConsole\": true }"},
    {NEVER("\"delay\": 5"), "/restart/delay", PROBLEM_WARNING,
     "\"delay\" has no effect without \"policy\": \"on-failure\" or \"on-abnormal\" or \"always\""},
    {NEVER("\"maxDelay\": 5"), "/restart/maxDelay", PROBLEM_WARNING, "\"policy\": \"on-failure\""},
    {TOP("\"restart\": {\"delay\": 0, \"maxDelay\": 5}"), "/restart/maxDelay", PROBLEM_WARNING,
     "without \"delay\" above 0"},
    {NEVER("\"factor\": 5"), "/restart/factor", PROBLEM_WARNING, "\"policy\""},
    {NEVER("\"startLimit\": 6"), "/restart/startLimit", PROBLEM_WARNING, "\"policy\""},
    {TOP("\"restart\": {\"startLimit\": 0, \"startLimitInterval\": 5}"), "/restart/startLimitInterval",
     PROBLEM_WARNING, "\"startLimit\""},
    {VOLUME("\"size\": 8"), "/volumes/0/size", PROBLEM_WARNING, "\"autoCreate\": true"},
    {VOLUME("\"fsType\": \"xfs\""), "/volumes/0/fsType", PROBLEM_WARNING, "\"autoCreate\": true"},
    {VOLUME("\"label\": \"a\""), "/volumes/0/label", PROBLEM_WARNING, "\"autoCreate\": true"},
    {VOLUME("\"mkfsExtraArgs\": [\"-q\"]"), "/volumes/0/mkfsExtraArgs", PROBLEM_WARNING,
     "\"autoCreate\": true"},
    {TAP("\"bridge\": \"br0\""), "/interfaces/0/bridge", PROBLEM_ERROR, "\"type\": \"bridge\""},
    {TAP("\"macvtap\": {\"link\": \"eth0\"}"), "/interfaces/0/macvtap/link", PROBLEM_ERROR,
     "\"type\": \"macvtap\""},
    {TAP("\"macvtap\": {\"mode\": \"vepa\"}"), "/interfaces/0/macvtap/mode", PROBLEM_ERROR,
     "\"type\": \"macvtap\""},
    {TOP("\"interfaces\": [{\"type\": \"user\", \"tap\": {\"vhost\": true}}]"), "/interfaces/0/tap/vhost",
     PROBLEM_ERROR, "\"type\": \"tap\""},
    {SHARE("\"socket\": \"/s\""), "/shares/0/socket", PROBLEM_ERROR, "\"proto\": \"virtiofs\""},
    {SHARE(VIRTIOFS "\"securityModel\": \"mapped\""), "/shares/0/securityModel", PROBLEM_ERROR,
     "\"proto\": \"9p\""},
    {SHARE("\"cache\": \"always\""), "/shares/0/cache", PROBLEM_WARNING, "\"proto\": \"virtiofs\""},
    {SHARE("\"posixAcl\": true"), "/shares/0/posixAcl", PROBLEM_WARNING, "\"proto\": \"virtiofs\""},
    {SHARE("\"extraArgs\": [\"-a\"]"), "/shares/0/extraArgs", PROBLEM_WARNING, "\"proto\": \"virtiofs\""},
    /* What a list has to have, no row says. */
    {SHARE(VIRTIOFS "\"socket\": \"/s\", \"cache\": \"always\""), "/shares/0/cache", PROBLEM_ERROR,
     "has its own idea"},
    {SHARE(VIRTIOFS "\"socket\": \"/s\", \"posixAcl\": true"), "/shares/0/posixAcl", PROBLEM_ERROR,
     "has its own idea"},
    {SHARE(VIRTIOFS "\"socket\": \"/s\", \"extraArgs\": [\"-a\"]"), "/shares/0/extraArgs", PROBLEM_ERROR,
     "has its own idea"},
    {TOP("\"virtiofsd\": {\"threadPoolSize\": 4}"), "/virtiofsd/threadPoolSize", PROBLEM_WARNING,
     "there is no share"},
    {TOP("\"virtiofsd\": {\"group\": \"a\"}"), "/virtiofsd/group", PROBLEM_WARNING, "there is no share"},
    {TOP("\"virtiofsd\": {\"inodeFileHandles\": \"never\"}"), "/virtiofsd/inodeFileHandles", PROBLEM_WARNING,
     "there is no share"},
    {TOP("\"virtiofsd\": {\"extraArgs\": [\"-a\"]}"), "/virtiofsd/extraArgs", PROBLEM_WARNING,
     "there is no share"},
};

static void test_without(void **context)
{
    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        const Case *c = &cases[i];
        _cleanup_problems_ ProblemList problems = {0};
        VmSpec *spec = NULL;
        int r = vm_spec_parse("web", NULL, c->text, strlen(c->text), &(SpecContext){0}, &problems, &spec);
        vm_spec_unref(spec);
        if (problems.count != 1 || problems.items[0].severity != c->severity ||
            !streq(problems.items[0].pointer, c->pointer) || !strstr(problems.items[0].text, c->says))
            fail_msg("of %s is said (%zu): %s", c->text, problems.count,
                     problems.count ? problems.items[0].text : "nothing");
        assert_int_equal(r, c->severity == PROBLEM_ERROR ? -EBADMSG : 0);
    }
}

static bool has_case(const KeyRow *row, const char *list)
{
    char pointer[128];

    snprintf(pointer, sizeof(pointer), "%s%s/%s", list ? "/" : "", list ? list : "", row->key);
    for (char *at = pointer; *at; at++)
        *at = *at == '.' ? '/' : *at;
    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        char without_index[128];
        const char *digit = strstr(cases[i].pointer, "/0/");
        snprintf(without_index, sizeof(without_index), "%.*s%s", digit ? (int)(digit - cases[i].pointer) : 0,
                 cases[i].pointer, digit ? digit + 2 : cases[i].pointer);
        if (streq(pointer, without_index))
            return true;
    }
    return false;
}

static void check_rows(const KeyTable *table, const char *list)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        for (size_t k = 0; k < ELEMENTSOF(row->only) && row->only[k].key; k++) {
            const KeyRow *other = table_row(table, row->only[k].key);
            if (!other || (other->type == KEY_ENUM) != (row->only[k].words != 0) || !has_case(row, list))
                fail_msg("the condition of %s is not tested, or is none", row->key);
        }
        if (row->type == KEY_OBJECTS)
            check_rows(row->items, row->key);
    }
}

static void test_every_condition(void **context)
{
    check_rows(&vm_table, NULL);
}

/* What defaults.json says is for those whom it concerns: of the others nothing is said. */
static void test_defaults(void **context)
{
    Scratch *scratch = *context;
    _cleanup_problems_ ProblemList problems = {0};
    SpecContext defaults = {.defaults_path =
                                scratch_text(scratch, "defaults.json",
                                             "{\"initialBalloonMem\": 8, \"restart\": {\"delay\": 9}, "
                                             "\"firecracker\": {\"extraArgs\": [\"-a\"]},"
                                             " \"virtiofsd\": {\"threadPoolSize\": 2}}")};
    VmSpec *spec = NULL;

    assert_int_equal(definition_load_text("web", NEVER("\"factor\": 2"), &defaults, &problems, &spec), 0);
    assert_int_equal(problems.count, 0);
    vm_spec_unref(spec);
    assert_int_equal(definition_load_text("web", TOP("\"deflateOnOOM\": false"), &defaults, &problems, &spec),
                     0);
    assert_int_equal(problems.count, 1);
    vm_spec_unref(spec);
}

/* Where it has no effect, nobody has to be able to do it. */
static void test_nothing_is_needed(void **context)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;

    assert_int_equal(
        definition_load_text("web", SHARE("\"posixAcl\": true"), &(SpecContext){0}, &problems, &spec), 0);
    assert_int_equal(problems.count, 1);
    vm_spec_unref(spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without),
        cmocka_unit_test(test_every_condition),
        IN_SCRATCH(test_defaults),
        cmocka_unit_test(test_nothing_is_needed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
