/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/libvirt/xml-writer.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>

void xml_put(Writer *w, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(w->stream, format, arguments);
    va_end(arguments);
}

static void put_byte(Writer *w, char byte)
{
    switch (byte) {
    case '&':
        fputs("&amp;", w->stream);
        break;
    case '<':
        fputs("&lt;", w->stream);
        break;
    case '>':
        fputs("&gt;", w->stream);
        break;
    case '\'':
        fputs("&apos;", w->stream);
        break;
    case '"':
        fputs("&quot;", w->stream);
        break;
    default:
        /* XML 1.0 has no control characters but tab and line ends; we want none of them. */
        if ((unsigned char)byte < 0x20 || byte == 0x7f)
            w->invalid = true;
        fputc(byte, w->stream);
    }
}

void xml_text(Writer *w, const char *text)
{
    for (; *text; text++)
        put_byte(w, *text);
}

void xml_element(Writer *w, const char *indent, const char *name, const char *text)
{
    xml_put(w, "%s<%s>", indent, name);
    xml_text(w, text);
    xml_put(w, "</%s>\n", name);
}

void xml_attribute(Writer *w, const char *name, const char *value)
{
    xml_put(w, " %s='", name);
    xml_text(w, value);
    xml_put(w, "'");
}

NotifyWay xml_notify_way(const Writer *w)
{
    const char *path = w->request->notify_socket;
    StartRequest request = *w->request;

    /* Its test driver makes no socket. */
    if (w->target->type != DOMAIN_QEMU)
        return NOTIFY_NOT;
    if (path && strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        request.notify_socket = NULL;
    return qemu_notify_way(&request, 0);
}
