/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/files.h"

#include "base/file.h"
#include "base/say.h"

#include <fcntl.h>
#include <fts.h>

enum {
    FILES_MAX = 10000,
};

/* --- to name them --- */

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int append(char ***paths, size_t *n, const char *path)
{
    char **grown = reallocarray(*paths, *n + 2, sizeof(*grown));

    if (!grown)
        return -ENOMEM;
    *paths = grown;
    grown[*n] = strdup(path);
    if (!grown[*n])
        return -ENOMEM;
    grown[++*n] = NULL;
    return 0;
}

static int list_entry(const FTSENT *entry, char ***paths, size_t *n)
{
    switch (entry->fts_info) {
    case FTS_D:
    case FTS_DP:
        return 0;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return entry->fts_errno == ENOENT ? 0 : -entry->fts_errno;
    default:
        return *n >= FILES_MAX ? -E2BIG : append(paths, n, entry->fts_path);
    }
}

int files_list(const char *path, char ***paths, size_t *n, char **ret_error)
{
    char *const roots[] = {(char *)path, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    size_t before = *n;
    FTSENT *entry;
    int r = tree ? 0 : -errno;

    while (r >= 0 && (entry = fts_read(tree)))
        r = list_entry(entry, paths, n);
    if (tree)
        fts_close(tree);
    if (r == -E2BIG)
        return say_why(ret_error, r,
                       "%s has more than %d files; whoever gives up that many removes them there", path,
                       FILES_MAX);
    if (r < 0)
        return say_why(ret_error, r, "the files in %s can't be listed: %s", path, strerror(-r));
    if (*n > before + 1)
        qsort(*paths + before, *n - before, sizeof(**paths), by_path);
    return 0;
}

/* --- to remove them --- */

/* A directory that was swapped for a link must not lead elsewhere: its path is gone along step by step, from
 * `parent` on, where `path` is relative. */
static int remove_file(int parent, const char *path)
{
    _cleanup_close_ int directory = fcntl(parent, F_DUPFD_CLOEXEC, 3);

    if (directory < 0)
        return -errno;
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        _cleanup_free_ char *name = strndup(path, (size_t)(slash - path));
        int deeper = name ? openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (deeper < 0)
            return name ? -errno : -ENOMEM;
        close(directory);
        directory = deeper;
    }
    return unlinkat(directory, path, 0) < 0 ? -errno : 0;
}

/* The deepest first. */
static void remove_empty(const char *root)
{
    char *const roots[] = {(char *)root, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;

    while (tree && (entry = fts_read(tree)))
        if (entry->fts_info == FTS_DP)
            rmdir(entry->fts_accpath);
    if (tree)
        fts_close(tree);
}

static int remove_files(const char *root, size_t skip, char *const *paths, char **ret_error)
{
    _cleanup_free_ char *above = strndup(root, skip);
    _cleanup_close_ int parent = above ? open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    size_t failed = 0, removed = 0;
    int first = 0;

    if (parent < 0)
        return !above            ? -ENOMEM
               : errno == ENOENT ? 0
                                 : say_why(ret_error, -errno, "%s: %s", above, strerror(errno));
    for (char *const *path = paths; *path; path++) {
        int r = path_is_below(*path, root) ? remove_file(parent, *path + skip) : -ENOENT;
        removed += r >= 0;
        if (r >= 0 || r == -ENOENT)
            continue;
        if (failed++ == 0)
            first = say_why(ret_error, r, "%s can't be removed: %s", *path, strerror(-r));
    }
    if (failed > 1) {
        _cleanup_free_ char *text = *ret_error;
        say_why(ret_error, 0, "%s; nor can %zu other%s", text ? text : "", failed - 1, failed > 2 ? "s" : "");
    }
    remove_empty(root);
    /* The absence of a name survives a power cut only when its directory is on disk. */
    if (first == 0 && removed > 0 && fsync(parent) < 0)
        return say_why(ret_error, -errno, "%s is removed, but not from the disk: %s", root, strerror(errno));
    return first;
}

int files_remove(const char *root, char *const *paths, char **ret_error)
{
    const char *slash = strrchr(root, '/');

    return paths ? remove_files(root, (size_t)(slash - root) + 1, paths, ret_error) : 0;
}
