/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A command of QEMU's machine protocol (QEMU's docs/interop/qmp-spec.rst) that somebody else wrote. What QEMU
 * gets is never that text but what is written anew from it: its own parser goes on in the middle of a text
 * that it can't read, and would find another command there than the one whose right was asked for.
 */
#ifndef DRIVER_QMP_COMMAND_H
#define DRIVER_QMP_COMMAND_H

#include "base/macro.h"

#include <cjson/cJSON.h>

enum {
    QMP_COMMAND_MAX = 64 * 1024, /* bytes of its text */
};

typedef struct QmpCommand {
    char *name;
    cJSON *arguments; /* an object; NULL: none */
    cJSON *id;        /* of who wrote it, given back with the answer; NULL: none */
} QmpCommand;

/* Where in a stream of commands one ends. All zero: at its start. */
typedef struct QmpScan {
    size_t size; /* of what was looked at in vain */
    size_t depth;
    bool in_string, escaped;
} QmpScan;

/*
 * How much of `text`, which begins with what was looked at before, is one command, be it good or not: a line,
 * where it is no object. 0: its end has not come yet; otherwise the scan is at the start of the next one.
 */
size_t qmp_scan(QmpScan *scan, const char *text, size_t size);

/*
 * Of { "execute": NAME, "arguments": { … }, "id": … }. -EBADMSG with the reason in *ret_why, a sentence that
 * need not be freed, and an id in the command if there was one; -ENOMEM. The command is the caller's to
 * clear, also then.
 */
int qmp_command_parse(const char *text, size_t size, QmpCommand *ret_command, const char **ret_why);
void qmp_command_clear(QmpCommand *command);

/* Whether it changes nothing and shows no secret: who may read definitions may send it. */
bool qmp_command_only_reads(const char *name);

#endif
