/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What guests say by sd_notify(3), as it comes over a stream socket: by AF_VSOCK a connection is a message,
 * by a port of virtio-serial each line is one. Bounded in size and rate: a guest is nobody to be trusted.
 */
#ifndef SUPERVISE_NOTIFY_STREAM_H
#define SUPERVISE_NOTIFY_STREAM_H

#include "base/macro.h"

#include <systemd/sd-event.h>

enum {
    NOTIFY_MESSAGE_MAX = 4096,      /* bytes; systemd's own limit. Longer ones are dropped */
    NOTIFY_MESSAGES_A_SECOND = 500, /* of one guest; a boot of systemd has about a hundred */
};

typedef struct NotifyStream NotifyStream;

typedef struct NotifyHandlers {
    /* A message, to be changed at will. It may free the stream. */
    void (*message)(NotifyStream *stream, char *text, void *userdata);
    /* No more will come. It frees the stream. */
    void (*closed)(NotifyStream *stream, void *userdata);
    void *userdata;
} NotifyHandlers;

/*
 * Lines, for as long as the other side lives; one that says too much is not read from for a moment. `fd` is
 * non-blocking and taken, in any case.
 */
int notify_stream_new(sd_event *event, int fd, const NotifyHandlers *handlers, NotifyStream **ret_stream);

/* One message, which ends with the connection, or is dropped after a few seconds. Handlers may be called from
 * within, *ret_stream being set: mostly the message is there already, and its sender waits for the end of the
 * connection. */
int notify_stream_take(sd_event *event, int fd, const NotifyHandlers *handlers, NotifyStream **ret_stream);

NotifyStream *notify_stream_free(NotifyStream *stream);
DEFINE_CLEANUP(NotifyStream *, notify_stream_free)

#endif
