/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/server.h"

/* A place in another file than the one that was sent is part of the text. */
static int append_problem(sd_bus_message *reply, const Problem *problem)
{
    const char *severity = problem->severity == PROBLEM_ERROR ? "error" : "warning";
    const char *pointer = problem->pointer ? problem->pointer : "";
    _cleanup_free_ char *text = NULL;

    if (!problem->file)
        return sd_bus_message_append(reply, "(sssuu)", severity, pointer, problem->text ? problem->text : "",
                                     problem->line, problem->column);
    text = problem_format(problem);
    return sd_bus_message_append(reply, "(sssuu)", severity, pointer, text ? text : "", 0, 0);
}

int bus_reply_problems(sd_bus_message *message, const ProblemList *problems)
{
    sd_bus_message *reply = NULL;
    int r;

    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(sssuu)");
    for (size_t i = 0; i < problems->count && r >= 0; i++)
        r = append_problem(reply, &problems->items[i]);
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 1;
}
