/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Methods that stop and start several microVMs, in order; and what is left over of them. */
#include "base/strv.h"
#include "bus/server.h"
#include "manager-leaks.h"

static int append_job(sd_bus_message *reply, const void *items, size_t index)
{
    const StopJob *job = (const StopJob *)items + index;
    const char *path = bus_vm_path(job->vm);

    if (!path)
        return -ENOMEM;
    return sd_bus_message_append(reply, "(sosts)", job->vm->name, path, microvm_state_to_string(job->before),
                                 job->job, job->error ? job->error : "");
}

static int reply_jobs(sd_bus_message *message, int r, const StopJobs *jobs, const char *text,
                      sd_bus_error *error)
{
    return r < 0 ? bus_error_set(error, r, text)
                 : bus_reply_list(message, "(sosts)", jobs->count, append_job, jobs->items);
}

int bus_read_stop(sd_bus_message *message, StopOptions *ret_stop, MicrovmDependents *ret_dependents,
                  bool *ret_host_shutdown, sd_bus_error *error)
{
    StopOptions stop = {.timeout_usec = UINT64_MAX};
    const char *dependents = "refuse";
    bool host_shutdown = false;
    const BusOption options[] = {
        {"force", 'b', &stop.force},
        {"timeout", 't', &stop.timeout_usec},
        {"host-shutdown", 'b', &host_shutdown},
        {"dependents", 's', &dependents},
    };
    int r = bus_read_options(message, options, ELEMENTSOF(options), error);

    if (r < 0)
        return r;
    r = microvm_dependents_from_string(dependents);
    if (r < 0)
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                "Option \"dependents\" is \"refuse\", \"stop\" or \"ignore\".");
    stop.timeout_is_budget = host_shutdown;
    *ret_dependents = host_shutdown ? MICROVM_DEPENDENTS_IGNORE : (MicrovmDependents)r;
    *ret_host_shutdown = host_shutdown;
    *ret_stop = stop;
    return 0;
}

void bus_note_shutdown(BusServer *server)
{
    static const Caller host_shutdown = {.shutdown = true};

    server->manager->host.caller = &host_shutdown; /* until the method returns */
    manager_host_state(server->manager, true);
}

/* Those of these names, all if there are none. */
static int find_all(BusServer *server, char *const *names, MicroVM ***ret_vms, size_t *ret_n,
                    sd_bus_error *error)
{
    Manager *manager = server->manager;
    size_t n = 0, count = manager->n_vms;
    _cleanup_free_ MicroVM **vms = NULL;

    while (names && names[n])
        n++;
    count = n > 0 ? n : count;
    vms = calloc(count + 1, sizeof(MicroVM *));
    if (!vms)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        vms[i] = n > 0 ? bus_find_named(server, names[i], error) : manager->vms[i];
        if (!vms[i])
            return -ENOENT;
    }
    *ret_n = count;
    *ret_vms = TAKE_PTR(vms);
    return 0;
}

int bus_method_stop_microvms(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_(stop_jobs_clear)
    StopJobs jobs = {0};
    _cleanup_strv_ char **names = NULL;
    _cleanup_free_ MicroVM **vms = NULL;
    _cleanup_free_ char *text = NULL;
    MicrovmDependents dependents;
    StopOptions stop;
    bool host_shutdown;
    size_t n;
    int r;

    r = bus_read_strings(message, &names);
    if (r >= 0)
        r = bus_read_stop(message, &stop, &dependents, &host_shutdown, error);
    if (r >= 0)
        r = find_all(server, names, &vms, &n, error);
    if (r < 0)
        return r;
    if (host_shutdown)
        bus_note_shutdown(server);
    r = manager_stop(server->manager, vms, n, &stop, dependents, &jobs, &text);
    return reply_jobs(message, r, &jobs, text, error);
}

int bus_method_drain(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_(stop_jobs_clear)
    StopJobs jobs = {0};
    _cleanup_free_ char *text = NULL;
    uint64_t budget = UINT64_MAX;
    const BusOption options[] = {{"timeout", 't', &budget}};
    int r = bus_read_options(message, options, ELEMENTSOF(options), error);

    if (r < 0)
        return r;
    r = manager_drain(server->manager, budget, &jobs, &text);
    return reply_jobs(message, r, &jobs, text, error);
}

int bus_method_undrain(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_(stop_jobs_clear)
    StopJobs jobs = {0};
    bool start = true;
    const BusOption options[] = {{"start", 'b', &start}};
    int r = bus_read_options(message, options, ELEMENTSOF(options), error);

    if (r < 0)
        return r;
    r = manager_undrain(server->manager, start, &jobs);
    return reply_jobs(message, r, &jobs, NULL, error);
}

/* --- what is left over --- */

static int append_leak(sd_bus_message *reply, const void *items, size_t index)
{
    const Leak *leak = (const Leak *)items + index;

    return sd_bus_message_append(reply, "(ssss)", leak->kind, leak->what, leak->microvm, leak->remedy);
}

static void on_leaks(int result, const char *text, const Leaks *leaks, void *userdata)
{
    sd_bus_message *message = userdata;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = result < 0 ? result : bus_reply_list(message, "(ssss)", leaks->count, append_leak, leaks->items);

    if (r < 0) {
        bus_error_set(&error, r, text);
        sd_bus_reply_method_error(message, &error);
    }
    sd_bus_error_free(&error);
    sd_bus_message_unref(message);
}

int bus_method_list_leaks(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    int r = bus_read_options(message, NULL, 0, error);

    if (r < 0)
        return r;
    sd_bus_message_ref(message);
    r = manager_find_leaks(server->manager, on_leaks, message);
    if (r < 0)
        sd_bus_message_unref(message);
    return r < 0 ? r : 1;
}
