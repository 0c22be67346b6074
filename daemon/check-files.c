/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "check-files.h"

#include "definitions-across.h"

typedef struct Check {
    const Options *options;
    const SpecContext *defaults;
    ProblemList *problems;
    Definitions named; /* what the files define, but for templates */
    bool installed;    /* one of the files is in a definition directory */
} Check;

/* --- paths --- */

static bool same_file(const char *a, const char *b)
{
    struct stat first, second;

    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

static const char *base_of(const char *path)
{
    return strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
}

/* The last part of a path without a suffix, if it has that. */
static char *stem(const char *path, const char *suffix)
{
    const char *base = base_of(path);

    return strndup(base, strlen(base) - (has_suffix(base, suffix) ? strlen(suffix) : 0));
}

/* As it is written, or, where that tells nothing ("."), as it really is: a drop-in is told by its directory.
 */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *written = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    char *real = written && !has_suffix(written, DROP_IN_SUFFIX) ? realpath(written, NULL) : NULL;

    if (!real)
        return written;
    free(written);
    return real;
}

/* The definition directories, if `directory` is one of them, else that one by itself. */
static Directories directories_with(Check *check, const char *const *directory)
{
    const ManagerSettings *settings = &check->options->settings;

    for (size_t i = 0; i < settings->n_directories; i++)
        if (same_file(settings->directories[i], *directory)) {
            check->installed = true;
            return (Directories){settings->directories, settings->n_directories};
        }
    return (Directories){directory, 1};
}

/* Whether it is the file below all definitions, or one of its drop-ins. */
static bool is_below(const Check *check, const char *path, const char *directory)
{
    const char *defaults = check->defaults->defaults_path;
    _cleanup_free_ char *drop_ins = NULL, *beside = directory_of(defaults);

    if (beside && streq(base_of(path), base_of(defaults)) && same_file(directory, beside))
        return true;
    return asprintf(&drop_ins, "%s.d", defaults) >= 0 && same_file(directory, drop_ins);
}

/* --- one file --- */

/* A template is checked as any of its instances. */
static int complete_name(char **name)
{
    char *instance;

    if (!is_template(*name))
        return 0;
    if (asprintf(&instance, "%s1", *name) < 0)
        return -ENOMEM;
    free(*name);
    *name = instance;
    return 0;
}

/* For what it is to others. Of two that would be one microVM only the first counts. */
static int add_named(Check *check, const char *name, const char *path, LayerFiles *files, VmSpec *spec)
{
    Definitions *named = &check->named;
    Definition *grown;

    for (size_t i = 0; i < named->count; i++)
        if (streq(named->items[i].name, name))
            return 0;
    grown = reallocarray(named->items, named->count + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    named->items = grown;
    grown = &grown[named->count++];
    *grown =
        (Definition){.name = strdup(name), .path = strdup(path), .read = vm_spec_ref(spec), .files = *files};
    *files = (LayerFiles){0};
    return grown->name && grown->path ? 0 : -ENOMEM;
}

static int check_layers(Check *check, char **name, LayerFiles *files)
{
    _cleanup_(layer_files_clear)
    LayerFiles below = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
    bool template = is_template(*name);
    int r = complete_name(name);

    if (r >= 0)
        r = layers_find_below(check->defaults->defaults_path, check->problems, &below);
    if (r >= 0)
        r = layer_files_prepend(files, &below);
    if (r >= 0)
        r = definition_load_files(*name, NULL, files, check->defaults, check->problems, &spec);
    if (r < 0 || template)
        return r;
    return add_named(check, *name, files->items[files->main].path, files, spec);
}

/* Calls the file by the path that it was named by. 1, 0: it is none of them, as another one of its name goes
 * before it, say; -ENOMEM. */
static int call_by(LayerFiles *files, const char *path)
{
    for (size_t i = 0; i < files->count; i++) {
        char *copy;
        if (!same_file(files->items[i].path, path))
            continue;
        copy = strdup(path);
        if (!copy)
            return -ENOMEM;
        free(files->items[i].path);
        files->items[i].path = copy;
        return 1;
    }
    return 0;
}

/* NAME.json.d/FILE.json, over the definition that it changes. */
static int check_drop_in(Check *check, const char *path, const char *parent)
{
    _cleanup_free_ char *name = stem(parent, DROP_IN_SUFFIX), *directory = directory_of(parent),
                        *whose = name && *name ? strdup(name) : NULL;
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    int r;

    if (!name || !directory || !whose || complete_name(&whose) < 0)
        return -ENOMEM;
    r = definition_files_look_up(directories_with(check, (const char *const *)&directory), whose,
                                 check->problems, &files);
    if (r == -ENOENT)
        return definition_check_layer(path,
                                      check->problems); /* it changes nothing, but can't be wrong either */
    if (r >= 0)
        r = call_by(&files, path);
    if (r == 0)
        r = layer_files_add(&files, path, true);
    return r < 0 ? r : check_layers(check, &name, &files);
}

static int check_definition(Check *check, const char *path, const char *directory)
{
    _cleanup_free_ char *name = stem(path, SUFFIX), *whose = name ? strdup(name) : NULL;
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    int r;

    if (!name || !whose || complete_name(&whose) < 0)
        return -ENOMEM;
    if (!vm_name_valid(whose)) {
        problem_add(check->problems, PROBLEM_ERROR, path, "", 0, 0, "\"%s\" can't be the name of a microVM",
                    whose);
        return -EBADMSG;
    }
    r = definition_files_over(directories_with(check, &directory), whose, path, check->problems, &files);
    if (r == -ENOENT)
        problem_add(check->problems, PROBLEM_WARNING, path, "", 0, 0,
                    "it is empty: it only masks definitions of the same name in other directories");
    return r == -ENOENT ? 0 : r < 0 ? r : check_layers(check, &name, &files);
}

static int check_file(Check *check, const char *path)
{
    _cleanup_free_ char *directory = directory_of(path);

    if (!directory)
        return -ENOMEM;
    if (is_below(check, path, directory))
        return definition_check_layer(path, check->problems);
    if (has_suffix(directory, DROP_IN_SUFFIX))
        return check_drop_in(check, path, directory);
    return check_definition(check, path, directory);
}

/* --- all together --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Definition *)a)->name, ((const Definition *)b)->name);
}

static const Definition *find_named(const Check *check, const char *name)
{
    for (size_t i = 0; i < check->named.count; i++)
        if (streq(check->named.items[i].name, name))
            return &check->named.items[i];
    return NULL;
}

/* What is in the definition directories, but for what was named, as good as it is without that. */
static int load_others(const Check *check, Definitions *ret_others)
{
    const ManagerSettings *settings = &check->options->settings;
    const Surroundings around = {.state_dir = settings->state_dir, .incomplete = true};
    _cleanup_problems_ ProblemList theirs = {0};
    _cleanup_(definitions_clear)
    Definitions there = {0};
    size_t n = 0;
    int r;

    r = definitions_load(settings->directories, settings->n_directories, check->defaults, NULL, &around,
                         &theirs, &there);
    if (r < 0)
        return r;
    for (size_t i = 0; i < there.count; i++)
        if (find_named(check, there.items[i].name))
            definition_clear(&there.items[i]);
        else
            there.items[n++] = there.items[i];
    there.count = n;
    r = definitions_check_across(&there, NULL, NULL, &around, &theirs);
    if (r < 0)
        return r;
    *ret_others = there;
    there = (Definitions){0};
    return 0;
}

/* Whether it is one of the files that were named, or of a definition that was. */
static bool is_concerned(const Check *check, const Definitions *all, const Definitions *others,
                         const char *file)
{
    for (size_t i = 0; i < check->options->n_files; i++)
        if (streq(check->options->files[i], file) || same_file(check->options->files[i], file))
            return true;
    for (size_t i = 0; i < all->count; i++)
        for (size_t k = 0; k < all->items[i].files.count; k++)
            if (streq(all->items[i].files.items[k].path, file))
                return !definitions_find(others, all->items[i].name);
    return false;
}

/* What was there goes before what was named: that is what is to be mended. */
static int check_together(Check *check)
{
    const Surroundings around = {.state_dir = check->options->settings.state_dir,
                                 .incomplete = !check->installed};
    _cleanup_(definitions_clear)
    Definitions all = {0};
    Definitions others = {0}; /* on loan from these */
    _cleanup_problems_ ProblemList found = {0};
    int r = check->installed ? load_others(check, &others) : 0;

    all.items = calloc(check->named.count + others.count + 1, sizeof(*all.items));
    if (r < 0 || !all.items) {
        definitions_clear(&others);
        return -ENOMEM;
    }
    for (size_t i = 0; i < others.count; i++)
        all.items[all.count++] = others.items[i];
    for (size_t i = 0; i < check->named.count; i++) {
        all.items[all.count++] = check->named.items[i];
        check->named.items[i] = (Definition){0};
    }
    if (all.count > 0) {
        qsort(all.items, all.count, sizeof(*all.items), by_name);
        r = definitions_check_across(&all, &others, NULL, &around, &found);
    }
    for (size_t i = 0; i < found.count; i++) {
        const Problem *problem = &found.items[i];
        if (problem->file && is_concerned(check, &all, &others, problem->file))
            problem_add(check->problems, problem->severity, problem->file, problem->pointer, problem->line,
                        problem->column, "%s", problem->text);
    }
    layer_files_clear(&others.below);
    free(others.items);
    return r;
}

int check_files(const Options *options, const SpecContext *defaults, ProblemList *problems)
{
    Check check = {.options = options, .defaults = defaults, .problems = problems};
    int r = 0;

    for (size_t i = 0; i < options->n_files && r >= 0; i++) {
        r = check_file(&check, options->files[i]);
        if (r == -ESTALE)
            problem_add(problems, PROBLEM_ERROR, options->files[i], "", 0, 0, "the file can't be read: %s",
                        strerror(ENOENT));
        if (r == -ESTALE || r == -EBADMSG)
            r = 0;
    }
    if (r >= 0)
        r = check_together(&check);
    definitions_clear(&check.named);
    return r;
}
