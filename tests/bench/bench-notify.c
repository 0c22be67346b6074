/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long a guest waits for the answer to a message, from its connect(2) to the end of the connection: 50
 * guests boot at once, with a hundred messages each; then each has one for the same moment, again and again.
 * UNIX sockets stand for AF_VSOCK, which needs guests. Prints one JSON object; times in microseconds.
 */
#include "base/clock.h"
#include "supervise/notify-listener.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    GUESTS = 50,
    MESSAGES = 100,     /* of a boot, ... */
    PAUSE_USEC = 20000, /* ... so far apart */
    HERDS = 100,
};

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_size = sizeof(address);
static double booting[GUESTS][MESSAGES], at_once[GUESTS][HERDS];
static pthread_barrier_t together;
static atomic_uint at_work = GUESTS;

static int peer(int fd, unsigned *ret_cid)
{
    struct sockaddr_un name = {0};
    socklen_t size = sizeof(name);

    if (getpeername(fd, (struct sockaddr *)&name, &size) < 0)
        return -errno;
    *ret_cid = (unsigned)strtoul(name.sun_path + 1, NULL, 10);
    return 0;
}

static bool knows(unsigned cid, void *userdata)
{
    return true;
}

static void on_message(unsigned cid, char *text, void *userdata)
{
    ++*(unsigned *)userdata;
}

/* As systemd does it. Microseconds. */
static double say_once(unsigned cid, unsigned number)
{
    static const char message[] = "X_SYSTEMD_UNIT_ACTIVE=multi-user.target";
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    int length = snprintf(own.sun_path + 1, sizeof(own.sun_path) - 1, "%u.%d.%u", cid, (int)getpid(), number);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t before;
    char byte;

    if (fd < 0 ||
        bind(fd, (struct sockaddr *)&own, (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)length)) < 0)
        abort();
    before = now_usec(CLOCK_MONOTONIC);
    if (connect(fd, (struct sockaddr *)&address, address_size) < 0 ||
        send(fd, message, sizeof(message) - 1, MSG_NOSIGNAL) < 0 || shutdown(fd, SHUT_WR) < 0 ||
        recv(fd, &byte, 1, 0) != 0)
        abort();
    close(fd);
    return (double)(now_usec(CLOCK_MONOTONIC) - before);
}

static void *guest(void *argument)
{
    unsigned index = (unsigned)(uintptr_t)argument;

    for (unsigned i = 0; i < MESSAGES; i++) {
        booting[index][i] = say_once(3 + index, i);
        usleep(PAUSE_USEC);
    }
    for (unsigned i = 0; i < HERDS; i++) {
        pthread_barrier_wait(&together);
        at_once[index][i] = say_once(3 + index, MESSAGES + i);
        usleep(PAUSE_USEC);
    }
    at_work--;
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;

    return first < second ? -1 : first > second;
}

static void print(const char *name, double *times, size_t n, const char *after)
{
    qsort(times, n, sizeof(*times), by_value);
    printf("\"%s\": {\"n\": %zu, \"p50\": %.0f, \"p99\": %.0f, \"max\": %.0f}%s", name, n, times[n / 2],
           times[n * 99 / 100], times[n - 1], after);
}

int main(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    NotifyListener *listener;
    pthread_t threads[GUESTS];
    sd_event *event = NULL;
    unsigned heard = 0;

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &address_size) < 0 || listen(fd, 128) < 0 ||
        sd_event_new(&event) < 0 || pthread_barrier_init(&together, NULL, GUESTS) != 0)
        return 1;
    if (notify_listener_new(&(NotifyListenerOptions){.event = event,
                                                     .fd = fd,
                                                     .peer = peer,
                                                     .knows = knows,
                                                     .message = on_message,
                                                     .userdata = &heard},
                            &listener) < 0)
        return 1;
    for (unsigned i = 0; i < GUESTS; i++)
        if (pthread_create(&threads[i], NULL, guest, (void *)(uintptr_t)i) != 0)
            return 1;
    while (at_work > 0)
        if (sd_event_run(event, PAUSE_USEC) < 0)
            return 1;
    for (unsigned i = 0; i < GUESTS; i++)
        pthread_join(threads[i], NULL);
    printf("{\"guests\": %d, \"heard\": %u, ", GUESTS, heard);
    print("booting", booting[0], (size_t)GUESTS * MESSAGES, ", ");
    print("at_once", at_once[0], (size_t)GUESTS * HERDS, "}\n");
    notify_listener_free(listener);
    sd_event_unref(event);
    pthread_barrier_destroy(&together);
    return heard == GUESTS * (MESSAGES + HERDS) ? 0 : 1;
}
