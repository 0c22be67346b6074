/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What earlier daemons have left running. */
#include "driver/direct/internal.h"

#include "base/log.h"
#include "base/say.h"

#include <dirent.h>
#include <signal.h>

typedef struct Found {
    char *name;
    ProcessRecord record;
    int pidfd, control, own_socket; /* pidfd -EBADF: it has ended, as `end` says */
    ProcessEnd end;
} Found;

typedef struct Search {
    DirectDriver *driver; /* touched by the loop only */
    char *directory;      /* RUNTIME_DIR/vm */
    Launcher launcher;
    SandboxHost host;
    AccelFacts facts;
    Found *found;
    size_t n_found;
} Search;

static void search_free(void *argument)
{
    Search *search = argument;

    for (size_t i = 0; i < search->n_found; i++) {
        free(search->found[i].name);
        process_record_clear(&search->found[i].record);
        safe_close(search->found[i].pidfd);
        safe_close(search->found[i].control);
        safe_close(search->found[i].own_socket);
    }
    free(search->found);
    sandbox_host_clear(&search->host);
    free(search->directory);
    free(search);
}

/* --- in the worker --- */

/* 1: how it ended is known; 0: nobody knows. As in read_end(), its unit goes last. */
static int find_end(const char *name, const char *directory, const Launched *launched, ProcessEnd *ret_end)
{
    UnitLeft left = UNIT_LEFT_NOTHING;
    int r = -ESRCH;

    if (!sd_id128_is_null(launched->invocation))
        r = unit_end(name, launched->invocation, ret_end, &left);
    direct_run_files_remove(directory);
    unit_forget(name, left);
    /* That it exited as it should does not tell why, its console may; nor does what has not become one. */
    return r >= 0 && (ret_end->stopped || ret_end->oom || ret_end->code != CLD_EXITED ||
                      (ret_end->status != 0 && ret_end->status != HANDOVER_NOTHING_RUN));
}

/* To its QMP; and the socket that the definition wants of it. */
static void connect_both(const char *directory, Found *found)
{
    int r = socket_connect(directory, CONTROL_SOCKET, &found->control);

    if (r < 0)
        log_full(LOG_WARNING, found->name, r,
                 "Its hypervisor runs, but can't be talked to, by %s/" CONTROL_SOCKET ": %m", directory);
    r = own_socket_listen(directory, &found->own_socket);
    if (r < 0 && r != -ENOENT)
        log_full(LOG_WARNING, found->name, r, "The socket of its definition can't be made: %m");
}

static int look(Search *search, const char *name)
{
    _cleanup_free_ char *directory = NULL;
    Found found = {.pidfd = -EBADF, .control = -EBADF, .own_socket = -EBADF}, *grown;
    int r;

    if (asprintf(&directory, "%s/%s", search->directory, name) < 0)
        return -ENOMEM;
    r = process_record_read(directory, &found.record);
    if (r == -ENOENT) { /* nothing of it has ever run: what a start that was cut off has made may go */
        direct_start_files_remove(directory);
        return 0;
    }
    if (r >= 0)
        r = process_open(&found.record.launched.id, &found.pidfd);
    if (r >= 0)
        r = launch_decide(&found.record.launched.id, found.pidfd);
    if (r >= 0 && !recipe_find(found.record.hypervisor))
        r = -EOPNOTSUPP;
    if (r < 0)
        found.pidfd = safe_close(found.pidfd);
    if (r == -ESRCH) { /* ended while nobody watched */
        r = find_end(name, directory, &found.record.launched, &found.end);
        if (r == 0) {
            process_record_clear(&found.record);
            return 0;
        }
    }
    if (r < 0) {
        process_record_clear(&found.record);
        return r;
    }
    grown = reallocarray(search->found, search->n_found + 1, sizeof(*grown));
    found.name = strdup(name);
    if (!grown || !found.name) {
        search->found = grown ? grown : search->found;
        free(found.name);
        process_record_clear(&found.record);
        safe_close(found.pidfd);
        return -ENOMEM;
    }
    if (found.pidfd >= 0 && recipe_find(found.record.hypervisor)->qmp)
        connect_both(directory, &found);
    search->found = grown;
    grown[search->n_found++] = found;
    return 0;
}

static bool is_found(const char *name, void *userdata)
{
    const Search *search = userdata;

    for (size_t i = 0; i < search->n_found; i++)
        if (streq(search->found[i].name, name))
            return true;
    return false;
}

static void search_run(void *argument)
{
    Search *search = argument;
    DIR *stream = opendir(search->directory);
    _cleanup_free_ char *text = NULL;
    struct dirent *entry;

    if (sandbox_host_look(&search->host, &text) < 0)
        log_warning("No hypervisor can be started: %s.", text ? text : "out of memory");
    /* Each hypervisor's own user is let to /dev/kvm, by a node of ours or by its group: so what counts is
     * whether we are. */
    accel_facts_read((HostUser){geteuid(), getegid()}, &search->facts);
    while (stream && (entry = readdir(stream))) {
        int r = entry->d_name[0] == '.' ? 0 : look(search, entry->d_name);
        if (r < 0)
            log_full(LOG_ERR, entry->d_name, r, "Can't tell whether its hypervisor runs: %m");
    }
    if (stream)
        closedir(stream);
    if (search->launcher == LAUNCHER_SYSTEMD)
        unit_forget_others(is_found, search);
}

/* --- on the loop --- */

static void tell_end(DirectDriver *driver, const Found *found)
{
    _cleanup_free_ char *how = direct_end_describe(&found->end, NULL);
    _cleanup_free_ char *text = how ? say("%s, while microvmd was not watching", how) : NULL;

    direct_say(driver, &(DriverEvent){.type = DRIVER_ENDED,
                                      .name = found->name,
                                      .generation = found->record.generation,
                                      .cause = direct_end_cause(&found->end),
                                      .details = direct_end_details(&found->end),
                                      .text = text});
}

static void adopt(DirectDriver *driver, Found *found)
{
    Run *run = direct_run_new(driver, found->name, found->record.generation);
    char unit[UNIT_NAME_SIZE];
    DriverRun told;
    int r = run ? 0 : -ENOMEM;

    if (r >= 0) {
        run->id = found->record.launched.id;
        run->invocation = found->record.launched.invocation;
        run->accel = found->record.accel;
        run->recipe = recipe_find(found->record.hypervisor);
        run->stop = TAKE_PTR(found->record.stop);
        if (!run->recipe->qmp) /* earlier versions may have it on record */
            run->ready = TAKE_PTR(found->record.ready);
        /* One that can't be talked to is taken as it is. */
        run->announced = !run->ready && !(found->record.silent && found->control >= 0);
        run->pidfd = TAKE_FD(found->pidfd);
        run->own_socket = TAKE_FD(found->own_socket);
        /* First, because a stop that was under way goes on from within. */
        r = direct_run_watch(run, TAKE_FD(found->control));
        if (r < 0)
            run->announced = true; /* nothing more is heard of it */
        told = direct_run_tell(run, unit);
        told.pause_unknown = run->qmp && run->announced;
        told.starting = !run->announced;
        direct_say(driver,
                   &(DriverEvent){
                       .type = DRIVER_FOUND, .name = run->name, .generation = run->generation, .run = told});
    }
    if (r < 0)
        log_full(LOG_ERR, found->name, r, "Its hypervisor runs, but can't be watched: %m");
}

static void search_done(void *argument)
{
    Search *search = argument;
    DirectDriver *driver = search->driver;

    driver->accel_facts = search->facts;
    sandbox_host_clear(&driver->host);
    driver->host = search->host;
    search->host = (SandboxHost){0};
    driver->online = true;
    direct_say(driver, &(DriverEvent){.type = DRIVER_ONLINE});
    for (size_t i = 0; i < search->n_found; i++)
        if (search->found[i].pidfd >= 0)
            adopt(driver, &search->found[i]);
        else
            tell_end(driver, &search->found[i]);
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
    search->launcher = driver->launcher;
    if (asprintf(&search->directory, "%s/vm", driver->runtime_dir) < 0)
        search->directory = NULL;
    if (search->directory && sandbox_host_copy(&driver->host, &search->host) >= 0)
        r = workers_submit(driver->workers, &(Work){search_run, search_done, search_free, search});
    if (r < 0)
        search_free(search);
    return r;
}
