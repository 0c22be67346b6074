/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/handle.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/handle-internal.h"
#include "microvm/names.h"

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC  UINT64_C(1000000)

/* The start of a hypervisor takes less, and systemd does one thing at a time. */
#define LATER_USEC (250 * USEC_PER_MSEC)
/* systemd was executed anew, or was too busy. */
#define AGAIN_USEC (1 * USEC_PER_SEC)

/* --- systemd --- */

static void set_gate(Handle *handle, bool gates)
{
    if (handle->gates == gates)
        return;
    handle->gates = gates;
    handle->handles->gates += gates ? 1 : (size_t)-1;
    if (!gates)
        bus_server_check_ready(handle->handles->server);
}

static void call_over(Handle *handle)
{
    handle->call = sd_bus_slot_unref(handle->call);
    set_gate(handle, false);
}

static void arm_timer(Handles *handles, uint64_t usec)
{
    uint64_t due = now_usec(CLOCK_MONOTONIC) + usec, set;
    int enabled = SD_EVENT_OFF;

    if (sd_event_source_get_enabled(handles->timer, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
        sd_event_source_get_time(handles->timer, &set) >= 0 && set <= due)
        return;
    sd_event_source_set_time(handles->timer, due);
    sd_event_source_set_enabled(handles->timer, SD_EVENT_ONESHOT);
}

/* Without systemd's help its process goes by itself. */
static void let_go(Handle *handle)
{
    if (handle->attached && handle->attached->talk.leaving)
        handle->attached->talk.asked = true;
    handle_talk(handle);
}

static void refused(Handle *handle, const sd_bus_error *error)
{
    Handles *handles = handle->handles;
    bool for_all = handles_are_unavailable(error);

    if (handle->asks_start && for_all && !handles->unavailable_said)
        log_info("There is no unit %s%s.service: %s. microVMs run without it.", MICROVM_HANDLE_PREFIX,
                 handle->vm->name, error->message);
    else if (handle->asks_start && !for_all)
        log_vm_info(handle->vm->name, "systemd does not start its unit %s%s.service: %s",
                    MICROVM_HANDLE_PREFIX, handle->vm->name, error->message);
    handles->unavailable_said |= for_all;
}

static bool is_away(const sd_bus_error *error)
{
    return sd_bus_error_has_names(error, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED,
                                  SD_BUS_ERROR_TIMEOUT) ||
           sd_bus_error_get_errno(error) == ECONNRESET || sd_bus_error_get_errno(error) == ENOTCONN;
}

/* Asks again in a while; a process that is to go does so without. */
static void try_again(Handle *handle)
{
    if (handle->asks_start)
        handle->told = false;
    else
        let_go(handle);
    handle->due = handle->asks_start;
    arm_timer(handle->handles, AGAIN_USEC);
}

static int on_told(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    Handle *handle = userdata;
    const char *job = NULL;

    call_over(handle);
    if (!error && sd_bus_message_read(reply, "o", &job) >= 0) {
        if (free_and_strdup(&handle->job, job) < 0)
            log_oom();
    } else if (error && is_away(error)) {
        try_again(handle);
    } else if (error) {
        refused(handle, error);
        if (!handle->asks_start)
            let_go(handle);
    }
    return 0;
}

static void tell_systemd(Handle *handle, bool start)
{
    Handles *handles = handle->handles;
    sd_bus *bus = handles->systemd ? bus_systemd(handles->server) : NULL;
    _cleanup_free_ char *unit = NULL;
    /* At the beginning only what is not so already: nobody's stop that is under way is put off. */
    const char *mode = handle->known || !start ? "replace" : "fail";
    int r = -ENOTCONN;

    call_over(handle);
    free(handle->job);
    handle->job = NULL;
    handle->asks_start = start;
    if (!handles->systemd) {
        let_go(handle);
        return;
    }
    if (asprintf(&unit, MICROVM_HANDLE_PREFIX "%s.service", handle->vm->name) < 0)
        r = -ENOMEM;
    else if (bus)
        r = sd_bus_call_method_async(bus, &handle->call, "org.freedesktop.systemd1",
                                     "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                                     start ? "StartUnit" : "StopUnit", on_told, handle, "ss", unit, mode);
    if (r < 0) {
        log_full(LOG_DEBUG, handle->vm->name, r, "systemd can't be told of its handle: %m");
        try_again(handle);
        return;
    }
    handle->known = true;
    set_gate(handle, start && !handles->server->manager->ready && handle_phase_of(handle) == HANDLE_COMING);
}

/* Its failure is forgotten, or the microVM is gone: systemctl --failed shows it no longer. Nothing depends on
 * the answer. */
static void clear_failure(Handle *handle)
{
    sd_bus *bus = handle->handles->systemd ? bus_systemd(handle->handles->server) : NULL;
    _cleanup_(sd_bus_message_unrefp)
    sd_bus_message *call = NULL;
    _cleanup_free_ char *unit = NULL;

    handle->failed = false;
    if (!bus || asprintf(&unit, MICROVM_HANDLE_PREFIX "%s.service", handle->vm->name) < 0)
        return;
    if (sd_bus_message_new_method_call(bus, &call, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                       "org.freedesktop.systemd1.Manager", "ResetFailedUnit") >= 0 &&
        sd_bus_message_append(call, "s", unit) >= 0 && sd_bus_message_set_expect_reply(call, 0) >= 0)
        (void)sd_bus_send(bus, call, NULL);
}

/* What we have asked for is over, or somebody has asked for the contrary meanwhile, whose wish is the later
 * one. */
static void job_over(Handle *handle, const char *result)
{
    bool replaced = streq(result, "canceled");

    free(handle->job);
    handle->job = NULL;
    if (!handle->asks_start) {
        if (replaced)
            handle_start_asked(handle);
    } else if (handle_is_wanted(handle_phase_of(handle)) && !streq(result, "done")) {
        if (replaced)
            handle_end_asked(handle);
        else
            log_vm_warning(handle->vm->name,
                           "Its unit %s%s.service could not be started (%s); the microVM goes on.",
                           MICROVM_HANDLE_PREFIX, handle->vm->name, result);
    }
}

static int on_job_removed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Handles *handles = userdata;
    const char *job, *unit, *result;

    if (sd_bus_message_read(message, "uoss", NULL, &job, &unit, &result) < 0 ||
        strncmp(unit, MICROVM_HANDLE_PREFIX, strlen(MICROVM_HANDLE_PREFIX)) != 0)
        return 0;
    for (Handle *handle = handles->first; handle; handle = handle->next)
        if (handle->job && streq(handle->job, job))
            job_over(handle, result);
    return 0;
}

static int on_unit_files_changed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    handles_look(userdata);
    return 0;
}

/* It was executed anew, at an upgrade of its package, say. */
static int on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    arm_timer(userdata, AGAIN_USEC);
    return 0;
}

/* Its signals come unasked on this kind of connection. */
void handles_systemd_changed(Handles *handles, sd_bus *bus)
{
    static const char path[] = "/org/freedesktop/systemd1", manager[] = "org.freedesktop.systemd1.Manager";
    int r;

    for (Handle *handle = handles->first; handle; handle = handle->next) {
        free(handle->job);
        handle->job = NULL; /* its end was not heard */
    }
    r = sd_bus_match_signal(bus, NULL, NULL, path, manager, "JobRemoved", on_job_removed, handles);
    if (r >= 0)
        r = sd_bus_match_signal(bus, NULL, NULL, path, manager, "UnitFilesChanged", on_unit_files_changed,
                                handles);
    if (r >= 0)
        r = sd_bus_match_signal(bus, NULL, NULL, "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local",
                                "Disconnected", on_disconnected, handles);
    if (r < 0)
        log_warning_errno(r, "Can't listen to systemd: %m");
    handles_look(handles); /* what was enabled meanwhile was not heard, either */
}

/* --- what is to be done --- */

/*
 * While the host boots a start is told at once. What ran before this daemon has a handle, which attaches
 * itself in a moment. Later on the hypervisor comes first.
 */
static bool is_time(const Handle *handle, HandlePhase phase)
{
    if (handle->late)
        return true;
    return handle->handles->server->manager->ready ? !state_is_coming(handle->vm->record.state)
                                                   : phase == HANDLE_COMING;
}

void handle_look(Handle *handle)
{
    HandlePhase phase = handle_phase_of(handle);
    HandleLook look = {.told = handle->told,
                       .due = handle->due,
                       .starts = handle->asks_start && handle_is_under_way(handle),
                       .connected = handle->attached,
                       .ready = handle->attached && handle->attached->talk.ready};
    HandleOrder order = handle_order(phase, &look, is_time(handle, phase));

    if (handle->stop_waits)
        handle_end_asked(handle);
    if (handle->failed && phase == HANDLE_OFF)
        clear_failure(handle);
    handle->failed = phase == HANDLE_FAILED;
    if (handle->handles->server->manager->host_stopping &&
        (order == HANDLE_ORDER_START || order == HANDLE_ORDER_LATER)) {
        handle_talk(handle); /* systemd starts nothing any more */
        return;
    }
    if (order == HANDLE_ORDER_LATER) {
        if (!handle->due)
            arm_timer(handle->handles, LATER_USEC);
        handle->due = true;
        return;
    }
    handle->due = handle->late = false;
    handle->told = handle_is_wanted(phase);
    if (order == HANDLE_ORDER_STOP && handle->attached)
        handle->attached->talk.leaving = true;
    if (order != HANDLE_NO_ORDER)
        tell_systemd(handle, order == HANDLE_ORDER_START);
    handle_talk(handle);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    Handles *handles = userdata;

    if (handles->systemd && !bus_systemd(handles->server))
        arm_timer(handles, AGAIN_USEC);
    for (Handle *handle = handles->first; handle; handle = handle->next) {
        if (!handle->due)
            continue;
        handle->late = true;
        handle_look(handle);
    }
    return 0;
}

Handle *handle_get(Handles *handles, MicroVM *vm)
{
    Handle *handle = vm->handle ? vm->handle : calloc(1, sizeof(*handle));

    if (!handle || vm->handle)
        return handle;
    *handle = (Handle){.handles = handles, .vm = vm, .next = handles->first};
    handles->first = vm->handle = handle;
    return handle;
}

void handles_update(Handles *handles, MicroVM *vm)
{
    Handle *handle = handle_get(handles, vm);

    if (handle)
        handle_look(handle);
    else
        log_oom();
}

void handles_manager_ready(Handles *handles)
{
    for (Handle *handle = handles->first; handle; handle = handle->next)
        if (handle->stop_waits)
            handle_look(handle);
}

bool handles_pending(const Handles *handles)
{
    return handles->gates > 0;
}

void handles_look(Handles *handles)
{
    if (handles->systemd)
        handles_find_enabled(handles->server->manager, "");
}

void handles_forget(Handles *handles, MicroVM *vm)
{
    Handle *handle = vm->handle;

    if (!handle)
        return;
    for (Handle **at = &handles->first; *at; at = &(*at)->next)
        if (*at == handle) {
            *at = handle->next;
            break;
        }
    if (handle->failed)
        clear_failure(handle);
    handle_detach(handle);
    vm->handle = NULL;
    set_gate(handle, false);
    sd_bus_slot_unref(handle->call);
    free(handle->job);
    free(handle);
}

/* --- life --- */

int handles_new(BusServer *server, bool systemd, Handles **ret_handles)
{
    _cleanup_(handles_freep)
    Handles *handles = calloc(1, sizeof(*handles));
    int r;

    if (!handles)
        return -ENOMEM;
    handles->server = server;
    handles->systemd = systemd;
    r = handles_listen(handles);
    if (r >= 0)
        r = sd_event_add_time(server->event, &handles->timer, CLOCK_MONOTONIC, 0, 0, on_timer, handles);
    if (r >= 0)
        r = sd_event_source_set_enabled(handles->timer, SD_EVENT_OFF);
    if (r < 0)
        return r;
    *ret_handles = TAKE_PTR(handles);
    return 0;
}

Handles *handles_free(Handles *handles)
{
    if (!handles)
        return NULL;
    /* Processes stay, and attach themselves to the next daemon. microVMs may be gone already. */
    handles_listen_no_more(handles);
    while (handles->first) {
        Handle *next = handles->first->next;
        sd_bus_slot_unref(handles->first->call);
        free(handles->first->job);
        free(handles->first);
        handles->first = next;
    }
    sd_event_source_disable_unref(handles->timer);
    free(handles);
    return NULL;
}
