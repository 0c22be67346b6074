/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values as people write them: sizes, durations, addresses. -EINVAL: not one; -ERANGE: too large. */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

#include "base/macro.h"

/*
 * A size in MiB: "512" (MiB), or with K, M, G, T (powers of 1024, "MiB" and "MB" too) or B; fractions such as
 * "1.5G". It must come out as whole MiB.
 */
int parse_size_mib(const char *text, uint64_t *ret_mib);
/* The same as an ECMAScript regular expression, but for the arithmetic. */
#define PARSE_SIZE_PATTERN "^[0-9]+(\\.[0-9]{1,6})? *([KMGT](i?B)?|B)?$"

/* A time span as systemd writes them (systemd.time(7)): "90" (seconds), "90s", "1min 30s", "500ms", "1h",
 * "2d", "1w". */
int parse_duration(const char *text, uint64_t *ret_usec);
#define PARSE_DURATION_PATTERN                                                                               \
    "^( *[0-9]+(\\.[0-9]{1,6})? "                                                                            \
    "*(us|usec|ms|msec|s|sec|seconds?|m|min|minutes?|h|hr|hours?|d|days?|w|weeks?)?)+$"

/* The same in reverse, as systemd prints them: "1min 30s". */
void format_duration(uint64_t usec, char *buffer, size_t size);

/* "52:54:00:AB:cd:ef" → lower case; a multicast or all-zero address is none of a card. `ret_mac` holds 18
 * bytes. */
int parse_mac(const char *text, char *ret_mac);

/* 8-4-4-4-12, → lower case; not all zeros. `ret_uuid` holds 37 bytes. */
int parse_uuid(const char *text, char *ret_uuid);

/* IPv4 in dotted form. */
bool ipv4_valid(const char *text);

/* The candidate that `word` is likely to mean (few typing errors away), or NULL. */
const char *did_you_mean(const char *word, const char *const *candidates, size_t n);

#endif
