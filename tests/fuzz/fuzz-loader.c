/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz.h"

#include "base/utf8.h"

bool fuzz_is_utf8(const char *text)
{
    for (size_t size = strlen(text), n; size > 0; text += n, size -= n) {
        n = utf8_sequence(text, size);
        if (n == 0)
            return false;
    }
    return true;
}

static const SpecContext plain = {.driver = DRIVER_KIND_LIBVIRT, .accel = ACCEL_AUTO};

/* Each driver looks at what was read, good or not. */
static void load_for_direct(const char *name, const char *text)
{
    static const SpecContext direct = {.driver = DRIVER_KIND_DIRECT, .accel = ACCEL_AUTO};
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL;
    int r = definition_load_text(name, text, &direct, &problems, &spec);

    MUST(r == 0 || r == -EBADMSG);
    vm_spec_unref(spec);
}

/* Each problem is a line for a person, with a place inside the text. */
static void check_problems(const ProblemList *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        const Problem *problem = &problems->items[i];
        _cleanup_free_ char *line = problem_format(problem);
        MUST(line && problem->text && problem->pointer);
        MUST(!strchr(line, '\n') && !strchr(line, '\x1b'));
        MUST(fuzz_is_utf8(line));
        MUST((problem->line > 0) == (problem->column > 0));
    }
}

VmSpec *fuzz_load(const char *name, const uint8_t *data, size_t size)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *text = strndup((const char *)data, size);
    VmSpec *spec = NULL;
    int r;

    MUST(text);
    /* Text that came over D-Bus ends at a NUL; a file's does not, but then it can't be JSON. */
    if (strlen(text) == size)
        r = definition_load_text(name, text, &plain, &problems, &spec);
    else
        r = vm_spec_parse(name, "/x.json", (const char *)data, size, &plain, &problems, &spec);
    MUST(r == 0 || r == -EBADMSG);
    MUST((r == 0) == (spec != NULL));
    MUST((r == 0) == (problem_count(&problems, PROBLEM_ERROR) == 0));
    MUST(strlen(text) == size || !spec);
    check_problems(&problems);
    load_for_direct(name, text);
    return spec;
}

/* As records are read, and as a definition. */
static VmSpec *read_dump(const char *name, const char *dump)
{
    _cleanup_problems_ ProblemList problems = {0};
    VmSpec *spec = NULL, *definition = NULL;

    MUST(vm_spec_parse(name, NULL, dump, strlen(dump), &plain, &problems, &spec) == 0);
    MUST(definition_load_text(name, dump, &plain, &problems, &definition) == 0);
    MUST(vm_spec_equal(spec, definition));
    vm_spec_unref(definition);
    return spec;
}

int fuzz_loader(const uint8_t *data, size_t size)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = fuzz_load("web", data, size), *again = NULL, *elsewhere = NULL;
    _cleanup_free_ char *dump = NULL, *same = NULL;

    if (!spec)
        return 0;
    dump = vm_spec_to_json(spec);
    MUST(dump);
    again = read_dump("web", dump);
    same = vm_spec_to_json(again);
    MUST(streq(dump, same));
    /* Everything is in the dump: for a microVM of another name it means the same. */
    elsewhere = read_dump("other", dump);
    MUST(vm_spec_equal(spec, elsewhere));
    return 0;
}
