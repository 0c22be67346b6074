/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An event loop until something is true; after cmocka.h. */
#ifndef TEST_RUN_UNTIL_H
#define TEST_RUN_UNTIL_H

#include "base/clock.h"

#include <systemd/sd-event.h>

/* The statement that follows, again and again. Gives up after a minute, so that whoever asks next whether it
 * is true fails: a net, not a measure, for the machine may be busy. */
#define UNTIL(condition)                                                                                     \
    for (uint64_t latest_ = now_usec(CLOCK_MONOTONIC) + UINT64_C(60000000);                                  \
         !(condition) && now_usec(CLOCK_MONOTONIC) < latest_;)

#define RUN_UNTIL(event, condition)                                                                          \
    UNTIL (condition)                                                                                        \
    assert_true(sd_event_run(event, 10000) >= 0)

#endif
