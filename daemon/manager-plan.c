/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager-plan.h"

#include "base/say.h"
#include "microvm/names.h"

/* --- looking at files --- */

typedef struct Looked {
    char *name;
    sd_id128_t generation;
    BootFiles files;
    char *kernel, *initrd; /* that the next start would take */
    unsigned outdated;
} Looked;

typedef struct Look {
    Manager *manager;
    Looked *items;
    size_t count;
    manager_looked_fn done;
    void *userdata;
} Look;

static void look_free(Look *look)
{
    for (size_t i = 0; i < look->count; i++) {
        free(look->items[i].name);
        free(look->items[i].kernel);
        free(look->items[i].initrd);
        boot_files_clear(&look->items[i].files);
    }
    free(look->items);
    free(look);
}

static int add_looked(Look *look, const MicroVM *vm)
{
    const VmSpec *spec = vm->spec ? vm->spec : vm->booted;
    Looked *item = &look->items[look->count++];

    item->generation = vm->record.generation;
    if (boot_files_copy(&vm->record.files, &item->files) < 0 || free_and_strdup(&item->name, vm->name) < 0 ||
        free_and_strdup(&item->kernel, spec ? spec->kernel : NULL) < 0 ||
        free_and_strdup(&item->initrd, spec ? spec->initrd : NULL) < 0)
        return -ENOMEM;
    return 0;
}

static void look_run(void *argument)
{
    Look *look = argument;

    for (size_t i = 0; i < look->count; i++)
        look->items[i].outdated =
            boot_files_outdated(&look->items[i].files, look->items[i].kernel, look->items[i].initrd);
}

static void look_done(void *argument)
{
    Look *look = argument;

    for (size_t i = 0; i < look->count; i++) {
        MicroVM *vm = manager_find(look->manager, look->items[i].name);
        if (vm && sd_id128_equal(vm->record.generation, look->items[i].generation))
            vm_set_outdated_files(vm, look->items[i].outdated);
    }
    if (look->done)
        look->done(0, look->userdata);
    look_free(look);
}

static void look_discard(void *argument)
{
    Look *look = argument;

    if (look->done)
        look->done(-ESHUTDOWN, look->userdata);
    look_free(look);
}

int manager_look(Manager *manager, manager_looked_fn done, void *userdata)
{
    Look *look = calloc(1, sizeof(*look));
    int r = -ENOMEM;

    if (!look)
        return -ENOMEM;
    *look = (Look){.manager = manager, .done = done, .userdata = userdata};
    look->items = calloc(manager->n_vms + 1, sizeof(*look->items));
    if (look->items)
        r = 0;
    for (size_t i = 0; i < manager->n_vms && r >= 0; i++)
        if (state_is_alive(manager->vms[i]->record.state))
            r = add_looked(look, manager->vms[i]);
    if (r >= 0 && look->count == 0 && !done) {
        look_free(look);
        return 0;
    }
    if (r >= 0)
        r = workers_submit(manager->host.files, &(Work){look_run, look_done, look_discard, look});
    if (r < 0)
        look_free(look);
    return r;
}

/* --- the plan --- */

void host_plan_clear(HostPlan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        free(plan->items[i].name);
        free(plan->items[i].reason);
        spec_changes_clear(&plan->items[i].changes);
    }
    free(plan->items);
    *plan = (HostPlan){0};
}

static bool has_label(const VmSpec *spec, const char *wanted)
{
    size_t length = strcspn(wanted, "=");

    for (size_t i = 0; spec && i < spec->n_labels; i++)
        if (strlen(spec->labels[i].name) == length && strncmp(spec->labels[i].name, wanted, length) == 0)
            return !wanted[length] || streq(spec->labels[i].value, wanted + length + 1);
    return false;
}

static bool is_selected(const MicroVM *vm, const Selection *selection)
{
    bool named = !selection->names || !*selection->names;

    for (char **name = selection->names; !named && *name; name++)
        named = streq(*name, vm->name);
    for (char **label = selection->labels; named && label && *label; label++)
        named = has_label(vm->spec ? vm->spec : vm->booted, *label);
    return named;
}

/* "the host has another kernel, initrd and hypervisor by now" */
static char *say_files(unsigned outdated)
{
    _cleanup_free_ char *text = NULL;
    const char *last = NULL;
    size_t size, n = 0;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return NULL;
    fputs("the host has another ", stream);
    for (MicrovmOutdated reason = 0; reason < MICROVM_OUTDATED_MAX; reason++) {
        if (!(outdated & OUTDATED(reason)))
            continue;
        if (last)
            fprintf(stream, "%s%s", n++ > 0 ? ", " : "", last);
        last = microvm_outdated_to_string(reason);
    }
    fprintf(stream, "%s%s by now", n > 0 ? " and " : "", last ? last : "file");
    return fclose(stream) == 0 ? TAKE_PTR(text) : NULL;
}

/* What becomes of a running one, by its changes and by what else is on the host. */
static const char *choose_running(const MicroVM *vm, const SpecChanges *changes, unsigned files,
                                  MicrovmPlan *ret_action)
{
    bool rolled_back = vm->fallback && changes->count > 0;

    *ret_action = MICROVM_PLAN_RESTART;
    if (rolled_back)
        return "it was rolled back to what it ran with before; a restart would try again";
    if (spec_changes_have(changes, CHANGE_RESTART))
        return "needs a restart";
    *ret_action = MICROVM_PLAN_OUTDATED;
    if (files)
        return NULL;
    *ret_action = spec_changes_have(changes, CHANGE_LIVE) ? MICROVM_PLAN_LIVE : MICROVM_PLAN_NONE;
    return *ret_action == MICROVM_PLAN_LIVE ? "takes effect while it runs" : "takes effect at its next start";
}

static int plan_running(MicroVM *vm, HostPlanItem *item)
{
    unsigned files = vm->outdated & ~OUTDATED(MICROVM_OUTDATED_DEFINITION);
    const char *reason;
    int r;

    if (vm->booted) {
        r = vm_spec_diff(vm->booted, vm->spec, &item->changes);
        if (r < 0)
            return r;
    }
    reason = choose_running(vm, &item->changes, files, &item->action);
    if (item->action == MICROVM_PLAN_NONE && item->changes.count == 0)
        return 0;
    item->reason = reason ? strdup(reason) : say_files(files);
    return item->reason ? 0 : -ENOMEM;
}

MicrovmPlan plan_start(const MicroVM *vm)
{
    MicrovmState state = vm->record.state;
    const VmSpec *next = vm_next_spec(vm);

    if (!vm->spec || !vm->spec->autostart)
        return MICROVM_PLAN_NONE;
    if (state == MICROVM_INACTIVE && !vm->record.decided)
        return MICROVM_PLAN_START;
    if (!vm->record.wanted)
        return MICROVM_PLAN_NONE;
    if (state == MICROVM_FAILED && vm->record.result == MICROVM_RESULT_START_LIMIT)
        return MICROVM_PLAN_FAILED;
    if (state == MICROVM_FAILED || state == MICROVM_INACTIVE)
        return MICROVM_PLAN_RETRY;
    /* What starts again by itself is left alone, unless there is something new to try. */
    return state == MICROVM_BACKOFF && vm->booted && !vm_spec_equal(vm->booted, next) ? MICROVM_PLAN_RETRY
                                                                                      : MICROVM_PLAN_NONE;
}

static int plan_not_running(const MicroVM *vm, HostPlanItem *item)
{
    const char *reason = vm->record.reason;

    item->action = plan_start(vm);
    if (item->action == MICROVM_PLAN_START)
        item->reason = strdup("would start");
    else if (item->action == MICROVM_PLAN_RETRY && vm->record.state == MICROVM_BACKOFF)
        item->reason = say("%s; its definition changed: would start at once", reason);
    else if (item->action == MICROVM_PLAN_RETRY)
        item->reason = say("%s; would start again", reason);
    else if (item->action == MICROVM_PLAN_FAILED ||
             (vm->spec->autostart && vm->record.state == MICROVM_BACKOFF))
        item->reason = strdup(reason);
    else
        return 0;
    return item->reason ? 0 : -ENOMEM;
}

static int plan_one(MicroVM *vm, HostPlanItem *item)
{
    *item = (HostPlanItem){.name = strdup(vm->name)};
    if (!item->name)
        return -ENOMEM;
    if (vm_is_undeclared(vm)) {
        item->action = MICROVM_PLAN_UNDECLARED;
        item->reason = strdup("its definition is gone; it goes on until it is stopped");
        return item->reason ? 0 : -ENOMEM;
    }
    if (!vm->spec) {
        item->action = MICROVM_PLAN_INVALID;
        return free_and_strdup(&item->reason, vm->definition_error);
    }
    if (state_is_alive(vm->record.state))
        return plan_running(vm, item);
    return plan_not_running(vm, item);
}

int manager_plan(Manager *manager, const Selection *selection, HostPlan *ret_plan, char **ret_error)
{
    _cleanup_(host_plan_clear)
    HostPlan plan = {0};

    for (char **name = selection->names; name && *name; name++)
        if (!manager_find(manager, *name))
            return say_why(ret_error, -ENOENT, "No microVM is called \"%.*s\".", MICROVM_NAME_MAX, *name);
    plan.items = calloc(manager->n_vms + 1, sizeof(*plan.items));
    if (!plan.items)
        return -ENOMEM;
    for (size_t i = 0; i < manager->n_vms; i++) {
        /* What is neither there nor running is nothing: it is about to be forgotten. */
        if (!is_selected(manager->vms[i], selection) || vm_is_gone(manager->vms[i]))
            continue;
        if (plan_one(manager->vms[i], &plan.items[plan.count++]) < 0)
            return -ENOMEM;
    }
    *ret_plan = plan;
    plan = (HostPlan){0};
    return 0;
}
