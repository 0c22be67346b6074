/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt gives no pid: its QEMU driver leaves a pid file for each domain. */
#include "driver/libvirt/internal.h"

#include "base/file.h"

#include <sys/syscall.h>

enum {
    PID_FILE_MAX = 64,
    SHARES_MAX = 32, /* that are looked at for one by virtiofs */
    CMDLINE_MAX = 256 * 1024,
};

/* Where the QEMU driver keeps its run-time state: docs of libvirt, "Driver URIs", and virpidfile.c's callers.
 */
char *process_pid_directory(const char *uri)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR"), *root = strstr(uri, "root="), *home = getenv("HOME");
    char *directory = NULL;
    int r = -1;

    if (strncmp(uri, "qemu:///system", 14) == 0)
        r = asprintf(&directory, "/run/libvirt/qemu");
    else if (strncmp(uri, "qemu:///session", 15) == 0 && runtime)
        r = asprintf(&directory, "%s/libvirt/qemu/run", runtime);
    else if (strncmp(uri, "qemu:///session", 15) == 0 && home) /* where it goes without one */
        r = asprintf(&directory, "%s/.cache/libvirt/qemu/run", home);
    else if (strncmp(uri, "qemu:///embed", 13) == 0 && root)
        r = asprintf(&directory, "%.*s/run/qemu", (int)strcspn(root + 5, "&"), root + 5);
    return r < 0 ? NULL : directory;
}

static bool belongs(pid_t pid, const char *uuid)
{
    _cleanup_free_ char *cmdline = NULL;
    char path[64];
    size_t size;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    return read_file(path, CMDLINE_MAX, &cmdline, &size) >= 0 && memmem(cmdline, size, uuid, strlen(uuid));
}

static pid_t read_pid(const char *path)
{
    _cleanup_free_ char *text = NULL;
    size_t size;

    return read_file(path, PID_FILE_MAX, &text, &size) < 0 ? 0 : (pid_t)strtol(text, NULL, 10);
}

/* qemuVirtioFSCreatePidFilename() and virDomainDefGetShortName() in libvirt: of the name 20 characters. */
pid_t process_find_virtiofsd(const char *pid_directory, int domain_id, const char *name)
{
    for (int i = 0; pid_directory && i < SHARES_MAX; i++) {
        _cleanup_free_ char *path = NULL;
        pid_t pid;
        if (asprintf(&path, "%s/%d-%.20s-fs%d-fs.pid", pid_directory, domain_id, name, i) < 0) {
            path = NULL;
            return 0;
        }
        pid = read_pid(path);
        if (pid > 1)
            return pid;
    }
    return 0;
}

int process_find(const char *pid_directory, const char *name, const char *uuid, pid_t *ret_pid,
                 int *ret_pidfd)
{
    _cleanup_free_ char *path = NULL;
    _cleanup_close_ int pidfd = -EBADF;
    pid_t pid;

    if (!pid_directory)
        return -EOPNOTSUPP;
    if (asprintf(&path, "%s/%s.pid", pid_directory, name) < 0)
        return -ENOMEM;
    pid = read_pid(path);
    if (pid <= 1)
        return -ENOENT;
    /* First the handle, then the look: the process that is looked at is the one that is held. */
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return -errno;
    if (!belongs(pid, uuid))
        return -ESRCH;
    *ret_pid = pid;
    *ret_pidfd = TAKE_FD(pidfd);
    return 0;
}
