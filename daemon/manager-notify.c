/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hears the guests that speak by AF_VSOCK, whose CID says which one it is. */
#include "manager.h"

#include "base/log.h"

static MicroVM *find_cid(Manager *manager, unsigned cid)
{
    for (size_t i = 0; i < manager->n_vms; i++) {
        MicroVM *vm = manager->vms[i];
        if (state_is_alive(vm->record.state) && vm->booted && vm->booted->vsock_cid == cid)
            return vm;
    }
    return NULL;
}

static bool knows(unsigned cid, void *userdata)
{
    return find_cid(userdata, cid);
}

static void on_message(unsigned cid, char *text, void *userdata)
{
    MicroVM *vm = find_cid(userdata, cid);

    if (vm)
        vm_notify_hear(vm, text);
}

void manager_listen(Manager *manager)
{
    int fd = -EBADF, r;

    r = notify_vsock_listen(&fd);
    if (r >= 0)
        r = notify_listener_new(&(NotifyListenerOptions){.event = manager->event,
                                                         .fd = fd,
                                                         .peer = notify_vsock_peer,
                                                         .knows = knows,
                                                         .message = on_message,
                                                         .userdata = manager},
                                &manager->notify);
    if (r >= 0)
        manager->host.notify_vsock_port = NOTIFY_VSOCK_PORT;
    else
        log_full(r == -EADDRINUSE ? LOG_WARNING : LOG_DEBUG, NULL, r,
                 "Guests are not heard by AF_VSOCK (%m); they are by a port of virtio-serial.");
}
