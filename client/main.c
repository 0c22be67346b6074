/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvmctl: a small D-Bus client of microvmd. */
#include "options.h"

#include <locale.h>

static int verb_help(Ctl *ctl)
{
    options_help();
    return MICROVM_EXIT_OK;
}

static const struct {
    const char *name;
    int (*run)(Ctl *ctl);
} verbs[] = {
    {"list", verb_list},         {"status", verb_status},   {"is-active", verb_is_active},
    {"start", verb_start},       {"stop", verb_stop},       {"restart", verb_restart},
    {"kill", verb_kill},         {"pause", verb_pause},     {"resume", verb_resume},
    {"console", verb_console},   {"logs", verb_logs},       {"reset-failed", verb_reset_failed},
    {"reload", verb_reload},     {"show", verb_show},       {"validate", verb_validate},
    {"version", verb_version},   {"help", verb_help},
};

static int unknown_verb(const char *word)
{
    const char *names[ELEMENTSOF(verbs)], *meant;

    for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
        names[i] = verbs[i].name;
    meant = did_you_mean(word, names, ELEMENTSOF(verbs));
    if (meant)
        return fail(MICROVM_EXIT_USAGE, "there is no verb \"%s\"; did you mean \"%s\"?", word, meant);
    return fail(MICROVM_EXIT_USAGE, "there is no verb \"%s\". See: microvmctl --help", word);
}

int main(int argc, char *argv[])
{
    const char *verb;
    Ctl ctl;
    bool done;
    int code;

    setlocale(LC_CTYPE, "C.UTF-8");
    code = options_parse(&ctl, argc, argv, &done);
    if (code != MICROVM_EXIT_OK || done)
        return code;
    verb = ctl.n_names > 0 ? ctl.names[0] : "list";
    if (ctl.n_names > 0) {
        ctl.names++;
        ctl.n_names--;
    }
    for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
        if (strcmp(verbs[i].name, verb) == 0) {
            code = verbs[i].run(&ctl);
            ctl_disconnect(&ctl);
            return fflush(stdout) != 0 && code == MICROVM_EXIT_OK ? MICROVM_EXIT_FAILURE : code;
        }
    return unknown_verb(verb);
}
