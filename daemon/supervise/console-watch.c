/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/console-watch.h"

#include "supervise/console-lines.h"
#include "supervise/log-follow.h"

#include <regex.h>

/* How soon a change of the log is looked at. */
#define PACE_USEC UINT64_C(50000)

enum {
    CHUNK = 16 * 1024,
    BUDGET = 256 * 1024, /* bytes at a time: a guest that floods its console does not hold up the loop */
};

struct ConsoleWatch {
    sd_event *event;
    console_heard_fn heard;
    void *userdata;
    LogFollow *follow;
    LineCutter cutter;
    regex_t regex;
    bool has_regex, spoke;
    sd_event_source *timer;
    char chunk[CHUNK];
};

ConsoleWatch *console_watch_free(ConsoleWatch *watch)
{
    if (!watch)
        return NULL;
    sd_event_source_disable_unref(watch->timer);
    log_follow_free(watch->follow);
    if (watch->has_regex)
        regfree(&watch->regex);
    sd_event_unref(watch->event);
    free(watch);
    return NULL;
}

static bool matches(const ConsoleWatch *watch, const char *line, int flags)
{
    return watch->has_regex && regexec(&watch->regex, line, 0, NULL, flags) == 0;
}

/* A prompt has no end of line. */
static bool unfinished_matches(const ConsoleWatch *watch)
{
    char line[CONSOLE_LINE_MAX + 1];

    if (watch->cutter.length == 0)
        return false;
    memcpy(line, watch->cutter.text, watch->cutter.length);
    line[watch->cutter.length] = '\0';
    return matches(watch, line, REG_NOTEOL);
}

static bool take(ConsoleWatch *watch, size_t size, bool *spoke)
{
    const char *line;

    for (size_t taken = 0; taken < size;) {
        taken += line_cutter_take(&watch->cutter, watch->chunk + taken, size - taken, &line);
        *spoke = *spoke || line || watch->cutter.length > 0;
        if (line && matches(watch, line, 0))
            return true;
    }
    return false;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static void call_later(ConsoleWatch *watch, uint64_t usec)
{
    if (!watch->timer)
        (void)sd_event_add_time_relative(watch->event, &watch->timer, CLOCK_MONOTONIC, usec, 0, on_timer,
                                         watch);
}

static void pump(void *userdata)
{
    ConsoleWatch *watch = userdata;
    bool spoke = false, matched = false;
    ssize_t n = 1;

    for (size_t taken = 0; n > 0 && !matched; taken += (size_t)n) {
        if (taken >= BUDGET) {
            call_later(watch, PACE_USEC);
            break;
        }
        n = log_follow_read(watch->follow, watch->chunk, sizeof(watch->chunk));
        if (n <= 0)
            break;
        matched = take(watch, (size_t)n, &spoke);
    }
    matched = matched || unfinished_matches(watch);
    spoke = spoke && !watch->spoke;
    watch->spoke = watch->spoke || spoke;
    if (spoke || matched)
        watch->heard(matched, watch->userdata);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    ConsoleWatch *watch = userdata;

    watch->timer = sd_event_source_disable_unref(watch->timer);
    pump(watch);
    return 0;
}

int console_watch_new(sd_event *event, const char *state_dir, const char *pattern, console_heard_fn heard,
                      void *userdata, ConsoleWatch **ret_watch)
{
    _cleanup_(console_watch_freep)
    ConsoleWatch *watch = calloc(1, sizeof(*watch));
    int r;

    if (!watch)
        return -ENOMEM;
    watch->event = sd_event_ref(event);
    watch->heard = heard;
    watch->userdata = userdata;
    if (pattern) {
        if (regcomp(&watch->regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
            return -EINVAL;
        watch->has_regex = true;
    }
    r = log_follow_new(event, state_dir, &(LogFollowOptions){.follow = true, .from = &(LogPlace){0}},
                       PACE_USEC, pump, watch, &watch->follow);
    if (r >= 0)
        r = sd_event_add_time_relative(event, &watch->timer, CLOCK_MONOTONIC, 0, 0, on_timer, watch);
    if (r < 0)
        return r;
    *ret_watch = TAKE_PTR(watch);
    return 0;
}
