/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the domain XML have in common: the least that boots, and parts of more. */
#ifndef TESTS_DOMAIN_SPECS_H
#define TESTS_DOMAIN_SPECS_H

#include "driver/libvirt/xml-writer.h"

#define GENERATION SD_ID128_MAKE(01, 23, 45, 67, 89, ab, cd, ef, 01, 23, 45, 67, 89, ab, cd, ef)

extern const DomainTarget system_target;
extern InterfaceSpec interfaces[2];
extern InterfaceSpec cards[4];
extern ShareSpec shares[4];
extern DeviceSpec devices[3];
extern StringPair credentials[2];
extern char *credential_copies[2];
extern char *arguments[2];

/* Three lines boot. */
VmSpec minimal_spec(void);
StartRequest request_for(VmSpec *spec);

#endif
