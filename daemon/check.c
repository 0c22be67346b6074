/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What microvmd does without running anything: --check tells every problem of the host configuration and of
 * definitions, --dump-schema prints what they may say. */
#include "base/log.h"
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

/* NAME.json is a definition of NAME; any other file is one of something that is called by its file name. */
static char *name_of(const char *path)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t length = strlen(base);

    if (length > strlen(".json") && streq(base + length - strlen(".json"), ".json"))
        length -= strlen(".json");
    return strndup(base, length);
}

static int check_files(const Options *options, const SpecContext *defaults)
{
    _cleanup_problems_ ProblemList problems = {0};
    size_t errors;

    for (size_t i = 0; i < options->n_files; i++) {
        _cleanup_(vm_spec_unrefp)
        VmSpec *spec = NULL;
        _cleanup_free_ char *name = name_of(options->files[i]);
        if (!name)
            return -ENOMEM;
        if (!vm_name_valid(name))
            problem_add(&problems, PROBLEM_ERROR, options->files[i], "", 0, 0,
                        "\"%s\" can't be the name of a microVM", name);
        else if (definition_load_file(name, options->files[i], defaults, &problems, &spec) == -ENOENT)
            problem_add(&problems, PROBLEM_WARNING, options->files[i], "", 0, 0,
                        "it is empty: it only masks definitions of the same name in other directories");
    }
    errors = print_problems(&problems);
    if (errors == 0)
        printf("%zu file%s good.\n", options->n_files, options->n_files == 1 ? " is" : "s are");
    return errors == 0 ? 0 : -EBADMSG;
}

static int check_directories(const Options *options, const SpecContext *defaults)
{
    _cleanup_(definitions_clear)
    Definitions definitions = {0};
    _cleanup_problems_ ProblemList problems = {0};
    size_t errors;
    int r;

    r = definitions_load(options->settings.directories, options->settings.n_directories, defaults, &problems,
                         &definitions);
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
                                 : check_directories(options, &config.defaults);
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
