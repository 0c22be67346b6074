/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/say.h"
#include "bus/server.h"

static int send_list(sd_bus_message *reply, const char *type, size_t n, bus_append_fn append,
                     const void *items)
{
    int r = sd_bus_message_open_container(reply, 'a', type);

    for (size_t i = 0; i < n && r >= 0; i++)
        r = append(reply, items, i);
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

int bus_reply_list(sd_bus_message *message, const char *type, size_t n, bus_append_fn append,
                   const void *items)
{
    sd_bus_message *reply = NULL;
    int r;

    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = send_list(reply, type, n, append, items);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 1;
}

static int append_string(sd_bus_message *reply, const void *items, size_t index)
{
    return sd_bus_message_append(reply, "s", ((char *const *)items)[index]);
}

int bus_reply_strings(sd_bus_message *message, char *const *strings)
{
    size_t n = 0;

    while (strings && strings[n])
        n++;
    return bus_reply_list(message, "s", n, append_string, strings);
}

/* A place in another file than the one that was sent is part of the text. */
static int append_problem(sd_bus_message *reply, const void *items, size_t index)
{
    const Problem *problem = (const Problem *)items + index;
    const char *severity = problem->severity == PROBLEM_ERROR ? "error" : "warning";
    const char *pointer = problem->pointer ? problem->pointer : "";
    _cleanup_free_ char *text = NULL;

    if (!problem->file)
        return sd_bus_message_append(reply, "(sssuu)", severity, pointer, problem->text ? problem->text : "",
                                     problem->line, problem->column);
    if (problem->line > 0)
        text = say("%s:%u:%u: %s", problem->file, problem->line, problem->column,
                   problem->text ? problem->text : "");
    else
        text = say("%s: %s", problem->file, problem->text ? problem->text : "");
    return sd_bus_message_append(reply, "(sssuu)", severity, pointer, text ? text : "", 0, 0);
}

int bus_reply_problems(sd_bus_message *message, const ProblemList *problems)
{
    return bus_reply_list(message, "(sssuu)", problems->count, append_problem, problems->items);
}
