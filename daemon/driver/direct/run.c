/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A hypervisor process that lives: what it says by QMP, and what is asked of it. */
#include "driver/direct/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/say.h"
#include "driver/qemu-event.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

static const uint64_t CALL_USEC = UINT64_C(10) * 1000000;
static const uint64_t START_USEC = UINT64_C(60) * 1000000; /* a hypervisor that loads from a slow disk */
static const uint64_t FORCE_USEC = UINT64_C(3) * 1000000;  /* for QEMU to write its images back */

int direct_run_signal(Run *run, int number)
{
    if (run->pidfd < 0)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, run->pidfd, number, NULL, 0) < 0 ? -errno : 0;
}

static void kill_it(Run *run)
{
    run->killed = direct_run_signal(run, SIGKILL) >= 0;
}

static int on_force_due(sd_event_source *source, uint64_t usec, void *userdata)
{
    kill_it(userdata);
    return 0;
}

/* SIGKILL, unless it ends by itself before. */
static int arm_force(Run *run)
{
    if (run->force)
        return 0;
    return sd_event_add_time_relative(run->driver->event, &run->force, CLOCK_MONOTONIC, FORCE_USEC, 0,
                                      on_force_due, run);
}

/* Told to end while it was being launched. */
static void end_at_once(Run *run)
{
    if (direct_run_signal(run, SIGTERM) >= 0)
        (void)arm_force(run);
}

static int on_ended(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Run *run = userdata;

    if (run->qmp)
        qmp_drain(run->qmp);
    direct_run_ended(run);
    return 0;
}

/* --- QMP --- */

/* QEMU's ShutdownCause, qapi/run-state.json. */
static const struct {
    const char *reason;
    EndCause cause;
} causes[] = {
    {"guest-shutdown", END_POWEROFF},      {"guest-reset", END_REBOOT},     {"guest-panic", END_PANIC},
    {"host-qmp-quit", END_DESTROYED},      {"host-signal", END_TERMINATED}, {"host-error", END_CRASHED},
    {"host-qmp-system-reset", END_REBOOT},
};

static void on_shutdown(Run *run, const cJSON *data)
{
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "reason"));

    run->has_cause = true;
    run->cause = END_SHUTDOWN;
    for (size_t i = 0; i < ELEMENTSOF(causes); i++)
        if (streq(reason, causes[i].reason))
            run->cause = causes[i].cause;
    if (run->hung)
        run->cause = END_WATCHDOG;
    if (run->cause == END_POWEROFF && run->others_asked && !run->we_asked)
        run->cause = END_ASKED;
}

/* It may be set to go on, or to be looked at while it stands still: then this is no end. */
static void on_panic(Run *run, const cJSON *data)
{
    const char *action = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "action"));

    if (streq(action, "pause") || streq(action, "run")) {
        if (!run->panicked) /* it may do so again and again */
            log_vm_warning(run->name, "The guest panicked; its hypervisor is set to go on (\"%s\").", action);
        run->panicked = true;
        return;
    }
    run->has_cause = true;
    run->cause = END_PANIC;
}

static void on_watchdog(Run *run, const cJSON *data)
{
    static const char *const ends[] = {"reset", "shutdown", "poweroff"}; /* SHUTDOWN follows */
    const char *action = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "action"));

    for (size_t i = 0; i < ELEMENTSOF(ends); i++)
        run->hung = run->hung || streq(action, ends[i]);
    if (!run->hung)
        log_vm_warning(run->name,
                       "The guest hangs: its watchdog has expired; it goes on, as its definition wants it.");
}

static void hear(Run *run, const char *name, const cJSON *data)
{
    _cleanup_free_ char *text = qemu_event_text(name, data);
    uint64_t memory = qemu_event_memory(name, data);

    if (text)
        direct_run_say(run, (DriverEvent){.type = DRIVER_HEARD, .text = text});
    if (memory > 0)
        direct_run_say(run, (DriverEvent){.type = DRIVER_MEMORY_IS, .memory = memory});
}

static void on_event(Qmp *qmp, const char *name, const cJSON *data, const char *line, void *userdata)
{
    Run *run = userdata;

    if (run->share)
        qmp_share_event(run->share, line);
    hear(run, name, data);
    if (streq(name, "SHUTDOWN")) {
        on_shutdown(run, data);
    } else if (streq(name, "POWERDOWN")) {
        run->others_asked = true; /* unless it was us */
    } else if (streq(name, "GUEST_PANICKED")) {
        on_panic(run, data);
    } else if (streq(name, "WATCHDOG")) {
        on_watchdog(run, data);
    } else if (streq(name, "STOP") || streq(name, "RESUME")) {
        bool paused = streq(name, "STOP");
        if (paused != run->paused && run->announced && !run->has_cause)
            direct_run_say(run, (DriverEvent){.type = paused ? DRIVER_PAUSED : DRIVER_RESUMED});
        run->paused = paused;
    }
}

/* When its QMP connection has ended: so do those who shared it, and the files with them. */
static void unshare(Run *run)
{
    run->own_socket = safe_close(run->own_socket);
    if (!run->share)
        return;
    run->share = qmp_share_free(run->share);
    socket_remove(run->directory, QMP_SOCKET);
    own_socket_remove(run->directory);
}

void direct_run_leave(Run *run)
{
    run->qmp = qmp_free(run->qmp);
    run->agent = agent_free(run->agent);
    unshare(run);
    run->ended = sd_event_source_disable_unref(run->ended);
    run->force = sd_event_source_disable_unref(run->force);
}

static void share(Run *run)
{
    int fd = -EBADF, r;

    if (run->share)
        return;
    r = qmp_share_new(run->driver->event, run->qmp, &run->share);
    if (r >= 0)
        r = socket_listen(run->directory, QMP_SOCKET, &fd);
    if (r >= 0)
        r = qmp_share_listen(run->share, fd);
    if (r >= 0 && run->own_socket >= 0)
        r = qmp_share_listen(run->share, TAKE_FD(run->own_socket));
    if (r < 0) /* no reason to end what runs */
        log_full(LOG_WARNING, run->name, r, "Its QEMU can't be shared at %s/" QMP_SOCKET ": %m",
                 run->directory);
}

static void on_closed(Qmp *qmp, const char *why, void *userdata)
{
    Run *run = userdata;

    log_full(LOG_DEBUG, run->name, 0, "The connection to its QEMU has ended: %s.", why);
    unshare(run);
    run->qmp = qmp_free(run->qmp);
}

static int call_balloon(Run *run, uint64_t bytes, qmp_reply_fn reply)
{
    cJSON *arguments = cJSON_CreateObject();
    int r = -ENOMEM;

    if (cJSON_AddNumberToObject(arguments, "value", (double)bytes))
        r = qmp_call(run->qmp, "balloon", TAKE_PTR(arguments), CALL_USEC, reply, run);
    cJSON_Delete(arguments);
    return r;
}

static void on_first_balloon(Qmp *qmp, const QmpReply *reply, void *userdata)
{
    if (reply->error < 0)
        log_vm_warning(((Run *)userdata)->name, "Its memory balloon could not be told how much to take: %s.",
                       reply->text);
}

/* There is no argument for it; a guest that has not booted yet finds it when it looks. */
static void set_first_balloon(Run *run)
{
    int r = run->balloon_bytes > 0 ? call_balloon(run, run->balloon_bytes, on_first_balloon) : 0;

    if (r < 0)
        log_full(LOG_WARNING, run->name, r, "Its memory balloon could not be told how much to take: %m");
}

/* Anew, without what has been waited for: the next daemon would wait, too. */
static void put_on_record(const Run *run)
{
    int r = process_record_write(run->directory, &(ProcessRecord){.hypervisor = run->recipe->hypervisor,
                                                                  .stop = run->stop,
                                                                  .launched = {run->id, run->invocation},
                                                                  .generation = run->generation,
                                                                  .accel = run->accel});

    if (r < 0)
        log_full(LOG_WARNING, run->name, r,
                 "Its record in %s can't be written, so a restart of microvmd may misjudge whether its guest "
                 "runs: %m",
                 run->directory);
}

static void announce(Run *run)
{
    char unit[UNIT_NAME_SIZE];
    DriverRun told;

    run->announced = true;
    run->ready = strv_free(run->ready);
    put_on_record(run);
    direct_start_free(run->retry);
    run->retry = NULL;
    run->argv = strv_free(run->argv);
    set_first_balloon(run);
    told = direct_run_tell(run, unit);
    direct_run_say(run, (DriverEvent){.type = DRIVER_STARTED,
                                      .run = told,
                                      .call_usec = now_usec(CLOCK_MONOTONIC) - run->asked_usec});
}

/* It answers: QEMU has made its machine, and runs it. */
static void on_status(Qmp *qmp, const QmpReply *reply, void *userdata)
{
    Run *run = userdata;
    bool was_announced;

    if (reply->error < 0) {
        /* What has been announced goes on without; what starts is given up. Mostly it is ending already. */
        free(run->trouble);
        run->trouble = say("%s%s", reply->error == -ENOTCONN ? "the connection to its QEMU has ended: " : "",
                           reply->text);
        if (!run->announced)
            (void)arm_force(run);
        return;
    }
    /* There are many reasons for which it may stand still. */
    run->paused = cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(reply->result, "running"));
    was_announced = run->announced;
    if (!was_announced)
        announce(run);
    else
        direct_run_say(run, (DriverEvent){.type = run->paused ? DRIVER_PAUSED : DRIVER_RESUMED});
    share(run);
    if (run->forced && !was_announced)
        end_at_once(run);
}

/* --- without QMP --- */

static void on_ready(Run *run, int error, const char *text)
{
    if (run->over)
        return; /* which is told in a moment */
    if (error >= 0) {
        announce(run);
        if (run->forced)
            end_at_once(run);
        return;
    }
    free(run->trouble);
    run->trouble = say("\"command.ready\" says that the guest does not run: %s", text);
    kill_it(run);
}

static int wait_ready(Run *run)
{
    if (run->announced)
        return 0;
    if (run->ready)
        return direct_helper_run(run, run->ready, on_ready);
    announce(run);
    return 0;
}

int direct_run_watch(Run *run, int control)
{
    _cleanup_close_ int fd = control;
    QmpHandlers handlers = {on_event, on_closed, run};
    int r;

    r = sd_event_add_io(run->driver->event, &run->ended, run->pidfd, EPOLLIN, on_ended, run);
    if (r >= 0 && !run->recipe->qmp)
        return wait_ready(run);
    if (r < 0 || fd < 0)
        return r;
    r = qmp_new(run->driver->event, fd, &handlers, &run->qmp);
    if (r < 0)
        return r;
    TAKE_FD(fd);
    return qmp_call(run->qmp, "query-status", NULL, START_USEC, on_status, run);
}

/* --- what is asked of it --- */

static void on_answer(Qmp *qmp, const QmpReply *reply, void *userdata)
{
    if (reply->error < 0)
        direct_run_say(userdata,
                       (DriverEvent){.type = DRIVER_CALL_FAILED, .error = reply->error, .text = reply->text});
}

static int command(Run *run, const char *name)
{
    return run->qmp ? qmp_call(run->qmp, name, NULL, CALL_USEC, on_answer, run) : -ENOTCONN;
}

int direct_run_set_paused(Run *run, bool paused)
{
    if (!run->recipe->qmp)
        return -EOPNOTSUPP;
    return command(run, paused ? "stop" : "cont");
}

static void on_memory_set(Qmp *qmp, const QmpReply *reply, void *userdata)
{
    if (reply->error < 0)
        on_answer(qmp, reply, userdata);
    else
        direct_run_say(userdata, (DriverEvent){.type = DRIVER_MEMORY_SET});
}

int direct_run_set_memory(Run *run, uint64_t bytes)
{
    return run->qmp ? call_balloon(run, bytes, on_memory_set) : -ENOTCONN;
}

/* --- what a stop takes --- */

static void on_stop_ended(Run *run, int error, const char *text)
{
    if (error < 0)
        direct_run_say(run, (DriverEvent){.type = DRIVER_CALL_FAILED, .error = error, .text = text});
}

static cJSON *make_key(const char *code)
{
    cJSON *key = cJSON_CreateObject();

    if (cJSON_AddStringToObject(key, "type", "qcode") && cJSON_AddStringToObject(key, "data", code))
        return key;
    cJSON_Delete(key);
    return NULL;
}

static int press_ctrl_alt_del(Run *run)
{
    static const char *const codes[] = {"ctrl", "alt", "delete"};
    cJSON *arguments = cJSON_CreateObject(), *keys = cJSON_AddArrayToObject(arguments, "keys");

    if (!run->qmp) {
        cJSON_Delete(arguments);
        return -ENOTCONN;
    }
    for (size_t i = 0; i < ELEMENTSOF(codes); i++)
        if (!cJSON_AddItemToArray(keys, make_key(codes[i]))) {
            cJSON_Delete(arguments);
            return -ENOMEM;
        }
    return qmp_call(run->qmp, "send-key", arguments, CALL_USEC, on_answer, run);
}

static void on_agent_refusal(Agent *agent, const char *text, void *userdata)
{
    Run *run = userdata;

    run->agent = agent_free(agent);
    direct_run_say(run,
                   (DriverEvent){.type = DRIVER_STOP_REFUSED, .action = STOP_ACTION_AGENT, .text = text});
}

/* Anew each time: one that was asked before may have ended since, with the question. */
static int ask_agent(Run *run)
{
    int fd = -EBADF, r = socket_connect(run->directory, AGENT_SOCKET, &fd);

    run->agent = agent_free(run->agent);
    if (r == -ENOENT)
        return -EOPNOTSUPP; /* the step is newer than the run */
    return r < 0 ? r : agent_new(run->driver->event, fd, on_agent_refusal, run, &run->agent);
}

static int run_stop_program(Run *run)
{
    if (!run->stop)
        return -EOPNOTSUPP;
    return run->helpers ? 0 : direct_helper_run(run, run->stop, on_stop_ended); /* it is asked already */
}

/* The unit may have more processes than the one that is known. */
static void kill_unit(void *argument)
{
    const sd_id128_t *invocation = argument;
    int r = unit_kill(*invocation);

    if (r < 0)
        log_debug("systemd did not send SIGKILL to the unit of invocation " SD_ID128_FORMAT_STR ".",
                  SD_ID128_FORMAT_VAL(*invocation));
}

static int kill_all(Run *run)
{
    sd_id128_t *invocation = sd_id128_is_null(run->invocation) ? NULL : malloc(sizeof(*invocation));

    if (invocation) {
        *invocation = run->invocation;
        if (workers_submit(run->driver->workers, &(Work){kill_unit, free, free, invocation}) < 0)
            free(invocation);
    }
    return direct_run_signal(run, SIGKILL);
}

int direct_run_stop(Run *run, StopAction action)
{
    bool ends = action == STOP_ACTION_TERM || action == STOP_ACTION_KILL;

    /* One that knows nothing but SIGTERM is asked by it. */
    if (action == STOP_ACTION_TERM && !run->recipe->qmp && !run->stop && run->announced) {
        run->asked = true;
        return direct_run_signal(run, SIGTERM);
    }
    run->forced |= ends;
    if (ends && (run->pidfd < 0 || run->over))
        return 0; /* it is being launched, and ended then; or is on its way */
    switch (action) {
    case STOP_ACTION_COMMAND:
        return run_stop_program(run);
    case STOP_ACTION_AGENT:
        return ask_agent(run);
    case STOP_ACTION_ACPI:
        run->we_asked = true;
        return run->recipe->qmp ? command(run, "system_powerdown") : -EOPNOTSUPP;
    case STOP_ACTION_CTRL_ALT_DEL:
        return run->recipe->qmp ? press_ctrl_alt_del(run) : -EOPNOTSUPP;
    case STOP_ACTION_TERM:
        return direct_run_signal(run, SIGTERM);
    case STOP_ACTION_KILL:
        return kill_all(run);
    default:
        return -EOPNOTSUPP;
    }
}
