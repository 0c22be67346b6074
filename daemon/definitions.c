/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "definitions.h"

#include "driver/driver.h"
#include "spec/spec-table.h"

#include <dirent.h>
#include <strings.h>

void definitions_clear(Definitions *definitions)
{
    for (size_t i = 0; i < definitions->count; i++) {
        free(definitions->items[i].name);
        free(definitions->items[i].path);
        free(definitions->items[i].error);
        vm_spec_unref(definitions->items[i].spec);
    }
    free(definitions->items);
    *definitions = (Definitions){0};
}

/* What microvmd itself does, whoever runs the hypervisor. */
#define OWN_CAPABILITIES 0

/* What the definition asks for must be something that its driver can do. */
static void check_runner(const VmSpec *spec, const TableReader *reader)
{
    const DriverOps *ops = driver_ops(spec->driver);
    const char *hypervisor = hypervisor_to_string(spec->hypervisor);
    char what[128];
    Runner runner = {
        .can = ops->capabilities(spec) | OWN_CAPABILITIES, .hypervisor = hypervisor, .what = what};

    if (spec->hypervisor == HYPERVISOR_QEMU)
        snprintf(what, sizeof(what), "driver \"%s\" and QEMU's machine \"%s\"",
                 driver_kind_to_string(spec->driver), qemu_machine_to_string(spec->qemu_machine));
    else
        snprintf(what, sizeof(what), "driver \"%s\" and hypervisor \"%s\"",
                 driver_kind_to_string(spec->driver), hypervisor);
    /* Of a hypervisor that it does not run, there is no more to say. */
    if (!(runner.can & CAPABILITY(CAP_QEMU + (Capability)spec->hypervisor))) {
        table_refuse(reader, "/hypervisor", CAP_QEMU + (Capability)spec->hypervisor, &runner);
        return;
    }
    table_check_capabilities(reader, &vm_table, spec, "", &runner);
    ops->check(spec, &runner, reader);
}

static SpecContext with_check(const SpecContext *context)
{
    return (SpecContext){.driver = context->driver, .accel = context->accel, .check = check_runner};
}

int definition_load_file(const char *name, const char *path, const SpecContext *context,
                         ProblemList *problems, VmSpec **ret_spec)
{
    SpecContext checked = with_check(context);

    return vm_spec_load(name, path, &checked, problems, ret_spec);
}

int definition_load_text(const char *name, const char *text, const SpecContext *context,
                         ProblemList *problems, VmSpec **ret_spec)
{
    SpecContext checked = with_check(context);
    size_t size = strlen(text);

    if (size > SPEC_FILE_MAX) { /* anybody may send it, and the loop reads it */
        problem_add(problems, PROBLEM_ERROR, NULL, "", 0, 0,
                    "the text is larger than 1 MiB, so it is no definition");
        return -EBADMSG;
    }
    return vm_spec_parse(name, NULL, text, size, &checked, problems, ret_spec);
}

/* --- which files there are --- */

static Definition *find_fold(Definitions *found, const char *name)
{
    for (size_t i = 0; i < found->count; i++)
        if (strcasecmp(found->items[i].name, name) == 0)
            return &found->items[i];
    return NULL;
}

static int add_file(Definitions *found, const char *directory, const char *file, ProblemList *problems)
{
    _cleanup_free_ char *name = strndup(file, strlen(file) - strlen(".json")), *path = NULL;
    Definition *grown, *other;

    if (!name || asprintf(&path, "%s/%s", directory, file) < 0)
        return -ENOMEM;
    if (!vm_name_valid(name)) {
        problem_add(
            problems, PROBLEM_ERROR, path, "", 0, 0,
            "\"%s\" can't be the name of a microVM: letters, digits, '.', '_' and '-', the first and last a "
            "letter or digit, at most 64 bytes",
            name);
        return 0;
    }
    other = find_fold(found, name);
    if (other && streq(other->name, name))
        return 0; /* a directory of higher precedence has it */
    if (other) {
        problem_add(problems, PROBLEM_ERROR, path, "", 0, 0,
                    "its name differs only in case from %s; rename one of them", other->path);
        return 0;
    }
    grown = reallocarray(found->items, found->count + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    found->items = grown;
    grown[found->count++] = (Definition){.name = TAKE_PTR(name), .path = TAKE_PTR(path)};
    return 0;
}

static bool has_suffix(const char *file, const char *suffix)
{
    size_t length = strlen(file), suffix_length = strlen(suffix);

    return length > suffix_length && streq(file + length - suffix_length, suffix);
}

static int by_file_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int scan_directory(Definitions *found, const char *directory, ProblemList *problems)
{
    struct dirent **entries;
    int n, r = 0;

    n = scandir(directory, &entries, NULL, by_file_name);
    if (n < 0 && errno == ENOENT)
        return 0;
    if (n < 0) {
        problem_add(problems, PROBLEM_ERROR, directory, "", 0, 0, "the directory can't be read: %s",
                    strerror(errno));
        return errno == ENOMEM ? -ENOMEM : 0;
    }
    for (int i = 0; i < n; i++) {
        const char *file = entries[i]->d_name;
        if (r >= 0 && file[0] != '.' && has_suffix(file, ".json"))
            r = add_file(found, directory, file, problems);
        if (r >= 0 && file[0] != '.' && has_suffix(file, ".json.d"))
            problem_add(problems, PROBLEM_WARNING, directory, "", 0, 0,
                        "%s: this version does not read drop-ins; put what they say into the definition",
                        file);
        free(entries[i]);
    }
    free(entries);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Definition *)a)->name, ((const Definition *)b)->name);
}

/* "FIRST PROBLEM, and N more" */
static char *summarize(const ProblemList *problems, size_t first)
{
    _cleanup_free_ char *text = NULL;
    size_t more = 0, at = SIZE_MAX;
    char *sentence = NULL;

    for (size_t i = first; i < problems->count; i++)
        if (problems->items[i].severity == PROBLEM_ERROR) {
            if (at == SIZE_MAX)
                at = i;
            else
                more++;
        }
    text = at < problems->count ? problem_format(&problems->items[at]) : NULL;
    if (asprintf(&sentence,
                 more ? "the definition can't be used: %s, and %zu more" : "the definition can't be used: %s",
                 text ? text : "out of memory", more) < 0)
        return NULL;
    return sentence;
}

/* Loads what was found; masked ones disappear. */
static int load_all(Definitions *found, const SpecContext *defaults, ProblemList *problems)
{
    size_t kept = 0;

    for (size_t i = 0; i < found->count; i++) {
        Definition *definition = &found->items[i];
        size_t before = problems->count;
        int r =
            definition_load_file(definition->name, definition->path, defaults, problems, &definition->spec);
        if (r == -ENOENT) {
            free(definition->name);
            free(definition->path);
            continue;
        }
        if (r < 0 && !(definition->error = summarize(problems, before)))
            definition->error = strdup("the definition can't be used");
        found->items[kept++] = *definition;
    }
    found->count = kept;
    return 0;
}

int definitions_load(const char *const *directories, size_t n_directories, const SpecContext *defaults,
                     ProblemList *problems, Definitions *ret_definitions)
{
    _cleanup_(definitions_clear)
    Definitions found = {0};
    int r;

    for (size_t i = 0; i < n_directories; i++) {
        r = scan_directory(&found, directories[i], problems);
        if (r < 0)
            return r;
    }
    if (found.count > 0)
        qsort(found.items, found.count, sizeof(*found.items), by_name);
    r = load_all(&found, defaults, problems);
    if (r < 0)
        return r;
    *ret_definitions = found;
    found = (Definitions){0};
    return 0;
}
