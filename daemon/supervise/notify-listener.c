/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/notify-listener.h"

#include "base/clock.h"
#include "base/listener.h"
#include "supervise/notify-stream.h"

#include <linux/vm_sockets.h>
#include <sys/socket.h>

enum {
    AT_ONCE = 16, /* connections of one guest: its systemd has one */
    BACKLOG = 128,
};

typedef struct Connection Connection;
typedef struct Guest Guest;

/* What is to be bounded of one. */
struct Guest {
    unsigned cid;
    unsigned open;      /* connections */
    unsigned in_second; /* of them that came in the present one */
    uint64_t second_usec;
    Guest *next;
};

struct Connection {
    NotifyListener *listener;
    Guest *guest;
    NotifyStream *stream;
    Connection *next;
};

struct NotifyListener {
    NotifyListenerOptions options;
    Listener *listener;
    Guest *guests;
    Connection *connections;
};

static void connection_free(Connection *connection)
{
    for (Connection **link = &connection->listener->connections; *link; link = &(*link)->next)
        if (*link == connection) {
            *link = connection->next;
            break;
        }
    connection->guest->open--;
    notify_stream_free(connection->stream);
    free(connection);
}

NotifyListener *notify_listener_free(NotifyListener *listener)
{
    if (!listener)
        return NULL;
    while (listener->connections)
        connection_free(listener->connections);
    while (listener->guests) {
        Guest *next = listener->guests->next;
        free(listener->guests);
        listener->guests = next;
    }
    listener_free(listener->listener);
    sd_event_unref(listener->options.event);
    free(listener);
    return NULL;
}

/* --- who it is --- */

/* Those of whom nothing needs to be remembered go on the way. NULL: out of memory. */
static Guest *find_guest(NotifyListener *listener, unsigned cid, uint64_t now)
{
    Guest *found = NULL;

    for (Guest **link = &listener->guests; *link;) {
        Guest *guest = *link;
        if (guest->cid == cid) {
            found = guest;
        } else if (guest->open == 0 && now - guest->second_usec > UINT64_C(1000000)) {
            *link = guest->next;
            free(guest);
            continue;
        }
        link = &guest->next;
    }
    if (found)
        return found;
    found = calloc(1, sizeof(*found));
    if (!found)
        return NULL;
    found->cid = cid;
    found->next = listener->guests;
    listener->guests = found;
    return found;
}

static bool may_speak(Guest *guest, uint64_t now)
{
    if (now - guest->second_usec > UINT64_C(1000000)) {
        guest->second_usec = now;
        guest->in_second = 0;
    }
    return guest->open < AT_ONCE && guest->in_second++ < NOTIFY_MESSAGES_A_SECOND;
}

/* --- what it says --- */

static void on_message(NotifyStream *stream, char *text, void *userdata)
{
    Connection *connection = userdata;
    const NotifyListenerOptions *options = &connection->listener->options;

    options->message(connection->guest->cid, text, options->userdata);
}

static void on_closed(NotifyStream *stream, void *userdata)
{
    connection_free(userdata);
}

/* Who is not served is told so by the end of the connection. */
static void on_connection(int fd, void *userdata)
{
    NotifyListener *listener = userdata;
    const NotifyListenerOptions *options = &listener->options;
    uint64_t now = now_usec(CLOCK_MONOTONIC);
    Connection *connection;
    Guest *guest = NULL;
    unsigned cid;

    if (options->peer(fd, &cid) >= 0 && options->knows(cid, options->userdata))
        guest = find_guest(listener, cid, now);
    if (!guest || !may_speak(guest, now) || !(connection = calloc(1, sizeof(*connection)))) {
        safe_close(fd);
        return;
    }
    *connection = (Connection){.listener = listener, .guest = guest, .next = listener->connections};
    listener->connections = connection;
    guest->open++;
    if (notify_stream_take(options->event, fd, &(NotifyHandlers){on_message, on_closed, connection},
                           &connection->stream) < 0)
        connection_free(connection);
}

int notify_listener_new(const NotifyListenerOptions *options, NotifyListener **ret_listener)
{
    _cleanup_(notify_listener_freep)
    NotifyListener *listener = calloc(1, sizeof(*listener));
    int r;

    if (!listener) {
        safe_close(options->fd);
        return -ENOMEM;
    }
    listener->options = *options;
    sd_event_ref(options->event);
    r = listener_new(options->event, options->fd, "Notifications of guests", on_connection, listener,
                     &listener->listener);
    if (r < 0)
        return r;
    *ret_listener = TAKE_PTR(listener);
    return 0;
}

/* --- AF_VSOCK --- */

int notify_vsock_listen(int *ret_fd)
{
    _cleanup_close_ int fd = -EBADF;
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_port = NOTIFY_VSOCK_PORT, .svm_cid = VMADDR_CID_ANY};

    if (access("/dev/vhost-vsock", F_OK) < 0)
        return -ENODEV;
    fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int notify_vsock_peer(int fd, unsigned *ret_cid)
{
    struct sockaddr_vm address;
    socklen_t size = sizeof(address);

    if (getpeername(fd, (struct sockaddr *)&address, &size) < 0)
        return -errno;
    if (address.svm_family != AF_VSOCK)
        return -EAFNOSUPPORT;
    *ret_cid = address.svm_cid;
    return 0;
}
