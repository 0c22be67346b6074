/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LAUNCH_UNIT_LOOK_H
#define LAUNCH_UNIT_LOOK_H

#include "launch/unit.h"

/* What systemd tells of a unit now. */
int unit_look(const char *unit, UnitLook *ret_look);
/* The same, as soon as `until` is true of it. -ETIMEDOUT after `usec`, with what it told last. */
int unit_look_until(const char *unit, bool (*until)(const UnitLook *look), uint64_t usec, UnitLook *ret_look);

#endif
