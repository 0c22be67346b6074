/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/purge.h"

#include "base/log.h"
#include "base/strv.h"

#include <fcntl.h>
#include <fts.h>

enum {
    FILES_MAX = 10000, /* that a person can't be asked about more of */
};

/* --- removing --- */

typedef struct Purge {
    char *state_dir;
    char **files;
} Purge;

static void purge_free(void *argument)
{
    Purge *purge = argument;

    free(purge->state_dir);
    strv_free(purge->files);
    free(purge);
}

static int remove_file(const char *state_dir, const char *path)
{
    size_t length = strlen(state_dir);
    _cleanup_close_ int directory = open(state_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (directory < 0)
        return -errno;
    /* A directory that was swapped for a link must not lead elsewhere: only what is right in it is taken by
     * its name, deeper ones go step by step. */
    for (const char *at = path + length + 1, *slash; (slash = strchr(at, '/')); at = slash + 1) {
        _cleanup_free_ char *name = strndup(at, (size_t)(slash - at));
        int deeper = name ? openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (deeper < 0)
            return name ? -errno : -ENOMEM;
        close(directory);
        directory = deeper;
    }
    return unlinkat(directory, strrchr(path, '/') + 1, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* Directories that are empty by now, the deepest first. */
static void remove_empty(const char *state_dir)
{
    char *const paths[] = {(char *)state_dir, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;

    while (tree && (entry = fts_read(tree)))
        if (entry->fts_info == FTS_DP)
            rmdir(entry->fts_accpath);
    if (tree)
        fts_close(tree);
}

static void purge_run(void *argument)
{
    Purge *purge = argument;

    for (char **file = purge->files; *file; file++) {
        int r = remove_file(purge->state_dir, *file);
        if (r < 0)
            log_warning_errno(r, "Can't remove %s: %m", *file);
        else
            log_notice("Removed %s, as asked.", *file);
    }
    remove_empty(purge->state_dir);
}

int purge_files(Workers *workers, const char *state_dir, char *const *files)
{
    Purge *purge = calloc(1, sizeof(*purge));
    int r = -ENOMEM;

    if (!purge)
        return -ENOMEM;
    purge->state_dir = strdup(state_dir);
    purge->files = strv_copy(files);
    if (purge->state_dir && purge->files)
        r = workers_submit(workers, &(Work){purge_run, purge_free, purge_free, purge});
    if (r < 0)
        purge_free(purge);
    return r;
}

/* --- naming --- */

typedef struct Listing {
    char *state_dir;
    char **files;
    size_t count;
    int error;
    listed_fn done;
    void *userdata;
} Listing;

static void listing_free(Listing *listing)
{
    free(listing->state_dir);
    strv_free(listing->files);
    free(listing);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_file(Listing *listing, const char *path)
{
    char **grown;

    if (listing->count == FILES_MAX)
        return -E2BIG;
    grown = reallocarray(listing->files, listing->count + 2, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    listing->files = grown;
    grown[listing->count] = strdup(path);
    grown[listing->count + 1] = NULL;
    return grown[listing->count++] ? 0 : -ENOMEM;
}

static void listing_run(void *argument)
{
    Listing *listing = argument;
    char *const paths[] = {listing->state_dir, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;

    if (!tree)
        listing->error = -errno;
    while (tree && listing->error >= 0 && (entry = fts_read(tree))) {
        if (entry->fts_info == FTS_DNR || (entry->fts_info == FTS_NS && entry->fts_errno != ENOENT))
            listing->error = -entry->fts_errno;
        else if (entry->fts_info != FTS_D && entry->fts_info != FTS_DP && entry->fts_info != FTS_NS)
            listing->error = add_file(listing, entry->fts_path);
    }
    if (tree)
        fts_close(tree);
    if (listing->count > 1)
        qsort(listing->files, listing->count, sizeof(*listing->files), by_path);
}

static void listing_done(void *argument)
{
    Listing *listing = argument;

    listing->done(listing->error, listing->error < 0 ? NULL : TAKE_PTR(listing->files), listing->userdata);
    listing_free(listing);
}

static void listing_discard(void *argument)
{
    Listing *listing = argument;

    listing->done(-ESHUTDOWN, NULL, listing->userdata);
    listing_free(listing);
}

int list_files(Workers *workers, const char *state_dir, listed_fn done, void *userdata)
{
    Listing *listing = calloc(1, sizeof(*listing));
    int r = -ENOMEM;

    if (!listing)
        return -ENOMEM;
    listing->done = done;
    listing->userdata = userdata;
    listing->state_dir = strdup(state_dir);
    if (listing->state_dir && (listing->files = calloc(1, sizeof(*listing->files))))
        r = workers_submit(workers, &(Work){listing_run, listing_done, listing_discard, listing});
    if (r < 0)
        listing_free(listing);
    return r;
}
