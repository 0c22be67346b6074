/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands for the QEMU of a microVM, in its own machine protocol. */
#include "bus.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int print_answer(const Ctl *ctl, const char *text)
{
    JsonMode mode = ctl->json != JSON_OFF ? ctl->json : isatty(STDOUT_FILENO) ? JSON_PRETTY : JSON_SHORT;
    _cleanup_json_ cJSON *answer = NULL;

    if (mode == JSON_SHORT) { /* in QEMU's own words: no digit is lost */
        json_put(text);
        return MICROVM_EXIT_OK;
    }
    answer = cJSON_Parse(text);
    return answer ? json_print(mode, answer) : ctl_bad_answer(-EBADMSG);
}

/* `command` is JSON, or the name of a command without arguments. */
static int send_command(Ctl *ctl, const VmRow *row, const char *command)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_json_ cJSON *object = NULL;
    _cleanup_free_ char *written = NULL;
    const char *text;
    int code, r;

    command += strspn(command, " \t");
    if (*command != '{') {
        object = cJSON_CreateObject();
        if (cJSON_AddStringToObject(object, "execute", command))
            written = cJSON_PrintUnformatted(object);
        if (!written)
            return fail_oom();
        command = written;
    }
    if (ctl->timeout_usec != UINT64_MAX)
        code = ctl_call(ctl, row->path, row->name, "Qmp", &reply, "sa{sv}", command, 1, "timeout", "t",
                        ctl->timeout_usec);
    else
        code = ctl_call(ctl, row->path, row->name, "Qmp", &reply, "sa{sv}", command, 0);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_read(reply, "s", &text);
    return r < 0 ? ctl_bad_answer(r) : print_answer(ctl, text);
}

/* One a line, up to the first that fails; each answer is out before the next command is read. */
static int send_lines(Ctl *ctl, const VmRow *row)
{
    _cleanup_free_ char *line = NULL;
    size_t room = 0;
    int code = MICROVM_EXIT_OK;

    while (code == MICROVM_EXIT_OK && getline(&line, &room, stdin) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[strspn(line, " \t")] == '\0')
            continue;
        code = send_command(ctl, row, line);
        fflush(stdout);
    }
    return code;
}

int verb_qmp(Ctl *ctl)
{
    _cleanup_rows_ VmRows rows = {0};
    const char *command = ctl->n_names == 2 ? ctl->names[1] : NULL;
    int code;

    if (ctl->n_names < 1 || ctl->n_names > 2 || (!command && isatty(STDIN_FILENO)))
        return fail(MICROVM_EXIT_USAGE,
                    "qmp takes a microVM and a command for its QEMU, or reads commands from standard input:\n"
                    "microvmctl qmp NAME query-status\n"
                    "microvmctl qmp NAME '{\"execute\": \"query-status\"}'");
    ctl->n_names = 1;
    code = ctl_one_name(ctl, "qmp", &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_ask_password(ctl);
    return command ? send_command(ctl, &rows.items[0], command) : send_lines(ctl, &rows.items[0]);
}
