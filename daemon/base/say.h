/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sentences for people. */
#ifndef BASE_SAY_H
#define BASE_SAY_H

#include "base/macro.h"

#include <stdarg.h>

/* A new sentence, the caller's; NULL: out of memory. */
char *say(const char *format, ...) _printf_(1, 2);
char *say_list(const char *format, va_list arguments) _printf_(1, 0);

/* The same in *ret_text, and `result` back: "return say_why(ret_error, -ENOENT, ...)". */
int say_why(char **ret_text, int result, const char *format, ...) _printf_(3, 4);

#endif
