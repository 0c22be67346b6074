/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small things that all of microvmctl uses: clean-up attributes, messages, times, text for terminals. */
#ifndef CLIENT_UTIL_H
#define CLIENT_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function)     __attribute__((cleanup(function)))
#define _printf_(string, first) __attribute__((format(printf, string, first)))
#define ELEMENTSOF(array)       (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b)               ((a) < (b) ? (a) : (b))
#define MAX(a, b)               ((a) > (b) ? (a) : (b))
#define USEC_PER_SEC            UINT64_C(1000000)

static inline void freep(void *pointer)
{
    free(*(void **)pointer);
}
static inline void closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define _cleanup_free_  _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)

/* Prints "microvmctl: ..." to standard error, after what standard output still holds; returns `code`. */
int fail(int code, const char *format, ...) _printf_(2, 3);
/* Says that memory is out; returns MICROVM_EXIT_FAILURE. */
int fail_oom(void);

/* The candidate that `word` was probably meant to be, or NULL. */
const char *did_you_mean(const char *word, const char *const *candidates, size_t n);

/* "30", "30s", "1min 30s"; a bare number is seconds. -EINVAL, or -ERANGE. */
int parse_duration(const char *text, uint64_t *ret_usec);
/* "2min 3s", as systemd prints it, of at most two units. */
void format_span(uint64_t usec, char *buffer, size_t size);
/* "Tue 2026-11-24 12:00:00 UTC; 2min 3s ago", or "...; in 3s". NULL: out of memory. */
char *format_since(uint64_t realtime_usec);
/* "2026-11-26 01:30:12", local time, always as long. NULL: out of memory. */
char *format_time(uint64_t realtime_usec);
uint64_t now_realtime_usec(void);
uint64_t now_monotonic_usec(void);

/* Length of the UTF-8 character at `text`; 0: not UTF-8; -EAGAIN: cut off by the end. */
int utf8_length(const char *text, size_t size);

typedef enum EscapeMode {
    ESCAPE_LINE,   /* one line: nothing that controls a terminal, no line ends either */
    ESCAPE_TEXT,   /* keeps line ends and tabs */
    ESCAPE_COLOUR, /* these, and SGR sequences (colours) */
} EscapeMode;

/* Makes text harmless for a terminal. NULL: out of memory. */
char *escape(const char *text, EscapeMode mode);
/*
 * The same for a piece of a stream: `*ret_used` bytes of it are dealt with, the rest (less than ESCAPE_REST)
 * is the beginning of something that the next piece ends; `last`: there is none.
 */
enum {
    ESCAPE_REST = 64
};
char *escape_piece(const char *text, size_t size, EscapeMode mode, bool last, size_t *ret_used);

#endif
