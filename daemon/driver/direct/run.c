/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A hypervisor process that lives: what it says by QMP, and what is asked of it. */
#include "driver/direct/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const uint64_t CALL_USEC = UINT64_C(10) * 1000000;
static const uint64_t START_USEC = UINT64_C(60) * 1000000; /* a hypervisor that loads from a slow disk */
static const uint64_t FORCE_USEC = UINT64_C(3) * 1000000;  /* for QEMU to write its images back */

static void say(Run *run, DriverEvent event)
{
    event.name = run->name;
    event.generation = run->generation;
    direct_say(run->driver, &event);
}

int direct_run_signal(Run *run, int number)
{
    if (run->pidfd < 0)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, run->pidfd, number, NULL, 0) < 0 ? -errno : 0;
}

void direct_run_kill(Run *run)
{
    siginfo_t info;

    if (run->pidfd >= 0 && direct_run_signal(run, SIGKILL) >= 0)
        (void)waitid((idtype_t)P_PIDFD, (id_t)run->pidfd, &info, WEXITED);
}

static int on_force_due(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)direct_run_signal(userdata, SIGKILL);
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
    {"guest-shutdown", END_POWEROFF}, {"guest-reset", END_REBOOT},     {"guest-panic", END_PANIC},
    {"host-qmp-quit", END_DESTROYED}, {"host-signal", END_TERMINATED}, {"host-error", END_CRASHED},
};

static void on_shutdown(Run *run, const cJSON *data)
{
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "reason"));

    run->has_cause = true;
    run->cause = END_SHUTDOWN;
    for (size_t i = 0; i < ELEMENTSOF(causes); i++)
        if (streq(reason, causes[i].reason))
            run->cause = causes[i].cause;
}

static void on_event(Qmp *qmp, const char *name, const cJSON *data, void *userdata)
{
    Run *run = userdata;

    if (streq(name, "SHUTDOWN")) {
        on_shutdown(run, data);
    } else if (streq(name, "GUEST_PANICKED")) {
        run->has_cause = true;
        run->cause = END_PANIC;
    } else if (streq(name, "STOP") || streq(name, "RESUME")) {
        bool paused = streq(name, "STOP");
        if (paused != run->paused && run->announced && !run->has_cause)
            say(run, (DriverEvent){.type = paused ? DRIVER_PAUSED : DRIVER_RESUMED});
        run->paused = paused;
    }
}

static void on_closed(Qmp *qmp, const char *why, void *userdata)
{
    Run *run = userdata;

    log_full(LOG_DEBUG, run->name, 0, "The connection to its QEMU has ended: %s.", why);
    run->qmp = qmp_free(run->qmp);
}

static void announce(Run *run)
{
    char unit[UNIT_NAME_SIZE];
    DriverRun told;

    run->announced = true;
    direct_start_free(run->retry);
    run->retry = NULL;
    told = direct_run_tell(run, unit);
    say(run, (DriverEvent){.type = DRIVER_STARTED,
                           .run = told,
                           .call_usec = now_usec(CLOCK_MONOTONIC) - run->asked_usec});
    if (run->forced)
        (void)direct_run_force(run);
}

/* It answers: QEMU has made its machine, and runs it. */
static void on_status(Qmp *qmp, int error, const char *text, const cJSON *result, void *userdata)
{
    Run *run = userdata;
    const char *status = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "status"));

    if (error < 0) {
        /* What has been announced goes on without; what starts is given up. Mostly it is ending already. */
        run->trouble = text;
        if (!run->announced)
            (void)arm_force(run);
        return;
    }
    run->paused = streq(status, "paused");
    if (run->announced) {
        if (run->paused)
            say(run, (DriverEvent){.type = DRIVER_PAUSED});
        return;
    }
    announce(run);
}

/* --- without QMP --- */

static void on_ready(Run *run, int error, const char *text)
{
    if (error >= 0) {
        announce(run);
        return;
    }
    free(run->unready);
    if (asprintf(&run->unready, "\"command.ready\" says that the guest does not run: %s", text) < 0)
        run->unready = NULL;
    run->trouble = run->unready;
    (void)direct_run_signal(run, SIGKILL);
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

static void on_answer(Qmp *qmp, int error, const char *text, const cJSON *result, void *userdata)
{
    if (error < 0)
        say(userdata, (DriverEvent){.type = DRIVER_CALL_FAILED, .error = error, .text = text});
}

static int command(Run *run, const char *name)
{
    return run->qmp ? qmp_call(run->qmp, name, NULL, CALL_USEC, on_answer, run) : -ENOTCONN;
}

static void on_stop_ended(Run *run, int error, const char *text)
{
    if (error < 0)
        say(run, (DriverEvent){.type = DRIVER_CALL_FAILED, .error = error, .text = text});
}

int direct_run_ask(Run *run)
{
    if (run->recipe->qmp)
        return command(run, "system_powerdown");
    if (run->stop)
        return run->helpers ? 0 : direct_helper_run(run, run->stop, on_stop_ended); /* it is asked already */
    run->asked = true;
    return direct_run_signal(run, SIGTERM);
}

int direct_run_set_paused(Run *run, bool paused)
{
    if (!run->recipe->qmp)
        return -EOPNOTSUPP;
    return command(run, paused ? "stop" : "cont");
}

int direct_run_force(Run *run)
{
    int r;

    run->forced = true;
    if (run->pidfd < 0 || run->over) /* it is being launched, and ended then; or is on its way */
        return 0;
    r = direct_run_signal(run, SIGTERM);
    return r < 0 ? r : arm_force(run);
}
