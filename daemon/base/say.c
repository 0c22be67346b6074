/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/say.h"

#include <stdarg.h>

char *say(const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    return text;
}

int say_why(char **ret_text, int result, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(ret_text, format, arguments) < 0)
        *ret_text = NULL;
    va_end(arguments);
    return result;
}
