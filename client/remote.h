/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors don't travel over -H: verbs that get one run over there. */
#ifndef CLIENT_REMOTE_H
#define CLIENT_REMOTE_H

#include "ctl.h"

/* Becomes "ssh -t HOST microvmctl VERB ..."; returns an exit code when it can't. */
int remote_exec(Ctl *ctl, const char *verb);

#endif
