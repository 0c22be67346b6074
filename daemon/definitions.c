/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "definitions.h"

#include "definitions-across.h"

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

/* --- loading --- */

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
        r = definition_load_files(definition->name, &loader->below, &definition->files, loader->context,
                                  problems, &definition->read);
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
