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

/* Longest name of a microVM, in bytes. */
#define MICROVM_NAME_MAX 64

/* Fields of our journal entries, beside systemd's own. */
#define MICROVM_LOG_NAME       "MICROVM_NAME"
#define MICROVM_LOG_STATE      "MICROVM_STATE"
#define MICROVM_LOG_GENERATION "MICROVM_GENERATION"

/* A line of a guest's console in the journal: its SYSLOG_IDENTIFIER= is this and the microVM's name. */
#define MICROVM_LOG_CONSOLE     "microvm-"
#define MICROVM_MESSAGE_CONSOLE "7782539c872b4f89ac02a8118a4ec41b" /* its MESSAGE_ID= */

#endif
