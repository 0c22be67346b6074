/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much of its memory a microVM has. */
#include "bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* As sizes are in definitions: a bare number is MiB. */
static int parse_bytes(const char *text, uint64_t *ret_bytes)
{
    static const char *const suffixes[] = {"", "B", "iB"};
    static const char units[] = "MGT";
    unsigned shift = 20;
    uint64_t number;
    char *end;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9')
        return -EINVAL;
    if (*end != '\0') {
        const char *unit = strchr(units, *end++);
        bool known = false;
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++)
            known = known || strcmp(end, suffixes[i]) == 0;
        if (!unit || !known)
            return -EINVAL;
        shift += 10 * (unsigned)(unit - units);
    }
    if (number > UINT64_MAX >> shift)
        return -ERANGE;
    *ret_bytes = number << shift;
    return 0;
}

int verb_set_memory(Ctl *ctl)
{
    _cleanup_rows_ VmRows rows = {0};
    uint64_t bytes;
    int code;

    if (ctl->n_names != 2 || parse_bytes(ctl->names[1], &bytes) < 0)
        return fail(MICROVM_EXIT_USAGE, "set-memory takes a microVM and a size, in MiB or with its unit: "
                                        "microvmctl set-memory NAME 256M");
    ctl->n_names = 1;
    code = ctl_one_name(ctl, "set-memory", &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_ask_password(ctl);
    return ctl_call(ctl, rows.items[0].path, rows.items[0].name, "SetMemory", NULL, "t", bytes);
}
