/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the spec table: how rows are written, and the tables of what is in lists. */
#ifndef SPEC_ROWS_H
#define SPEC_ROWS_H

#include "spec/spec-table.h"
#include "spec/take.h"

#define AT(type, field)    .offset = offsetof(type, field)
#define LIST(type, field)  .offset = offsetof(type, field), .count_offset = offsetof(type, n_##field)
#define RANGE(least, most) .minimum = (least), .maximum = (most)
#define WORDS(prefix, constant)                                                                              \
    .enum_name = prefix##_name, .enum_value = prefix##_from_string, .enum_max = constant##_MAX
#define LIVE       .change = CHANGE_LIVE
#define NEXT_START .change = CHANGE_NEXT_START
#define A_PATH     .reach = REACH_PATH
#define UNSAFE     .reach = REACH_HOST

/* Without another key, or without its words, it has no effect. */
#define WITH(name)             .only = {{.key = name}}
#define WITH_WORDS(name, bits) .only = {{.key = name, .words = (bits)}}
#define WORD(value)            (UINT64_C(1) << (value))
#define MISLEADS               .misleads = true

/* The rows hold int functions, whatever the enum. */
#define ENUM_NAME(prefix, type)                                                                              \
    static const char *prefix##_name(int value)                                                              \
    {                                                                                                        \
        return prefix##_to_string((type)value);                                                              \
    }

#define MIB_MAX (UINT64_C(16) << 20) /* 16 TiB */
#define SEC     UINT64_C(1000000)
#define DAY     (86400 * SEC)

extern const KeyTable volume_table, interface_table, forward_table, share_table, device_table,
    root_port_table, stop_step_table;

#endif
