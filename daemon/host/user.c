/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/user.h"

#include "base/macro.h"

#include <pwd.h>

int host_user_find(const char *name, HostUser *ret_user)
{
    enum {
        ENTRY_SIZE = 16384
    };
    struct passwd entry, *found = NULL;
    char buffer[ENTRY_SIZE];
    int r = getpwnam_r(name, &entry, buffer, sizeof(buffer), &found);

    if (!found)
        return r > 0 ? -r : -ENOENT;
    *ret_user = (HostUser){.uid = found->pw_uid, .gid = found->pw_gid};
    return 0;
}
