/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU serves one client of its machine protocol at a time, and microvmd is it. Here it is served on: any
 * number of others, each of whom sees a QEMU of its own (QEMU's docs/interop/qmp-spec.rst): greeting,
 * negotiation, answers to its own commands with its own ids, all events. What one of them does wrong, or does
 * not read, is its own loss: buffers are bounded, and who falls behind is let go.
 */
#ifndef DRIVER_DIRECT_QMP_SHARE_H
#define DRIVER_DIRECT_QMP_SHARE_H

#include "driver/direct/qmp.h"
#include "driver/driver.h"

typedef struct QmpShare QmpShare;

/* `qmp` is borrowed; it must have been greeted, and be freed or closed before the share is. */
int qmp_share_new(sd_event *event, Qmp *qmp, QmpShare **ret_share);
/* Ends all clients. What waits for an answer gets -ESRCH. */
QmpShare *qmp_share_free(QmpShare *share);

/* Serves who connects to the socket `fd`, which is taken. */
int qmp_share_listen(QmpShare *share, int fd);

/* Copies an event, as QEMU wrote it, to all. */
void qmp_share_event(QmpShare *share, const char *line);

/* Sends a command for somebody who has no connection; see DriverOps.qmp. */
int qmp_share_call(QmpShare *share, const QmpCommand *command, uint64_t timeout_usec, driver_qmp_fn done,
                   void *userdata);

#endif
