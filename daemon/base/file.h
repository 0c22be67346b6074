/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files: bounded reads that never block, atomic replacement, private copies. Errors are negative errnos. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/macro.h"

#include <sys/stat.h>

/*
 * Reads a regular file of at most `max` bytes, whole. Never blocks on a FIFO or a device: -EISDIR, -EINVAL
 * (not a regular file), -EFBIG. The text is NUL-terminated beyond its size, the caller's.
 */
int read_file(const char *path, size_t max, char **ret_text, size_t *ret_size);

/* Which content a file has: equal ones have not been written to in between. All zero: there is none. */
typedef struct FileIdentity {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
} FileIdentity;

FileIdentity file_identity(const struct stat *st);
bool file_identity_equal(const FileIdentity *a, const FileIdentity *b);

/*
 * As read_file(), but never half of what somebody is writing: read again when the file changed meanwhile.
 * -EAGAIN: it changed all the time.
 */
int read_file_whole(const char *path, size_t max, char **ret_text, size_t *ret_size,
                    FileIdentity *ret_identity);

/* What a person is told of an error of read_file() and read_file_whole(). */
const char *read_file_problem(int error);

/* Replaces the file at `path`: a reader sees the old content or the new one, never half of it. */
int write_file_atomic(const char *path, const void *data, size_t size, mode_t mode);

/* Removes what is left of a write or a copy that was cut off, as by SIGKILL; `path` may be a pattern, as of
 * glob(7). Not while somebody else may write the file. */
void write_file_forget(const char *path);

/* The same, and a power cut does not leave it empty. Waits for the disk, so not on the loop. */
int write_file_durable(const char *path, const void *data, size_t size, mode_t mode);

/* Pure. Whether it is that directory or in it, by their names; both are absolute, without "..". */
bool path_is_below(const char *path, const char *directory);

/* Makes a directory and those above it that are missing, each with `mode`; one that exists stays as it is.
 * -ENOTDIR. */
int mkdir_parents(const char *path, mode_t mode);

/* Removes a file or a directory with all that is in it; follows no link, not even one swapped in meanwhile.
 * None: 0. */
int remove_tree(const char *path);

/* Which file it is, for comparing over restarts: a change of owner or mode makes no difference. All zero:
 * none. */
typedef struct FileStamp {
    uint64_t device, inode, size, mtime_nsec;
} FileStamp;

FileStamp file_stamp_of(const struct stat *st);
int file_stamp(const char *path, FileStamp *ret_stamp);
static inline bool file_stamp_is_null(const FileStamp *stamp)
{
    return stamp->inode == 0;
}
bool file_stamp_equal(const FileStamp *a, const FileStamp *b);

/* Copies a regular file, replacing the target; shares blocks (reflink) where the file system can. */
int copy_file(const char *from, const char *to, mode_t mode);
/* The same, and says what was copied. */
int copy_file_stamped(const char *from, const char *to, mode_t mode, FileStamp *ret_source);

#endif
