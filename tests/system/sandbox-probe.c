/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs in a hypervisor's place, and tells what can be done there, a line each: "DEED OBJECT: yes", or the
 * error. Arguments are pairs of a deed and what to do it to ("-": nothing in particular). Where it is called
 * as the hypervisor is, the pairs are in a file.
 */
#include "base/macro.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

static bool opens(const char *path, int flags)
{
    char byte;
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return false;
    return flags == O_RDONLY ? read(fd, &byte, 1) >= 0 || errno == EISDIR : true;
}

static bool do_read(const char *path)
{
    return opens(path, O_RDONLY);
}

static bool do_append(const char *path)
{
    return opens(path, O_WRONLY | O_APPEND);
}

static bool do_device(const char *path)
{
    return opens(path, O_RDWR);
}

static bool do_create(const char *directory)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/made-by-probe", directory);
    return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
}

static bool do_list(const char *path)
{
    return opendir(path) != NULL;
}

/* "@NAME" is in the abstract name space. */
static bool do_connect(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (fd < 0)
        return false;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    return connect(fd, (struct sockaddr *)&address,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) == 0;
}

/* A port of the host's loopback. */
static bool do_tcp(const char *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

static bool do_netlink(const char *unused)
{
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0) >= 0;
}

static bool do_shm(const char *id)
{
    return shmat(atoi(id), NULL, SHM_RDONLY) != (void *)-1;
}

static bool do_namespace(const char *unused)
{
    return unshare(CLONE_NEWUSER) == 0;
}

static bool do_mount(const char *unused)
{
    return mount("none", "/usr", "tmpfs", 0, NULL) == 0;
}

static bool do_uring(const char *unused)
{
    struct io_uring_params parameters = {0};

    return syscall(SYS_io_uring_setup, 1, &parameters) >= 0;
}

static bool do_keyring(const char *unused)
{
    return syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -4 /* KEY_SPEC_USER_KEYRING */, 1) >= 0;
}

static bool do_code(const char *unused)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
}

/* The kernel's. */
static bool do_log(const char *unused)
{
    char text[4096];

    return syscall(SYS_syslog, 3 /* SYSLOG_ACTION_READ_ALL */, text, sizeof(text)) >= 0;
}

static bool do_root(const char *unused)
{
    return setuid(0) == 0;
}

static const struct {
    const char *name;
    bool (*act)(const char *object);
} deeds[] = {
    {"read", do_read},       {"append", do_append},       {"device", do_device}, {"create", do_create},
    {"list", do_list},       {"connect", do_connect},     {"tcp", do_tcp},       {"netlink", do_netlink},
    {"shm", do_shm},         {"namespace", do_namespace}, {"mount", do_mount},   {"io_uring", do_uring},
    {"keyring", do_keyring}, {"code", do_code},           {"root", do_root},     {"log", do_log},
};

static void try_out(const char *name, const char *object)
{
    for (size_t i = 0; i < ELEMENTSOF(deeds); i++)
        if (streq(deeds[i].name, name))
            printf("%s %s: %s\n", name, object, deeds[i].act(object) ? "yes" : strerror(errno));
}

int main(int argc, char *argv[])
{
    FILE *file = strstr(argv[0], "qemu-system") ? fopen("/usr/local/probe/deeds", "re") : NULL;
    char name[32], object[256];

    while (file && fscanf(file, "%31s %255s", name, object) == 2)
        try_out(name, object);
    for (int i = 1; i + 1 < argc && !file; i += 2)
        try_out(argv[i], argv[i + 1]);
    return 0;
}
