/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What microvmd does without running anything: --check tells every problem of the host configuration and of
 * definitions, --dump-schema prints what they may say. */
#include "check-files.h"

#include "base/log.h"
#include "microvm/exit.h"

/* All but those that the guard's words, which follow, have in them. */
static size_t print_problems(const ProblemList *problems, const char *refusal)
{
    for (size_t i = 0; i < problems->count; i++) {
        _cleanup_free_ char *text = problem_format(&problems->items[i]);
        if (!text || !refusal || !strstr(refusal, text))
            puts(text ? text : "out of memory");
    }
    return problem_count(problems, PROBLEM_ERROR);
}

static int check_named(const Options *options, const SpecContext *defaults)
{
    _cleanup_problems_ ProblemList problems = {0};
    size_t errors;
    int r = check_files(options, defaults, &problems);

    if (r < 0)
        return r;
    errors = print_problems(&problems, NULL);
    if (errors == 0)
        printf("%zu file%s good.\n", options->n_files, options->n_files == 1 ? " is" : "s are");
    return errors == 0 ? 0 : -EBADMSG;
}

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
    errors = print_problems(&problems, NULL);
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
        print_problems(&problems, refusal);
        if (warning)
            printf("warning: %s\n", warning);
        if (verdict != HOST_OK) {
            printf("%s\nand then: systemctl restart microvmd\n",
                   refusal ? refusal : "This host must not run microvmd.");
            return MICROVM_EXIT_GUARD;
        }
        r = options->n_files > 0 ? check_named(options, &config.defaults)
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
