/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* definitions.watch: a reload by itself, a moment after the last change of a definition. */
#include "manager.h"

#include "base/log.h"

#include <dirent.h>
#include <sys/inotify.h>

#define SETTLE_USEC UINT64_C(300000)  /* an editor or a package manager writes more than one file */
#define LATEST_USEC UINT64_C(3000000) /* after the first change, however long they go on */
#define CHANGES                                                                                              \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_ATTRIB | IN_DELETE_SELF |     \
     IN_MOVE_SELF)

static int on_settled(sd_event_source *source, uint64_t usec, void *userdata)
{
    Manager *manager = userdata;
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    _cleanup_free_ char *error = NULL;

    manager->watch.first_usec = 0;
    manager_reload(manager, &changes, &error); /* logs what is wrong */
    return 0;
}

static void reload_soon(Manager *manager)
{
    uint64_t now = 0, due;
    int r;

    sd_event_now(manager->event, CLOCK_MONOTONIC, &now);
    if (manager->watch.first_usec == 0)
        manager->watch.first_usec = now;
    due = MIN(now + SETTLE_USEC, manager->watch.first_usec + LATEST_USEC);
    if (!manager->watch.timer)
        r = sd_event_add_time(manager->event, &manager->watch.timer, CLOCK_MONOTONIC, due, 0, on_settled,
                              manager);
    else if ((r = sd_event_source_set_time(manager->watch.timer, due)) >= 0)
        r = sd_event_source_set_enabled(manager->watch.timer, SD_EVENT_ONESHOT);
    if (r < 0)
        log_warning_errno(r, "Can't reload by itself: %m");
}

/* A file that is made and not written yet: its writer's close is still to come. */
static bool is_unfinished(const char *directory, const struct inotify_event *event)
{
    _cleanup_free_ char *path = NULL;
    struct stat st;

    if (!(event->mask & IN_CREATE) || event->mask & IN_ISDIR ||
        asprintf(&path, "%s/%s", directory, event->name) < 0)
        return false;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1;
}

/* The description of the source is the directory's path. */
static int on_change(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
    const char *directory = NULL;

    sd_event_source_get_description(source, &directory);
    if (event->len > 0 && (event->name[0] == '.' || !strstr(event->name, SUFFIX)))
        return 0;
    if (event->mask & IN_IGNORED || (event->len > 0 && directory && is_unfinished(directory, event)))
        return 0;
    reload_soon(userdata);
    return 0;
}

/* Beside host.json: of defaults.json and its drop-in directory only. */
static int on_change_below(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
    static const char name[] = "defaults.json";

    return event->len > 0 && strncmp(event->name, name, strlen(name)) == 0
               ? on_change(source, event, userdata)
               : 0;
}

/* The description is the name of what is awaited. */
static int on_appearance(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
    const char *name = NULL;

    sd_event_source_get_description(source, &name);
    if (event->len > 0 && streq(event->name, name))
        reload_soon(userdata);
    return 0;
}

static int add_watch(Manager *manager, const char *path, uint32_t mask, const char *description,
                     sd_event_inotify_handler_t handler)
{
    sd_event_source **grown, *source;
    int r;

    grown = reallocarray(manager->watch.sources, manager->watch.n_sources + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    manager->watch.sources = grown;
    r = sd_event_add_inotify(manager->event, &source, path, mask | IN_ONLYDIR, handler, manager);
    if (r < 0)
        return r;
    grown[manager->watch.n_sources++] = source;
    return sd_event_source_set_description(source, description);
}

/* A directory that does not exist: what is nearest above it and does. */
static int watch_for(Manager *manager, const char *path)
{
    _cleanup_free_ char *above = strdup(path);
    char *slash;
    int r = -ENOENT;

    while (r == -ENOENT && above && (slash = strrchr(above, '/')) && slash > above) {
        *slash = '\0';
        r = add_watch(manager, above, IN_CREATE | IN_MOVED_TO, slash + 1, on_appearance);
    }
    return above ? r : -ENOMEM;
}

static int watch_directory(Manager *manager, const char *path)
{
    const struct dirent *entry;
    DIR *stream;
    int r;

    r = add_watch(manager, path, CHANGES, path, on_change);
    if (r == -ENOENT)
        return watch_for(manager, path);
    stream = r >= 0 ? opendir(path) : NULL;
    while (stream && r >= 0 && (entry = readdir(stream))) {
        _cleanup_free_ char *drop_ins = NULL;
        if (entry->d_name[0] == '.' || !has_suffix(entry->d_name, DROP_IN_SUFFIX))
            continue;
        if (asprintf(&drop_ins, "%s/%s", path, entry->d_name) < 0)
            r = -ENOMEM;
        else
            r = add_watch(manager, drop_ins, CHANGES, drop_ins, on_change);
        if (r == -ENOENT || r == -ENOTDIR) /* gone again, or none */
            r = 0;
    }
    if (stream)
        closedir(stream);
    return r;
}

static int watch_below(Manager *manager)
{
    const char *path = manager->config.defaults.defaults_path;
    _cleanup_free_ char *directory = NULL, *drop_ins = NULL;
    int r;

    if (!path)
        return 0;
    directory = strrchr(path, '/') ? strndup(path, (size_t)(strrchr(path, '/') - path)) : strdup(".");
    if (!directory || asprintf(&drop_ins, "%s.d", path) < 0)
        return -ENOMEM;
    r = add_watch(manager, *directory ? directory : "/", CHANGES, directory, on_change_below);
    if (r >= 0)
        r = add_watch(manager, drop_ins, CHANGES, drop_ins, on_change);
    return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

void manager_unwatch(Manager *manager)
{
    for (size_t i = 0; i < manager->watch.n_sources; i++)
        sd_event_source_disable_unref(manager->watch.sources[i]);
    free(manager->watch.sources);
    manager->watch.sources = NULL;
    manager->watch.n_sources = 0;
}

void manager_watch(Manager *manager)
{
    int r = 0;

    manager_unwatch(manager);
    if (!manager->config.watch_definitions)
        return;
    for (size_t i = 0; i < manager->settings.n_directories && r >= 0; i++)
        r = watch_directory(manager, manager->settings.directories[i]);
    if (r >= 0)
        r = watch_below(manager);
    if (r < 0)
        log_warning_errno(r, "Can't watch all definitions (definitions.watch): %m; run \"microvmctl reload\" "
                             "after a change.");
}
