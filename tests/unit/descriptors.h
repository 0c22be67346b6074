/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process that has no descriptor left, and how often its loop is woken then. */
#ifndef TEST_DESCRIPTORS_H
#define TEST_DESCRIPTORS_H

#include <fcntl.h>
#include <sys/resource.h>
#include <systemd/sd-event.h>
#include <unistd.h>

/* Those that are open stay so. Returns what the limit was. */
static inline struct rlimit descriptors_none(void)
{
    struct rlimit before, none;
    int next = fcntl(0, F_DUPFD_CLOEXEC, 0);

    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    return before;
}

static inline void descriptors_again(const struct rlimit *before)
{
    assert_int_equal(setrlimit(RLIMIT_NOFILE, before), 0);
}

/* How often, in half a second. */
static inline unsigned wake_ups(sd_event *event)
{
    uint64_t now, end;
    unsigned n = 0;

    assert_true(sd_event_run(event, 0) >= 0);
    assert_true(sd_event_now(event, CLOCK_MONOTONIC, &now) >= 0);
    for (end = now + 500000; now < end; assert_true(sd_event_now(event, CLOCK_MONOTONIC, &now) >= 0)) {
        int r = sd_event_run(event, end - now);
        assert_true(r >= 0);
        n += r > 0;
    }
    return n;
}

#endif
