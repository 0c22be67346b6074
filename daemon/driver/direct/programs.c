/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/direct/programs.h"

#include "base/log.h"
#include "base/say.h"
#include "base/strv.h"

#include <sys/inotify.h>

#define CHANGES                                                                                              \
    (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

typedef struct Known Known;
struct Known {
    char *name, *path; /* NULL: it is nowhere */
    Known *next;
};

struct Programs {
    sd_event *event;
    char **directories;
    sd_event_source **watches; /* of each directory; NULL: not watched */
    bool watched;              /* all of them: what is known is true until a watch says something else */
    Known *known;
};

static void watch(Programs *programs);

static void unwatch(Programs *programs)
{
    for (size_t i = 0; programs->watches && programs->directories[i]; i++)
        programs->watches[i] = sd_event_source_disable_unref(programs->watches[i]);
    programs->watched = false;
}

Programs *programs_free(Programs *programs)
{
    if (!programs)
        return NULL;
    unwatch(programs);
    for (Known *known = programs->known, *next; known; known = next) {
        next = known->next;
        free(known->name);
        free(known->path);
        free(known);
    }
    free(programs->watches);
    strv_free(programs->directories);
    sd_event_unref(programs->event);
    free(programs);
    return NULL;
}

/* One that nobody may execute counts if there is no other, as to execvp(3): trying it tells what is wrong. */
static char *look(const Programs *programs, const char *name)
{
    _cleanup_free_ char *useless = NULL;

    for (size_t i = 0; programs->directories[i]; i++) {
        _cleanup_free_ char *path = say("%s/%s", programs->directories[i], name);
        if (path && access(path, X_OK) == 0)
            return TAKE_PTR(path);
        if (path && !useless && access(path, F_OK) == 0)
            useless = TAKE_PTR(path);
    }
    return TAKE_PTR(useless);
}

void programs_look_again(Programs *programs)
{
    unwatch(programs);
    watch(programs); /* first: what changes from now on is told */
    for (Known *known = programs->known; known; known = known->next) {
        free(known->path);
        known->path = look(programs, known->name);
    }
}

static bool is_known(const Programs *programs, const char *name)
{
    for (const Known *known = programs->known; known; known = known->next)
        if (streq(known->name, name))
            return true;
    return false;
}

/* A package manager changes a thousand other files there. */
static int on_change(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
    if (event->len == 0 || is_known(userdata, event->name))
        programs_look_again(userdata);
    return 0;
}

static int on_appearance(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
    programs_look_again(userdata);
    return 0;
}

/* A directory that is not there: the nearest one above it that is. */
static int watch_directory(Programs *programs, size_t i)
{
    _cleanup_free_ char *path = strdup(programs->directories[i]);
    char *slash;
    int r = path ? sd_event_add_inotify(programs->event, &programs->watches[i], path, CHANGES | IN_ONLYDIR,
                                        on_change, programs)
                 : -ENOMEM;

    while ((r == -ENOENT || r == -ENOTDIR) && (slash = strrchr(path, '/'))) {
        slash[slash == path] = '\0'; /* "/" stays */
        r = sd_event_add_inotify(programs->event, &programs->watches[i], path,
                                 IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
                                 on_appearance, programs);
    }
    return r;
}

static void watch(Programs *programs)
{
    int r = 0;

    for (size_t i = 0; programs->directories[i] && r >= 0; i++)
        r = watch_directory(programs, i);
    programs->watched = r >= 0;
    if (r < 0)
        log_warning_errno(r, "Can't watch the directories of $PATH, so hypervisors are looked for at each "
                             "start: %m");
}

static int split(Programs *programs, const char *path)
{
    _cleanup_free_ char *copy = strdup(path);
    char *rest = copy, *directory;
    size_t n = 0;

    if (!copy)
        return -ENOMEM;
    programs->directories = calloc(strlen(path) + 2, sizeof(*programs->directories));
    programs->watches = calloc(strlen(path) + 2, sizeof(sd_event_source *));
    if (!programs->directories || !programs->watches)
        return -ENOMEM;
    while ((directory = strsep(&rest, ":")))
        if (directory[0] == '/' && !(programs->directories[n++] = strdup(directory)))
            return -ENOMEM;
    return 0;
}

int programs_new(sd_event *event, const char *path, Programs **ret_programs)
{
    _cleanup_(programs_freep)
    Programs *programs = calloc(1, sizeof(*programs));
    int r;

    if (!programs)
        return -ENOMEM;
    programs->event = sd_event_ref(event);
    r = split(programs, path);
    if (r < 0)
        return r;
    watch(programs);
    *ret_programs = TAKE_PTR(programs);
    return 0;
}

const char *programs_find(Programs *programs, const char *name)
{
    Known *known = programs->known;

    while (known && !streq(known->name, name))
        known = known->next;
    if (!known) {
        known = calloc(1, sizeof(*known));
        if (!known || !(known->name = strdup(name))) {
            free(known);
            return NULL;
        }
        known->next = programs->known;
        programs->known = known;
        known->path = look(programs, name);
    } else if (!programs->watched || !known->path) { /* a file system may have been mounted there */
        free(known->path);
        known->path = look(programs, name);
    }
    return known->path;
}
