/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What microvmd does without running anything: --check tells every problem of the host configuration and of
 * definitions, --dump-schema prints what they may say. */
#include "base/log.h"
#include "layers.h"
#include "microvm/exit.h"
#include "options.h"

static size_t print_problems(const ProblemList *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        _cleanup_free_ char *text = problem_format(&problems->items[i]);
        puts(text ? text : "out of memory");
    }
    return problem_count(problems, PROBLEM_ERROR);
}

/* --- single files --- */

/* The last part of a path without a suffix, if it has that. */
static char *stem(const char *path, const char *suffix)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

    return strndup(base, strlen(base) - (has_suffix(base, suffix) ? strlen(suffix) : 0));
}

static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* The definition directories, if `directory` is one of them, else that one by itself. */
static Directories directories_with(const Options *options, const char *const *directory)
{
    struct stat st, other;

    for (size_t i = 0; i < options->settings.n_directories && stat(*directory, &st) == 0; i++)
        if (stat(options->settings.directories[i], &other) == 0 && st.st_dev == other.st_dev &&
            st.st_ino == other.st_ino)
            return (Directories){options->settings.directories, options->settings.n_directories};
    return (Directories){directory, 1};
}

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

static int check_layers(const char *name, LayerFiles *files, const SpecContext *defaults,
                        ProblemList *problems)
{
    _cleanup_(layer_files_clear)
    LayerFiles below = {0};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
    int r;

    r = layers_find_below(defaults->defaults_path, problems, &below);
    if (r >= 0)
        r = layer_files_prepend(files, &below);
    return r < 0 ? r : definition_load_files(name, files, defaults, problems, &spec);
}

/* NAME.json.d/FILE.json, over the definition that it changes. */
static int check_drop_in(const Options *options, const char *path, const char *parent,
                         const SpecContext *defaults, ProblemList *problems)
{
    _cleanup_free_ char *name = stem(parent, DROP_IN_SUFFIX), *directory = directory_of(parent);
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    bool there = false;
    int r;

    if (!name || !directory || complete_name(&name) < 0)
        return -ENOMEM;
    r = definition_files_look_up(directories_with(options, (const char *const *)&directory), name, problems,
                                 &files);
    if (r == -ENOENT)
        return definition_check_layer(path, problems); /* it changes nothing, but can't be wrong either */
    for (size_t i = 0; r >= 0 && i < files.count; i++)
        there |= has_suffix(files.items[i].path, strrchr(path, '/'));
    if (r >= 0 && !there) /* another one of its name goes before it */
        r = layer_files_add(&files, path, true);
    return r < 0 ? r : check_layers(name, &files, defaults, problems);
}

static int check_file(const Options *options, const char *path, const SpecContext *defaults,
                      ProblemList *problems)
{
    _cleanup_free_ char *name = stem(path, SUFFIX), *directory = directory_of(path), *of_defaults = NULL;
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    int r;

    if (!name || !directory || asprintf(&of_defaults, "%s.d", defaults->defaults_path) < 0 ||
        complete_name(&name) < 0)
        return -ENOMEM;
    if (streq(path, defaults->defaults_path) || streq(directory, of_defaults))
        return definition_check_layer(path, problems);
    if (has_suffix(directory, DROP_IN_SUFFIX))
        return check_drop_in(options, path, directory, defaults, problems);
    if (!vm_name_valid(name)) {
        problem_add(problems, PROBLEM_ERROR, path, "", 0, 0, "\"%s\" can't be the name of a microVM", name);
        return -EBADMSG;
    }
    r = definition_files_over(directories_with(options, (const char *const *)&directory), name, path,
                              problems, &files);
    if (r == -ENOENT)
        problem_add(problems, PROBLEM_WARNING, path, "", 0, 0,
                    "it is empty: it only masks definitions of the same name in other directories");
    return r == -ENOENT ? 0 : r < 0 ? r : check_layers(name, &files, defaults, problems);
}

static int check_files(const Options *options, const SpecContext *defaults)
{
    _cleanup_problems_ ProblemList problems = {0};
    size_t errors;
    int r;

    for (size_t i = 0; i < options->n_files; i++) {
        r = check_file(options, options->files[i], defaults, &problems);
        if (r == -ESTALE)
            problem_add(&problems, PROBLEM_ERROR, options->files[i], "", 0, 0, "the file can't be read: %s",
                        strerror(ENOENT));
        else if (r < 0 && r != -EBADMSG)
            return r;
    }
    errors = print_problems(&problems);
    if (errors == 0)
        printf("%zu file%s good.\n", options->n_files, options->n_files == 1 ? " is" : "s are");
    return errors == 0 ? 0 : -EBADMSG;
}

/* --- everything --- */

static int check_directories(const Options *options, const SpecContext *defaults, uint64_t memory_reserve_mib)
{
    _cleanup_(definitions_clear)
    Definitions definitions = {0};
    _cleanup_problems_ ProblemList problems = {0};
    Surroundings around = {.state_dir = options->settings.state_dir,
                           .memory = host_memory(),
                           .memory_reserve_mib = memory_reserve_mib};
    size_t errors;
    int r;

    r = definitions_load(options->settings.directories, options->settings.n_directories, defaults, NULL,
                         &around, &problems, &definitions);
    if (r < 0)
        return r;
    errors = print_problems(&problems);
    if (errors == 0)
        printf("The host configuration and %zu definition%s good.\n", definitions.count,
               definitions.count == 1 ? " are" : "s are");
    return errors == 0 ? 0 : -EBADMSG;
}

int check_run(const Options *options)
{
    _cleanup_(host_config_clear)
    HostConfig config = {0};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *refusal = NULL, *warning = host_nixos_warning("");
    HostVerdict verdict;
    int r;

    r = host_config_load(options->settings.config_path, &problems, &verdict, &refusal, &config);
    if (r >= 0) {
        print_problems(&problems);
        if (warning)
            printf("warning: %s\n", warning);
        if (verdict != HOST_OK) {
            printf("%s\nand then: systemctl restart microvmd\n",
                   refusal ? refusal : "This host must not run microvmd.");
            return MICROVM_EXIT_GUARD;
        }
        r = options->n_files > 0 ? check_files(options, &config.defaults)
                                 : check_directories(options, &config.defaults, config.memory_reserve_mib);
    }
    if (r < 0 && r != -EBADMSG)
        fprintf(stderr, "microvmd: %s\n", strerror(-r));
    return r < 0 ? MICROVM_EXIT_FAILURE : MICROVM_EXIT_OK;
}

int schema_print(const char *what)
{
    _cleanup_free_ char *schema = streq(what, "vm") ? vm_spec_schema() : host_config_schema();

    if (!schema) {
        log_oom();
        return MICROVM_EXIT_FAILURE;
    }
    puts(schema);
    return MICROVM_EXIT_OK;
}
