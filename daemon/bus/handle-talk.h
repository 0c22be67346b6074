/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What microvmd@NAME.service, whose process is microvmd-handle, and microvmd say to each other. The process
 * listens at a SOCK_SEQPACKET socket with the microVM's name, and microvmd connects to it. Each message is
 * one text. See docs/adr/0015.
 */
#ifndef BUS_HANDLE_TALK_H
#define BUS_HANDLE_TALK_H

#define HANDLE_SOCKET_DIR "daemon/handles" /* in the runtime directory */

/* The handle's first message on a connection is one of these, and a name. */
#define HANDLE_ATTACH "attach " /* it has just been started: the microVM is to run */
#define HANDLE_AGAIN  "again "  /* it, or one that was killed before it, has been: what is off stays off */
#define HANDLE_READY  "ready "  /* the same, and it has told systemd that it is ready */
/* Later: systemd has asked for its end. */
#define HANDLE_STOP "stop"

/* microvmd: HANDLE_EXIT CODE " " TEXT, or else what is for systemd as it is: sd_notify(3). */
#define HANDLE_EXIT "exit "

enum {
    HANDLE_MESSAGE_MAX = 4096, /* what systemd takes */
};

#endif
