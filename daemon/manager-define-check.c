/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at a definition before it is installed. */
#include "manager-define.h"

#include "base/file.h"
#include "base/log.h"
#include "base/say.h"
#include "spec/reach.h"

void define_check_clear(DefineCheck *check)
{
    problem_list_clear(&check->problems);
    *check = (DefineCheck){0};
}

/* A directory above all others, in which the new content is: so it is read by who will read it later. */
typedef struct Stage {
    char *directory, *real; /* where the content is now, and where it is going to be */
    char *file;             /* of it, in the stage */
} Stage;

static void stage_clear(Stage *stage)
{
    if (stage->directory)
        remove_tree(stage->directory);
    free(stage->directory);
    free(stage->real);
    free(stage->file);
}

static int stage_make(Manager *manager, const char *name, const char *drop_in, const char *real, Stage *stage)
{
    _cleanup_free_ char *parent = NULL, *directory = NULL, *drop_ins = NULL;
    int r;

    if (asprintf(&parent, "%s/daemon", manager->settings.runtime_dir) < 0 ||
        asprintf(&directory, "%s/define.XXXXXX", parent) < 0)
        return -ENOMEM;
    r = mkdir_parents(parent, 0711);
    if (r >= 0 && !mkdtemp(directory))
        r = -errno;
    if (r < 0)
        return log_error_errno(r, "Can't make a directory in %s: %m", parent);
    stage->directory = TAKE_PTR(directory);
    stage->real = strdup(real);
    stage->file = define_file_path(stage->directory, name, drop_in);
    if (!stage->real || !stage->file)
        return -ENOMEM;
    if (!drop_in)
        return 0;
    if (asprintf(&drop_ins, "%s/%s.json.d", stage->directory, name) < 0)
        return -ENOMEM;
    return mkdir_parents(drop_ins, 0711);
}

/* What a text says of the stage, it is to say of the real place. NULL: out of memory. */
static char *without_stage(const Stage *stage, const char *text)
{
    size_t length = strlen(stage->directory), size;
    char *result = NULL;
    const char *at;
    FILE *stream = open_memstream(&result, &size);

    if (!stream)
        return NULL;
    for (; (at = strstr(text, stage->directory)); text = at + length)
        fprintf(stream, "%.*s%s", (int)(at - text), text, stage->real);
    fputs(text, stream);
    return fclose(stream) == 0 ? result : NULL;
}

/* Whether it is one of the files of `name`, in whatever directory. */
static bool is_file_of(const char *file, const char *name)
{
    _cleanup_free_ char *part = NULL;
    const char *at = file && asprintf(&part, "/%s.json", name) >= 0 ? strstr(file, part) : NULL;

    return at && (!at[strlen(part)] || strncmp(at + strlen(part), ".d/", 3) == 0);
}

/* Of all problems those that have to do with the content: its own, and what others have with it. */
static void pick_problems(const Stage *stage, const char *name, const ProblemList *all, ProblemList *picked)
{
    for (size_t i = 0; i < all->count; i++) {
        const Problem *problem = &all->items[i];
        bool own = streq(problem->file, stage->file);
        _cleanup_free_ char *text = problem->text ? without_stage(stage, problem->text) : NULL;
        if (!own && !is_file_of(problem->file, name) &&
            !(problem->text && strstr(problem->text, stage->directory)))
            continue;
        problem_add(picked, problem->severity, own ? NULL : problem->file,
                    problem->pointer ? problem->pointer : "", problem->line, problem->column, "%s",
                    text ? text : "out of memory");
    }
}

/* What the content has a say in: the definition of that name, or all instances of that template. */
static bool concerns(const Definition *definition, const char *name)
{
    _cleanup_free_ char *template = is_template(name) ? template_of(definition->name) : NULL;

    return streq(template ? template : definition->name, name);
}

static const Definition *next_concerned(const Definitions *definitions, const char *name,
                                        const Definition *last)
{
    const Definition *end = definitions->items + definitions->count;

    for (const Definition *definition = last ? last + 1 : definitions->items; definition < end; definition++)
        if (concerns(definition, name))
            return definition;
    return NULL;
}

/* A template without an instance is checked as one. */
static int stage_instance(Manager *manager, const Stage *stage, const char *name)
{
    _cleanup_free_ char *link = NULL, *target = NULL;

    if (!is_template(name) || next_concerned(&manager->definitions, name, NULL))
        return 0;
    if (asprintf(&link, "%s/%sx" SUFFIX, stage->directory, name) < 0 ||
        asprintf(&target, "%s" SUFFIX, name) < 0)
        return -ENOMEM;
    return symlink(target, link) < 0 && errno != EEXIST ? -errno : 0;
}

/* Of a template's instances, one that can be used will do: others may be broken by files of their own. */
static int judge(const Definitions *found, const char *name, ProblemList *problems)
{
    const Definition *first = next_concerned(found, name, NULL), *usable = first;

    while (usable && !usable->spec)
        usable = next_concerned(found, name, usable);
    /* What is broken elsewhere, below all definitions, say, is a reason, too. */
    if (first && !usable && problem_count(problems, PROBLEM_ERROR) == 0)
        problem_add(problems, PROBLEM_ERROR, NULL, "", 0, 0, "%s",
                    first->error ? first->error : "out of memory");
    if (problem_count(problems, PROBLEM_ERROR) > 0)
        return -EBADMSG;
    return first ? 0 : -ENOENT;
}

static int load_staged(Manager *manager, const Stage *stage, const char *name, const char *content,
                       ProblemList *problems, Definitions *ret_found)
{
    const char *directories[MANAGER_MAX_DIRECTORIES + 1] = {stage->directory};
    _cleanup_(surroundings_clear)
    Surroundings around = {0};
    _cleanup_problems_ ProblemList all = {0};
    int r;

    memcpy(&directories[1], manager->settings.directories,
           manager->settings.n_directories * sizeof(*directories));
    r = write_file_atomic(stage->file, content, strlen(content), 0600);
    if (r >= 0)
        r = stage_instance(manager, stage, name);
    if (r >= 0)
        r = manager_look_around(manager, &around);
    if (r >= 0)
        r = definitions_load(directories, manager->settings.n_directories + 1, &manager->config.defaults,
                             &manager->definitions, &around, &all, ret_found);
    if (r < 0)
        return r;
    pick_problems(stage, name, &all, problems);
    return judge(ret_found, name, problems);
}

static int check_reach(Manager *manager, const Definition *definition, const char **ret_unsafe)
{
    const HostConfig *config = &manager->config;
    const MicroVM *vm = manager_find(manager, definition->name);
    _cleanup_free_ const char **directories = calloc(config->n_image_directories + 1, sizeof(*directories));

    if (!directories)
        return -ENOMEM;
    directories[0] = manager->settings.state_dir;
    for (size_t i = 0; i < config->n_image_directories; i++)
        directories[i + 1] = config->image_directories[i];
    return vm_spec_reaches_further(vm ? vm->spec : NULL, definition->spec, directories,
                                   config->n_image_directories + 1, ret_unsafe);
}

static int check_size(const char *content, ProblemList *problems)
{
    if (!*content)
        problem_add(problems, PROBLEM_ERROR, NULL, "", 0, 0, "this is empty, and would only mask others");
    else if (strlen(content) > SPEC_FILE_MAX)
        problem_add(problems, PROBLEM_ERROR, NULL, "", 0, 0,
                    "this is larger than 1 MiB, so it is no definition");
    else
        return 0;
    return -EBADMSG;
}

static int check_staged(Manager *manager, const Stage *stage, const char *name, const char *content,
                        const DefineOptions *options, DefineCheck *check)
{
    _cleanup_(definitions_clear)
    Definitions found = {0};
    _cleanup_(definitions_clear)
    Definitions without = {0};
    _cleanup_problems_ ProblemList ignored = {0};
    const Definition *definition = NULL;
    int r;

    r = load_staged(manager, stage, name, content, &check->problems, &found);
    while (r >= 0 && !check->unsafe && (definition = next_concerned(&found, name, definition)))
        if (definition->spec)
            r = check_reach(manager, definition, &check->unsafe);
    if (r < 0 || !options->prune || is_template(name))
        return r;
    /* A patch that says nothing shows what is there without it. */
    if (load_staged(manager, stage, name, "{}", &ignored, &without) >= 0)
        check->redundant =
            vm_spec_equal(definitions_find(&found, name)->spec, definitions_find(&without, name)->spec);
    return 0;
}

int manager_check_definition(Manager *manager, const char *name, const char *content,
                             const DefineOptions *options, DefineCheck *ret_check, char **ret_error)
{
    _cleanup_(stage_clear)
    Stage stage = {0};
    const char *directory;
    int r;

    r = define_check_target(manager, name, options, &directory, ret_error);
    if (r < 0)
        return r;
    r = check_size(content, &ret_check->problems);
    if (r >= 0 && options->drop_in && is_template(name) && !manager_definition_state(manager, name))
        r = -ENOENT;
    if (r >= 0)
        r = stage_make(manager, name, options->drop_in, directory, &stage);
    if (r >= 0)
        r = check_staged(manager, &stage, name, content, options, ret_check);
    if (r == -ENOENT)
        return say_why(ret_error, r, "No microVM is called \"%s\".", name);
    return r;
}
