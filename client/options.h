/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line of microvmctl. */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include "ctl.h"

/* Exit code. `*ret_done`: the question (--help, --version) was answered. The verb is the first of ctl->names. */
int options_parse(Ctl *ctl, int argc, char *argv[], bool *ret_done);
void options_help(void);

#endif
