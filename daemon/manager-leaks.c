/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager-leaks.h"

#include "base/file.h"
#include "base/log.h"
#include "base/say.h"
#include "base/strv.h"
#include "launch/errand.h"
#include "launch/marked.h"
#include "launch/uid.h"
#include "launch/unit-look.h"
#include "launch/unit.h"

#include <dirent.h>

#define RECORD_FILE     "record.json"
#define HYPERVISOR_FILE "hypervisor.json" /* of the driver direct: there is or was a run */
#define PARTIAL         ".partial"        /* a volume that is being made */

/* One microVM as it was when the search began. */
typedef struct Known {
    char *name;
    bool at_rest;          /* nothing of it runs, nor is about to */
    sd_id128_t generation; /* of its run; null: none */
    char **partials;       /* files that may be there of a volume that was not finished */
} Known;

typedef struct Search {
    Manager *manager; /* touched by the loop only, as all down to `userdata` */
    leaks_fn done;
    void *userdata;
    char *state_dir, *runtime_dir; /* RUNTIME_DIR/vm */
    bool has_systemd;
    Known *known;
    size_t n_known;
    Leaks leaks;
    bool oom;
} Search;

static void leaks_clear(Leaks *leaks)
{
    for (size_t i = 0; i < leaks->count; i++) {
        free(leaks->items[i].what);
        free(leaks->items[i].microvm);
        free(leaks->items[i].remedy);
    }
    free(leaks->items);
    *leaks = (Leaks){0};
}

static void search_free(void *argument)
{
    Search *search = argument;

    for (size_t i = 0; i < search->n_known; i++) {
        free(search->known[i].name);
        strv_free(search->known[i].partials);
    }
    free(search->known);
    free(search->state_dir);
    free(search->runtime_dir);
    leaks_clear(&search->leaks);
    free(search);
}

/* --- what is known --- */

static bool is_at_rest(const MicroVM *vm)
{
    return !state_is_alive(vm->record.state) && vm->record.state != MICROVM_PREPARING && vm->chores == 0;
}

static char **partials_of(const MicroVM *vm)
{
    const VmSpec *spec = vm->spec;
    char **paths = calloc((spec ? spec->n_volumes : 0) + 1, sizeof(*paths));

    for (size_t i = 0; paths && spec && i < spec->n_volumes; i++) {
        _cleanup_free_ char *path = volume_path(&spec->volumes[i], vm->state_dir);
        paths[i] = path ? say("%s" PARTIAL, path) : NULL;
        if (!paths[i])
            return strv_free(paths);
    }
    return paths;
}

static int search_new(Manager *manager, Search **ret_search)
{
    Search *search = calloc(1, sizeof(*search));

    if (!search)
        return -ENOMEM;
    search->manager = manager;
    search->has_systemd = launcher_in_use() == LAUNCHER_SYSTEMD;
    search->state_dir = strdup(manager->settings.state_dir);
    search->runtime_dir = say("%s/vm", manager->settings.runtime_dir);
    search->known = calloc(manager->n_vms + 1, sizeof(*search->known));
    for (size_t i = 0; search->known && i < manager->n_vms; i++) {
        const MicroVM *vm = manager->vms[i];
        Known *known = &search->known[search->n_known++];
        *known = (Known){strdup(vm->name), is_at_rest(vm), vm->record.generation, partials_of(vm)};
        search->oom |= !known->name || !known->partials;
    }
    if (search->oom || !search->state_dir || !search->runtime_dir || !search->known) {
        search_free(search);
        return -ENOMEM;
    }
    *ret_search = search;
    return 0;
}

static const Known *find_known(const Search *search, const char *name)
{
    for (size_t i = 0; i < search->n_known; i++)
        if (streq(search->known[i].name, name))
            return &search->known[i];
    return NULL;
}

/* --- what is there; blocks --- */

/* Takes `what` and `remedy`. */
static void add(Search *search, const char *kind, const char *microvm, char *what, char *remedy)
{
    char *name = strdup(microvm);
    Leak *grown = reallocarray(search->leaks.items, search->leaks.count + 1, sizeof(*grown));

    search->leaks.items = grown ? grown : search->leaks.items;
    if (!grown || !what || !name || !remedy) {
        free(what);
        free(name);
        free(remedy);
        search->oom = true;
        return;
    }
    grown[search->leaks.count++] = (Leak){kind, what, name, remedy};
}

static void add_file(Search *search, const char *microvm, const char *path)
{
    add(search, "file", microvm, strdup(path), say("rm -r %s", path));
}

static void look_into(Search *search, const char *name)
{
    const Known *known = find_known(search, name);
    _cleanup_free_ char *directory = say("%s/%s", search->runtime_dir, name);
    DIR *stream = directory && (!known || known->at_rest) ? opendir(directory) : NULL;
    struct dirent *entry;

    while (stream && (entry = readdir(stream))) {
        _cleanup_free_ char *path = say("%s/%s", directory, entry->d_name);
        if (path && entry->d_name[0] != '.' && !streq(entry->d_name, RECORD_FILE))
            add_file(search, name, path);
    }
    if (stream)
        closedir(stream);
}

static void find_files(Search *search)
{
    DIR *stream = opendir(search->runtime_dir);
    struct dirent *entry;

    while (stream && (entry = readdir(stream)))
        if (entry->d_name[0] != '.')
            look_into(search, entry->d_name);
    if (stream)
        closedir(stream);
    for (size_t i = 0; i < search->n_known; i++)
        for (char **path = search->known[i].partials; search->known[i].at_rest && *path; path++)
            if (access(*path, F_OK) == 0)
                add_file(search, search->known[i].name, *path);
}

static void look_at_user(const char *link, const char *name, void *userdata)
{
    Search *search = userdata;
    _cleanup_free_ char *directory = say("%s/vm/%s", search->state_dir, name);

    if (directory && !find_known(search, name) && access(directory, F_OK) < 0 && errno == ENOENT)
        add(search, "user", name, strdup(strrchr(link, '/') + 1), say("ln -sfT - %s", link));
}

static void find_users(Search *search)
{
    _cleanup_free_ char *directory = say("%s/uids", search->state_dir);
    int r = directory ? uid_each(directory, look_at_user, search) : -ENOMEM;

    if (r < 0)
        log_warning_errno(r, "Can't look for users that nobody needs: %m");
}

/* Whether that is no run that is known. */
static bool is_over(const Search *search, const char *name, sd_id128_t generation)
{
    const Known *known = find_known(search, name);

    return !known || known->at_rest ||
           (!sd_id128_is_null(known->generation) && !sd_id128_equal(known->generation, generation));
}

static void look_at_process(pid_t pid, const char *microvm, sd_id128_t generation, bool errand,
                            void *userdata)
{
    Search *search = userdata;
    char path[PATH_MAX], target[PATH_MAX];
    ssize_t length;

    if (!is_over(search, microvm, generation))
        return;
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    length = readlink(path, target, sizeof(target) - 1);
    target[length > 0 ? length : 0] = '\0';
    add(search, "process", microvm, say("%d%s%s", (int)pid, target[0] ? " " : "", target),
        say("kill %d", (int)pid));
}

static void look_at_unit(const char *unit, const char *microvm, void *userdata)
{
    Search *search = userdata;
    UnitLook look;

    if (unit_look(unit, &look) >= 0 && look.loaded && !sd_id128_is_null(look.generation) &&
        is_over(search, microvm, look.generation))
        add(search, "unit", microvm, strdup(unit), say("systemctl stop %s", unit));
}

static void search_run(void *argument)
{
    Search *search = argument;
    _cleanup_free_ char *text = NULL;

    find_files(search);
    find_users(search);
    (void)marked_each(search->runtime_dir, look_at_process, search);
    if (search->has_systemd && unit_each(look_at_unit, search, &text) < 0)
        log_warning("Can't look for units that are left over: %s.", text ? text : "");
}

/* --- on the loop --- */

/* Somebody may have started or stopped it meanwhile. */
static bool is_still_left(const Manager *manager, const Leak *leak)
{
    for (size_t i = 0; i < manager->n_vms; i++)
        if (streq(manager->vms[i]->name, leak->microvm))
            return is_at_rest(manager->vms[i]) || streq(leak->kind, "process") || streq(leak->kind, "unit");
    return true;
}

static void search_done(void *argument)
{
    Search *search = argument;
    Leaks left = {.items = calloc(search->leaks.count + 1, sizeof(Leak))};

    for (size_t i = 0; left.items && i < search->leaks.count; i++)
        if (is_still_left(search->manager, &search->leaks.items[i]))
            left.items[left.count++] = search->leaks.items[i];
    search->done(left.items && !search->oom ? 0 : -ENOMEM, NULL, &left, search->userdata);
    free(left.items);
    search_free(search);
}

static void search_discard(void *argument)
{
    Search *search = argument;

    search->done(-ESHUTDOWN, "microvmd is ending", &(Leaks){0}, search->userdata);
    search_free(search);
}

int manager_find_leaks(Manager *manager, leaks_fn done, void *userdata)
{
    Search *search;
    int r = search_new(manager, &search);

    if (r < 0)
        return r;
    search->done = done;
    search->userdata = userdata;
    r = workers_submit(manager->host.files, &(Work){search_run, search_done, search_discard, search});
    if (r < 0)
        search_free(search);
    return r;
}

/* --- at the start of the daemon --- */

/* A driver clears up after a run itself, and its sockets always: they may lead to others. */
static bool is_of_driver(const Search *search, const Leak *leak)
{
    _cleanup_free_ char *path = say("%s/%s/" HYPERVISOR_FILE, search->runtime_dir, leak->microvm);
    const char *dot = strrchr(leak->what, '.');

    return !path || access(path, F_OK) == 0 || streq(dot, ".sock");
}

/* Of things that were being made by a daemon that was killed. */
static void sweep_own(Manager *manager)
{
    _cleanup_free_ char *path = NULL;
    struct dirent *entry;
    DIR *stream;

    if (manager_file(manager, "", &path) < 0 || !(stream = opendir(path)))
        return;
    while ((entry = readdir(stream))) {
        _cleanup_free_ char *inside = say("%s%s", path, entry->d_name);
        if (inside && strncmp(entry->d_name, "define.", strlen("define.")) == 0)
            (void)remove_tree(inside);
    }
    closedir(stream);
}

void manager_sweep(Manager *manager)
{
    Search *search;

    sweep_own(manager);
    if (search_new(manager, &search) < 0)
        return;
    errand_sweep(search->runtime_dir);
    find_files(search);
    find_users(search);
    for (size_t i = 0; i < search->leaks.count; i++) {
        const Leak *leak = &search->leaks.items[i];
        _cleanup_free_ char *directory = say("%s/uids", search->state_dir);
        int r = -ENOMEM;
        if (streq(leak->kind, "user") && directory)
            r = uid_release(directory, leak->microvm);
        else if (streq(leak->kind, "file") && !is_of_driver(search, leak))
            r = remove_tree(leak->what);
        else
            continue;
        if (r < 0)
            log_full(LOG_WARNING, leak->microvm, r, "%s is left over and can't be removed: %m", leak->what);
        else
            log_vm_info(leak->microvm, "Removed the %s %s, which was left over.", leak->kind, leak->what);
    }
    search_free(search);
}

int manager_release_user(const char *state_dir, const char *name)
{
    _cleanup_free_ char *directory = say("%s/vm/%s", state_dir, name), *uids = say("%s/uids", state_dir);

    if (!directory || !uids)
        return -ENOMEM;
    return access(directory, F_OK) == 0 ? 0 : uid_release(uids, name);
}
