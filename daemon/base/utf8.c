/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/utf8.h"

size_t utf8_sequence(const char *text, size_t left)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t length;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        length = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        length = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        length = 4;
    else
        return 0;
    if (left < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return length;
}

size_t utf8_encode(uint32_t code, char ret_bytes[4])
{
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0x00, 0xc0, 0xe0, 0xf0};

    for (size_t i = length - 1; i > 0; i--, code >>= 6)
        ret_bytes[i] = (char)(0x80 | (code & 0x3f));
    ret_bytes[0] = (char)(first[length] | code);
    return length;
}

void utf8_make_printable(char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        size_t length = utf8_sequence(text, left);
        /* C1 controls, U+0080 to U+009F, move a terminal as the others do. */
        bool c1 = length == 2 && (unsigned char)text[0] == 0xc2 && (unsigned char)text[1] < 0xa0;
        if (length == 0 || (unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
        if (c1)
            text[0] = text[1] = '?';
        text += MAX(length, (size_t)1);
        left -= MAX(length, (size_t)1);
    }
}

void utf8_make_valid(char *text, size_t size)
{
    while (size > 0) {
        size_t length = *text ? utf8_sequence(text, size) : 0;
        if (length == 0)
            *text = '?';
        length = MAX(length, (size_t)1);
        text += length;
        size -= length;
    }
}
