/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/volume.h"

#include "base/say.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Runs a program with standard error in a pipe; returns 0, or a negative errno with its last words. */
static int run_program(char *const argv[], char *output, size_t output_size)
{
    _cleanup_close_ int read_end = -EBADF, write_end = -EBADF;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    size_t used = 0;
    ssize_t n;
    int ends[2], r, status;
    pid_t pid;
    char *const environment[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", NULL};

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    read_end = ends[0];
    write_end = ends[1];
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, write_end, STDERR_FILENO);
    /* Worker threads run with all signals blocked; a program must not inherit that. */
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    r = -posix_spawnp(&pid, argv[0], &actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (r < 0)
        return r;

    write_end = safe_close(write_end);
    while ((n = read(read_end, output + used, output_size - 1 - used)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0 && (used += (size_t)n) == output_size - 1)
            used = 0; /* the end is what matters */
    output[used] = '\0';
    while (used > 0 && output[used - 1] == '\n')
        output[--used] = '\0';
    for (char *at = output; (at = strpbrk(at, "\n\t"));)
        *at = ' '; /* a reason is one line */
    if (waitpid(pid, &status, 0) < 0)
        return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int make_file(const char *path, uint64_t size_mib)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)(size_mib << 20)) < 0)
        return -errno;
    return 0;
}

/* How each mkfs is asked to be quiet, not to ask, and for a label: mke2fs(8), mkfs.xfs(8), mkfs.btrfs(8)...
 */
static const struct {
    const char *quiet, *force, *label, *package;
} makers[FS_TYPE_MAX] = {
    [FS_EXT4] = {"-q", "-F", "-L", "e2fsprogs"},    [FS_EXT3] = {"-q", "-F", "-L", "e2fsprogs"},
    [FS_EXT2] = {"-q", "-F", "-L", "e2fsprogs"},    [FS_XFS] = {"-q", "-f", "-L", "xfsprogs"},
    [FS_BTRFS] = {"-q", "-f", "-L", "btrfs-progs"}, [FS_F2FS] = {"-q", "-f", "-l", "f2fs-tools"},
    [FS_VFAT] = {NULL, NULL, "-n", "dosfstools"},
};

static int make_file_system(const VolumeSpec *volume, const char *partial, const char *path, char **ret_error)
{
    char program[32], output[1024];
    char **argv;
    size_t n = 0;
    int r;

    argv = calloc(volume->n_mkfs_args + 7, sizeof(*argv));
    if (!argv)
        return -ENOMEM;
    snprintf(program, sizeof(program), "mkfs.%s", fs_type_to_string(volume->fs_type));
    argv[n++] = program;
    if (makers[volume->fs_type].quiet)
        argv[n++] = (char *)makers[volume->fs_type].quiet;
    if (makers[volume->fs_type].force)
        argv[n++] = (char *)makers[volume->fs_type].force;
    if (volume->label) {
        argv[n++] = (char *)makers[volume->fs_type].label;
        argv[n++] = volume->label;
    }
    for (size_t i = 0; i < volume->n_mkfs_args; i++)
        argv[n++] = volume->mkfs_args[i];
    argv[n++] = (char *)partial;
    r = run_program(argv, output, sizeof(output));
    free(argv);
    if (r == -ENOENT)
        return say_why(ret_error, r, "volume %s can't be made: %s is not installed (package %s)", path,
                       program, makers[volume->fs_type].package);
    if (r < 0)
        return say_why(ret_error, r, "volume %s can't be made: %s failed: %s", path, program, output);
    return 0;
}

static int volume_create(const VolumeSpec *volume, const char *path, char **ret_error)
{
    _cleanup_free_ char *partial = NULL;
    int r;

    if (asprintf(&partial, "%s.partial", path) < 0)
        return -ENOMEM;
    r = make_file(partial, volume->size_mib);
    if (r < 0)
        r = say_why(ret_error, r, "volume %s (%" PRIu64 " MiB) can't be made: %s", path, volume->size_mib,
                    strerror(-r));
    if (r == 0)
        r = make_file_system(volume, partial, path, ret_error);
    if (r == 0 && rename(partial, path) < 0)
        r = say_why(ret_error, -errno, "volume %s can't be made: %s", path, strerror(errno));
    if (r < 0)
        unlink(partial);
    return r;
}

/*
 * A qcow2 image may name other files that it leans on (docs/interop/qcow2 in QEMU's sources: a backing file;
 * an external data file, incompatible feature 2). They would be opened, and their owner changed, because of
 * words in an image.
 */
static int check_stands_alone(const char *path, char **ret_error)
{
    enum {
        BACKING_OFFSET = 8,
        FEATURES = 72,
        HEADER = 80,
        EXTERNAL_DATA = 1 << 2,
    };
    static const uint8_t magic[] = {'Q', 'F', 'I', 0xfb, 0, 0, 0};
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t header[HEADER] = {0};
    bool leans = false;

    if (fd < 0 || pread(fd, header, sizeof(header), 0) < 0)
        return say_why(ret_error, -errno, "volume %s can't be read: %s", path, strerror(errno));
    if (memcmp(header, magic, sizeof(magic)) != 0)
        return say_why(ret_error, -EINVAL, "volume %s is no qcow2 image; mend its \"imageType\"", path);
    for (size_t i = 0; i < 8; i++)
        leans |= header[BACKING_OFFSET + i] != 0;
    if (header[7] >= 3)
        leans |= header[FEATURES + 7] & EXTERNAL_DATA;
    if (leans)
        return say_why(
            ret_error, -EINVAL,
            "volume %s leans on another file (qemu-img info shows which), whose owner would be changed; "
            "make one that stands alone: qemu-img convert -O qcow2",
            path);
    return 0;
}

int volume_check(const VolumeSpec *volume, const char *vm, const char *path, bool seen, char **ret_error)
{
    struct stat st;

    if (stat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
            return say_why(ret_error, -EINVAL, "volume %s is neither a regular file nor a block device",
                           path);
        return volume->image_type == IMAGE_QCOW2 ? check_stands_alone(path, ret_error) : 0;
    }
    if (errno != ENOENT)
        return say_why(ret_error, -errno, "volume %s can't be looked at: %s", path, strerror(errno));
    if (seen)
        return say_why(
            ret_error, -ENOENT,
            "volume %s was there before and is gone; put it back (a new, empty one is never made in "
            "its place), or give it up: microvmctl forget-volume %s %s",
            path, vm, volume->image);
    if (!volume->auto_create)
        return say_why(ret_error, -ENOENT,
                       "volume %s does not exist; make it, or set \"autoCreate\": true and \"size\" on it",
                       path);
    return 1;
}

int volume_ensure(const VolumeSpec *volume, const char *vm, const char *path, bool seen, char **ret_error)
{
    int r;

    r = volume_check(volume, vm, path, seen, ret_error);
    if (r <= 0)
        return r;
    r = volume_create(volume, path, ret_error);
    return r < 0 ? r : 1;
}
