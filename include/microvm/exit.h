/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exit codes of microvmd and microvmctl; stable. */
#ifndef MICROVM_EXIT_H
#define MICROVM_EXIT_H

enum {
    MICROVM_EXIT_OK = 0,
    MICROVM_EXIT_FAILURE = 1,
    MICROVM_EXIT_USAGE = 2,
    MICROVM_EXIT_NOT_RUNNING = 3,   /* microvmctl status, is-active */
    MICROVM_EXIT_NO_SUCH_VM = 4,    /* microvmctl */
    MICROVM_EXIT_PLAN_CHANGES = 10, /* microvmctl plan */
    MICROVM_EXIT_UNREACHABLE = 69,  /* microvmctl: no daemon; EX_UNAVAILABLE of sysexits.h */
    MICROVM_EXIT_NOT_ALLOWED = 77,  /* microvmctl; EX_NOPERM */
    MICROVM_EXIT_GUARD = 78,        /* microvmd: this host must not run it; EX_CONFIG */
};

#endif
