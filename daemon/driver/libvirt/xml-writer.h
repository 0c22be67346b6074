/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the XML writer: how text is put, and who writes what. */
#ifndef DRIVER_LIBVIRT_XML_WRITER_H
#define DRIVER_LIBVIRT_XML_WRITER_H

#include "driver/libvirt/xml.h"
#include "driver/qemu-common.h"

#include <inttypes.h>

typedef struct Writer {
    FILE *stream;
    const StartRequest *request;
    const DomainTarget *target;
    bool invalid; /* something that XML can't hold was to be written */
} Writer;

/* What libvirt, and so QEMU, calls a PCIe root port, followed by its index. */
#define ROOT_PORT_ALIAS "ua-root-port-"
/* The same of a device of the host that the definition gives no id, but properties. */
#define DEVICE_ALIAS "ua-device-"

/* xml-writer.c. Structure and numbers of ours; nothing from outside goes through this one. */
void xml_put(Writer *w, const char *format, ...) _printf_(2, 3);
/* Text from outside, as the text of an element or the value of an attribute, escaped. */
void xml_text(Writer *w, const char *text);
/* <NAME>TEXT</NAME>, a line of its own */
void xml_element(Writer *w, const char *indent, const char *name, const char *text);
/* " NAME='VALUE'" */
void xml_attribute(Writer *w, const char *name, const char *value);

/* xml-writer.c: how the words of the guest come out. */
NotifyWay xml_notify_way(const Writer *w);

/* xml-devices.c: <devices>, but for what libvirt has no words for. */
void xml_devices(Writer *w);

/* xml-qemu.c: that, and whether there is any. */
void xml_qemu_words(Writer *w);
bool xml_has_qemu_words(const Writer *w);
/* libvirt's word for the type of a device's property, which decides how QEMU reads the value. */
const char *xml_property_type(const char *name, const char *value);

#endif
