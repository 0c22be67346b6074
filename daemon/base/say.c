/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/say.h"

char *say_list(const char *format, va_list arguments)
{
    char *text;

    return vasprintf(&text, format, arguments) < 0 ? NULL : text;
}

char *say(const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    text = say_list(format, arguments);
    va_end(arguments);
    return text;
}

int say_why(char **ret_text, int result, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    *ret_text = say_list(format, arguments);
    va_end(arguments);
    return result;
}
