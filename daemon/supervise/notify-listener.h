/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One place on which all guests are heard by AF_VSOCK, told apart by their CID (vsock(7)): the guest's
 * systemd finds it by the credential vmm.notify_socket. Each message is taken and its connection closed at
 * once: the guest's PID 1 waits for that.
 */
#ifndef SUPERVISE_NOTIFY_LISTENER_H
#define SUPERVISE_NOTIFY_LISTENER_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct NotifyListener NotifyListener;

typedef struct NotifyListenerOptions {
    sd_event *event;
    int fd; /* listens; taken, in any case */
    /* Who is at the other end: a CID. Negative errno: it is dropped. */
    int (*peer)(int fd, unsigned *ret_cid);
    /* Whether that is a guest of ours. */
    bool (*knows)(unsigned cid, void *userdata);
    /* A message of it, to be changed at will. */
    void (*message)(unsigned cid, char *text, void *userdata);
    void *userdata;
} NotifyListenerOptions;

int notify_listener_new(const NotifyListenerOptions *options, NotifyListener **ret_listener);
NotifyListener *notify_listener_free(NotifyListener *listener);
DEFINE_CLEANUP(NotifyListener *, notify_listener_free)

enum {
    /* The same for ever: a guest is told it once, and may outlive many daemons. */
    NOTIFY_VSOCK_PORT = 28022,
};

/* Listens there, for the guests of this host. -ENODEV: it has no vhost-vsock; -EADDRINUSE: another microvmd
 * does; -EAFNOSUPPORT: no AF_VSOCK at all. */
int notify_vsock_listen(int *ret_fd);
int notify_vsock_peer(int fd, unsigned *ret_cid); /* as `peer` */

#endif
