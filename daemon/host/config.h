/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host configuration (host.json and drop-ins) and the guard: a system is a host or a guest, never both.
 */
#ifndef HOST_CONFIG_H
#define HOST_CONFIG_H

#include "base/problem.h"
#include "spec/loader.h"

typedef struct HostConfig {
    uint64_t max_concurrent_starts; /* 0: from the number of cores */
    uint64_t memory_reserve_mib;
    uint64_t direct_first_uid; /* of the users that hypervisors run as */
    char *libvirt_uri; /* local ones only: qemu:///..., test:///... */
    SpecContext defaults;
    char *defaults_path; /* of the file below every definition: defaults.json beside this one */
    bool watch_definitions;
    char **image_directories; /* beside the state directory */
    size_t n_image_directories;
} HostConfig;

void host_config_clear(HostConfig *config);

typedef enum HostVerdict {
    HOST_OK,
    HOST_GUEST_MODE, /* guest.enable is true somewhere */
    HOST_DISABLED,   /* host.enable is false somewhere */
    HOST_UNREADABLE, /* a file can't be read, parsed, or has errors: fail closed */
} HostVerdict;

/*
 * Reads `path` and the drop-ins `path`.d/NAME.json in name order. Each file is judged by itself before
 * merging. No file at all means defaults. `problems` gets every problem with its place; for the verdicts
 * other than HOST_OK, `ret_refusal` is the complete message for a person: which file and JSON pointer, what
 * breaks, the line that mends it (several lines, no trailing newline; the caller adds how it comes into
 * effect). Returns 0 with *ret_verdict set, or -ENOMEM. `ret_config` is set only for HOST_OK.
 */
int host_config_load(const char *path, ProblemList *problems, HostVerdict *ret_verdict, char **ret_refusal,
                     HostConfig *ret_config);

extern const KeyTable host_table;

/* JSON Schema 2020-12 of host.json; NULL: out of memory. */
char *host_config_schema(void);

/*
 * The NixOS warning: with `root`/run/current-system there but no bin/switch-to-configuration in it, a message
 * that says what breaks and why, else NULL. `root` is "" outside tests.
 */
char *host_nixos_warning(const char *root);

#endif
