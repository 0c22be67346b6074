/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "launch/marked.h"

#include "base/say.h"

#include <dirent.h>
#include <fcntl.h>

#define MARK "MICROVMD_RUN="

enum {
    ENVIRONMENT_MAX = 256 * 1024,
};

char *mark_of_run(const char *directory, sd_id128_t generation)
{
    char text[SD_ID128_STRING_MAX];

    return say(MARK "%s %s", directory, sd_id128_to_string(generation, text));
}

/* What can't be read has ended, or is somebody else's. Each variable ends with its NUL. */
static ssize_t read_environment(int proc, const char *pid, char *text)
{
    char path[32];
    _cleanup_close_ int fd = -EBADF;
    size_t size = 0;
    ssize_t n;

    snprintf(path, sizeof(path), "%.16s/environ", pid);
    fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && size < ENVIRONMENT_MAX && (n = read(fd, text + size, ENVIRONMENT_MAX - size)) > 0)
        size += (size_t)n;
    text[size] = '\0';
    return fd < 0 ? -errno : (ssize_t)size;
}

static bool has_variable(const char *environment, size_t size, const char *variable)
{
    for (size_t at = 0; at < size; at += strlen(environment + at) + 1)
        if (streq(environment + at, variable))
            return true;
    return false;
}

static void look(const char *pid, const char *environment, size_t size, const char *directory, marked_fn each,
                 void *userdata)
{
    size_t length = strlen(directory);

    for (size_t at = 0; at < size; at += strlen(environment + at) + 1) {
        const char *value = environment + at + strlen(MARK), *space;
        _cleanup_free_ char *microvm = NULL;
        sd_id128_t generation;
        if (strncmp(environment + at, MARK, strlen(MARK)) != 0 || strncmp(value, directory, length) != 0 ||
            value[length] != '/')
            continue;
        space = strrchr(value, ' ');
        if (!space || sd_id128_from_string(space + 1, &generation) < 0)
            continue;
        microvm = strndup(value + length + 1, (size_t)(space - value) - length - 1);
        if (microvm)
            each((pid_t)strtol(pid, NULL, 10), microvm, generation,
                 has_variable(environment, size, MARK_OF_ERRAND), userdata);
    }
}

int marked_each(const char *directory, marked_fn each, void *userdata)
{
    _cleanup_free_ char *environment = malloc(ENVIRONMENT_MAX + 1);
    DIR *stream = environment ? opendir("/proc") : NULL;
    struct dirent *entry;

    if (!stream)
        return environment ? -errno : -ENOMEM;
    while ((entry = readdir(stream))) {
        ssize_t size = entry->d_name[0] >= '1' && entry->d_name[0] <= '9'
                           ? read_environment(dirfd(stream), entry->d_name, environment)
                           : 0;
        if (size > 0)
            look(entry->d_name, environment, (size_t)size, directory, each, userdata);
    }
    closedir(stream);
    return 0;
}
