/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libvirt says, in its own XML: the little that is wanted of it. */
#include "driver/libvirt/xml.h"

/* The value of the attribute that follows `words`, up to its quote. */
static char *attribute_after(const char *xml, const char *words)
{
    const char *at = strstr(xml, words), *end;
    char quote;

    if (!at)
        return NULL;
    at += strlen(words);
    quote = *at++;
    if (quote != '\'' && quote != '"')
        return NULL;
    end = strchr(at, quote);
    return end ? strndup(at, (size_t)(end - at)) : NULL;
}

int domain_generation_parse(const char *metadata, sd_id128_t *ret_generation)
{
    _cleanup_free_ char *text = attribute_after(metadata, "generation=");

    return text && sd_id128_from_string(text, ret_generation) >= 0 ? 0 : -EBADMSG;
}

char *domain_console_path(const char *xml)
{
    const char *serial = strstr(xml, "<serial type=");

    return serial ? attribute_after(serial, "<source path=") : NULL;
}

Accel domain_accel(const char *xml)
{
    _cleanup_free_ char *type = attribute_after(xml, "<domain type=");

    return streq(type, "kvm") ? ACCEL_KVM : ACCEL_TCG;
}

int capabilities_owner(const char *xml, HostUser *ret_user)
{
    const char *dac = strstr(xml, "<model>dac</model>"), *label;
    unsigned uid, gid;

    label = dac ? strstr(dac, "<baselabel type='") : NULL;
    label = label ? strchr(label, '>') : NULL;
    if (!label || sscanf(label, ">+%u:+%u<", &uid, &gid) != 2)
        return -ENOENT;
    *ret_user = (HostUser){uid, gid};
    return 0;
}

bool capabilities_has_security(const char *xml, const char *model)
{
    char element[64];

    snprintf(element, sizeof(element), "<model>%s</model>", model);
    for (const char *at = xml; (at = strstr(at, "<secmodel>")); at++) {
        const char *end = strstr(at, "</secmodel>"), *found = strstr(at, element);
        if (found && end && found < end)
            return true;
    }
    return false;
}
