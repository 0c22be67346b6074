/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Properties of a transient unit, as values: whoever decides on them needs no bus, and what was decided can
 * be looked at. Their names and signatures are those of org.freedesktop.systemd1(5), "StartTransientUnit".
 */
#ifndef LAUNCH_UNIT_SETTINGS_H
#define LAUNCH_UNIT_SETTINGS_H

#include "base/macro.h"

#include <systemd/sd-bus.h>

typedef struct UnitSetting {
    const char *group;     /* what it belongs to, for people and for measuring: "network"; not owned */
    const char *name;      /* "PrivateNetwork"; not owned */
    const char *signature; /* see unit_settings_add(); not owned */
    uint64_t number;
    char **strings; /* ends with NULL; never NULL */
} UnitSetting;

typedef struct UnitSettings {
    UnitSetting *items;
    size_t count;
    const char *group; /* of those that are added next */
    bool oom;          /* something could not be added */
} UnitSettings;

void unit_settings_clear(UnitSettings *settings);
DEFINE_CLEANUP(UnitSettings *, unit_settings_clear)
#define _cleanup_unit_settings_ _cleanup_(unit_settings_clear)

/*
 * Adds one. What kind of value it has is told by its signature:
 *
 *   "b" "i" "u" "t"  the number
 *   "s"              the first string
 *   "as"             the strings
 *   "ay"             the first string, a set of numbers ("0-3,5"), as bits
 *   "(bas)"          the strings, of which the number says whether they are those allowed (1) or denied (0)
 *   "a(ss)"          the strings, in pairs
 *   "a(ssbt)"        the strings: paths that are mounted where they are; after a "-", only if they exist
 *                    (number 1: pairs of such a path and where it is mounted instead)
 *
 * `strings` ends with NULL and is copied; NULL: none. `name` and `signature` are kept as they are. A name can
 * come twice: systemd adds the second value to the first.
 */
void unit_settings_add(UnitSettings *settings, const char *name, const char *signature, uint64_t number,
                       const char *const *strings);

/* Appends all of them to a message whose array "a(sv)" is open. A negative errno of sd-bus. */
int unit_settings_append(sd_bus_message *message, const UnitSettings *settings);

#endif
