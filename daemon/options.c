/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include "launch/launch.h"
#include "microvm/names.h"

#include <getopt.h>

static const char help[] =
    "microvmd [OPTION...]\n"
    "microvmd --check [FILE...]\n"
    "microvmd --dump-schema vm|host\n"
    "\n"
    "Runs the microVMs that are defined on this host. See microvmd(8).\n"
    "\n"
    "  --config FILE        host configuration (" MICROVM_HOST_CONFIG ")\n"
    "  --definitions DIR    directory of definitions; may be repeated, highest\n"
    "                       precedence first (" MICROVM_DEFINITIONS_ETC ",\n"
    "                       " MICROVM_DEFINITIONS_RUN ", " MICROVM_DEFINITIONS_VENDOR ")\n"
    "  --state-dir DIR      what outlives a reboot (" MICROVM_STATE_DIR ")\n"
    "  --runtime-dir DIR    what does not (" MICROVM_RUNTIME_DIR ")\n"
    "  --bus BUS            system (default), user, or a D-Bus address\n"
    "  --launcher KIND      auto (default), systemd or fork: who starts hypervisors\n"
    "                       that libvirt does not start\n"
    "  --check [FILE...]    check host configuration and definitions, or these files\n"
    "  --queue-autostart    for microvmd-autostart.service: ask systemd for the units\n"
    "                       of the microVMs that will start with the host\n"
    "  --dump-schema WHAT   JSON Schema of a definition (vm) or of the host\n"
    "                       configuration (host)\n"
    "  --version\n"
    "  --help\n"
    "\n"
    "Exit codes: 0 stopped cleanly, 1 failure, 2 bad command line, 78 this host must\n"
    "not run microvmd.\n";

static int add_directory(Options *options, const char *directory)
{
    if (options->settings.n_directories == MANAGER_MAX_DIRECTORIES) {
        fprintf(stderr, "microvmd: more than %d --definitions\n", MANAGER_MAX_DIRECTORIES);
        return -EINVAL;
    }
    options->settings.directories[options->settings.n_directories++] = directory;
    return 0;
}

static int one_of(const char *option, const char *value, const char *const *allowed, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (streq(value, allowed[i]))
            return 0;
    fprintf(stderr, "microvmd: --%s %s: not one of", option, value);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "%s %s", i ? "," : "", allowed[i]);
    fprintf(stderr, "\n");
    return -EINVAL;
}

static int choose_launcher(const char *kind)
{
    static const char *const kinds[] = {"auto", "systemd", "fork"};
    Launcher launcher;
    int r = launcher_choose(kind, &launcher);

    if (r == -EINVAL)
        return one_of("launcher", kind, kinds, ELEMENTSOF(kinds));
    if (r < 0)
        fprintf(stderr, "microvmd: --launcher systemd: %s; use auto or fork\n",
                r == -EPERM ? "systemd makes units for root only" : "this host was not booted with systemd");
    else
        launcher_use(launcher);
    return r;
}

enum {
    OPT_CONFIG = 256,
    OPT_DEFINITIONS,
    OPT_STATE_DIR,
    OPT_RUNTIME_DIR,
    OPT_BUS,
    OPT_LAUNCHER,
    OPT_CHECK,
    OPT_QUEUE_AUTOSTART,
    OPT_DUMP_SCHEMA,
    OPT_VERSION,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, OPT_CONFIG},
    {"definitions", required_argument, NULL, OPT_DEFINITIONS},
    {"state-dir", required_argument, NULL, OPT_STATE_DIR},
    {"runtime-dir", required_argument, NULL, OPT_RUNTIME_DIR},
    {"bus", required_argument, NULL, OPT_BUS},
    {"launcher", required_argument, NULL, OPT_LAUNCHER},
    {"check", no_argument, NULL, OPT_CHECK},
    {"queue-autostart", no_argument, NULL, OPT_QUEUE_AUTOSTART},
    {"dump-schema", required_argument, NULL, OPT_DUMP_SCHEMA},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static int take_option(Options *options, int option)
{
    static const char *const schemas[] = {"vm", "host"};

    switch (option) {
    case OPT_CONFIG:
        options->settings.config_path = optarg;
        return 0;
    case OPT_DEFINITIONS:
        return add_directory(options, optarg);
    case OPT_STATE_DIR:
        options->settings.state_dir = optarg;
        return 0;
    case OPT_RUNTIME_DIR:
        options->settings.runtime_dir = optarg;
        return 0;
    case OPT_BUS:
        options->bus = optarg;
        if (streq(optarg, "system") || streq(optarg, "user") || strchr(optarg, ':'))
            return 0;
        fprintf(stderr, "microvmd: --bus %s: this must be system, user, or a D-Bus address\n", optarg);
        return -EINVAL;
    case OPT_LAUNCHER:
        return choose_launcher(optarg);
    case OPT_CHECK:
        options->mode = MODE_CHECK;
        return 0;
    case OPT_QUEUE_AUTOSTART:
        options->mode = MODE_QUEUE_AUTOSTART;
        return 0;
    case OPT_DUMP_SCHEMA:
        options->mode = MODE_SCHEMA;
        options->schema = optarg;
        return one_of("dump-schema", optarg, schemas, ELEMENTSOF(schemas));
    case OPT_VERSION:
        printf("microvmd %s\n", MICROVMD_VERSION);
        options->mode = MODE_DONE;
        return 0;
    case OPT_HELP:
        fputs(help, stdout);
        options->mode = MODE_DONE;
        return 0;
    default:
        fputs("See \"microvmd --help\".\n", stderr);
        return -EINVAL;
    }
}

static void fill_defaults(Options *options)
{
    if (options->settings.n_directories > 0)
        return;
    options->settings.directories[0] = MICROVM_DEFINITIONS_ETC;
    options->settings.directories[1] = MICROVM_DEFINITIONS_RUN;
    options->settings.directories[2] = MICROVM_DEFINITIONS_VENDOR;
    options->settings.n_directories = 3;
}

int options_parse(int argc, char *argv[], Options *ret_options)
{
    Options options = {
        .mode = MODE_RUN,
        .bus = "system",
        .settings =
            {
                .config_path = MICROVM_HOST_CONFIG,
                .state_dir = MICROVM_STATE_DIR,
                .runtime_dir = MICROVM_RUNTIME_DIR,
            },
    };
    int option, r;

    (void)choose_launcher("auto");
    optind = 0;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
        r = take_option(&options, option);
        if (r < 0)
            return r;
        if (options.mode == MODE_DONE)
            break;
    }
    if (options.mode != MODE_CHECK && options.mode != MODE_DONE && optind < argc) {
        fprintf(stderr, "microvmd: unexpected argument \"%s\"; see \"microvmd --help\"\n", argv[optind]);
        return -EINVAL;
    }
    options.files = argv + optind;
    options.n_files = (size_t)(argc - optind);
    fill_defaults(&options);
    *ret_options = options;
    return 0;
}
