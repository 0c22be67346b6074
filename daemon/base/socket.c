/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A socket, and its address, which is short: by way of the directory's descriptor. */
static int open_socket(const char *directory, const char *name, int flags, int *ret_fd, int *ret_directory,
                       struct sockaddr_un *ret_address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0),
                        at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || at < 0)
        return -errno;
    ret_address->sun_family = AF_UNIX;
    if (snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/%s", at, name) >=
        (int)sizeof(ret_address->sun_path))
        return -ENAMETOOLONG;
    *ret_fd = TAKE_FD(fd);
    *ret_directory = TAKE_FD(at);
    return 0;
}

int socket_listen(const char *directory, const char *name, int *ret_fd)
{
    _cleanup_close_ int fd = -EBADF, at = -EBADF;
    struct sockaddr_un address;
    int r = open_socket(directory, name, 0, &fd, &at, &address);

    if (r < 0)
        return r;
    if (unlinkat(at, name, 0) < 0 && errno != ENOENT)
        return -errno;
    /* The mode of a socket file is that of the socket before it has its name. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 1) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int socket_connect(const char *directory, const char *name, int *ret_fd)
{
    _cleanup_close_ int fd = -EBADF, at = -EBADF;
    struct sockaddr_un address;
    int r = open_socket(directory, name, SOCK_NONBLOCK, &fd, &at, &address);

    if (r < 0)
        return r;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

void socket_remove(const char *directory, const char *name)
{
    _cleanup_close_ int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (at >= 0)
        (void)unlinkat(at, name, 0);
}
