/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A program of the definition's own that runs beside the hypervisor for a while, as the same user. */
#include "driver/direct/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/say.h"
#include "launch/uid.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* How long it may take. */
static const uint64_t HELPER_USEC = UINT64_C(60) * 1000000;

struct Helper {
    DirectDriver *driver; /* touched by the loop only, as all down to `next` */
    Run *run;             /* NULL: it is gone, and nobody wants to know any more */
    helper_fn done;
    sd_event_source *ended, *late;
    bool timed_out;
    Helper *next;
    /* what it is given */
    char **argv, **environment;
    char *name, *uid_dir, *output;
    uid_t first_uid;
    /* what comes of it */
    int error, pidfd;
    char *text;
};

static void helper_free(void *argument)
{
    Helper *helper = argument;

    sd_event_source_disable_unref(helper->ended);
    sd_event_source_disable_unref(helper->late);
    safe_close(helper->pidfd);
    strv_free(helper->argv);
    strv_free(helper->environment);
    free(helper->name);
    free(helper->uid_dir);
    free(helper->output);
    free(helper->text);
    free(helper);
}

/* --- in the worker --- */

/* Nothing of it is on record: it ends with the daemon, or soon after. */
static int no_record(const Launched *launched, void *userdata)
{
    return 0;
}

static int launch(Helper *helper)
{
    _cleanup_close_ int output =
        open(helper->output, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    Launched launched;
    uid_t uid = 0;
    int r = 0;

    if (output < 0)
        return say_why(&helper->text, -errno, "%s can't be written to: %s", helper->output, strerror(errno));
    if (geteuid() == 0)
        r = uid_allot(helper->uid_dir, helper->name, helper->first_uid, &uid);
    if (r >= 0)
        r = launch_process(&(LaunchRequest){.launcher = LAUNCHER_FORK,
                                            .name = helper->name,
                                            .argv = helper->argv,
                                            .environment = helper->environment,
                                            .output = output,
                                            .uid = uid,
                                            .gid = uid,
                                            .extra_gid = uid},
                           no_record, NULL, &launched, &helper->pidfd, &helper->text);
    if (r < 0 && !helper->text)
        return say_why(&helper->text, r, "%s can't be executed: %s", helper->argv[0], strerror(-r));
    return r;
}

static void helper_run(void *argument)
{
    Helper *helper = argument;

    helper->error = launch(helper);
}

/* --- on the loop --- */

static void finish(Helper *helper, int error, const char *text)
{
    Run *run = helper->run;

    if (run) {
        for (Helper **link = &run->helpers; *link; link = &(*link)->next)
            if (*link == helper) {
                *link = helper->next;
                break;
            }
        helper->done(run, error, text);
    }
    helper_free(helper);
}

static int on_ended(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Helper *helper = userdata;
    _cleanup_free_ char *text = NULL;
    siginfo_t info = {0};
    bool good;

    (void)waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED);
    good = info.si_code == CLD_EXITED && info.si_status == 0;
    if (helper->timed_out)
        text = say("%s did not end", helper->argv[0]);
    else if (!good)
        text = say("%s %s %d", helper->argv[0],
                   info.si_code == CLD_EXITED ? "failed: it exited with status" : "was killed by signal",
                   info.si_status);
    finish(helper, good ? 0 : -EPROTO, text);
    return 0;
}

static int kill_it(Helper *helper)
{
    return syscall(SYS_pidfd_send_signal, helper->pidfd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata)
{
    Helper *helper = userdata;

    helper->timed_out = true;
    (void)kill_it(helper);
    return 0;
}

static void helper_launched(void *argument)
{
    Helper *helper = argument;
    int r = helper->error;

    if (r >= 0)
        r = sd_event_add_io(helper->driver->event, &helper->ended, helper->pidfd, EPOLLIN, on_ended, helper);
    if (r >= 0)
        r = sd_event_add_time_relative(helper->driver->event, &helper->late, CLOCK_MONOTONIC, HELPER_USEC, 0,
                                       on_late, helper);
    if (r < 0)
        finish(helper, r, helper->text ? helper->text : strerror(-r));
    else if (!helper->run)
        (void)kill_it(helper); /* its end is waited for, so that there is no zombie */
}

static char **environment_of(const Run *run)
{
    Command command = {0};
    char **environment;

    command_set_text(&command, "MICROVM_NAME", run->name);
    command_set(&command, "MICROVM_PID", "%d", (int)run->id.pid);
    environment = command.oom ? NULL : TAKE_PTR(command.environment);
    if (environment)
        command.n_environment = 0;
    command_clear(&command);
    return environment;
}

int direct_helper_run(Run *run, char *const *argv, helper_fn done)
{
    Helper *helper = calloc(1, sizeof(*helper));
    DirectDriver *driver = run->driver;
    int r = -ENOMEM;

    if (!helper)
        return r;
    *helper = (Helper){.driver = driver,
                       .run = run,
                       .done = done,
                       .argv = strv_copy(argv),
                       .environment = environment_of(run),
                       .name = strdup(run->name),
                       .uid_dir = strdup(driver->uid_dir),
                       .first_uid = driver->first_uid,
                       .pidfd = -EBADF};
    if (helper->argv && helper->environment && helper->name && helper->uid_dir &&
        asprintf(&helper->output, "%s/vm/%s/" OUTPUT_FILE, driver->state_dir, run->name) >= 0)
        r = workers_submit(driver->workers, &(Work){helper_run, helper_launched, helper_free, helper});
    if (r < 0) {
        helper_free(helper);
        return r;
    }
    helper->next = run->helpers;
    run->helpers = helper;
    return 0;
}

void direct_helpers_forget(Run *run)
{
    for (Helper *helper = run->helpers; helper; helper = helper->next) {
        helper->run = NULL;
        if (helper->pidfd >= 0)
            (void)kill_it(helper);
    }
    run->helpers = NULL;
}
