/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/strv.h"

char **strv_free(char **strings)
{
    for (char **string = strings; string && *string; string++)
        free(*string);
    free(strings);
    return NULL;
}

char **strv_copy(char *const *strings)
{
    size_t n = 0;
    char **copy;

    while (strings && strings[n])
        n++;
    copy = calloc(n + 1, sizeof(*copy));
    for (size_t i = 0; copy && i < n; i++)
        if (!(copy[i] = strdup(strings[i])))
            return strv_free(copy);
    return copy;
}
