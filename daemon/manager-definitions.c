/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definitions as they are read anew, and what becomes of microVMs by that. */
#include "manager.h"

#include "base/log.h"

void reload_changes_clear(ReloadChanges *changes)
{
    for (size_t i = 0; i < changes->count; i++)
        free(changes->items[i].name);
    free(changes->items);
    *changes = (ReloadChanges){0};
}

static void note_change(ReloadChanges *changes, const char *name, const char *change)
{
    ReloadChange *grown = reallocarray(changes->items, changes->count + 1, sizeof(*grown));
    char *copy = strdup(name);

    if (grown)
        changes->items = grown;
    if (!grown || !copy) {
        free(copy);
        log_oom();
        return;
    }
    grown[changes->count++] = (ReloadChange){copy, change};
}

/* --- what they are looked at with --- */

void surroundings_clear(Surroundings *around)
{
    free((Run *)around->runs);
    *around = (Surroundings){0};
}

int manager_look_around(const Manager *manager, Surroundings *ret_around)
{
    Run *runs = calloc(manager->n_vms + 1, sizeof(*runs));
    size_t n = 0;

    if (!runs)
        return -ENOMEM;
    for (size_t i = 0; i < manager->n_vms; i++) {
        const MicroVM *vm = manager->vms[i];
        VmSpec *spec = vm_held_spec(vm);
        if (spec)
            runs[n++] = (Run){vm->name, spec, vm->definition_path ? vm->definition_path : vm->former_path};
    }
    *ret_around = (Surroundings){
        .state_dir = manager->settings.state_dir,
        .runs = runs,
        .n_runs = n,
        .memory = host_memory(),
        .memory_reserve_mib = manager->config.memory_reserve_mib,
    };
    return 0;
}

/* --- to take them --- */

/* Each problem once; the next reload repeats only what it finds anew. */
static void log_problems(Manager *manager, const ProblemList *problems)
{
    _cleanup_free_ char *all = NULL;
    size_t size;
    FILE *stream = open_memstream(&all, &size);

    if (!stream)
        return;
    for (size_t i = 0; i < problems->count; i++) {
        _cleanup_free_ char *text = problem_format(&problems->items[i]);
        if (!text)
            continue;
        fprintf(stream, "%s\n", text);
        if (!manager->problems_logged || !strstr(manager->problems_logged, text))
            log_full(problems->items[i].severity == PROBLEM_ERROR ? LOG_ERR : LOG_WARNING, NULL, 0, "%s",
                     text);
    }
    if (fclose(stream) != 0)
        return;
    free(manager->problems_logged);
    manager->problems_logged = TAKE_PTR(all);
}

static void take_definition(Manager *manager, const Definition *definition, ReloadChanges *changes)
{
    MicroVM *vm = manager_find(manager, definition->name);
    const char *change = NULL;

    if (vm && definition->spec && vm->spec == definition->spec &&
        streq(vm->definition_path, definition->path))
        return; /* its files are the same */
    if (!vm || vm_is_undeclared(vm))
        change = definition->spec ? "added" : "invalid";
    else if (!definition->spec)
        change = streq(vm->definition_error, definition->error) ? NULL : "invalid";
    else if (!vm->spec || !vm_spec_equal(vm->spec, definition->spec))
        change = "changed";
    vm = manager_get(manager, definition->name);
    if (!vm) {
        log_oom();
        return;
    }
    vm_set_definition(vm, definition->spec, definition->path, definition->error);
    if (change)
        note_change(changes, definition->name, change);
}

int manager_load_definitions(Manager *manager, ReloadChanges *changes)
{
    _cleanup_(definitions_clear)
    Definitions definitions = {0};
    _cleanup_(surroundings_clear)
    Surroundings around = {0};
    _cleanup_problems_ ProblemList problems = {0};
    int r;

    r = manager_look_around(manager, &around);
    if (r >= 0)
        r = definitions_load(manager->settings.directories, manager->settings.n_directories,
                             &manager->config.defaults, &manager->definitions, &around, &problems,
                             &definitions);
    if (r < 0)
        return r;
    log_problems(manager, &problems);
    for (size_t i = 0; i < manager->n_vms; i++) {
        MicroVM *vm = manager->vms[i];
        if (vm_is_undeclared(vm) || definitions_find(&definitions, vm->name))
            continue;
        vm_set_definition(vm, NULL, NULL, NULL);
        note_change(changes, vm->name, vm_is_gone(vm) ? "removed" : "undeclared");
    }
    for (size_t i = 0; i < definitions.count; i++)
        take_definition(manager, &definitions.items[i], changes);
    definitions_clear(&manager->definitions);
    manager->definitions = definitions;
    definitions = (Definitions){0};
    manager_run_later(manager);
    return 0;
}

/* Whether something was refused because of a run that is over by now. */
static bool is_outlived(Manager *manager)
{
    for (size_t i = 0; i < manager->definitions.count; i++) {
        const VmSpec *rival = manager->definitions.items[i].rival;
        const MicroVM *vm = rival ? manager_find(manager, rival->name) : NULL;
        if (rival && (!vm || vm_held_spec(vm) != rival))
            return true;
    }
    return false;
}

void manager_judge_definitions(Manager *manager)
{
    _cleanup_(surroundings_clear)
    Surroundings around = {0};
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    _cleanup_problems_ ProblemList problems = {0}; /* all of them have been told */
    int r;

    if (!is_outlived(manager))
        return;
    r = manager_look_around(manager, &around);
    if (r >= 0)
        r = definitions_judge_again(&manager->definitions, &manager->config.defaults, &around, &problems);
    if (r < 0) {
        log_error_errno(r, "Can't look again which definitions go together: %m");
        return;
    }
    for (size_t i = 0; i < manager->definitions.count; i++)
        take_definition(manager, &manager->definitions.items[i], &changes);
    for (size_t i = 0; i < changes.count; i++)
        if (streq(changes.items[i].change, "changed"))
            log_vm_info(changes.items[i].name,
                        "Its definition can be used now: what it asks for is no longer another one's.");
}
