/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UTF-8 as RFC 3629 has it: neither overlong nor surrogates nor anything beyond U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/macro.h"

/* Length of the sequence at `text`, of which `left` bytes are there (at least one); 0: it is not UTF-8. */
size_t utf8_sequence(const char *text, size_t left);

/* Writes a code point; returns its length. */
size_t utf8_encode(uint32_t code, char ret_bytes[4]);

/* Replaces what is not UTF-8, and NUL, by '?': JSON and D-Bus refuse them. `text` has `size` bytes. */
void utf8_make_valid(char *text, size_t size);

/* Replaces what is not UTF-8 and control characters by '?': D-Bus refuses the former, terminals obey the
 * latter. */
void utf8_make_printable(char *text);

#endif
