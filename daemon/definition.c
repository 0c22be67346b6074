/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "definition.h"

#include "driver/driver.h"
#include "spec/spec-table.h"

/* --- what is refused --- */

CapabilitySet definition_capabilities(const VmSpec *spec)
{
    return driver_ops(spec->driver)->capabilities(spec);
}

/* What `runner` can't do of it. */
static void check_with(const VmSpec *spec, const DriverOps *ops, const Runner *runner,
                       const TableReader *reader)
{
    Capability hypervisor = CAP_QEMU + (Capability)spec->hypervisor;

    /* Of a hypervisor that it does not run, there is no more to say. */
    if (!(runner->can & CAPABILITY(hypervisor))) {
        table_refuse(reader, "/hypervisor", hypervisor, runner);
        return;
    }
    table_check_capabilities(reader, &vm_table, spec, "", runner);
    ops->check(spec, runner, reader);
}

/* The driver that could do all of it; NULL: none. */
static const char *find_other(const VmSpec *spec, const TableReader *reader)
{
    for (DriverKind kind = 0; kind < DRIVER_KIND_MAX; kind++) {
        _cleanup_problems_ ProblemList problems = {0};
        TableReader quiet = *reader;
        Runner runner = {.can = driver_ops(kind)->capabilities(spec),
                         .hypervisor = hypervisor_to_string(spec->hypervisor),
                         .what = ""};
        quiet.problems = &problems;
        check_with(spec, driver_ops(kind), &runner, &quiet);
        if (problem_count(&problems, PROBLEM_ERROR) == 0)
            return driver_kind_to_string(kind);
    }
    return NULL;
}

/* What the definition asks for must be something that its driver can do. */
static void check_runner(const VmSpec *spec, const TableReader *reader)
{
    _cleanup_problems_ ProblemList problems = {0};
    TableReader quiet = *reader;
    char what[128];
    Runner runner = {.can = definition_capabilities(spec),
                     .hypervisor = hypervisor_to_string(spec->hypervisor),
                     .what = what};

    if (spec->hypervisor == HYPERVISOR_QEMU)
        snprintf(what, sizeof(what), "driver \"%s\" and QEMU's machine \"%s\"",
                 driver_kind_to_string(spec->driver), qemu_machine_to_string(spec->qemu_machine));
    else
        snprintf(what, sizeof(what), "driver \"%s\" and hypervisor \"%s\"",
                 driver_kind_to_string(spec->driver), runner.hypervisor);
    /* Mostly there is nothing to say. */
    quiet.problems = &problems;
    check_with(spec, driver_ops(spec->driver), &runner, &quiet);
    if (problems.count == 0)
        return;
    if (problem_count(&problems, PROBLEM_ERROR) > 0)
        runner.other = find_other(spec, reader);
    for (DriverKind kind = 0; kind < DRIVER_KIND_MAX; kind++)
        runner.of_drivers[kind] = driver_ops(kind)->capabilities(spec);
    check_with(spec, driver_ops(spec->driver), &runner, reader);
}

/* `errors`: how many there were before. */
static int read_spec(const char *name, const char *path, const JsonDocument *document, size_t errors,
                     const SpecContext *context, ProblemList *problems, VmSpec **ret_spec)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
    SpecContext checked = *context;
    int r;

    checked.check = check_runner;
    r = vm_spec_read(name, path, document, &checked, problems, &spec);
    if (r < 0)
        return r;
    if (problem_count(problems, PROBLEM_ERROR) > errors)
        return -EBADMSG; /* a key that was there twice, say */
    *ret_spec = TAKE_PTR(spec);
    return 0;
}

/* --- loading --- */

int definition_load_files(const char *name, const Layers *below, LayerFiles *files,
                          const SpecContext *context, ProblemList *problems, VmSpec **ret_spec)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    size_t errors = problem_count(problems, PROBLEM_ERROR);
    int r = layers_merge(name, below, files, problems, &document);

    return r < 0 ? r
                 : read_spec(name, files->items[files->main].path, &document, errors, context, problems,
                             ret_spec);
}

int definition_load_text(const char *name, const char *text, const SpecContext *context,
                         ProblemList *problems, VmSpec **ret_spec)
{
    _cleanup_(layers_clear)
    Layers below = {0};
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    size_t size = strlen(text), errors = problem_count(problems, PROBLEM_ERROR);
    int r;

    if (size > SPEC_FILE_MAX) { /* anybody may send it, and the loop reads it */
        problem_add(problems, PROBLEM_ERROR, NULL, "", 0, 0,
                    "the text is larger than 1 MiB, so it is no definition");
        return -EBADMSG;
    }
    r = layers_load_below(context->defaults_path, problems, &below);
    if (r >= 0)
        r = layers_merge_text(name, &below, text, size, problems, &document);
    return r < 0 ? r : read_spec(name, NULL, &document, errors, context, problems, ret_spec);
}

int definition_check_layer(const char *path, ProblemList *problems)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    LayerFile file = {.path = (char *)path};
    LayerFiles files = {&file, 1, 0};
    TableReader reader = {.document = &document, .file = path, .problems = problems, .incomplete = true};
    size_t errors = problem_count(problems, PROBLEM_ERROR);
    VmSpec spec = {0};
    int r;

    r = layers_merge("x@1", NULL, &files, problems, &document); /* any name */
    if (r < 0)
        return r;
    r = table_read(&reader, &vm_table, document.root, "", &spec);
    table_clear(&vm_table, &spec);
    return r < 0 ? r : problem_count(problems, PROBLEM_ERROR) > errors ? -EBADMSG : 0;
}

/* --- telling of it --- */

int definition_find(const char *const *directories, size_t n_directories, const char *name,
                    const SpecContext *context, ProblemList *problems, LayerFiles *ret_files)
{
    Directories all = {directories, n_directories};
    _cleanup_(layer_files_clear)
    LayerFiles files = {0}, below = {0};
    int r;

    r = definition_files_look_up(all, name, problems, &files);
    if (r >= 0)
        r = layers_find_below(context->defaults_path, problems, &below);
    if (r >= 0)
        r = layer_files_prepend(&files, &below);
    if (r < 0)
        return r;
    *ret_files = files;
    files = (LayerFiles){0};
    return 0;
}

static int add_origins(cJSON *origins, const JsonDocument *document, const cJSON *json, const char *pointer,
                       const char *path)
{
    const JsonPlace *place = json_find_nearest(document, pointer);
    _cleanup_free_ char *origin = NULL;
    const cJSON *child;
    size_t n = 0;
    int r = 0;

    cJSON_ArrayForEach (child, json) {
        _cleanup_free_ char *at = NULL;
        if (child->string)
            at = json_pointer_join(pointer, child->string);
        else if (asprintf(&at, "%s/%zu", pointer, n++) < 0)
            at = NULL;
        if (r >= 0)
            r = at ? add_origins(origins, document, child, at, path) : -ENOMEM;
    }
    if (json->child || r < 0)
        return r;
    if (asprintf(&origin, "%s:%u", place && place->file ? place->file : path, place ? place->line : 0) < 0)
        return -ENOMEM;
    return cJSON_AddStringToObject(origins, pointer, origin) ? 0 : -ENOMEM;
}

int definition_origins(const char *name, LayerFiles *files, ProblemList *problems, char **ret_json)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    cJSON *answer, *origins;
    char *json = NULL;
    int r;

    r = layers_merge(name, NULL, files, problems, &document);
    if (r < 0)
        return r;
    answer = cJSON_CreateObject();
    if (answer && cJSON_AddItemReferenceToObject(answer, "definition", document.root) &&
        (origins = cJSON_AddObjectToObject(answer, "origins")) &&
        add_origins(origins, &document, document.root, "", files->items[files->main].path) >= 0)
        json = cJSON_Print(answer);
    cJSON_Delete(answer);
    if (!json)
        return -ENOMEM;
    *ret_json = json;
    return 0;
}

char *definition_summarize(const ProblemList *problems, size_t first)
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
        return strdup("the definition can't be used");
    return sentence;
}
