/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lists of strings that end with NULL; NULL is an empty one. */
#ifndef BASE_STRV_H
#define BASE_STRV_H

#include "base/macro.h"

char **strv_free(char **strings); /* returns NULL */
/* A copy that is never NULL; NULL: out of memory. */
char **strv_copy(char *const *strings);
DEFINE_CLEANUP(char **, strv_free)

#define _cleanup_strv_ _cleanup_(strv_freep)

#endif
