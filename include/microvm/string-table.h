/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Enums and their names from one list: a name exists once, and a test can walk all of them. */
#ifndef MICROVM_STRING_TABLE_H
#define MICROVM_STRING_TABLE_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define MICROVM_ENUM_ROW(constant, string)   constant,
#define MICROVM_STRING_ROW(constant, string) [constant] = string,

/*
 * Declares `type` with the constants of LIST, `PREFIX_MAX`, and two functions:
 * `name_to_string()` gives the name (NULL when out of range) and `name_from_string()` the value,
 * or -EINVAL for a name that the list does not have.
 */
#define MICROVM_STRING_TABLE(type, name, PREFIX, LIST)                                                       \
    typedef enum type {                                                                                      \
        LIST(MICROVM_ENUM_ROW) PREFIX##_MAX                                                                  \
    } type;                                                                                                  \
    static inline const char *name##_to_string(type value)                                                   \
    {                                                                                                        \
        static const char *const table[] = {LIST(MICROVM_STRING_ROW)};                                       \
        return (unsigned)value < (unsigned)PREFIX##_MAX ? table[value] : NULL;                               \
    }                                                                                                        \
    static inline int name##_from_string(const char *string)                                                 \
    {                                                                                                        \
        for (int value = 0; value < (int)PREFIX##_MAX; value++)                                              \
            if (strcmp(name##_to_string((type)value), string) == 0)                                          \
                return value;                                                                                \
        return -EINVAL;                                                                                      \
    }

#endif
