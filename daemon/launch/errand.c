/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "launch/errand.h"

#include "base/log.h"
#include "base/parse.h"
#include "base/say.h"
#include "base/strv.h"
#include "launch/launch.h"
#include "launch/marked.h"
#include "launch/uid.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

struct Errand {
    sd_event *event;     /* touched by the loop only, as all down to `timeout_usec` */
    errand_done_fn done; /* NULL: nobody wants to know any more */
    void *userdata;
    sd_event_source *ended, *late;
    bool launched;  /* the worker is done with it */
    bool discarded; /* no worker comes to it any more */
    bool timed_out;
    uint64_t timeout_usec;
    /* what it is given */
    char **argv, *environment[5];
    char *name, *uid_dir, *output;
    bool output_anew;
    uid_t first_uid;
    /* what comes of it */
    int error, pidfd;
    pid_t pid;
    char *text;
};

static void errand_free(Errand *errand)
{
    sd_event_source_disable_unref(errand->ended);
    sd_event_source_disable_unref(errand->late);
    safe_close(errand->pidfd);
    strv_free(errand->argv);
    for (size_t i = 0; i < ELEMENTSOF(errand->environment); i++)
        free(errand->environment[i]);
    sd_event_unref(errand->event);
    free(errand->name);
    free(errand->uid_dir);
    free(errand->output);
    free(errand->text);
    free(errand);
}

/* --- in the worker --- */

/* Nothing of it is on record: it ends with the daemon, or soon after. */
static int no_record(const Launched *launched, void *userdata)
{
    return 0;
}

static int launch(Errand *errand)
{
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | (errand->output_anew ? O_TRUNC : 0);
    _cleanup_close_ int output = open(errand->output, flags, 0600);
    _cleanup_free_ char *helper = NULL;
    Launched launched;
    uid_t uid = 0;
    int r;

    if (output < 0)
        return say_why(&errand->text, -errno, "%s can't be written to: %s", errand->output, strerror(errno));
    r = helper_find(&helper, &errand->text);
    if (r >= 0 && geteuid() == 0)
        r = uid_allot(errand->uid_dir, errand->name, errand->first_uid, &uid);
    if (r >= 0)
        r = launch_process(&(LaunchRequest){.launcher = LAUNCHER_FORK,
                                            .helper = helper,
                                            .name = errand->name,
                                            .argv = errand->argv,
                                            .environment = errand->environment,
                                            .output = output,
                                            .uid = uid,
                                            .gid = uid,
                                            .extra_gid = uid},
                           no_record, NULL, &launched, &errand->pidfd, &errand->text);
    if (r < 0 && !errand->text)
        return say_why(&errand->text, r, "%s can't be executed: %s", errand->argv[0], strerror(-r));
    errand->pid = r < 0 ? 0 : launched.id.pid;
    return r;
}

static void errand_work(void *argument)
{
    Errand *errand = argument;

    errand->error = launch(errand);
}

/* --- on the loop --- */

/* It has a session of its own, and was not waited for: the number is nobody else's. */
static void kill_it(const Errand *errand)
{
    if (errand->pid > 0)
        (void)kill(-errand->pid, SIGKILL);
}

static void finish(Errand *errand, int error, const char *text)
{
    if (errand->done)
        errand->done(error, text, errand->userdata);
    errand_free(errand);
}

static int on_ended(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Errand *errand = userdata;
    _cleanup_free_ char *text = NULL;
    siginfo_t info = {0};
    char span[64];
    bool good;

    /* One that a debugger holds would be waited for until that lets it go. */
    (void)waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG);
    good = info.si_code == CLD_EXITED && info.si_status == 0;
    format_duration(errand->timeout_usec, span, sizeof(span));
    if (errand->timed_out)
        text = say("%s did not end within %s", errand->argv[0], span);
    else if (info.si_pid == 0)
        text = say("%s has ended, and a debugger keeps from microvmd how", errand->argv[0]);
    else if (!good)
        text = say("%s %s %d", errand->argv[0],
                   info.si_code == CLD_EXITED ? "failed: it exited with status" : "was killed by signal",
                   info.si_status);
    finish(errand, good ? 0 : -EPROTO, text);
    return 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata)
{
    Errand *errand = userdata;

    errand->timed_out = true;
    kill_it(errand);
    return 0;
}

static void errand_launched(void *argument)
{
    Errand *errand = argument;
    int r = errand->error;

    errand->launched = true;
    if (r >= 0)
        r = sd_event_add_io(errand->event, &errand->ended, errand->pidfd, EPOLLIN, on_ended, errand);
    if (r >= 0)
        r = sd_event_add_time_relative(errand->event, &errand->late, CLOCK_MONOTONIC, errand->timeout_usec, 0,
                                       on_late, errand);
    if (r < 0)
        finish(errand, r, errand->text ? errand->text : strerror(-r));
    else if (!errand->done)
        kill_it(errand); /* its end is waited for, so that there is no zombie */
}

/* The workers go, with the daemon; whoever holds the errand may still forget it. */
static void errand_discard(void *argument)
{
    Errand *errand = argument;

    kill_it(errand);
    errand->discarded = true;
    if (!errand->done)
        errand_free(errand);
}

int errand_run(const ErrandRequest *request, errand_done_fn done, void *userdata, Errand **ret_errand)
{
    Errand *errand = calloc(1, sizeof(*errand));
    int r = -ENOMEM;

    if (!errand)
        return r;
    *errand = (Errand){
        .event = sd_event_ref(request->event),
        .done = done,
        .userdata = userdata,
        .timeout_usec = request->timeout_usec,
        .argv = strv_copy(request->argv),
        .environment = {say("MICROVM_NAME=%s", request->name), say("MICROVM_PID=%d", (int)request->pid),
                        mark_of_run(request->runtime_dir, request->generation), strdup(MARK_OF_ERRAND)},
        .name = strdup(request->name),
        .uid_dir = strdup(request->uid_dir),
        .output = strdup(request->output),
        .output_anew = request->output_anew,
        .first_uid = request->first_uid,
        .pidfd = -EBADF};
    if (errand->argv && errand->environment[0] && errand->environment[1] && errand->environment[2] &&
        errand->environment[3] && errand->name && errand->uid_dir && errand->output)
        r = workers_submit(request->workers, &(Work){errand_work, errand_launched, errand_discard, errand});
    if (r < 0)
        errand_free(errand);
    else
        *ret_errand = errand;
    return r;
}

void errand_forget(Errand *errand)
{
    if (!errand)
        return;
    errand->done = NULL;
    if (errand->discarded)
        errand_free(errand);
    else if (errand->launched)
        kill_it(errand);
}

static void end_orphan(pid_t pid, const char *microvm, sd_id128_t generation, bool errand, void *userdata)
{
    if (errand && kill(pid, SIGKILL) >= 0)
        log_vm_info(microvm, "Ended process %d, which was run for it by a microvmd that has ended.",
                    (int)pid);
}

void errand_sweep(const char *directory)
{
    int r = marked_each(directory, end_orphan, NULL);

    if (r < 0)
        log_warning_errno(r, "Can't look for programs that a former microvmd has left running: %m");
}
