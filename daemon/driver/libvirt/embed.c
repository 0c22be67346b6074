/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is to be done for the QEMU driver inside our process before it is opened. */
#include "driver/libvirt/internal.h"

#include "base/file.h"
#include "base/log.h"

#include <dirent.h>

enum {
    STATUS_MAX = 4 * 1024 * 1024,
};

/*
 * It reads ROOT/etc/qemu.conf. As root: QEMU is probed once and runs as root; there is no virtlogd, so that
 * the console is logged by QEMU itself and bounded by us.
 */
static int write_settings(const char *root)
{
    static const char settings[] = "user = \"root\"\ngroup = \"root\"\nstdio_handler = \"file\"\n";
    _cleanup_free_ char *directory = NULL, *path = NULL;
    int r;

    if (asprintf(&directory, "%s/etc", root) < 0)
        return -ENOMEM;
    if (asprintf(&path, "%s/qemu.conf", directory) < 0)
        return -ENOMEM;
    if (access(path, F_OK) == 0)
        return 0;
    r = mkdir_parents(directory, 0755);
    return r < 0 ? r : write_file_atomic(path, settings, strlen(settings), 0644);
}

static void drop_if_unborn(const char *path)
{
    static const char unborn[] = "<domstatus state='paused' reason='starting up' pid='0'>";
    _cleanup_free_ char *text = NULL;
    size_t size;

    if (read_file(path, STATUS_MAX, &text, &size) >= 0 && memmem(text, size, unborn, strlen(unborn)) &&
        unlink(path) >= 0)
        log_info("Dropped %s, of a start that was cut off before there was a QEMU.", path);
}

/*
 * A status file that is written before QEMU is launched, and was left by a process that was killed just then,
 * becomes a domain that no call can end or query: libvirt 9.0 takes up the start as a job that nobody
 * finishes.
 */
static int drop_unborn(const char *root)
{
    _cleanup_free_ char *directory = NULL;
    struct dirent *entry;
    DIR *stream;

    if (asprintf(&directory, "%s/run/qemu", root) < 0)
        return -ENOMEM;
    stream = opendir(directory);
    if (!stream)
        return errno == ENOENT ? 0 : -errno;
    while ((entry = readdir(stream))) {
        _cleanup_free_ char *path = NULL;
        size_t length = strlen(entry->d_name);
        if (length < 4 || !streq(entry->d_name + length - 4, ".xml"))
            continue;
        if (asprintf(&path, "%s/%s", directory, entry->d_name) >= 0)
            drop_if_unborn(path);
    }
    closedir(stream);
    return 0;
}

int embed_prepare(const char *uri)
{
    const char *from = strstr(uri, "root=");
    _cleanup_free_ char *root = NULL;
    int r;

    if (!from)
        return -EINVAL;
    if (asprintf(&root, "%.*s", (int)strcspn(from + 5, "&"), from + 5) < 0)
        return -ENOMEM;
    r = write_settings(root);
    return r < 0 ? r : drop_unborn(root);
}
