/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The processes of handles: what they say, and what they are told. */
#include "bus/handle-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "bus/handle-talk.h"
#include "microvm/exit.h"
#include "microvm/names.h"

#include <dirent.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Beyond the end of a stop, for the end by force. */
#define GRACE_USEC (60 * UINT64_C(1000000))

/* --- the words --- */

/* False: nobody hears it any more; its end is an event of its own. */
static bool send_text(Attached *attached, const char *text)
{
    return send(attached->fd, text, strnlen(text, HANDLE_MESSAGE_MAX), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static char *one_line(const char *text)
{
    char *line = strdup(text ? text : "");

    for (char *c = line; c && *c; c++)
        if (*c == '\n')
            *c = ' ';
    return line;
}

static void send_exit(Attached *attached, int code, const char *text)
{
    _cleanup_free_ char *line = one_line(text), *message = NULL;

    if (!line || asprintf(&message, HANDLE_EXIT "%d %.3000s", code, line) < 0)
        log_oom();
    else
        send_text(attached, message);
}

/* Its stop may take longer than what the unit has for it, but not when the host goes down. */
static uint64_t extension(const Handle *handle)
{
    uint64_t now = now_boottime_usec(), until = handle->vm->record.stop_deadline_boot_usec;

    if (handle->vm->record.state != MICROVM_STOPPING || handle->handles->server->manager->host_stopping)
        return 0;
    return (until > now ? until - now : 0) + GRACE_USEC;
}

static void tell_status(Handle *handle, const char *notify)
{
    Attached *attached = handle->attached;
    _cleanup_free_ char *line = one_line(handle->vm->record.reason), *status = NULL, *message = NULL;
    char extend[64] = "";

    if (!line ||
        asprintf(&status, "%s: %.3000s", microvm_state_to_string(handle->vm->record.state), line) < 0) {
        log_oom();
        return;
    }
    if (!notify && streq(status, attached->status))
        return;
    if (extension(handle) > 0)
        snprintf(extend, sizeof(extend), "EXTEND_TIMEOUT_USEC=%llu\n", (unsigned long long)extension(handle));
    if (asprintf(&message, "%s%s%sSTATUS=%s", notify ? notify : "", notify ? "\n" : "", extend, status) < 0) {
        log_oom();
        return;
    }
    if (!send_text(attached, message))
        return;
    free(attached->status);
    attached->status = TAKE_PTR(status);
}

void handle_talk(Handle *handle)
{
    HandleWords words;

    if (!handle->attached)
        return;
    words = handle_words(handle_phase_of(handle), &handle->attached->talk);
    if (words.code >= 0)
        send_exit(handle->attached, words.code, handle->vm->record.reason);
    else
        tell_status(handle, words.notify);
}

/* --- stops that systemd asks for --- */

/* As whose wish the record tells it. */
static const Caller through_systemd = {.handle = true};

static int stop_it(Handle *handle, char **ret_error)
{
    _cleanup_(stop_jobs_clear)
    StopJobs jobs = {0};
    Manager *manager = handle->handles->server->manager;
    int r;

    manager->host.caller = &through_systemd;
    /* systemd has asked for those that require it, if their units say so. */
    r = manager_stop(manager, &handle->vm, 1, &(StopOptions){.timeout_usec = UINT64_MAX},
                     MICROVM_DEPENDENTS_IGNORE, &jobs, ret_error);
    manager->host.caller = NULL;
    if (r >= 0 && jobs.count > 0 && jobs.items[0].job == 0) {
        *ret_error = TAKE_PTR(jobs.items[0].error);
        return -EHOSTDOWN;
    }
    return r;
}

static void request_stop(Handle *handle)
{
    _cleanup_free_ char *error = NULL;
    int r;

    log_vm_info(handle->vm->name, "Stopped through systemd.");
    handle->told = false;
    if (handle->attached)
        handle->attached->talk.leaving = true;
    r = stop_it(handle, &error);
    if (r < 0)
        log_vm_warning(handle->vm->name, "It can't be stopped: %s", error ? error : strerror(-r));
    if (r < 0 && handle->attached)
        send_exit(handle->attached, MICROVM_EXIT_FAILURE, error ? error : strerror(-r));
    else
        handle_talk(handle);
}

/*
 * When the host goes down its end only says that what is ordered after it is down. microvmd-shutdown.service
 * comes next, and stops microVMs in their own order.
 */
static void decide(Handle *handle)
{
    const MicroVM *vm = handle->vm;

    handle->end_asked = false;
    handle->stop_waits =
        state_is_alive(vm->record.state) && !vm->driver_online && !handle->handles->server->manager->ready;
    if (handle->stop_waits)
        return;
    if (!handle->handles->server->manager->host_stopping)
        request_stop(handle);
    else if (handle->attached)
        send_exit(handle->attached, MICROVM_EXIT_OK,
                  "The host is shutting down: " MICROVM_SHUTDOWN_UNIT " stops it.");
}

void handle_end_asked(Handle *handle)
{
    handle->end_asked = true;
    if (handle->handles->systemd)
        bus_host_state_query(handle->handles->server); /* an answer from before is not good enough */
    else
        decide(handle);
}

void handles_host_state_known(Handles *handles)
{
    for (Handle *handle = handles->first; handle; handle = handle->next)
        if (handle->end_asked)
            decide(handle);
}

/* --- processes --- */

static Attached *attached_free(Attached *attached)
{
    for (Attached **at = &attached->handles->attached; *at; at = &(*at)->next)
        if (*at == attached) {
            *at = attached->next;
            break;
        }
    if (attached->handle)
        attached->handle->attached = NULL;
    sd_event_source_disable_unref(attached->source);
    safe_close(attached->fd);
    free(attached->status);
    free(attached);
    return NULL;
}

static int request_start(Handle *handle, char **ret_error)
{
    Manager *manager = handle->handles->server->manager;
    uint64_t job;
    int r;

    log_vm_info(handle->vm->name, "Started through systemd.");
    r = manager_may_start(manager, handle->vm, ret_error);
    if (r < 0)
        return r;
    manager->host.caller = &through_systemd;
    r = vm_request_start(handle->vm, &job, ret_error);
    manager->host.caller = NULL;
    return r;
}

/* `fresh`: the microVM is to run. */
static void follow(Handle *handle, bool fresh)
{
    _cleanup_free_ char *error = NULL;
    int r = 0;

    if (fresh && !handle_is_wanted(handle_phase_of(handle)))
        r = request_start(handle, &error);
    handle->told = handle_is_wanted(handle_phase_of(handle));
    if (r < 0)
        send_exit(handle->attached, MICROVM_EXIT_FAILURE, error ? error : strerror(-r));
    else
        handle_look(handle);
}

void handle_start_asked(Handle *handle)
{
    if (!handle->attached || handle->attached->talk.asked)
        return; /* systemd will start another one */
    handle->attached->talk.leaving = false;
    follow(handle, true);
}

static void begin(Handle *handle, Attached *attached, bool fresh)
{
    /* A connection that has gone takes along what was under way on it. */
    sd_bus *bus _unused_ = handle->handles->systemd ? bus_systemd(handle->handles->server) : NULL;
    bool under_way = handle_is_under_way(handle);

    if (handle->attached)
        attached_free(handle->attached);
    handle->attached = attached;
    attached->handle = handle;
    /* systemd will end it presently: it was started for what has been stopped again. */
    attached->talk.leaving = under_way && !handle->asks_start;
    follow(handle, fresh && !under_way);
}

static void attach(Attached *attached, const char *message)
{
    static const char *const verbs[] = {HANDLE_ATTACH, HANDLE_AGAIN, HANDLE_READY};
    Manager *manager = attached->handles->server->manager;
    const char *name = NULL;
    _cleanup_free_ char *text = NULL;
    MicroVM *vm;
    Handle *handle;

    for (size_t i = 0; i < ELEMENTSOF(verbs) && !name; i++)
        if (strncmp(message, verbs[i], strlen(verbs[i])) == 0)
            name = message + strlen(verbs[i]);
    vm = name ? manager_find(manager, name) : NULL;
    handle = vm ? handle_get(attached->handles, vm) : NULL;
    attached->talk.ready = strncmp(message, HANDLE_READY, strlen(HANDLE_READY)) == 0;
    if (handle)
        begin(handle, attached, strncmp(message, HANDLE_ATTACH, strlen(HANDLE_ATTACH)) == 0);
    else if (asprintf(&text, "No microVM is called %s. See: microvmctl list", name ? name : "?") >= 0)
        send_exit(attached, MICROVM_EXIT_NO_SUCH_VM, text);
}

/* systemd asks for the end: because we have asked for that, or because somebody else has. */
static void stop(Attached *attached)
{
    attached->talk.asked = true;
    if (attached->talk.leaving)
        handle_talk(attached->handle);
    else
        handle_end_asked(attached->handle);
}

static int on_message(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Attached *attached = userdata;
    char message[HANDLE_MESSAGE_MAX];
    ssize_t n = recv(fd, message, sizeof(message) - 1, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        attached_free(attached);
        return 0;
    }
    message[n] = '\0';
    if (!attached->handle)
        attach(attached, message);
    else if (streq(message, HANDLE_STOP))
        stop(attached);
    return 0;
}

static void connect_to(Handles *handles, const char *name)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    Attached *attached;

    if (fd < 0 || *name == '.' ||
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", handles->directory, name) >=
            (int)sizeof(address.sun_path))
        return;
    /* Of one that was killed the name is left; the next one takes its place. */
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return;
    attached = calloc(1, sizeof(*attached));
    if (!attached) {
        log_oom();
        return;
    }
    *attached = (Attached){.handles = handles, .fd = TAKE_FD(fd), .next = handles->attached};
    handles->attached = attached;
    /* Before what systemd says: a word of a process comes before the news of its end. */
    if (sd_event_add_io(handles->server->event, &attached->source, attached->fd, EPOLLIN, on_message,
                        attached) < 0 ||
        sd_event_source_set_priority(attached->source, SD_EVENT_PRIORITY_NORMAL - 1) < 0)
        attached_free(attached);
}

static void connect_to_all(Handles *handles)
{
    DIR *stream = opendir(handles->directory);
    struct dirent *entry;

    while (stream && (entry = readdir(stream)))
        connect_to(handles, entry->d_name);
    if (stream)
        closedir(stream);
}

void handle_detach(Handle *handle)
{
    if (!handle->attached)
        return;
    send_exit(handle->attached, MICROVM_EXIT_OK, "It has no definition any more.");
    handle->attached->handle = NULL;
    handle->attached = NULL;
}

/* --- life --- */

static int on_process(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
    Handles *handles = userdata;

    if (event->mask & IN_Q_OVERFLOW)
        connect_to_all(handles);
    else if (event->len > 0)
        connect_to(handles, event->name);
    return 0;
}

int handles_listen(Handles *handles)
{
    int r;

    if (asprintf(&handles->directory, "%s/" HANDLE_SOCKET_DIR,
                 handles->server->manager->settings.runtime_dir) < 0)
        return -ENOMEM;
    r = mkdir_parents(handles->directory, 0700);
    if (r >= 0)
        r = sd_event_add_inotify(handles->server->event, &handles->source, handles->directory, IN_MOVED_TO,
                                 on_process, handles);
    if (r >= 0)
        r = sd_event_source_set_priority(handles->source, SD_EVENT_PRIORITY_NORMAL - 1);
    if (r >= 0)
        connect_to_all(handles);
    return r;
}

void handles_listen_no_more(Handles *handles)
{
    while (handles->attached)
        attached_free(handles->attached);
    sd_event_source_disable_unref(handles->source);
    free(handles->directory);
}
