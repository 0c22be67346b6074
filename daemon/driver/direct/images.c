/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The images of volumes. A hypervisor is given them open, and needs no right to them; one that opens them
 * itself, by /dev/fd/N, must be let to: its images become its user's. So they are to be nobody else's.
 */
#include "driver/direct/internal.h"

#include "base/say.h"

#include <fcntl.h>
#include <sys/stat.h>

static int flags_of(const VolumeSpec *volume)
{
    return (volume->read_only ? O_RDONLY : O_RDWR) | (volume->direct ? O_DIRECT : 0) | O_CLOEXEC | O_NOCTTY;
}

int image_open(const VolumeSpec *volume, const char *state_dir, char **ret_text)
{
    _cleanup_free_ char *path = volume_path(volume, state_dir);
    int fd;

    if (!path)
        return -ENOMEM;
    fd = open(path, flags_of(volume));
    return fd < 0 ? say_why(ret_text, -errno, "the image %s can't be opened: %s", path, strerror(errno)) : fd;
}

/*
 * Through no link: -ELOOP, or -ENOTDIR of one on the way. Not by openat2(2), which RestrictSUIDSGID= of the
 * unit takes away.
 */
static int open_beneath(const char *directory, const char *path, int flags)
{
    _cleanup_close_ int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_free_ char *copy = strdup(path);
    char *rest = copy, *part;

    if (at < 0 || !copy)
        return at < 0 ? -errno : -ENOMEM;
    while ((part = strsep(&rest, "/"))) {
        int fd;
        if (streq(part, "..")) /* out of a directory that has been moved meanwhile, maybe */
            return -ELOOP;
        if (!*part || streq(part, "."))
            continue;
        fd = openat(at, part, (rest ? O_PATH | O_DIRECTORY | O_CLOEXEC : flags) | O_NOFOLLOW);
        if (fd < 0 || !rest)
            return fd < 0 ? -errno : fd;
        safe_close(at);
        at = fd;
    }
    return -EISDIR;
}

int image_open_own(const VolumeSpec *volume, const char *state_dir, char **ret_text)
{
    _cleanup_close_ int fd = open_beneath(state_dir, volume->image, flags_of(volume));
    struct stat st;

    if (fd == -ELOOP || fd == -ENOTDIR)
        return say_why(
            ret_text, fd,
            "the image %s/%s is a link, or behind one; it would be given to the hypervisor's user, "
            "so it must be a file in the state directory itself: move it there",
            state_dir, volume->image);
    if (fd < 0)
        return say_why(ret_text, fd, "the image %s/%s can't be opened: %s", state_dir, volume->image,
                       strerror(-fd));
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_nlink > 1)
        return say_why(
            ret_text, -EPERM,
            "the image %s/%s is no file, or has another name (a hard link); it would be given to the "
            "hypervisor's user, so it must be a file of its own: copy it",
            state_dir, volume->image);
    return TAKE_FD(fd);
}

int image_give(const VolumeSpec *volume, int fd, uid_t uid, char **ret_text)
{
    struct stat st;
    mode_t mode;

    /* An owner could make writable what is not: it is let to read by its group, which nobody else is in. */
    if (fchown(fd, volume->read_only ? 0 : uid, uid) < 0 || fstat(fd, &st) < 0)
        return say_why(ret_text, -errno, "the image %s can't be given to the hypervisor: %s", volume->image,
                       strerror(errno));
    mode = volume->read_only ? (st.st_mode | S_IRGRP) & ~(mode_t)(S_IWGRP | S_IWOTH)
                             : st.st_mode | S_IRUSR | S_IWUSR;
    if (fchmod(fd, mode & ALLPERMS) < 0)
        return say_why(ret_text, -errno, "the mode of the image %s can't be set: %s", volume->image,
                       strerror(errno));
    return 0;
}
