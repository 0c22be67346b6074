/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private copies of kernels and initrds that were made before anybody needed them: copying is most of what a
 * start takes beside the hypervisor's own time. A spare is given away once, so that two hypervisors never
 * have a file in common. Both calls block, and may be made by several workers at once.
 */
#ifndef RESOURCE_SPARE_COPIES_H
#define RESOURCE_SPARE_COPIES_H

#include "base/file.h"

/*
 * Moves the spare of what `from` is now to `to`, on the same file system; mode 0600. ret_source: as of
 * copy_file_stamped(). -ENOENT: there is none.
 */
int spare_copy_take(const char *directory, const char *from, const char *to, FileStamp *ret_source);

/*
 * Makes one for the next start, unless there is one; `directory` (0700) is made, too. `now_sec` is the time
 * of day. Older ones go, so that all together stay small. -ENOSPC: it is too big for that. -EAGAIN: it has
 * changed just now.
 */
int spare_copy_make(const char *directory, const char *from, int64_t now_sec);

#endif
