/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files that a serial console is logged to. One series a boot: "console.log" is the present boot (or the
 * last one), "console.1.log" the boot before, and so on. Within a series the log is bounded: "NAME.0" is what
 * was before, "NAME.1" what was before that, the names that virtlogd(8) gives when it rotates.
 */
#ifndef RESOURCE_CONSOLE_LOG_H
#define RESOURCE_CONSOLE_LOG_H

#include "base/macro.h"

#define CONSOLE_LOG_NAME "console.log" /* of the part that is being written */

enum {
    CONSOLE_LOG_BOOTS = 5,             /* kept, the present one included */
    CONSOLE_LOG_PARTS = 3,             /* rotated parts a boot: ".0" to ".2", as virtlogd's max_backups */
    CONSOLE_LOG_MAX = 2 * 1024 * 1024, /* bytes a part, as virtlogd's max_size */
};

/* Path of the log of the boot `boot` boots ago (0: this or the last one); `part` -1 is the one being written.
 */
char *console_log_path(const char *state_dir, unsigned boot, int part);

/* Makes room for a new boot: shifts every series by one and drops the oldest. Blocks. */
int console_log_new_boot(const char *state_dir);

/*
 * Bounds a log that nobody else does: past CONSOLE_LOG_MAX bytes its end is copied to "PATH.0" and it is cut
 * to nothing, while its writer has it open for appending. `parts` copies are kept. 1 when it did, else 0 or a
 * negative errno. Blocks.
 */
int log_bound(const char *path, unsigned parts);

/* The last `max` bytes of a log; empty where there is none. */
int log_tail(const char *path, size_t max, char **ret_text, size_t *ret_size);
/* The same of this boot's console. */
int console_log_tail(const char *state_dir, size_t max, char **ret_text, size_t *ret_size);

#endif
