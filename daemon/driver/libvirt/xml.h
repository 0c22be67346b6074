/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domain XML of a microVM: https://libvirt.org/formatdomain.html. Pure. */
#ifndef DRIVER_LIBVIRT_XML_H
#define DRIVER_LIBVIRT_XML_H

#include "driver/driver.h"

/* Our element under <metadata>: it marks a domain as ours and names its run. */
#define DOMAIN_METADATA_URI "urn:org.microvm1:libvirt:1"

typedef enum DomainType {
    DOMAIN_QEMU,
    DOMAIN_TEST, /* libvirt's test driver: no machine type, no QEMU options */
} DomainType;

/* What of the libvirt that it is for matters to the XML. */
typedef struct DomainTarget {
    DomainType type;
    bool dac, selinux;         /* security drivers that it has: it refuses labels of others */
    bool no_arch_capabilities; /* its KVM refuses MSR 0x10a, with which the CPU of the host would come */
} DomainTarget;

/*
 * The XML, the caller's. -EINVAL: a value holds characters that XML can't (control characters), so that
 * nothing that came from outside becomes structure. -ENOMEM.
 */
int domain_xml(const StartRequest *request, const DomainTarget *target, char **ret_xml);

/* The generation in the text of our metadata element. -EBADMSG: there is none. */
int domain_generation_parse(const char *metadata, sd_id128_t *ret_generation);

/* Path of the console's pty in the XML of a running domain, the caller's; NULL: none. */
char *domain_console_path(const char *xml);

/* ACCEL_KVM or ACCEL_TCG, from the same. */
Accel domain_accel(const char *xml);

/* User and group that QEMU runs as, from the capabilities XML of the host. -ENOENT: it does not say. */
int capabilities_owner(const char *xml, HostUser *ret_user);

/* Whether the capabilities XML names this security driver. */
bool capabilities_has_security(const char *xml, const char *model);

#endif
