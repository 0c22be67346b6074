/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/definition-writer.h"

#include "base/file.h"
#include "base/say.h"
#include "spec/loader.h"

#include <fcntl.h>
#include <sys/stat.h>

static char *directory_of(const char *path)
{
    return strndup(path, (size_t)(strrchr(path, '/') - path));
}

/* A new name, or the absence of one, survives a power cut only when its directory is on disk. */
static int sync_directory_of(const char *path)
{
    _cleanup_free_ char *directory = directory_of(path);
    _cleanup_close_ int fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0)
        return directory ? -errno : -ENOMEM;
    return fsync(fd) < 0 ? -errno : 0;
}

static bool is_null_link(const char *path)
{
    char target[16];
    ssize_t n = readlink(path, target, sizeof(target) - 1);

    return n > 0 && strncmp(target, "/dev/null", (size_t)n) == 0 && n == (ssize_t)strlen("/dev/null");
}

bool definition_file_is_mask(const char *path)
{
    struct stat st;

    return is_null_link(path) || (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0);
}

static bool is_drop_in(const char *path)
{
    static const char suffix[] = ".json.d/";
    const char *file = strrchr(path, '/') + 1;
    size_t length = (size_t)(file - path);

    return length >= strlen(suffix) && strncmp(file - strlen(suffix), suffix, strlen(suffix)) == 0;
}

/* Compare and swap: what was written between the reading and now must not be lost. */
static int check_expected(const char *path, const char *expected, char **ret_error)
{
    _cleanup_free_ char *now = NULL;
    size_t size = 0;
    struct stat st;
    int r;

    if (!expected)
        return 0;
    if (!*expected)
        return (lstat(path, &st) < 0 ? errno == ENOENT : S_ISREG(st.st_mode) && st.st_size == 0)
                   ? 0
                   : say_why(ret_error, -EBUSY, "%s is there already", path);
    r = read_file(path, SPEC_FILE_MAX, &now, &size);
    if (r == -ENOENT)
        return say_why(ret_error, -EBUSY, "%s has been removed meanwhile", path);
    if (r < 0)
        return say_why(ret_error, r, "%s can't be read: %s", path, read_file_problem(r));
    if (size != strlen(expected) || memcmp(now, expected, size) != 0)
        return say_why(ret_error, -EBUSY, "%s has been changed by somebody else meanwhile; look at it anew",
                       path);
    return 0;
}

static int check_writable(const char *path, mode_t *ret_mode, char **ret_error)
{
    struct stat st;

    *ret_mode = 0644;
    if (lstat(path, &st) < 0)
        return 0;
    /* An empty drop-in hides at most another one, and whoever writes it means that one. */
    if (is_null_link(path) || (definition_file_is_mask(path) && !is_drop_in(path)))
        return say_why(ret_error, -EOPNOTSUPP, "%s masks it; unmask it first", path);
    if (!S_ISREG(st.st_mode))
        return say_why(
            ret_error, -EOPNOTSUPP,
            "%s is no regular file but a link, say, and whoever made it would not know of a change; "
            "use a drop-in",
            path);
    *ret_mode = st.st_mode & 0777;
    return 0;
}

int definition_file_write(const char *path, const char *content, const char *expected, char **ret_error)
{
    _cleanup_free_ char *directory = directory_of(path);
    mode_t mode;
    int r;

    r = check_expected(path, expected, ret_error);
    if (r >= 0)
        r = check_writable(path, &mode, ret_error);
    if (r < 0)
        return r;
    r = directory ? mkdir_parents(directory, 0755) : -ENOMEM;
    if (r >= 0)
        r = write_file_durable(path, content, strlen(content), mode);
    if (r >= 0)
        r = sync_directory_of(path);
    return r < 0 ? say_why(ret_error, r, "%s can't be written: %s", path, strerror(-r)) : 0;
}

int definition_file_remove(const char *path, const char *expected, char **ret_error)
{
    _cleanup_free_ char *directory = directory_of(path);
    int r;

    r = check_expected(path, expected, ret_error);
    if (r < 0)
        return r;
    if (unlink(path) < 0)
        return errno == ENOENT ? 0
                               : say_why(ret_error, -errno, "%s can't be removed: %s", path, strerror(errno));
    r = sync_directory_of(path);
    if (directory && is_drop_in(path))
        (void)rmdir(directory); /* with others in it, it stays */
    return r < 0 ? say_why(ret_error, r, "%s is removed, but not from the disk: %s", path, strerror(-r)) : 0;
}

int definition_file_mask(const char *path, char **ret_error)
{
    _cleanup_free_ char *directory = directory_of(path);
    int r;

    if (definition_file_is_mask(path))
        return 0;
    r = directory ? mkdir_parents(directory, 0755) : -ENOMEM;
    if (r >= 0 && symlink("/dev/null", path) < 0)
        r = -errno;
    if (r == -EEXIST)
        return say_why(ret_error, -EBUSY, "%s is a definition itself; remove it, or set \"autostart\": false",
                       path);
    if (r >= 0)
        r = sync_directory_of(path);
    return r < 0 ? say_why(ret_error, r, "%s can't be made: %s", path, strerror(-r)) : 0;
}

int definition_file_unmask(const char *path, char **ret_error)
{
    struct stat st;

    if (lstat(path, &st) < 0 && errno == ENOENT)
        return 0;
    if (!definition_file_is_mask(path))
        return say_why(ret_error, -EBUSY, "%s is a definition and no mask", path);
    return definition_file_remove(path, NULL, ret_error);
}
