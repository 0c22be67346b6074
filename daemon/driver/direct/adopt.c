/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What earlier daemons have left running. */
#include "driver/direct/internal.h"

#include "base/log.h"

#include <dirent.h>

typedef struct Found {
    char *name;
    ProcessRecord record;
    int pidfd, control, own_socket;
} Found;

typedef struct Search {
    DirectDriver *driver; /* touched by the loop only */
    char *directory;      /* RUNTIME_DIR/vm */
    AccelFacts facts;
    Found *found;
    size_t n_found;
} Search;

static void search_free(void *argument)
{
    Search *search = argument;

    for (size_t i = 0; i < search->n_found; i++) {
        free(search->found[i].name);
        safe_close(search->found[i].pidfd);
        safe_close(search->found[i].control);
        safe_close(search->found[i].own_socket);
    }
    free(search->found);
    free(search->directory);
    free(search);
}

/* --- in the worker --- */

static int look(Search *search, const char *name)
{
    _cleanup_free_ char *directory = NULL;
    Found found = {.pidfd = -EBADF, .control = -EBADF, .own_socket = -EBADF}, *grown;
    int r;

    if (asprintf(&directory, "%s/%s", search->directory, name) < 0)
        return -ENOMEM;
    r = process_record_read(directory, &found.record);
    if (r == -ENOENT)
        return 0;
    if (r >= 0)
        r = process_open(&found.record.id, &found.pidfd);
    if (r == -ESRCH) { /* ended while nobody watched */
        direct_run_files_remove(directory);
        return 0;
    }
    if (r < 0)
        return r;
    grown = reallocarray(search->found, search->n_found + 1, sizeof(*grown));
    found.name = strdup(name);
    if (!grown || !found.name) {
        search->found = grown ? grown : search->found;
        free(found.name);
        safe_close(found.pidfd);
        return -ENOMEM;
    }
    r = socket_connect(directory, CONTROL_SOCKET, &found.control);
    if (r < 0)
        log_full(LOG_WARNING, name, r,
                 "Its hypervisor runs, but can't be talked to, by %s/" CONTROL_SOCKET ": %m", directory);
    r = own_socket_listen(directory, &found.own_socket);
    if (r < 0 && r != -ENOENT)
        log_full(LOG_WARNING, name, r, "The socket of its definition can't be made: %m");
    search->found = grown;
    grown[search->n_found++] = found;
    return 0;
}

static void search_run(void *argument)
{
    Search *search = argument;
    DIR *stream = opendir(search->directory);
    struct dirent *entry;

    /* Each hypervisor's own user is let to /dev/kvm by its group, so what counts is whether we are. */
    accel_facts_read((HostUser){geteuid(), getegid()}, &search->facts);
    while (stream && (entry = readdir(stream))) {
        int r = entry->d_name[0] == '.' ? 0 : look(search, entry->d_name);
        if (r < 0)
            log_full(LOG_ERR, entry->d_name, r, "Can't tell whether its hypervisor runs: %m");
    }
    if (stream)
        closedir(stream);
}

/* --- on the loop --- */

static void adopt(DirectDriver *driver, Found *found)
{
    Run *run = direct_run_new(driver, found->name, found->record.generation);
    int r = run ? 0 : -ENOMEM;

    if (r >= 0) {
        run->id = found->record.id;
        run->accel = found->record.accel;
        run->announced = true;
        run->pidfd = TAKE_FD(found->pidfd);
        run->own_socket = TAKE_FD(found->own_socket);
        direct_say(driver, &(DriverEvent){.type = DRIVER_FOUND,
                                          .name = run->name,
                                          .generation = run->generation,
                                          .run = {.pid = run->id.pid, .accel = run->accel}});
        r = direct_run_watch(run, TAKE_FD(found->control));
    }
    if (r < 0)
        log_full(LOG_ERR, found->name, r, "Its hypervisor runs, but can't be watched: %m");
}

static void search_done(void *argument)
{
    Search *search = argument;
    DirectDriver *driver = search->driver;

    driver->accel_facts = search->facts;
    driver->online = true;
    direct_say(driver, &(DriverEvent){.type = DRIVER_ONLINE});
    for (size_t i = 0; i < search->n_found; i++)
        adopt(driver, &search->found[i]);
    direct_say(driver, &(DriverEvent){.type = DRIVER_SYNCED});
    search_free(search);
}

int direct_adopt(DirectDriver *driver)
{
    Search *search = calloc(1, sizeof(*search));
    int r = -ENOMEM;

    if (!search)
        return r;
    search->driver = driver;
    if (asprintf(&search->directory, "%s/vm", driver->runtime_dir) >= 0)
        r = workers_submit(driver->workers, &(Work){search_run, search_done, search_free, search});
    if (r < 0)
        search_free(search);
    return r;
}
