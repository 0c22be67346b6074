/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager-apply.h"
#include "manager-leaks.h"

#include "base/file-watch.h"
#include "base/file.h"
#include "base/log.h"
#include "base/strv.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

enum {
    FILE_WORKERS = 4,
};
#define USEC_PER_SEC    UINT64_C(1000000)
#define AUTOSTART_FLAG  "autostarted"
#define READY_LATEST    (5 * USEC_PER_SEC)
#define STOP_GRACE_USEC (2 * USEC_PER_SEC)
#define ASK_AGAIN_USEC  (5 * USEC_PER_SEC)

/* --- the set --- */

/* Index of `name`, or where it belongs as -1 - index. */
static ssize_t vm_index(const Manager *manager, const char *name)
{
    size_t low = 0, high = manager->n_vms;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, manager->vms[middle]->name);
        if (order == 0)
            return (ssize_t)middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1 - (ssize_t)low;
}

MicroVM *manager_find(Manager *manager, const char *name)
{
    ssize_t index = vm_index(manager, name);

    return index < 0 ? NULL : manager->vms[index];
}

/* Takes the microVM over in any case. 0 or -ENOMEM. */
static int add(Manager *manager, MicroVM *vm)
{
    size_t at = (size_t)(-1 - vm_index(manager, vm->name));
    MicroVM **grown = reallocarray(manager->vms, manager->n_vms + 1, sizeof(*grown));

    if (!grown) {
        vm_free(vm);
        return -ENOMEM;
    }
    manager->vms = grown;
    memmove(&grown[at + 1], &grown[at], (manager->n_vms - at) * sizeof(*grown));
    grown[at] = vm;
    manager->n_vms++;
    /* There is one driver; with a second, the record's or the spec's kind chooses the slot. */
    vm->driver = manager->drivers[vm->record.driver].driver;
    vm->driver_online = manager->drivers[vm->record.driver].online;
    if (manager->observer.vm_added)
        manager->observer.vm_added(vm, manager->observer.userdata);
    return 0;
}

MicroVM *manager_get(Manager *manager, const char *name)
{
    MicroVM *vm = manager_find(manager, name);

    if (vm)
        return vm;
    return vm_new(&manager->host, name, &vm) < 0 || add(manager, vm) < 0 ? NULL : vm;
}

static void forget(Manager *manager, size_t index)
{
    MicroVM *vm = manager->vms[index];

    if (manager->observer.vm_removed)
        manager->observer.vm_removed(vm, manager->observer.userdata);
    memmove(&manager->vms[index], &manager->vms[index + 1],
            (manager->n_vms - index - 1) * sizeof(*manager->vms));
    manager->n_vms--;
    vm_leave(vm);
    log_vm_info(vm->name, "Gone: it has no definition and does not run. Its state directory is %s.",
                vm->state_dir);
    vm_free(vm);
    if (manager->apply)
        apply_wake(manager->apply);
}

/* --- after each event --- */

static int on_later(sd_event_source *source, void *userdata)
{
    Manager *manager = userdata;

    for (size_t i = manager->n_vms; i-- > 0;)
        if (vm_is_gone(manager->vms[i]))
            forget(manager, i);
    manager_judge_definitions(manager);
    manager_admit_waiting(manager);
    manager_continue_drain(manager);
    manager_release_stops(manager);
    return 0;
}

void manager_run_later(Manager *manager)
{
    if (manager->later)
        sd_event_source_set_enabled(manager->later, SD_EVENT_ONESHOT);
}

static void on_vm_changed(MicroVM *vm, void *userdata)
{
    Manager *manager = userdata;

    if (manager->observer.vm_changed)
        manager->observer.vm_changed(vm, manager->observer.userdata);
    if (manager->apply)
        apply_vm_changed(manager->apply, vm);
    manager_run_later(manager);
}

static void on_job_removed(MicroVM *vm, Job job, MicrovmJobResult result, const char *reason, void *userdata)
{
    Manager *manager = userdata;

    if (manager->apply)
        apply_job_removed(manager->apply, vm, &job, result, reason);
    if (manager->observer.job_removed)
        manager->observer.job_removed(vm->name, job, result, reason, manager->observer.userdata);
}

/* --- ready --- */

static void ready(Manager *manager)
{
    if (manager->ready)
        return;
    manager->ready = true;
    manager->ready_timer = sd_event_source_disable_unref(manager->ready_timer);
    if (manager->observer.ready)
        manager->observer.ready(manager, manager->observer.userdata);
}

static int on_ready_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    ready(userdata);
    return 0;
}

void manager_check_ready(Manager *manager)
{
    for (size_t i = 0; i < DRIVER_KIND_MAX; i++)
        if (!manager->drivers[i].answered)
            return;
    ready(manager);
}

/* --- reload --- */

static void set_role(Manager *manager, MicrovmHostRole role, const char *reason)
{
    if (free_and_strdup(&manager->role_reason, reason) < 0)
        log_oom();
    if (manager->role == role)
        return;
    manager->role = role;
    if (role == MICROVM_HOST_ROLE_HOST)
        log_notice("The host configuration says host again: starts are possible.");
    if (manager->observer.changed)
        manager->observer.changed(manager, manager->observer.userdata);
}

/* Keys that only take effect at the start of the daemon: what is shown is what is in use. */
static void keep_unapplied(HostConfig *before, HostConfig *after)
{
    char *in_use = before->libvirt_uri;

    if (streq(in_use, after->libvirt_uri))
        return;
    log_warning("libvirt.uri changed to %s: it takes effect when microvmd is restarted.", after->libvirt_uri);
    before->libvirt_uri = after->libvirt_uri;
    after->libvirt_uri = in_use;
}

int manager_reload(Manager *manager, ReloadChanges *ret_changes, char **ret_error)
{
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    _cleanup_(host_config_clear)
    HostConfig config = {0};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *refusal = NULL, *words = NULL;
    HostVerdict verdict;
    int r;

    r = host_config_load(manager->settings.config_path, &problems, &verdict, &refusal, &config);
    if (r < 0)
        return r;
    if (verdict != HOST_OK) {
        if (asprintf(&words, "%s\nand then: microvmctl reload", refusal ? refusal : "") < 0)
            return -ENOMEM;
        log_error("Reload refused, the old configuration stays. %s", words);
        /* A conflict stays one until it is mended, but what is to be mended may have become something else.
         */
        if (verdict != HOST_UNREADABLE || manager->role == MICROVM_HOST_ROLE_CONFLICT)
            set_role(manager, MICROVM_HOST_ROLE_CONFLICT, words);
        *ret_error = TAKE_PTR(words);
        return verdict == HOST_UNREADABLE ? -EBADMSG : -EUCLEAN;
    }
    keep_unapplied(&manager->config, &config);
    host_config_clear(&manager->config);
    manager->config = config;
    config = (HostConfig){0};
    set_role(manager, MICROVM_HOST_ROLE_HOST, NULL);
    manager_watch(manager);
    r = manager_load_definitions(manager, &changes);
    if (r < 0)
        return r;
    log_info("Reloaded: %zu of the definitions changed.", changes.count);
    r = manager_look(manager, NULL, NULL);
    if (r < 0)
        log_warning_errno(r, "Can't look whether microVMs run with other files than there are now: %m");
    *ret_changes = changes;
    changes = (ReloadChanges){0};
    return 0;
}

/* --- start and end of the daemon --- */

/* What has neither run nor been about to is made when there is a definition of it. */
static int load_record(Manager *manager, const char *name)
{
    MicroVM *vm;
    int r = vm_new(&manager->host, name, &vm);

    if (r < 0)
        return r;
    if (!vm_is_gone(vm))
        return add(manager, vm);
    vm_free(vm);
    return 0;
}

/* microVMs that an earlier daemon left a record of. */
static int load_records(Manager *manager)
{
    _cleanup_free_ char *directory = NULL;
    struct dirent *entry;
    DIR *stream;
    int r = 0;

    if (asprintf(&directory, "%s/vm", manager->settings.runtime_dir) < 0)
        return -ENOMEM;
    r = mkdir_parents(directory, 0711);
    if (r < 0)
        return log_error_errno(r, "Can't make %s: %m", directory);
    stream = opendir(directory);
    if (!stream)
        return log_error_errno(-errno, "Can't read %s: %m", directory);
    while (r >= 0 && (entry = readdir(stream)))
        if (vm_name_valid(entry->d_name))
            r = load_record(manager, entry->d_name);
    closedir(stream);
    return r;
}

int manager_file(Manager *manager, const char *name, char **ret_path)
{
    _cleanup_free_ char *directory = NULL;
    int r;

    if (asprintf(&directory, "%s/daemon", manager->settings.runtime_dir) < 0)
        return -ENOMEM;
    r = mkdir_parents(directory, 0711);
    if (r < 0)
        return r;
    return asprintf(ret_path, "%s/%s", directory, name) < 0 ? -ENOMEM : 0;
}

/*
 * Two daemons on different buses would both take what runs for theirs, and overwrite each other's records.
 * The kernel drops the lock with its holder, however that ends.
 */
static int lock_runtime_dir(Manager *manager)
{
    _cleanup_free_ char *path = NULL;
    int r;

    r = manager_file(manager, "lock", &path);
    if (r >= 0) {
        manager->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        r = manager->lock_fd < 0 || flock(manager->lock_fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    }
    if (r == -EWOULDBLOCK)
        return log_error_errno(r, "Another microvmd uses %s already.", manager->settings.runtime_dir);
    return r < 0 ? log_error_errno(r, "Can't lock %s: %m", manager->settings.runtime_dir) : 0;
}

int manager_autostart_done(const char *runtime_dir)
{
    _cleanup_free_ char *flag = NULL;

    return asprintf(&flag, "%s/daemon/" AUTOSTART_FLAG, runtime_dir) < 0 ? -ENOMEM : access(flag, F_OK) == 0;
}

static void autostart(Manager *manager)
{
    _cleanup_free_ char *flag = NULL;
    int r;

    if (manager_autostart_done(manager->settings.runtime_dir) > 0)
        return;
    r = manager_file(manager, AUTOSTART_FLAG, &flag);
    for (size_t i = 0; i < manager->n_vms; i++) {
        MicroVM *vm = manager->vms[i];
        if (vm->spec && vm->spec->autostart && !vm->record.decided)
            vm_autostart(vm);
    }
    if (r >= 0)
        r = write_file_atomic(flag, "", 0, 0600);
    if (r < 0)
        log_warning_errno(r, "Can't note that autostart has been done in this boot: %m");
}

int manager_new(sd_event *event, const ManagerSettings *settings, HostConfig *config,
                const ManagerObserver *observer, Manager **ret_manager)
{
    _cleanup_(manager_freep)
    Manager *manager = calloc(1, sizeof(*manager));
    int r;

    if (!manager)
        return -ENOMEM;
    manager->lock_fd = -EBADF;
    manager->memory = host_memory;
    manager->event = sd_event_ref(event);
    manager->settings = *settings;
    manager->observer = *observer;
    manager->config = *config;
    *config = (HostConfig){0};
    manager->host = (VmHost){
        .event = event,
        .state_dir = settings->state_dir,
        .runtime_dir = settings->runtime_dir,
        .first_uid = (uid_t)manager->config.direct_first_uid,
        .ask_again_usec = ASK_AGAIN_USEC,
        .admit = manager_admit,
        .changed = on_vm_changed,
        .job_removed = on_job_removed,
        .userdata = manager,
    };
    if (asprintf(&manager->spare_dir, "%s/daemon/boot", settings->runtime_dir) < 0)
        return -ENOMEM;
    manager->host.spare_dir = manager->spare_dir;
    if (asprintf(&manager->uid_dir, "%s/uids", settings->state_dir) < 0)
        return -ENOMEM;
    manager->host.uid_dir = manager->uid_dir;
    r = workers_new(event, "files", FILE_WORKERS, &manager->host.files);
    if (r >= 0)
        r = workers_new(event, "writer", 1, &manager->writer);
    if (r >= 0)
        r = file_watch_hold(event, &manager->watch_hold);
    if (r >= 0)
        r = sd_event_add_defer(event, &manager->later, on_later, manager);
    if (r >= 0)
        r = sd_event_source_set_enabled(manager->later, SD_EVENT_OFF);
    if (r < 0)
        return r;
    *ret_manager = TAKE_PTR(manager);
    return 0;
}

int manager_start(Manager *manager)
{
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    int r;

    r = lock_runtime_dir(manager);
    if (r >= 0)
        r = manager_open_drivers(manager);
    if (r < 0)
        return r;
    manager_listen(manager);
    r = manager_load_drain(manager);
    if (r >= 0)
        r = load_records(manager);
    manager_watch(manager);
    if (r >= 0)
        r = manager_load_definitions(manager, &changes);
    if (r < 0)
        return r;
    manager_sweep(manager);
    for (size_t i = 0; i < manager->n_vms; i++)
        vm_restore(manager->vms[i]);
    autostart(manager);
    return sd_event_add_time_relative(manager->event, &manager->ready_timer, CLOCK_MONOTONIC, READY_LATEST, 0,
                                      on_ready_timer, manager);
}

Manager *manager_free(Manager *manager)
{
    if (!manager)
        return NULL;
    manager->later = sd_event_source_disable_unref(manager->later);
    manager->apply = apply_free(manager->apply);
    sd_event_source_disable_unref(manager->ready_timer);
    sd_event_source_disable_unref(manager->memory_timer);
    strv_free(manager->drain.names);
    sd_event_source_disable_unref(manager->watch.timer);
    manager_unwatch(manager);
    sd_event_source_disable_unref(manager->watch_hold);
    manager_close_drivers(manager);
    notify_listener_free(manager->notify);
    workers_stop(manager->writer, STOP_GRACE_USEC);
    workers_stop(manager->host.files, STOP_GRACE_USEC);
    for (size_t i = 0; i < manager->n_vms; i++)
        vm_free(manager->vms[i]);
    free(manager->vms);
    safe_close(manager->lock_fd);
    free(manager->spare_dir);
    free(manager->uid_dir);
    free(manager->role_reason);
    free(manager->problems_logged);
    definitions_clear(&manager->definitions);
    host_config_clear(&manager->config);
    sd_event_unref(manager->event);
    free(manager);
    return NULL;
}
