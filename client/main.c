/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvmctl: the command line of microvmd, over D-Bus. */
#include "bus.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int verb_help(Ctl *ctl)
{
    options_help();
    return MICROVM_EXIT_OK;
}

static const Verb verbs[] = {
    {"list", verb_list, OPTION_ALL | OPTION_FAILED | OPTION_OUTDATED | OPTION_LABEL},
    {"status", verb_status, OPTION_ALL | OPTION_LINES},
    {"is-active", verb_is_active, OPTION_ALL},
    {"is-failed", verb_is_failed, OPTION_ALL},
    {"why", verb_why, OPTION_ALL | OPTION_LINES},
    {"crashes", verb_crashes, 0},
    {"history", verb_history, OPTION_LINES},
    {"monitor", verb_monitor, 0},
    {"wait", verb_wait, OPTION_ALL | OPTION_FOR | OPTION_TIMEOUT},
    {"start", verb_start, OPTION_ALL | OPTION_WAIT},
    {"stop", verb_stop,
     OPTION_ALL | OPTION_FORCE | OPTION_TIMEOUT | OPTION_HOST_SHUTDOWN | OPTION_DEPENDENTS},
    {"restart", verb_restart, OPTION_ALL | OPTION_FORCE | OPTION_TIMEOUT | OPTION_WAIT},
    {"drain", verb_drain, OPTION_TIMEOUT | TAKES_NO_NAMES},
    {"undrain", verb_undrain, OPTION_NO_START | TAKES_NO_NAMES},
    {"leaks", verb_leaks, TAKES_NO_NAMES},
    {"kill", verb_kill, OPTION_ALL | OPTION_SIGNAL},
    {"pause", verb_pause, OPTION_ALL},
    {"resume", verb_resume, OPTION_ALL},
    {"set-memory", verb_set_memory, 0},
    {"reset-failed", verb_reset_failed, OPTION_ALL},
    {"console", verb_console, OPTION_FORCE | OPTION_LINES | OPTION_READ_ONLY},
    {"logs", verb_logs, OPTION_LINES | OPTION_FOLLOW | OPTION_BOOT},
    {"qmp", verb_qmp, OPTION_TIMEOUT},
    {"create", verb_create, OPTION_FROM | OPTION_SETTINGS | OPTION_TRANSIENT},
    {"edit", verb_edit, OPTION_FULL},
    {"remove", verb_remove, OPTION_FORCE | OPTION_TIMEOUT | OPTION_YES | OPTION_PURGE | OPTION_DEPENDENTS},
    {"enable", verb_enable, OPTION_NOW},
    {"disable", verb_disable, OPTION_NOW},
    {"mask", verb_mask, 0},
    {"unmask", verb_unmask, 0},
    {"is-enabled", verb_is_enabled, 0},
    {"reload", verb_reload, TAKES_NO_NAMES},
    {"validate", verb_validate, 0},
    {"cat", verb_cat, OPTION_ALL},
    {"plan", verb_plan, OPTION_LABEL},
    {"apply", verb_apply,
     OPTION_RESTART | OPTION_MAX_PARALLEL | OPTION_OUTDATED | OPTION_LABEL | OPTION_CANARY | OPTION_PRUNE |
         OPTION_PURGE | OPTION_YES},
    {"forget-volume", verb_forget_volume, 0},
    {"show", verb_show, OPTION_ALL | OPTION_PROPERTY | OPTION_VALUE | OPTION_DEFINITION},
    {"version", verb_version, TAKES_NO_NAMES},
    {"help", verb_help, TAKES_NO_NAMES},
};

static const Verb *find_verb(const char *word)
{
    const char *names[ELEMENTSOF(verbs)], *meant;
    _cleanup_free_ char *shown = NULL;

    for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
        names[i] = verbs[i].name;
        if (strcmp(names[i], word) == 0)
            return &verbs[i];
    }
    meant = did_you_mean(word, names, ELEMENTSOF(verbs));
    shown = escape(word, ESCAPE_LINE);
    if (meant)
        fail(MICROVM_EXIT_USAGE, "There is no verb \"%s\"; did you mean \"%s\"?", shown ? shown : "?", meant);
    else
        fail(MICROVM_EXIT_USAGE, "There is no verb \"%s\". See: microvmctl --help", shown ? shown : "?");
    return NULL;
}

static int run(Ctl *ctl)
{
    const Verb *verb = find_verb(ctl->n_names > 0 ? ctl->names[0] : "list");
    int code;

    if (!verb)
        return MICROVM_EXIT_USAGE;
    if (ctl->n_names > 0) {
        ctl->names++;
        ctl->n_names--;
    }
    code = options_check(ctl, verb);
    if (code == MICROVM_EXIT_OK)
        code = verb->run(ctl);
    ctl_disconnect(ctl);
    return code;
}

int main(int argc, char *argv[])
{
    Ctl ctl;
    bool done;
    int code;

    /* For the width of characters; D-Bus and definitions are UTF-8, whatever the user's locale is. */
    setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN); /* who closes our output early ends the output, not a job that is waited for */
    code = options_parse(&ctl, argc, argv, &done);
    if (code == MICROVM_EXIT_OK && !done)
        code = run(&ctl);
    options_clear(&ctl);
    if (fflush(stdout) != 0 && errno != EPIPE && code == MICROVM_EXIT_OK)
        code = fail(MICROVM_EXIT_FAILURE, "Can't write the output: %s", strerror(errno));
    return code;
}
