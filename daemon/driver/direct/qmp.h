/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A client of QEMU's machine protocol (QEMU's docs/interop/qmp-spec.rst) on the event loop: calls with
 * deadlines, events as they come. What the other end does wrong ends the connection at worst, never the
 * daemon: buffers are bounded, half messages wait, what is no message is dropped and counted.
 */
#ifndef DRIVER_DIRECT_QMP_H
#define DRIVER_DIRECT_QMP_H

#include "base/macro.h"

#include <cjson/cJSON.h>
#include <systemd/sd-event.h>

typedef struct Qmp Qmp;

enum {
    QMP_MESSAGE_MAX = 4 * 1024 * 1024, /* of what QEMU says; query-qmp-schema has 200 KiB */
};

typedef struct QmpHandlers {
    /* An event; `data` may be NULL, `line` is all of it as QEMU wrote it. */
    void (*event)(Qmp *qmp, const char *name, const cJSON *data, const char *line, void *userdata);
    /* The connection has ended, `why` in a sentence; the last call of all. qmp_free() is allowed in here
     * only. */
    void (*closed)(Qmp *qmp, const char *why, void *userdata);
    void *userdata;
} QmpHandlers;

typedef struct QmpReply {
    int error;           /* 0, or -EREMOTEIO (QEMU's own words), -ETIMEDOUT, -EMSGSIZE (longer than we take),
                            -ENOTCONN (the connection ended first) */
    const char *text;    /* a sentence about the error */
    const char *class;   /* QEMU's word for it, of -EREMOTEIO */
    const cJSON *result; /* the answer */
    const char *json; /* the same, or what QEMU said of the error, as QEMU wrote it; NULL: it said nothing */
} QmpReply;

/* All of the reply is valid during the call only. */
typedef void (*qmp_reply_fn)(Qmp *qmp, const QmpReply *reply, void *userdata);

/* `fd` (non-blocking, taken in case of success): connected, the negotiation is sent at once. */
int qmp_new(sd_event *event, int fd, const QmpHandlers *handlers, Qmp **ret_qmp);
/* Calls that wait are not answered any more. */
Qmp *qmp_free(Qmp *qmp);
DEFINE_CLEANUP(Qmp *, qmp_free)

/*
 * Sends a command without waiting for the answers of those before. `arguments` (NULL: none) is taken in every
 * case. `timeout_usec` UINT64_MAX: as long as it takes. `reply` may be NULL. -ENOTCONN, -ENOBUFS (too many
 * wait), -ENOMEM.
 */
int qmp_call(Qmp *qmp, const char *command, cJSON *arguments, uint64_t timeout_usec, qmp_reply_fn reply,
             void *userdata);

/* QEMU's version as its greeting has it, JSON; "{}" before that. */
const char *qmp_version(const Qmp *qmp);

/* Takes what has come already: the last words of a QEMU that has ended. */
void qmp_drain(Qmp *qmp);

#endif
