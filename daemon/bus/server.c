/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "microvm/messages.h"

#include <systemd/sd-daemon.h>

#define NAME_USEC       UINT64_C(5000000) /* that our name may still be with one that is dead */
#define NAME_PAUSE_USEC UINT64_C(50000)

enum {
    /* As dbus-daemon's limit of connections. Each takes up to three descriptors and 64 KiB. */
    STREAMS_MAX = 256,
};

/* A finished job that was not told yet: the reply to the call that made it must come first. */
struct PendingJob {
    Job job;
    char *name;
    MicrovmJobResult result;
    char *reason;
    PendingJob *next;
};

static void pending_job_free(PendingJob *pending)
{
    free(pending->name);
    free(pending->reason);
    free(pending);
}

/* --- dispatch --- */

int bus_dispatch(BusServer *server, const BusMethod *table, size_t n, sd_bus_message *message, bool is_vm,
                 sd_bus_error *error)
{
    const char *member = sd_bus_message_get_member(message);
    MicroVM *vm = is_vm ? bus_find_vm(server, sd_bus_message_get_path(message)) : NULL;
    Caller caller;
    int r;

    if (is_vm && !vm)
        return bus_error_set(error, -ENOENT, "This microVM is gone.");
    for (size_t i = 0; i < n; i++) {
        if (!streq(table[i].member, member))
            continue;
        r = bus_authorize(server, table, n, message, is_vm, &table[i], vm, error);
        if (r <= 0)
            return r < 0 ? r : 1;
        r = sd_bus_message_rewind(message, true);
        if (r < 0)
            return r;
        caller = bus_caller(server, message);
        server->manager->host.caller = &caller;
        r = table[i].run(server, message, vm, error);
        server->manager->host.caller = NULL;
        return r;
    }
    return sd_bus_error_set(error, SD_BUS_ERROR_UNKNOWN_METHOD, "There is no such method.");
}

/* --- telling --- */

static void tell_status(BusServer *server)
{
    Manager *manager = server->manager;
    size_t running = 0, failed = 0, held = 0;

    for (size_t i = 0; i < manager->n_vms; i++) {
        MicrovmState state = manager->vms[i]->record.state;
        running += state_is_up(state);
        failed += state == MICROVM_FAILED;
        held += state == MICROVM_WAITING || state == MICROVM_BACKOFF;
    }
    sd_notifyf(0, "STATUS=%s%zu of %zu microVMs running, %zu failed, %zu held",
               manager->role == MICROVM_HOST_ROLE_CONFLICT
                   ? "The host configuration enables guest mode, or disables host mode: nothing starts. "
                   : "",
               running, manager->n_vms, failed, held);
}

static void send_jobs(BusServer *server)
{
    PendingJob *pending = server->jobs;

    server->jobs = NULL;
    server->last_job = &server->jobs;
    while (pending) {
        PendingJob *next = pending->next;
        int r = sd_bus_emit_signal(server->bus, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE, "JobRemoved",
                                   "tssss", pending->job.id, pending->name,
                                   microvm_job_verb_to_string(pending->job.verb),
                                   microvm_job_result_to_string(pending->result), pending->reason);
        if (r < 0)
            log_vm_warning(pending->name, "The end of its job could not be told: %s", strerror(-r));
        pending_job_free(pending);
        pending = next;
    }
}

void bus_server_flush(BusServer *server)
{
    if (server->handles && server->vms_changed) {
        handles_look(server->handles);
        if (sd_booted() > 0)
            bus_rivals_query(server, NULL);
    }
    server->vms_changed = false;
    for (size_t i = 0; i < server->n_dirty; i++) {
        int r = bus_emit_vm_changed(server, server->dirty[i]);
        server->dirty[i]->bus_dirty = false;
        if (server->handles)
            handles_update(server->handles, server->dirty[i]);
        if (r < 0)
            log_vm_warning(server->dirty[i]->name, "Its change could not be told: %s", strerror(-r));
    }
    server->n_dirty = 0;
    tell_status(server);
    if (server->manager_changed)
        sd_bus_emit_properties_changed(server->bus, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE,
                                       "HostRole", "Drivers", "Draining", NULL);
    server->manager_changed = false;
    send_jobs(server);
}

static int on_flush(sd_event_source *source, void *userdata)
{
    bus_server_flush(userdata);
    return 0;
}

static void flush_later(BusServer *server)
{
    sd_event_source_set_enabled(server->flush, SD_EVENT_ONESHOT);
}

static void on_vm_changed(MicroVM *vm, void *userdata)
{
    BusServer *server = userdata;
    MicroVM **grown;

    if (vm->bus_dirty)
        return;
    flush_later(server);
    grown = reallocarray(server->dirty, server->n_dirty + 1, sizeof(*grown));
    if (!grown) {
        log_oom();
        return;
    }
    server->dirty = grown;
    grown[server->n_dirty++] = vm;
    vm->bus_dirty = true;
}

static void on_vm_added(MicroVM *vm, void *userdata)
{
    BusServer *server = userdata;
    const char *path = bus_vm_path(vm);

    server->vms_changed = true;
    flush_later(server);
    if (path && sd_bus_is_ready(server->bus) > 0)
        sd_bus_emit_object_added(server->bus, path);
}

static void on_vm_removed(MicroVM *vm, void *userdata)
{
    BusServer *server = userdata;
    const char *path = bus_vm_path(vm);

    bus_server_flush(server); /* what is to be told of it comes before its end */
    if (path && sd_bus_is_ready(server->bus) > 0)
        sd_bus_emit_object_removed(server->bus, path);
    if (server->handles)
        handles_forget(server->handles, vm);
    flush_later(server); /* the counts are without it then */
}

static void on_manager_changed(Manager *manager, void *userdata)
{
    BusServer *server = userdata;

    server->manager_changed = true;
    flush_later(server);
}

static void on_job_removed(const char *name, Job job, MicrovmJobResult result, const char *reason,
                           void *userdata)
{
    BusServer *server = userdata;
    PendingJob *pending = calloc(1, sizeof(*pending));

    if (!pending || !(pending->name = strdup(name)) || !(pending->reason = strdup(reason ? reason : ""))) {
        if (pending)
            pending_job_free(pending);
        log_oom();
        return;
    }
    pending->job = job;
    pending->result = result;
    *server->last_job = pending;
    server->last_job = &pending->next;
    flush_later(server);
}

static void on_query_host_state(void *userdata)
{
    bus_host_state_query(userdata);
}

void bus_server_check_ready(BusServer *server)
{
    if (!server->ready_due || (server->handles && handles_pending(server->handles)))
        return;
    server->ready_due = false;
    tell_status(server);
    sd_notify(0, "READY=1");
    log_fields(LOG_INFO, NULL, 0, (const char *[]){"MESSAGE_ID=" MICROVM_MESSAGE_READY, NULL},
               "Ready: %zu microVMs known.", server->manager->n_vms);
}

static void on_ready(Manager *manager, void *userdata)
{
    BusServer *server = userdata;

    server->ready_due = true;
    bus_server_flush(server); /* what is started is told first */
    if (server->handles)
        handles_manager_ready(server->handles);
    bus_server_check_ready(server);
}

ManagerObserver bus_server_observer(BusServer *server)
{
    return (ManagerObserver){
        .vm_added = on_vm_added,
        .vm_removed = on_vm_removed,
        .vm_changed = on_vm_changed,
        .changed = on_manager_changed,
        .job_removed = on_job_removed,
        .query_host_state = sd_booted() > 0 ? on_query_host_state : NULL,
        .ready = on_ready,
        .apply_progress = bus_apply_progress,
        .apply_removed = bus_apply_removed,
        .userdata = server,
    };
}

/* --- life --- */

static int open_bus(const char *address, sd_bus **ret_bus)
{
    sd_bus *bus = NULL;
    int r;

    if (streq(address, "system"))
        return sd_bus_open_system_with_description(ret_bus, "microvmd");
    if (streq(address, "user"))
        return sd_bus_open_user_with_description(ret_bus, "microvmd");
    r = sd_bus_new(&bus);
    if (r >= 0)
        r = sd_bus_set_address(bus, address);
    if (r >= 0)
        r = sd_bus_set_bus_client(bus, 1);
    if (r >= 0)
        r = sd_bus_negotiate_fds(bus, 1);
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r < 0) {
        sd_bus_unref(bus);
        return r;
    }
    *ret_bus = bus;
    return 0;
}

int bus_server_new(sd_event *event, const char *address, BusServer **ret_server)
{
    _cleanup_(bus_server_freep)
    BusServer *server = calloc(1, sizeof(*server));
    int r;

    if (!server)
        return -ENOMEM;
    server->event = sd_event_ref(event);
    server->last_job = &server->jobs;
    server->streams.most = STREAMS_MAX;
    r = open_bus(address, &server->bus);
    if (r < 0)
        return r;
    /* Without the bus nobody can ask for anything: systemd starts us again, and the microVMs go on. */
    r = sd_bus_set_exit_on_disconnect(server->bus, 1);
    if (r >= 0)
        r = sd_event_add_defer(event, &server->flush, on_flush, server);
    if (r >= 0)
        r = sd_event_source_set_enabled(server->flush, SD_EVENT_OFF);
    if (r < 0)
        return r;
    *ret_server = TAKE_PTR(server);
    return 0;
}

/*
 * One that was killed may have the name until the bus has seen its death, which takes as long as the bus has other
 * things to do. Nothing else is to be done before we have it. -EEXIST: somebody keeps it.
 */
static int take_name(sd_bus *bus)
{
    uint64_t latest = now_usec(CLOCK_MONOTONIC) + NAME_USEC;
    int r;

    while ((r = sd_bus_request_name(bus, MICROVM_BUS_NAME, SD_BUS_NAME_QUEUE)) == 0) {
        if (now_usec(CLOCK_MONOTONIC) >= latest)
            return -EEXIST;
        r = sd_bus_wait(bus, NAME_PAUSE_USEC);
        while (r >= 0 && (r = sd_bus_process(bus, NULL)) > 0)
            ;
        if (r < 0)
            return r;
    }
    return r == -EALREADY ? 0 : r;
}

int bus_server_publish(BusServer *server, Manager *manager)
{
    int r;

    server->manager = manager;
    r = bus_publish_manager(server);
    if (r >= 0)
        r = bus_publish_vms(server);
    if (r >= 0)
        r = take_name(server->bus);
    if (r >= 0)
        r = sd_bus_attach_event(server->bus, server->event, SD_EVENT_PRIORITY_NORMAL);
    return r;
}

int bus_server_open_handles(BusServer *server, bool systemd)
{
    int r = handles_new(server, systemd, &server->handles);

    if (r < 0)
        return r;
    if (server->systemd)
        handles_systemd_changed(server->handles, server->systemd);
    handles_look(server->handles);
    for (size_t i = 0; i < server->manager->n_vms; i++)
        handles_update(server->handles, server->manager->vms[i]);
    return 0;
}

BusServer *bus_server_free(BusServer *server)
{
    if (!server)
        return NULL;
    bus_authorizations_drop(server);
    handles_free(server->handles);
    while (server->jobs) {
        PendingJob *next = server->jobs->next;
        pending_job_free(server->jobs);
        server->jobs = next;
    }
    free(server->dirty);
    sd_event_source_disable_unref(server->flush);
    sd_bus_slot_unref(server->host_state_call);
    sd_bus_slot_unref(server->rivals.call);
    sd_bus_flush_close_unref(server->bus);
    sd_bus_close_unref(server->systemd);
    sd_event_unref(server->event);
    free(server);
    return NULL;
}
