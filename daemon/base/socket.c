/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Through the directory's descriptor, which the address of the socket is short with. */
static int address_of(const char *directory, const char *name, int *ret_directory,
                      struct sockaddr_un *ret_address)
{
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    ret_address->sun_family = AF_UNIX;
    *ret_directory = fd;
    return snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/%s", fd, name) <
                   (int)sizeof(ret_address->sun_path)
               ? 0
               : -ENAMETOOLONG;
}

int socket_listen(const char *directory, const char *name, int *ret_fd)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), at = -EBADF;
    struct sockaddr_un address;
    int r;

    if (fd < 0)
        return -errno;
    r = address_of(directory, name, &at, &address);
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
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), at = -EBADF;
    struct sockaddr_un address;
    int r;

    if (fd < 0)
        return -errno;
    r = address_of(directory, name, &at, &address);
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
