/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A console log sent down a pipe, to the end or for as long as it grows. */
#ifndef SUPERVISE_LOG_STREAM_H
#define SUPERVISE_LOG_STREAM_H

#include "base/quota.h"
#include "supervise/log-follow.h"

typedef struct LogStream LogStream;

/*
 * Begins to send; *ret_fd is the reading end, the caller's. The stream frees itself at its end or when the
 * reader leaves; then it gives `caller` back, which is taken in case of success. -ENOENT: there is no log of
 * that boot.
 */
int log_stream_new(sd_event *event, const char *state_dir, const LogFollowOptions *options, QuotaUser *caller,
                   int *ret_fd);

#endif
