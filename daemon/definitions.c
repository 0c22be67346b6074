/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "definitions.h"

#include "definitions-across.h"
#include "driver/driver.h"
#include "layers.h"
#include "spec/spec-table.h"

#include <sys/stat.h>
#include <time.h>

enum {
    BEING_WRITTEN_SEC = 1,
};

void definition_clear(Definition *definition)
{
    free(definition->name);
    free(definition->path);
    free(definition->error);
    vm_spec_unref(definition->rival);
    vm_spec_unref(definition->read);
    vm_spec_unref(definition->spec);
    layer_files_clear(&definition->files);
    *definition = (Definition){0};
}

void definitions_clear(Definitions *definitions)
{
    for (size_t i = 0; i < definitions->count; i++)
        definition_clear(&definitions->items[i]);
    free(definitions->items);
    layer_files_clear(&definitions->below);
    *definitions = (Definitions){0};
}

const Definition *definitions_find(const Definitions *definitions, const char *name)
{
    for (size_t low = 0, high = definitions->count; low < high;) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, definitions->items[middle].name);
        if (order == 0)
            return &definitions->items[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

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

static int read_spec(const char *name, const char *path, const JsonDocument *document,
                     const SpecContext *context, ProblemList *problems, VmSpec **ret_spec)
{
    SpecContext checked = *context;

    checked.check = check_runner;
    return vm_spec_read(name, path, document, &checked, problems, ret_spec);
}

/* --- one definition --- */

static int load_files(const char *name, const Layers *below, LayerFiles *files, const SpecContext *context,
                      ProblemList *problems, VmSpec **ret_spec)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
    size_t errors = problem_count(problems, PROBLEM_ERROR);
    int r;

    r = layers_merge(name, below, files, problems, &document);
    if (r >= 0)
        r = read_spec(name, files->items[files->main].path, &document, context, problems, &spec);
    if (r < 0)
        return r;
    if (problem_count(problems, PROBLEM_ERROR) > errors)
        return -EBADMSG; /* a key that was there twice, say */
    *ret_spec = TAKE_PTR(spec);
    return 0;
}

int definition_load_files(const char *name, LayerFiles *files, const SpecContext *context,
                          ProblemList *problems, VmSpec **ret_spec)
{
    return load_files(name, NULL, files, context, problems, ret_spec);
}

int definition_load_text(const char *name, const char *text, const SpecContext *context,
                         ProblemList *problems, VmSpec **ret_spec)
{
    _cleanup_(layers_clear)
    Layers below = {0};
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
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
    if (r >= 0)
        r = read_spec(name, NULL, &document, context, problems, &spec);
    if (r < 0)
        return r;
    if (problem_count(problems, PROBLEM_ERROR) > errors)
        return -EBADMSG;
    *ret_spec = TAKE_PTR(spec);
    return 0;
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

/* --- all of them --- */

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

typedef struct Loader {
    Directories directories;
    const SpecContext *context;
    const Definitions *before; /* NULL: nothing of it can be taken over */
    DefinitionNames names;
    Layers below;
    char *below_error; /* why nothing can be used */
    ProblemList *problems;
} Loader;

static void loader_clear(Loader *loader)
{
    definition_names_clear(&loader->names);
    layers_clear(&loader->below);
    free(loader->below_error);
}

static int find_files(const Loader *loader, const char *name, ProblemList *problems, LayerFiles *ret_files)
{
    _cleanup_free_ char *base = template_of(name);

    return definition_files_find(loader->directories, definition_names_find(&loader->names, name),
                                 base ? definition_names_find(&loader->names, base) : NULL, problems,
                                 ret_files);
}

/* Reads it; once more from the start when files come and go meanwhile. */
static int read_definition(const Loader *loader, Definition *definition, ProblemList *problems)
{
    enum {
        TRIES = 5
    };
    int r = -ESTALE;

    for (int i = 0; i < TRIES && r == -ESTALE; i++) {
        if (i > 0) {
            problem_list_clear(problems);
            layer_files_clear(&definition->files);
            r = definition_files_look_up(loader->directories, definition->name, problems, &definition->files);
            if (r < 0)
                return r;
        }
        r = load_files(definition->name, &loader->below, &definition->files, loader->context, problems,
                       &definition->read);
    }
    if (r == -ESTALE) {
        problem_add(problems, PROBLEM_ERROR, definition->files.items[definition->files.main].path, "", 0, 0,
                    "its files come and go all the time; reload when that is over");
        r = -EBADMSG;
    }
    if (r >= 0 && problem_count(problems, PROBLEM_ERROR) > 0) { /* a directory that can't be read */
        definition->read = vm_spec_unref(definition->read);
        r = -EBADMSG;
    }
    return r;
}

static const char *own_file(const Definition *definition)
{
    return definition->files.items[definition->files.main].path;
}

/* An empty file masks; but who writes a file in place has emptied it first, and will have written a moment
 * later. */
static bool is_being_written(const char *path)
{
    struct timespec now;
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > 0)
        return false;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - st.st_mtim.tv_sec <= BEING_WRITTEN_SEC;
}

/* What was there before goes on to count. 1, or -ENOMEM. */
static int keep(const Loader *loader, const Definition *before, Definition *definition)
{
    problem_add(loader->problems, PROBLEM_WARNING, before->path, "", 0, 0,
                "it has just been emptied, as by somebody who writes it: what it said before still counts; "
                "if it is to "
                "mask the microVM, reload again");
    definition->name = strdup(before->name);
    definition->path = strdup(before->path);
    definition->read = before->read ? vm_spec_ref(before->read) : NULL;
    definition->error = before->error ? strdup(before->error) : NULL;
    if (!definition->name || !definition->path || (before->error && !definition->error))
        return -ENOMEM;
    return layer_files_add(&definition->files, before->path, true) < 0 ? -ENOMEM : 1;
}

/* 1: there is one, in *definition; 0: there is none. */
static int load_definition(const Loader *loader, const char *name, Definition *definition)
{
    const Definition *before = loader->before ? definitions_find(loader->before, name) : NULL;
    _cleanup_problems_ ProblemList problems = {0};
    int r;

    r = find_files(loader, name, &problems, &definition->files);
    if (r == -ENOENT && before && is_being_written(before->path))
        return keep(loader, before, definition);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    definition->name = strdup(name);
    if (!definition->name)
        return -ENOMEM;
    if (problems.count == 0 && before && before->reusable &&
        layer_files_equal(&before->files, &definition->files)) {
        definition->read = vm_spec_ref(before->read);
        definition->reusable = true;
    } else {
        r = read_definition(loader, definition, &problems);
        if (r < 0 && r != -EBADMSG)
            return r == -ENOENT ? 0 : r;
        if (r < 0 && loader->below_error)
            definition->error = strdup(loader->below_error);
        else if (r < 0)
            definition->error = definition_summarize(&problems, 0);
        definition->reusable = r >= 0 && problems.count == 0;
        /* What is shared with others, defaults say, was told with the first of them. */
        problem_list_move(loader->problems, &problems, strchr(name, '@') ? NULL : own_file(definition));
    }
    definition->path = strdup(own_file(definition));
    return definition->path && (definition->read || definition->error) ? 1 : -ENOMEM;
}

static int load_below(Loader *loader)
{
    size_t first = loader->problems->count;
    int r = layers_load_below(loader->context->defaults_path, loader->problems, &loader->below);

    if (r == -EBADMSG && !(loader->below_error = definition_summarize(loader->problems, first)))
        r = -ENOMEM;
    if (loader->before && (loader->before->context.driver != loader->context->driver ||
                           loader->before->context.accel != loader->context->accel ||
                           !layer_files_equal(&loader->before->below, &loader->below.files)))
        loader->before = NULL;
    return r == -EBADMSG ? 0 : r;
}

static void warn_of_drop_ins(const Loader *loader, const DefinitionName *name)
{
    if (name->drop_ins && !name->files && !is_template(name->name) && !strchr(name->name, '@'))
        problem_add(loader->problems, PROBLEM_WARNING, NULL, "", 0, 0,
                    "there are drop-ins of %s (%s.json.d) but no definition %s.json that they would change",
                    name->name, name->name, name->name);
}

int definitions_load(const char *const *directories, size_t n_directories, const SpecContext *context,
                     const Definitions *before, const Surroundings *around, ProblemList *problems,
                     Definitions *ret_definitions)
{
    _cleanup_(loader_clear)
    Loader loader = {.directories = {directories, n_directories},
                     .context = context,
                     .before = before,
                     .problems = problems};
    _cleanup_(definitions_clear)
    Definitions found = {.context = {.driver = context->driver, .accel = context->accel}};
    int r;

    r = definition_names_list(loader.directories, problems, &loader.names);
    if (r >= 0)
        r = load_below(&loader);
    if (r >= 0 && !(found.items = calloc(loader.names.count + 1, sizeof(*found.items))))
        r = -ENOMEM;
    for (size_t i = 0; i < loader.names.count && r >= 0; i++) {
        Definition definition = {0};
        warn_of_drop_ins(&loader, &loader.names.items[i]);
        if (is_template(loader.names.items[i].name))
            continue;
        r = load_definition(&loader, loader.names.items[i].name, &definition);
        if (r > 0)
            found.items[found.count++] = definition;
        else
            definition_clear(&definition);
    }
    if (r >= 0)
        r = definitions_check_across(&found, before, &loader.below, around, problems);
    if (r < 0)
        return r;
    found.below = loader.below.files;
    loader.below.files = (LayerFiles){0};
    *ret_definitions = found;
    found = (Definitions){0};
    return 0;
}

int definitions_judge_again(Definitions *definitions, const SpecContext *context, const Surroundings *around,
                            ProblemList *problems)
{
    _cleanup_(layers_clear)
    Layers below = {0};
    _cleanup_problems_ ProblemList known = {0};
    int r = layers_load_below(context->defaults_path, &known, &below); /* for lines only */

    return r < 0 && r != -EBADMSG
               ? r
               : definitions_check_across(definitions, definitions, &below, around, problems);
}
