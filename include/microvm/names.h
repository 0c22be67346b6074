/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names and paths that microvmd, its clients and its host share. */
#ifndef MICROVM_NAMES_H
#define MICROVM_NAMES_H

#define MICROVM_BUS_NAME          "org.microvm1"
#define MICROVM_MANAGER_PATH      "/org/microvm1"
#define MICROVM_VM_PATH           "/org/microvm1/vm" /* + "/" + sd_bus_path_encode(name) */
#define MICROVM_MANAGER_INTERFACE "org.microvm1.Manager"
#define MICROVM_VM_INTERFACE      "org.microvm1.MicroVM"

#define MICROVM_POLKIT_MANAGE        "org.microvm1.manage"
#define MICROVM_POLKIT_CONSOLE       "org.microvm1.console"
#define MICROVM_POLKIT_INSPECT       "org.microvm1.inspect"
#define MICROVM_POLKIT_DEFINE        "org.microvm1.define"
#define MICROVM_POLKIT_DEFINE_UNSAFE "org.microvm1.define-unsafe"

#define MICROVM_HOST_CONFIG        "/etc/microvmd/host.json" /* drop-ins: + ".d" + "/NAME.json" */
#define MICROVM_DEFINITIONS_ETC    "/etc/microvmd/vms"
#define MICROVM_DEFINITIONS_RUN    "/run/microvmd/vms"
#define MICROVM_DEFINITIONS_VENDOR "/usr/lib/microvmd/vms"
#define MICROVM_STATE_DIR          "/var/lib/microvmd"
#define MICROVM_RUNTIME_DIR        "/run/microvmd"

#define MICROVM_UNIT          "microvmd.service"
#define MICROVM_SHUTDOWN_UNIT "microvmd-shutdown.service"
/* What a hypervisor is that microvmd runs itself, under systemd: MICROVM_VM_UNIT_PREFIX NAME ".service" */
#define MICROVM_VM_UNIT_PREFIX "microvmd-vm@"
/* The user's handle of a microVM: MICROVM_HANDLE_PREFIX NAME ".service" */
#define MICROVM_HANDLE_PREFIX "microvmd@"

/* Longest name of a microVM, in bytes. */
#define MICROVM_NAME_MAX 64

/* Fields of our journal entries, beside systemd's own. */
#define MICROVM_LOG_NAME       "MICROVM_NAME"
#define MICROVM_LOG_STATE      "MICROVM_STATE"
#define MICROVM_LOG_GENERATION "MICROVM_GENERATION"
/* Of entries that have one of the MESSAGE_ID= in messages.h. */
#define MICROVM_LOG_OLD_STATE   "MICROVM_OLD_STATE"
#define MICROVM_LOG_REASON      "MICROVM_REASON"    /* the sentence alone */
#define MICROVM_LOG_RESULT      "MICROVM_RESULT"    /* how the run ended */
#define MICROVM_LOG_READINESS   "MICROVM_READINESS" /* see states.h */
#define MICROVM_LOG_VERB        "MICROVM_VERB"      /* what was asked for */
#define MICROVM_LOG_ASKED_BY    "MICROVM_ASKED_BY"  /* see states.h */
#define MICROVM_LOG_CALLER_UID  "MICROVM_CALLER_UID"
#define MICROVM_LOG_CALLER_PID  "MICROVM_CALLER_PID"
#define MICROVM_LOG_CRASH       "MICROVM_CRASH" /* the report's number, see ListCrashes of org.microvm1(5) */
#define MICROVM_LOG_COMMAND     "MICROVM_COMMAND"      /* of the hypervisor, its arguments in lines */
#define MICROVM_LOG_UNIT_RESULT "MICROVM_UNIT_RESULT"  /* of its unit, as systemd has it */
#define MICROVM_LOG_MEMORY_PEAK "MICROVM_MEMORY_PEAK"  /* bytes */
#define MICROVM_LOG_EVENTS      "MICROVM_EVENTS"       /* what happened last, in lines */
#define MICROVM_LOG_TAIL        "MICROVM_CONSOLE_TAIL" /* what the guest said last */

/* A line of a guest's console in the journal: its SYSLOG_IDENTIFIER= is this and the microVM's name. */
#define MICROVM_LOG_CONSOLE     "microvm-"
#define MICROVM_MESSAGE_CONSOLE "7782539c872b4f89ac02a8118a4ec41b" /* its MESSAGE_ID= */

#endif
