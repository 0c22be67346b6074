/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager-define.h"
#include "manager-leaks.h"

#include "base/log.h"
#include "base/say.h"
#include "resource/definition-writer.h"
#include "resource/files.h"

#include <limits.h>

enum {
    ETC, /* of the definition directories: what people write */
    RUN, /* what goes with a reboot */
};

/* --- what there is --- */

char *define_file_path(const char *directory, const char *name, const char *drop_in)
{
    char *path;

    if (asprintf(&path, "%s/%s.json%s%s", directory, name, drop_in ? ".d/" : "", drop_in ? drop_in : "") < 0)
        return NULL;
    return path;
}

static bool drop_in_valid(const char *file)
{
    return file[0] != '.' && !strchr(file, '/') && has_suffix(file, SUFFIX) && strlen(file) < NAME_MAX - 8;
}

/* What changes it is not to outlive it. */
static bool is_transient(Manager *manager, const char *name)
{
    const char *state = manager_definition_state(manager, name);

    return state && streq(state, "transient");
}

int define_check_target(Manager *manager, const char *name, const DefineOptions *options,
                        const char **ret_directory, char **ret_error)
{
    size_t index = options->transient || (options->drop_in && is_transient(manager, name)) ? RUN : ETC;

    if (!definition_name_valid(name))
        return say_why(
            ret_error, -EINVAL,
            "This can't be the name of a microVM: letters, digits, '.', '_' and '-', the first and last a "
            "letter or digit, at most 64 bytes");
    if (options->transient && is_template(name))
        return say_why(ret_error, -EOPNOTSUPP, "%s is a template: there is nothing of it to start", name);
    if (options->drop_in && !drop_in_valid(options->drop_in))
        return say_why(ret_error, -EINVAL, "This can't be a drop-in: NAME.json, without a slash");
    if (manager->settings.n_directories <= index)
        return say_why(ret_error, -EOPNOTSUPP, "microvmd was started without a directory for %s definitions",
                       options->transient ? "transient" : "");
    *ret_directory = manager->settings.directories[index];
    return 0;
}

const char *manager_definition_state(Manager *manager, const char *name)
{
    const MicroVM *vm = manager_find(manager, name);

    for (size_t i = 0; i < manager->settings.n_directories && definition_name_valid(name); i++) {
        _cleanup_free_ char *path = define_file_path(manager->settings.directories[i], name, NULL);
        if (path && definition_file_is_mask(path))
            return "masked";
        if (!path || access(path, F_OK) != 0)
            continue;
        if (i == RUN && vm && streq(vm->definition_path, path))
            return "transient";
        if (is_template(name))
            return "template";
        break;
    }
    if (!vm)
        return NULL;
    if (vm_is_undeclared(vm))
        return "undeclared";
    return !vm->spec ? "invalid" : vm->spec->autostart || vm->enabled ? "enabled" : "disabled";
}

/* --- changes --- */

typedef struct Change Change;

/* One change of files: made by a worker, one after the other, so that comparing and writing are one. */
struct Change {
    Manager *manager;
    int (*make)(Change *change);
    char *path, *content, *expected;
    char **paths; /* what goes; NULL-terminated */
    size_t n_paths;
    char *roots[2 * 2 + 1]; /* to be removed: definition and drop-ins in two directories; NULL-terminated */
    char *name, *state_dir; /* to be removed afterwards; NULL: it stays */
    bool dry_run, reread;   /* only list what would go; read definitions anew afterwards */
    int result;
    char *error;
    define_done_fn done;
    void *userdata;
};

static void change_free(Change *change)
{
    for (size_t i = 0; i < change->n_paths; i++)
        free(change->paths[i]);
    free(change->paths);
    for (char **root = change->roots; *root; root++)
        free(*root);
    free(change->name);
    free(change->state_dir);
    free(change->path);
    free(change->content);
    free(change->expected);
    free(change->error);
    free(change);
}

DEFINE_CLEANUP(Change *, change_free)

static void change_run(void *argument)
{
    Change *change = argument;

    change->result = change->make(change);
}

static void change_over(Change *change, int result, const char *text)
{
    change->done(result, text, change->paths, change->userdata);
    change_free(change);
}

static int change_submit(Change **change);

static bool is_idle(const MicroVM *vm)
{
    return vm->record.state == MICROVM_INACTIVE || vm->record.state == MICROVM_FAILED;
}

static int make_purge(Change *change)
{
    int r = files_remove(change->state_dir, change->paths, &change->error);

    return r < 0 ? r : manager_release_user(change->manager->settings.state_dir, change->name);
}

/* Only now, when it can't be started any more. */
static int purge(Change *change)
{
    const MicroVM *vm = manager_find(change->manager, change->name);

    if (vm && (!is_idle(vm) || !vm_is_undeclared(vm)))
        return say_why(&change->error, -EBUSY, "It is there still, or again; its files stay in %s",
                       vm->state_dir);
    change->make = make_purge;
    change->dry_run = true;
    change->reread = false;
    return change_submit(&change);
}

/* Who undefines it gives the name up: the next of that name is new. (A file that goes may come back.) */
static void unlearn(const Change *change)
{
    MicroVM *vm = manager_find(change->manager, change->name);

    if (vm && vm_is_undeclared(vm))
        vm->unlearns = true;
}

static void change_done(void *argument)
{
    Change *change = argument;
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    _cleanup_free_ char *text = NULL;
    int r = change->result;

    if (r >= 0 && change->reread) {
        r = manager_reload(change->manager, &changes, &text);
        if (r < 0 && free_and_strdup(&change->error, text) < 0)
            log_oom();
    }
    if (r >= 0 && change->name && !change->dry_run)
        unlearn(change);
    if (r >= 0 && change->state_dir && !change->dry_run && (r = purge(change)) >= 0)
        return;
    change_over(change, r, change->error);
}

static void change_discard(void *argument)
{
    change_over(argument, -ESHUTDOWN, "microvmd is ending");
}

static int change_new(Manager *manager, int (*make)(Change *change), define_done_fn done, void *userdata,
                      Change **ret_change)
{
    Change *change = calloc(1, sizeof(*change));

    if (!change)
        return -ENOMEM;
    change->manager = manager;
    change->make = make;
    change->reread = true;
    change->done = done;
    change->userdata = userdata;
    *ret_change = change;
    return 0;
}

static int change_submit(Change **change)
{
    Work work = {change_run, change_done, change_discard, *change};
    int r = workers_submit((*change)->manager->writer, &work);

    if (r >= 0)
        *change = NULL;
    return r;
}

/* --- to define --- */

static int make_write(Change *change)
{
    return definition_file_write(change->path, change->content, change->expected, &change->error);
}

static int make_remove(Change *change)
{
    return definition_file_remove(change->path, change->expected, &change->error);
}

static int make_mask(Change *change)
{
    return definition_file_mask(change->path, &change->error);
}

static int make_unmask(Change *change)
{
    return definition_file_unmask(change->path, &change->error);
}

static int submit_file(Manager *manager, const char *name, const char *content, const DefineOptions *options,
                       int (*make)(Change *change), define_done_fn done, void *userdata, char **ret_error)
{
    _cleanup_(change_freep)
    Change *change = NULL;
    const char *directory;
    int r;

    r = define_check_target(manager, name, options, &directory, ret_error);
    if (r >= 0)
        r = change_new(manager, make, done, userdata, &change);
    if (r < 0)
        return r;
    change->path = define_file_path(directory, name, options->drop_in);
    if (!change->path || free_and_strdup(&change->content, content) < 0 ||
        free_and_strdup(&change->expected, options->expected) < 0)
        return -ENOMEM;
    return change_submit(&change);
}

/* The content with "autostart": false as its first key, on the same line, if it says nothing of it itself. */
static int without_autostart(const char *content, char **ret_content)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_problems_ ProblemList problems = {0};
    const JsonPlace *root;
    int r;

    r = json_scan(content, strlen(content), NULL, &problems, &document);
    if (r < 0)
        return r;
    root = json_find(&document, "");
    if (!root || json_find(&document, "/autostart"))
        *ret_content = strdup(content);
    else if (asprintf(ret_content, "%.*s \"autostart\": false,%s", (int)root->offset + 1, content,
                      content + root->offset + 1) < 0)
        *ret_content = NULL;
    return *ret_content ? 0 : -ENOMEM;
}

int manager_define(Manager *manager, const char *name, const char *content, const DefineOptions *options,
                   define_done_fn done, void *userdata, char **ret_error)
{
    _cleanup_free_ char *completed = NULL;
    int r = 0;

    if (options->no_autostart && !options->drop_in)
        r = without_autostart(content, &completed);
    return r < 0 ? r
                 : submit_file(manager, name, completed ? completed : content, options, make_write, done,
                               userdata, ret_error);
}

int manager_remove_drop_in(Manager *manager, const char *name, const DefineOptions *options,
                           define_done_fn done, void *userdata, char **ret_error)
{
    return submit_file(manager, name, NULL, options, make_remove, done, userdata, ret_error);
}

int manager_mask(Manager *manager, const char *name, bool mask, define_done_fn done, void *userdata,
                 char **ret_error)
{
    return submit_file(manager, name, NULL, &(DefineOptions){0}, mask ? make_mask : make_unmask, done,
                       userdata, ret_error);
}

/* --- to undefine --- */

/* First the list, so that what is told is what there was. */
static int make_undefine(Change *change)
{
    int r = 0;

    for (char **root = change->roots; *root && r >= 0; root++)
        r = files_list(*root, &change->paths, &change->n_paths, &change->error);
    if (r >= 0 && change->state_dir)
        r = files_list(change->state_dir, &change->paths, &change->n_paths, &change->error);
    for (char **root = change->roots; *root && r >= 0 && !change->dry_run; root++)
        r = files_remove(*root, change->paths, &change->error);
    return r;
}

/* Definition and drop-ins in the directories that are ours to write; *ret_found: there is one of them. */
static int add_roots(Change *change, const char *name, bool *ret_found)
{
    const ManagerSettings *settings = &change->manager->settings;
    size_t n = 0;

    for (size_t i = 0; i < settings->n_directories && i <= RUN; i++) {
        const char *directory = settings->directories[i];
        change->roots[n] = define_file_path(directory, name, NULL);
        if (!change->roots[n++] || asprintf(&change->roots[n], "%s/%s.json.d", directory, name) < 0)
            return -ENOMEM;
        *ret_found |= access(change->roots[n - 1], F_OK) == 0 || access(change->roots[n], F_OK) == 0;
        n++;
    }
    return 0;
}

int manager_undefine(Manager *manager, const char *name, const UndefineOptions *options, define_done_fn done,
                     void *userdata, char **ret_error)
{
    MicroVM *vm = manager_find(manager, name);
    _cleanup_(change_freep)
    Change *change = NULL;
    bool found = false;
    int r;

    if (!vm && !vm_name_valid(name))
        return say_why(ret_error, -ENOENT, "No microVM is called \"%s\".", name);
    if (vm && !is_idle(vm) && !options->dry_run)
        return say_why(ret_error, -EBUSY, "%s is %s; stop it first", name,
                       microvm_state_to_string(vm->record.state));
    r = change_new(manager, make_undefine, done, userdata, &change);
    if (r >= 0)
        r = add_roots(change, name, &found);
    if (r < 0)
        return r;
    /* One that is masked is known by its files only. */
    if (!found && !vm)
        return say_why(ret_error, -ENOENT, "No microVM is called \"%s\".", name);
    if (!found)
        return say_why(ret_error, -EOPNOTSUPP, "Its definition, %s, is not in %s; mask it instead",
                       vm->definition_path ? vm->definition_path : "which is gone",
                       manager->settings.n_directories > 0 ? manager->settings.directories[ETC]
                                                           : "any directory");
    if (free_and_strdup(&change->name, name) < 0 ||
        (options->purge && asprintf(&change->state_dir, "%s/vm/%s", manager->settings.state_dir, name) < 0))
        return -ENOMEM;
    change->dry_run = options->dry_run;
    change->reread = !options->dry_run;
    return change_submit(&change);
}
