/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line of microvmctl. */
#include "ctl.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
    OPT_BUS = 256,
    OPT_JSON,
    OPT_NO_PAGER,
    OPT_NO_LEGEND,
    OPT_NO_BLOCK,
    OPT_NO_ASK_PASSWORD,
    OPT_FORCE,
    OPT_TIMEOUT,
    OPT_VALUE,
    OPT_DEFINITION,
    OPT_HOST_SHUTDOWN,
    OPT_RESTART,
    OPT_MAX_PARALLEL,
    OPT_CANARY,
    OPT_WAIT,
    OPT_PRUNE,
    OPT_VERSION,
    OPT_FROM,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_MEM,
    OPT_VCPU,
    OPT_VOLUME,
    OPT_INTERFACE,
    OPT_SET,
    OPT_TRANSIENT,
    OPT_FULL,
    OPT_NOW,
    OPT_PURGE,
    OPT_FAILED,
    OPT_OUTDATED,
    OPT_READ_ONLY,
    OPT_WITH_DEPENDENTS,
    OPT_IGNORE_DEPENDENTS,
    OPT_NO_START,
    OPT_FOR,
};

static const struct option long_options[] = {
    {"bus", required_argument, NULL, OPT_BUS},
    {"host", required_argument, NULL, 'H'},
    {"json", optional_argument, NULL, OPT_JSON},
    {"no-pager", no_argument, NULL, OPT_NO_PAGER},
    {"no-legend", no_argument, NULL, OPT_NO_LEGEND},
    {"no-block", no_argument, NULL, OPT_NO_BLOCK},
    {"no-ask-password", no_argument, NULL, OPT_NO_ASK_PASSWORD},
    {"quiet", no_argument, NULL, 'q'},
    {"all", no_argument, NULL, 'a'},
    {"force", no_argument, NULL, OPT_FORCE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"signal", required_argument, NULL, 's'},
    {"lines", required_argument, NULL, 'n'},
    {"follow", no_argument, NULL, 'f'},
    {"boot", required_argument, NULL, 'b'},
    {"property", required_argument, NULL, 'p'},
    {"value", no_argument, NULL, OPT_VALUE},
    {"definition", no_argument, NULL, OPT_DEFINITION},
    {"host-shutdown", no_argument, NULL, OPT_HOST_SHUTDOWN},
    {"from", required_argument, NULL, OPT_FROM},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"mem", required_argument, NULL, OPT_MEM},
    {"vcpu", required_argument, NULL, OPT_VCPU},
    {"volume", required_argument, NULL, OPT_VOLUME},
    {"interface", required_argument, NULL, OPT_INTERFACE},
    {"set", required_argument, NULL, OPT_SET},
    {"transient", no_argument, NULL, OPT_TRANSIENT},
    {"full", no_argument, NULL, OPT_FULL},
    {"now", no_argument, NULL, OPT_NOW},
    {"purge", no_argument, NULL, OPT_PURGE},
    {"yes", no_argument, NULL, 'y'},
    {"failed", no_argument, NULL, OPT_FAILED},
    {"outdated", no_argument, NULL, OPT_OUTDATED},
    {"read-only", no_argument, NULL, OPT_READ_ONLY},
    {"with-dependents", no_argument, NULL, OPT_WITH_DEPENDENTS},
    {"ignore-dependents", no_argument, NULL, OPT_IGNORE_DEPENDENTS},
    {"no-start", no_argument, NULL, OPT_NO_START},
    {"for", required_argument, NULL, OPT_FOR},
    {"label", required_argument, NULL, 'l'},
    {"restart", no_argument, NULL, OPT_RESTART},
    {"max-parallel", required_argument, NULL, OPT_MAX_PARALLEL},
    {"canary", optional_argument, NULL, OPT_CANARY},
    {"wait", required_argument, NULL, OPT_WAIT},
    {"prune", optional_argument, NULL, OPT_PRUNE},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int usage(const char *option, const char *value, const char *wanted)
{
    return fail(MICROVM_EXIT_USAGE, "%s %s: this must be %s.", option, value, wanted);
}

static int take_json(Ctl *ctl)
{
    if (!optarg || strcmp(optarg, "pretty") == 0)
        ctl->json = optarg ? JSON_PRETTY : isatty(STDOUT_FILENO) ? JSON_PRETTY : JSON_SHORT;
    else if (strcmp(optarg, "short") == 0)
        ctl->json = JSON_SHORT;
    else if (strcmp(optarg, "off") == 0)
        ctl->json = JSON_OFF;
    else
        return usage("--json", optarg, "off, short or pretty");
    return MICROVM_EXIT_OK;
}

/* "KILL", "SIGKILL", "9". */
static int take_signal(Ctl *ctl)
{
    const char *name = strncmp(optarg, "SIG", 3) == 0 ? optarg + 3 : optarg;
    char *end;
    long number = strtol(optarg, &end, 10);

    if (*optarg && !*end && number > 0 && number <= SIGRTMAX) {
        ctl->signal = (int)number;
        return MICROVM_EXIT_OK;
    }
    for (int i = 1; i < SIGRTMIN; i++)
        if (sigabbrev_np(i) && strcmp(sigabbrev_np(i), name) == 0) {
            ctl->signal = i;
            return MICROVM_EXIT_OK;
        }
    return usage("--signal", optarg, "a signal, such as KILL or 9");
}

static int take_number(const char *option, long least, long most, long *ret_value)
{
    char *end;
    long value = strtol(optarg, &end, 10);

    if (!*optarg || *end || value < least || value > most)
        return usage(option, optarg,
                     least < 0   ? "0 (this boot) or negative (the ones before)"
                     : least > 0 ? "a number, at least 1"
                                 : "a number");
    *ret_value = value;
    return MICROVM_EXIT_OK;
}

/* Options that only some verbs take. */
static const struct {
    int option;
    OptionBit bit;
    const char *name;
} verb_options[] = {
    {'a', OPTION_ALL, "--all"},
    {OPT_FORCE, OPTION_FORCE, "--force"},
    {OPT_TIMEOUT, OPTION_TIMEOUT, "--timeout"},
    {'s', OPTION_SIGNAL, "--signal"},
    {'n', OPTION_LINES, "--lines"},
    {'f', OPTION_FOLLOW, "--follow"},
    {'b', OPTION_BOOT, "--boot"},
    {'p', OPTION_PROPERTY, "--property"},
    {OPT_VALUE, OPTION_VALUE, "--value"},
    {OPT_DEFINITION, OPTION_DEFINITION, "--definition"},
    {OPT_HOST_SHUTDOWN, OPTION_HOST_SHUTDOWN, "--host-shutdown"},
    {OPT_FROM, OPTION_FROM, "--from"},
    {OPT_KERNEL, OPTION_SETTINGS, "--kernel"},
    {OPT_INITRD, OPTION_SETTINGS, "--initrd"},
    {OPT_MEM, OPTION_SETTINGS, "--mem"},
    {OPT_VCPU, OPTION_SETTINGS, "--vcpu"},
    {OPT_VOLUME, OPTION_SETTINGS, "--volume"},
    {OPT_INTERFACE, OPTION_SETTINGS, "--interface"},
    {OPT_SET, OPTION_SETTINGS, "--set"},
    {OPT_TRANSIENT, OPTION_TRANSIENT, "--transient"},
    {OPT_FULL, OPTION_FULL, "--full"},
    {OPT_NOW, OPTION_NOW, "--now"},
    {OPT_PURGE, OPTION_PURGE, "--purge"},
    {'y', OPTION_YES, "--yes"},
    {OPT_FAILED, OPTION_FAILED, "--failed"},
    {OPT_OUTDATED, OPTION_OUTDATED, "--outdated"},
    {OPT_READ_ONLY, OPTION_READ_ONLY, "--read-only"},
    {OPT_WITH_DEPENDENTS, OPTION_DEPENDENTS, "--with-dependents"},
    {OPT_IGNORE_DEPENDENTS, OPTION_DEPENDENTS, "--ignore-dependents"},
    {OPT_NO_START, OPTION_NO_START, "--no-start"},
    {OPT_FOR, OPTION_FOR, "--for"},
    {'l', OPTION_LABEL, "--label"},
    {OPT_RESTART, OPTION_RESTART, "--restart"},
    {OPT_MAX_PARALLEL, OPTION_MAX_PARALLEL, "--max-parallel"},
    {OPT_CANARY, OPTION_CANARY, "--canary"},
    {OPT_WAIT, OPTION_WAIT, "--wait"},
    {OPT_PRUNE, OPTION_PRUNE, "--prune"},
};

static int add_setting(Ctl *ctl, int how, const char *key, const char *value)
{
    Setting *grown = reallocarray(ctl->settings, ctl->n_settings + 1, sizeof(*grown));

    if (!grown)
        return fail_oom();
    ctl->settings = grown;
    grown[ctl->n_settings++] = (Setting){how, key, value};
    return MICROVM_EXIT_OK;
}

/* "KEY=VALUE": cut in two where it is. */
static int take_set(Ctl *ctl)
{
    char *equals = strchr(optarg, '=');

    if (!equals || equals == optarg)
        return usage("--set", optarg, "KEY=VALUE, such as restart.policy=always");
    *equals = '\0';
    return add_setting(ctl, SETTING_KEY, optarg, equals + 1);
}

static int take_label(Ctl *ctl)
{
    const char **grown;

    if (!*optarg || *optarg == '=')
        return usage("--label", optarg, "NAME or NAME=VALUE");
    grown = reallocarray(ctl->labels, ctl->n_labels + 1, sizeof(*grown));
    if (!grown)
        return fail_oom();
    ctl->labels = grown;
    grown[ctl->n_labels++] = optarg;
    return MICROVM_EXIT_OK;
}

/* Of apply. */
static int take_apply_option(Ctl *ctl, int option)
{
    long number = 0;
    int code;

    switch (option) {
    case OPT_CANARY:
        return optarg && parse_duration(optarg, &ctl->canary_usec) < 0
                   ? usage("--canary", optarg, "a time, such as 30, 30s or 2min")
                   : MICROVM_EXIT_OK;
    case OPT_WAIT:
        if (strcmp(optarg, "running") != 0 && strcmp(optarg, "ready") != 0)
            return usage("--wait", optarg, "running or ready");
        ctl->wait = optarg;
        return MICROVM_EXIT_OK;
    case OPT_PRUNE:
        if (optarg && strcmp(optarg, "all") != 0)
            return usage("--prune", optarg, "all, or nothing");
        ctl->prune = optarg;
        return MICROVM_EXIT_OK;
    case OPT_MAX_PARALLEL:
        code = take_number("--max-parallel", 1, 100000, &number);
        ctl->max_parallel = (uint64_t)number;
        return code;
    default:
        return MICROVM_EXIT_OK;
    }
}

void options_clear(Ctl *ctl)
{
    free(ctl->settings);
    free(ctl->labels);
}

static int take_verb_option(Ctl *ctl, int option)
{
    long number = 0;
    int code = MICROVM_EXIT_OK;

    for (size_t i = 0; i < ELEMENTSOF(verb_options); i++)
        if (verb_options[i].option == option)
            ctl->given |= verb_options[i].bit;
    switch (option) {
    case OPT_TIMEOUT:
        return parse_duration(optarg, &ctl->timeout_usec) < 0
                   ? usage("--timeout", optarg, "a time, such as 30, 30s or 2min")
                   : MICROVM_EXIT_OK;
    case 's':
        return take_signal(ctl);
    case 'n':
        code = take_number("--lines", 0, 1000000000, &number);
        ctl->lines = (uint64_t)number;
        break;
    case 'b':
        code = take_number("--boot", -1000, 0, &number);
        ctl->boot = (int)number;
        break;
    case 'p':
        ctl->property = optarg;
        break;
    case OPT_FOR:
        ctl->wait_for = optarg;
        break;
    case OPT_FROM:
        ctl->from = optarg;
        break;
    case OPT_KERNEL:
        return add_setting(ctl, SETTING_KEY, "kernel", optarg);
    case OPT_INITRD:
        return add_setting(ctl, SETTING_KEY, "initrd", optarg);
    case OPT_MEM:
        return add_setting(ctl, SETTING_KEY, "mem", optarg);
    case OPT_VCPU:
        return add_setting(ctl, SETTING_KEY, "vcpu", optarg);
    case OPT_VOLUME:
        return add_setting(ctl, SETTING_VOLUME, NULL, optarg);
    case OPT_INTERFACE:
        return add_setting(ctl, SETTING_INTERFACE, NULL, optarg);
    case OPT_WITH_DEPENDENTS:
    case OPT_IGNORE_DEPENDENTS:
        ctl->dependents = option == OPT_WITH_DEPENDENTS ? "stop" : "ignore";
        break;
    case OPT_SET:
        return take_set(ctl);
    case 'l':
        return take_label(ctl);
    default:
        return take_apply_option(ctl, option);
    }
    return code;
}

int options_check(const Ctl *ctl, const Verb *verb)
{
    for (size_t i = 0; i < ELEMENTSOF(verb_options); i++)
        if (ctl->given & ~verb->options & verb_options[i].bit)
            return fail(MICROVM_EXIT_USAGE, "%s takes no %s. See: microvmctl --help", verb->name,
                        verb_options[i].name);
    if ((verb->options & TAKES_NO_NAMES) && ctl->n_names > 0)
        return fail(MICROVM_EXIT_USAGE, "%s takes no names. See: microvmctl --help", verb->name);
    return MICROVM_EXIT_OK;
}

static int take_option(Ctl *ctl, int option, bool *ret_done)
{
    switch (option) {
    case OPT_BUS:
        ctl->bus_address = optarg;
        break;
    case 'H':
        ctl->host = optarg;
        break;
    case OPT_JSON:
        return take_json(ctl);
    case OPT_NO_PAGER:
        ctl->no_pager = true;
        break;
    case OPT_NO_LEGEND:
        ctl->no_legend = true;
        break;
    case OPT_NO_BLOCK:
        ctl->no_block = true;
        break;
    case OPT_NO_ASK_PASSWORD:
        ctl->no_ask_password = true;
        break;
    case 'q':
        ctl->quiet = true;
        break;
    case 'h':
        options_help();
        *ret_done = true;
        break;
    case OPT_VERSION:
        printf("microvmctl %s\n", MICROVMD_VERSION);
        *ret_done = true;
        break;
    default:
        return take_verb_option(ctl, option);
    }
    return MICROVM_EXIT_OK;
}

/* getopt says "unrecognized"; we say what was probably meant. */
static int bad_option(int why, const char *word)
{
    const char *names[ELEMENTSOF(long_options)], *meant = NULL;
    bool is_long = strncmp(word, "--", 2) == 0, is_known = false;
    _cleanup_free_ char *stem = NULL;
    size_t n = 0;

    for (; long_options[n].name; n++) {
        names[n] = long_options[n].name;
        is_known = is_known || long_options[n].val == optopt;
    }
    /* An unknown letter with others after it: getopt is not done with that word, `word` is the one before. */
    is_long = is_long && (optopt == 0 || is_known);
    stem = is_long ? strndup(word + 2, strcspn(word + 2, "=")) : NULL;
    if (why == ':')
        return is_long ? fail(MICROVM_EXIT_USAGE, "%s lacks its value. See: microvmctl --help", word)
                       : fail(MICROVM_EXIT_USAGE, "-%c lacks its value. See: microvmctl --help", optopt);
    if (!is_long)
        return fail(MICROVM_EXIT_USAGE, "There is no option -%c. See: microvmctl --help", optopt);
    for (size_t i = 0; stem && i < n; i++)
        if (strcmp(stem, names[i]) == 0)
            return fail(MICROVM_EXIT_USAGE, "--%s takes no value. See: microvmctl --help", stem);
    meant = stem ? did_you_mean(stem, names, n) : NULL;
    if (meant)
        return fail(MICROVM_EXIT_USAGE, "There is no option --%s; did you mean --%s?", stem, meant);
    return fail(MICROVM_EXIT_USAGE,
                "There is no option %s, or it is short for several. See: microvmctl --help", word);
}

int options_parse(Ctl *ctl, int argc, char *argv[], bool *ret_done)
{
    const char *variable = getenv("MICROVM_BUS"), *bus = variable && *variable ? variable : "system";
    int option, code;

    *ctl = (Ctl){
        .bus_address = bus,
        .timeout_usec = UINT64_MAX,
        .lines = UINT64_MAX,
        .canary_usec = UINT64_MAX,
        .signal = SIGTERM,
    };
    *ret_done = false;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":H:qas:n:fb:p:yl:h", long_options, NULL)) >= 0) {
        if (option == '?' || option == ':')
            return bad_option(option, argv[optind - 1]);
        code = take_option(ctl, option, ret_done);
        if (code != MICROVM_EXIT_OK || *ret_done)
            return code;
    }
    if (ctl->host && ctl->bus_address != bus)
        return fail(MICROVM_EXIT_USAGE, "--bus and --host were given; it is the system bus of that host.");
    ctl->names = argv + optind;
    ctl->n_names = (size_t)(argc - optind);
    return MICROVM_EXIT_OK;
}
