/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a hypervisor ended: of a child the kernel tells it, of a unit systemd, a moment later. */
#include "driver/direct/internal.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/say.h"
#include "base/utf8.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
    OUTPUT_MAX = 64 * 1024,
    LAST_WORDS_MAX = 200, /* bytes of it that a reason quotes */
};

/* The last line that it wrote, NULL: none. What it says is shown to people, so only what can be. */
static char *last_words(const Run *run)
{
    _cleanup_free_ char *text = NULL;
    size_t size;
    char *end, *line;

    if (!run->output || read_file(run->output, OUTPUT_MAX, &text, &size) < 0)
        return NULL;
    for (end = text + strlen(text); end > text && end[-1] == '\n';)
        *--end = '\0';
    line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    line = line[0] ? strndup(line, LAST_WORDS_MAX) : NULL;
    if (line)
        utf8_make_printable(line); /* a character may have been cut, too */
    return line;
}

char *direct_end_describe(const ProcessEnd *end, const char *words)
{
    const char *colon = words ? ": " : "", *abbreviation = sigabbrev_np(end->status);

    words = words ? words : "";
    if (end->code == CLD_EXITED)
        return say("the hypervisor exited with status %d%s%s", end->status, colon, words);
    if (end->code == CLD_KILLED || end->code == CLD_DUMPED)
        return say("the hypervisor was killed by SIG%s%s%s", abbreviation ? abbreviation : "?", colon, words);
    return say("the hypervisor ended, nobody knows how: it was started by an earlier microvmd, or systemd "
               "does not tell%s%s",
               colon, words);
}

EndCause direct_end_cause(const ProcessEnd *end)
{
    if (end->stopped)
        return END_UNIT_STOPPED;
    if (end->oom)
        return END_OOM;
    if (end->code == CLD_KILLED && (end->status == SIGTERM || end->status == SIGINT || end->status == SIGHUP))
        return END_TERMINATED;
    if (end->code == CLD_EXITED && end->status != 0)
        return END_EXITED;
    return END_CRASHED;
}

/* One that speaks no QMP ends when its guest does; or as it was asked to. */
static bool ended_by_itself(const Run *run, const ProcessEnd *end)
{
    if (run->recipe->qmp || end->stopped || end->oom)
        return false;
    return (end->code == CLD_EXITED && end->status == 0) ||
           (run->asked && end->code == CLD_KILLED && end->status == SIGTERM);
}

/* What QEMU said itself says more than how its process ended, unless it was made to. */
static EndCause find_cause(const Run *run, const ProcessEnd *end)
{
    bool by_guest = run->has_cause && (run->cause == END_POWEROFF || run->cause == END_REBOOT);

    if (run->forced && !by_guest)
        return END_DESTROYED;
    if (run->has_cause && !end->stopped && !end->oom)
        return run->cause;
    return ended_by_itself(run, end) ? END_POWEROFF : direct_end_cause(end);
}

EndDetails direct_end_details(const ProcessEnd *end)
{
    EndDetails details = {.code = end->code, .status = end->status, .memory_peak = end->memory_peak};

    snprintf(details.unit_result, sizeof(details.unit_result), "%s", end->unit_result);
    return details;
}

static void tell_end(Run *run, EndCause cause, const ProcessEnd *end, const char *text)
{
    if (cause == END_ASKED)
        text = "QMP's system_powerdown";
    else if (cause == END_DESTROYED && !run->forced)
        text = "QMP's quit";
    direct_run_say(
        run, (DriverEvent){
                 .type = DRIVER_ENDED, .cause = cause, .text = text, .details = direct_end_details(end)});
}

static void finish(Run *run, const ProcessEnd *end)
{
    _cleanup_free_ char *words = last_words(run), *text = direct_end_describe(end, words);

    fault_point("before its end is told");
    if (!run->announced && run->retry && !run->forced && !run->killed) {
        log_full(LOG_INFO, run->name, 0, "%s; trying without the CPU's arch-capabilities.",
                 text ? text : "It ended at once");
        run->pidfd = safe_close(run->pidfd);
        run->over = false;
        free(TAKE_PTR(run->trouble));
        if (direct_start_again(run) >= 0)
            return;
    }
    if (run->announced || run->forced) {
        tell_end(run, find_cause(run, end), end, text);
    } else {
        direct_look_again(run->driver);
        /* Of one that ended by itself it says more how it did. */
        direct_run_say(run, (DriverEvent){.type = DRIVER_START_FAILED,
                                          .error = -EIO,
                                          .details = direct_end_details(end),
                                          .argv = run->argv,
                                          .text = run->killed && run->trouble ? run->trouble : text});
    }
    direct_run_free(run);
}

/* --- of a unit --- */

typedef struct UnitEnd {
    DirectDriver *driver; /* touched by the loop only */
    char *name, *directory;
    sd_id128_t generation, invocation;
    uint64_t memory_peak;
    ProcessEnd end;
} UnitEnd;

static void unit_end_free(void *argument)
{
    UnitEnd *ended = argument;

    free(ended->name);
    free(ended->directory);
    free(ended);
}

/*
 * First it is known how it ended, then no record says any more that it runs, then its unit goes: one that is
 * gone while there is a record of it was stopped by somebody.
 */
static void read_end(void *argument)
{
    UnitEnd *ended = argument;
    UnitLeft left = UNIT_LEFT_NOTHING;
    int r = unit_end(ended->name, ended->invocation, &ended->end, &left);

    if (r < 0)
        log_full(LOG_WARNING, ended->name, r, "systemd does not tell how its hypervisor ended: %m");
    ended->end.memory_peak = MAX(ended->end.memory_peak, ended->memory_peak);
    direct_run_files_remove(ended->directory);
    unit_forget(ended->name, left);
}

static void end_read(void *argument)
{
    UnitEnd *ended = argument;
    Run *run = direct_run_find(ended->driver, ended->name, ended->generation);

    if (run)
        finish(run, &ended->end);
    unit_end_free(ended);
}

static int ask_systemd(const Run *run)
{
    UnitEnd *ended = calloc(1, sizeof(*ended));
    int r = -ENOMEM;

    if (!ended)
        return r;
    *ended = (UnitEnd){.driver = run->driver,
                       .name = strdup(run->name),
                       .directory = strdup(run->directory),
                       .generation = run->generation,
                       .invocation = run->invocation,
                       .memory_peak = unit_memory_peak(run->name)}; /* while systemd has not taken it away */
    if (ended->name && ended->directory)
        r = workers_submit(run->driver->workers, &(Work){read_end, end_read, unit_end_free, ended});
    if (r < 0)
        unit_end_free(ended);
    return r;
}

void direct_run_ended(Run *run)
{
    ProcessEnd end = {0};
    siginfo_t info = {0};
    struct rusage usage = {0};

    fault_point("before its end is looked into");
    run->over = true;
    direct_run_leave(run);
    if (!sd_id128_is_null(run->invocation) && ask_systemd(run) >= 0)
        return;
    /* Not a child of ours if an earlier daemon started it: then nobody can know. */
    (void)syscall(SYS_waitid, P_PIDFD, run->pidfd, &info, WEXITED | WNOHANG, &usage);
    end.code = info.si_code;
    end.status = info.si_status;
    end.memory_peak = (uint64_t)usage.ru_maxrss * 1024;
    direct_run_files_remove(run->directory);
    finish(run, &end);
}
