/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stops of one or several microVMs, and of those that require them. */
#include "definition.h"
#include "jobs.h"

#include <stdio.h>
#include <string.h>

static int stop_several(Ctl *ctl, const VmRows *rows, Jobs *jobs)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    int code = ctl_new_call(ctl, NULL, "StopMicroVMs", &call), r;

    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_open_container(call, 'a', "s");
    for (size_t i = 0; i < rows->count && r >= 0; i++)
        r = sd_bus_message_append(call, "s", rows->items[i].name);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r >= 0)
        r = jobs_append_options(ctl, call);
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r))
                 : jobs_run_call(ctl, "Stop", call, jobs);
}

/* One is asked itself, so that polkit's rules hear of which one it is. */
static int stop(Ctl *ctl, const VmRows *rows, Jobs *jobs)
{
    return rows->count == 1 ? jobs_run(ctl, "Stop", rows, jobs) : stop_several(ctl, rows, jobs);
}

int jobs_stop(Ctl *ctl, const VmRows *rows, Jobs *ret_jobs)
{
    _cleanup_free_ char *why = NULL;
    int code;

    if (rows->count == 0) {
        *ret_jobs = (Jobs){.ctl = ctl};
        return MICROVM_EXIT_OK;
    }
    code = stop(ctl, rows, ret_jobs);
    if (!ret_jobs->required)
        return code;
    why = escape(ret_jobs->required, ESCAPE_LINE);
    fail(code, "Nothing is stopped: %s.", why ? why : "others require it");
    if (isatty(STDIN_FILENO) && define_ask("Stop them as well, before it?")) {
        jobs_clear(ret_jobs);
        ctl->dependents = "stop";
        return stop(ctl, rows, ret_jobs);
    }
    fprintf(stderr,
            "With them, in order: microvmctl stop --with-dependents %s; without: --ignore-dependents\n",
            rows->count == 1 ? rows->items[0].name : "NAME...");
    return code;
}
