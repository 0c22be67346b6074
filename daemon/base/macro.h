/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Cleanup attributes and small helpers. Build in a _cleanup_ local, hand over with TAKE_PTR. */
#ifndef BASE_MACRO_H
#define BASE_MACRO_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(function)     __attribute__((cleanup(function)))
#define _printf_(string, first) __attribute__((format(printf, string, first)))
#define _unused_                __attribute__((unused))

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b)         ((a) < (b) ? (a) : (b))
#define MAX(a, b)         ((a) > (b) ? (a) : (b))

#define TAKE_PTR(pointer)                                                                                    \
    ({                                                                                                       \
        typeof(pointer) *_address = &(pointer);                                                              \
        typeof(pointer) _value = *_address;                                                                  \
        *_address = NULL;                                                                                    \
        _value;                                                                                              \
    })

#define TAKE_FD(fd)                                                                                          \
    ({                                                                                                       \
        int *_address = &(fd);                                                                               \
        int _value = *_address;                                                                              \
        *_address = -EBADF;                                                                                  \
        _value;                                                                                              \
    })

/* Defines `function##p`, a cleanup handler for `type`, whose destructor accepts NULL. */
#define DEFINE_CLEANUP(type, function)                                                                       \
    static inline void function##p(type *pointer)                                                            \
    {                                                                                                        \
        if (*pointer)                                                                                        \
            function(*pointer);                                                                              \
    }

static inline void freep(void *pointer)
{
    free(*(void **)pointer);
}

static inline int safe_close(int fd)
{
    if (fd >= 0)
        close(fd);
    return -EBADF;
}

static inline void closep(int *fd)
{
    safe_close(*fd);
}

DEFINE_CLEANUP(FILE *, fclose)

#define _cleanup_free_   _cleanup_(freep)
#define _cleanup_close_  _cleanup_(closep)
#define _cleanup_fclose_ _cleanup_(fclosep)

static inline bool streq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool isempty(const char *string)
{
    return !string || !*string;
}

/* Replaces *target by a copy of `value` (which may be NULL). Returns 0 or -ENOMEM. */
static inline int free_and_strdup(char **target, const char *value)
{
    char *copy = NULL;
    if (value && !(copy = strdup(value)))
        return -ENOMEM;
    free(*target);
    *target = copy;
    return 0;
}

#endif
