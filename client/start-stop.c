/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* start, stop, restart; the stop of all, at the host's shutdown and for its maintenance. */
#include "jobs.h"

#include <stdio.h>
#include <string.h>

#define SHUTDOWN_UNIT_PATH "/org/freedesktop/systemd1/unit/microvmd_2dshutdown_2eservice"

static int run_verb(Ctl *ctl, const char *member)
{
    _cleanup_(jobs_clear)
    Jobs jobs = {0};
    _cleanup_rows_ VmRows rows = {0};
    int code;

    code = ctl_targets(ctl, false, &rows);
    return code != MICROVM_EXIT_OK ? code : jobs_run(ctl, member, &rows, &jobs);
}

int verb_start(Ctl *ctl)
{
    return run_verb(ctl, "Start");
}

int verb_restart(Ctl *ctl)
{
    return run_verb(ctl, "Restart");
}

/* The one knob is TimeoutStopSec= of the unit; a rest of it is for the ends by force, and for telling. */
static uint64_t shutdown_budget(Ctl *ctl)
{
    enum {
        RESERVE = 10,
        LEAST = 5,
        WITHOUT_SYSTEMD = 90,
        PATIENCE = 5
    };
    _cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
    uint64_t usec = UINT64_MAX;

    if (sd_bus_message_new_method_call(ctl->bus, &call, "org.freedesktop.systemd1", SHUTDOWN_UNIT_PATH,
                                       "org.freedesktop.DBus.Properties", "Get") < 0 ||
        sd_bus_message_set_auto_start(call, 0) < 0 ||
        sd_bus_message_append(call, "ss", "org.freedesktop.systemd1.Service", "TimeoutStopUSec") < 0 ||
        sd_bus_call(ctl->bus, call, PATIENCE * USEC_PER_SEC, NULL, &reply) < 0 ||
        sd_bus_message_read(reply, "v", "t", &usec) < 0 || usec == UINT64_MAX || usec == 0)
        return WITHOUT_SYSTEMD * USEC_PER_SEC;
    return usec > (RESERVE + LEAST) * USEC_PER_SEC ? usec - RESERVE * USEC_PER_SEC : LEAST * USEC_PER_SEC;
}

/* Who was cut off is said by name. LastStop of what had no guest to stop is an older story. */
static void tell_forced(Ctl *ctl, const Jobs *jobs)
{
    static const char *const with_guest[] = {"starting", "running", "paused", "stopping"};

    for (size_t i = 0; i < jobs->count; i++) {
        const VmRow *row = jobs->items[i].row;
        _cleanup_json_ cJSON *properties = NULL;
        bool had_guest = false;
        for (size_t k = 0; k < ELEMENTSOF(with_guest); k++)
            had_guest = had_guest || strcmp(row->state, with_guest[k]) == 0;
        if (!had_guest || !jobs->items[i].over)
            continue;
        if (ctl_get_all(ctl, row->path, row->name, &properties) == MICROVM_EXIT_UNREACHABLE)
            return;
        if (strcmp(json_text(properties, "LastStop"), "forced") == 0)
            printf("%s did not shut down in time and was ended by force.\n", row->name);
    }
}

static int stop_for_shutdown(Ctl *ctl)
{
    _cleanup_(jobs_clear)
    Jobs jobs = {0};
    _cleanup_rows_ VmRows rows = {0};
    int code;

    if (!(ctl->given & OPTION_ALL))
        return fail(MICROVM_EXIT_USAGE,
                    "--host-shutdown is for all microVMs: microvmctl stop --all --host-shutdown");
    code = ctl_connect(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (sd_bus_get_name_creds(ctl->bus, MICROVM_BUS_NAME, 0, NULL) < 0) {
        fputs("microvmd is not running: there is nothing that it could stop.\n", stderr);
        return MICROVM_EXIT_OK;
    }
    if (ctl->timeout_usec == UINT64_MAX)
        ctl->timeout_usec = shutdown_budget(ctl);
    ctl->no_block = false; /* who asks for this goes on with the shutdown when we are gone */
    code = ctl_targets(ctl, false, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    code = jobs_stop(ctl, &rows, &jobs);
    if (!jobs.daemon_gone)
        tell_forced(ctl, &jobs);
    return code;
}

int verb_stop(Ctl *ctl)
{
    _cleanup_(jobs_clear)
    Jobs jobs = {0};
    _cleanup_rows_ VmRows rows = {0};
    int code;

    if (ctl->given & OPTION_HOST_SHUTDOWN)
        return stop_for_shutdown(ctl);
    code = ctl_targets(ctl, false, &rows);
    return code != MICROVM_EXIT_OK ? code : jobs_stop(ctl, &rows, &jobs);
}

/* --- a host that is emptied for maintenance --- */

static int say_drained(Ctl *ctl, const Jobs *jobs, int code)
{
    if (!jobs->daemon_gone)
        tell_forced(ctl, jobs);
    if (code == MICROVM_EXIT_OK && !ctl->quiet && ctl->json == JSON_OFF)
        puts(ctl->no_block ? "This host is being drained. Nothing starts on it until: microvmctl undrain"
                           : "This host is drained. Nothing starts on it until: microvmctl undrain");
    return code;
}

/* Runs the jobs that a method of the manager answers with; its arguments in the manner of
 * sd_bus_message_append(). An exit code. */
static int run_jobs(Ctl *ctl, Jobs *jobs, const char *verb, const char *member, const char *types, ...)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    int code = ctl_connect(ctl), r;
    va_list arguments;

    if (code == MICROVM_EXIT_OK)
        code = ctl_new_call(ctl, NULL, member, &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    va_start(arguments, types);
    r = sd_bus_message_appendv(call, types, arguments);
    va_end(arguments);
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r))
                 : jobs_run_call(ctl, verb, call, jobs);
}

int verb_drain(Ctl *ctl)
{
    _cleanup_(jobs_clear)
    Jobs jobs = {0};

    return say_drained(ctl, &jobs,
                       ctl->timeout_usec != UINT64_MAX ? run_jobs(ctl, &jobs, "Stop", "Drain", "a{sv}", 1,
                                                                  "timeout", "t", ctl->timeout_usec)
                                                       : run_jobs(ctl, &jobs, "Stop", "Drain", "a{sv}", 0));
}

int verb_undrain(Ctl *ctl)
{
    _cleanup_(jobs_clear)
    Jobs jobs = {0};

    return run_jobs(ctl, &jobs, "Start", "Undrain", "a{sv}", 1, "start", "b",
                    !(ctl->given & OPTION_NO_START));
}
