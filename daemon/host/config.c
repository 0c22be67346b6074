/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/config.h"

#include "base/file.h"
#include "base/say.h"
#include "spec/merge.h"
#include "spec/take.h"

#include <dirent.h>
#include <sys/stat.h>

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

enum {
    CONFIG_SIZE_MAX = 1024 * 1024,
};

/* --- the table of host.json --- */

/* Beside what is used: both spellings of the role, which the guard looks at. */
typedef struct ConfigFile {
    HostConfig config;
    bool host_enable, guest_enable;
    bool nix_host_enable, nix_guest_enable;
} ConfigFile;

static const char *take_uri(const char *text, char **ret_value)
{
    if (strncmp(text, "qemu:///", 8) != 0 && strncmp(text, "test:///", 8) != 0)
        return "this must be the URI of a local libvirt: qemu:///system, qemu:///session, "
               "qemu:///embed?root=DIR";
    *ret_value = strdup(text);
    return NULL;
}

static const char *driver_name(int value)
{
    return driver_kind_to_string((DriverKind)value);
}

static const char *accel_name(int value)
{
    return accel_to_string((Accel)value);
}

#define AT(field) .offset = offsetof(ConfigFile, field)

static const KeyRow config_rows[] = {
    {.key = "host.enable",
     .type = KEY_BOOL,
     AT(host_enable),
     .fallback = "true",
     .doc = "This system is a host of microVMs. false: microvmd refuses to run."},
    {.key = "host.maxConcurrentStarts",
     .type = KEY_NUMBER,
     AT(config.max_concurrent_starts),
     .maximum = 10000,
     .fallback = "0",
     .doc = "How many microVMs may be starting at the same time; 0: twice the number of processors, at "
            "least 4."},
    {.key = "host.memoryReserve",
     .type = KEY_SIZE,
     AT(config.memory_reserve_mib),
     .fallback = "0",
     .maximum = UINT64_C(16) << 20,
     .doc = "Memory that is kept for the host itself: a start waits while less than that would stay "
            "available, and "
            "there is a warning when all microVMs together ask for more than the rest."},
    {.key = "guest.enable",
     .type = KEY_BOOL,
     AT(guest_enable),
     .fallback = "false",
     .doc = "This system is a microVM guest. true: microvmd refuses to run."},
    {.key = "microvm.host.enable",
     .type = KEY_BOOL,
     AT(nix_host_enable),
     .fallback = "true",
     .doc = "The same as host.enable, as a NixOS host's config.microvm says it."},
    {.key = "microvm.guest.enable",
     .type = KEY_BOOL,
     AT(nix_guest_enable),
     .fallback = "false",
     .doc = "The same as guest.enable, as a NixOS host's config.microvm says it."},
    {.key = "libvirt.uri",
     .type = KEY_STRING,
     AT(config.libvirt_uri),
     .fallback = "qemu:///system",
     .take = take_uri,
     .pattern = "^(qemu|test):///",
     .doc = "Which libvirt runs the microVMs; local ones only."},
    {.key = "direct.firstUid",
     .type = KEY_NUMBER,
     AT(config.direct_first_uid),
     .fallback = "1900000000",
     .minimum = 1000,
     .maximum = UINT32_MAX - 131072,
     .doc = "The first of 65536 users, and groups of the same numbers, that nobody else may have: each "
            "microVM of the driver "
            "\"direct\" has one for its hypervisor."},
    {.key = "defaults.driver",
     .type = KEY_ENUM,
     AT(config.defaults.driver),
     .fallback = "libvirt",
     .enum_name = driver_name,
     .enum_value = driver_kind_from_string,
     .enum_max = DRIVER_KIND_MAX,
     .doc = "The driver of definitions that name none."},
    {.key = "defaults.accel",
     .type = KEY_ENUM,
     AT(config.defaults.accel),
     .fallback = "auto",
     .enum_name = accel_name,
     .enum_value = accel_from_string,
     .enum_max = ACCEL_MAX,
     .doc = "accel of definitions that say nothing."},
    {.key = "definitions.watch",
     .type = KEY_BOOL,
     AT(config.watch_definitions),
     .fallback = "false",
     .doc = "Reload by itself when a definition changes."},
    {.key = "images.directories",
     .type = KEY_STRINGS,
     AT(config.image_directories),
     .count_offset = offsetof(ConfigFile, config.n_image_directories),
     .maximum = 64,
     .take = take_absolute,
     .doc =
         "Where, beside the state directory, kernels, images and shared directories may be in definitions of "
         "those who have the right to define microVMs (org.microvm1.define), but not the one to reach "
         "further (org.microvm1.define-unsafe)."},
};

const KeyTable host_table = {
    .title = "the host configuration of microvmd",
    .rows = config_rows,
    .n_rows = ELEMENTSOF(config_rows),
    .open_group = "microvm",
};

char *host_config_schema(void)
{
    return table_schema(&host_table);
}

void host_config_clear(HostConfig *config)
{
    free(config->libvirt_uri);
    for (size_t i = 0; i < config->n_image_directories; i++)
        free(config->image_directories[i]);
    free(config->image_directories);
    free(config->defaults_path);
    *config = (HostConfig){0};
}

/* --- refusals --- */

static const char why[] =
    "A system is a host of microVMs or a microVM guest, never both: guest optimisations switch off what a "
    "host needs\n"
    "(on NixOS system.switch.enable: switch-to-configuration is gone, and the host can't be rebuilt).";

/* A key that says which role the system has: what a wrong one leads to, and how a right one is written. */
typedef struct RoleKey {
    const char *pointer;
    bool wrong;
    HostVerdict verdict;
    const char *mended;
} RoleKey;

static char *refuse_role(const char *path, const JsonPlace *place, const RoleKey *role)
{
    bool guest = role->verdict == HOST_GUEST_MODE;

    return say("This host's configuration %s; microvmd runs on hosts only.\n"
               "%s:%u:%u says %s at %s.\n"
               "%s%s"
               "To mend it, write there instead (or remove it):\n"
               "    %s",
               guest ? "enables guest mode" : "says that it is no host of microVMs", path, place->line,
               place->column, guest ? "true" : "false", role->pointer, guest ? why : "", guest ? "\n" : "",
               role->mended);
}

static char *refuse_unreadable(const ProblemList *problems, size_t first)
{
    _cleanup_free_ char *problem = NULL;
    size_t at = first;

    while (at < problems->count && problems->items[at].severity != PROBLEM_ERROR)
        at++;
    problem = at < problems->count ? problem_format(&problems->items[at]) : NULL;
    return say("The host configuration can't be used: it might say that this is a guest.\n"
               "%s\n"
               "To mend it, correct the file, check with: microvmd --check",
               problem ? problem : "out of memory");
}

/* --- one file --- */

static HostVerdict judge_roles(const char *path, const JsonDocument *document, const ConfigFile *file,
                               ProblemList *problems, char **ret_refusal)
{
    const RoleKey roles[] = {
        {"/guest/enable", file->guest_enable, HOST_GUEST_MODE, "\"guest\": { \"enable\": false }"},
        {"/microvm/guest/enable", file->nix_guest_enable, HOST_GUEST_MODE,
         "\"microvm\": { \"guest\": { \"enable\": false } }"},
        {"/host/enable", !file->host_enable, HOST_DISABLED, "\"host\": { \"enable\": true }"},
        {"/microvm/host/enable", !file->nix_host_enable, HOST_DISABLED,
         "\"microvm\": { \"host\": { \"enable\": true } }"},
    };
    HostVerdict verdict = HOST_OK;

    for (size_t i = 0; i < ELEMENTSOF(roles); i++) {
        const JsonPlace *place = json_find(document, roles[i].pointer);
        if (!roles[i].wrong)
            continue;
        if (!place) /* whichever way it came to be read, it counts */
            place = json_find(document, "");
        problem_add(problems, PROBLEM_ERROR, path, roles[i].pointer, place->line, place->column, "%s",
                    roles[i].verdict == HOST_GUEST_MODE
                        ? "guest mode is enabled: a host of microVMs can't be a guest"
                        : "host mode is disabled");
        if (verdict != HOST_OK)
            continue;
        *ret_refusal = refuse_role(path, place, &roles[i]);
        verdict = roles[i].verdict;
    }
    return verdict;
}

static int unusable(ProblemList *problems, size_t first, HostVerdict *ret_verdict, char **ret_refusal)
{
    *ret_verdict = HOST_UNREADABLE;
    *ret_refusal = refuse_unreadable(problems, first);
    return 0;
}

static int judge_text(const char *path, const char *text, size_t size, JsonDocument *merged,
                      ProblemList *problems, HostVerdict *ret_verdict, char **ret_refusal)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    TableReader reader = {.document = &document, .file = path, .problems = problems};
    size_t first = problems->count, errors = problem_count(problems, PROBLEM_ERROR);
    ConfigFile file = {0};
    int r;

    r = json_scan(text, size, path, problems, &document);
    if (r == -EBADMSG)
        return unusable(problems, first, ret_verdict, ret_refusal);
    if (r >= 0)
        r = table_read(&reader, &host_table, document.root, "", &file);
    table_clear(&host_table, &file);
    if (r < 0)
        return r;
    *ret_verdict = judge_roles(path, &document, &file, problems, ret_refusal);
    if (*ret_verdict != HOST_OK)
        return 0;
    if (problem_count(problems, PROBLEM_ERROR) > errors)
        return unusable(problems, first, ret_verdict, ret_refusal);
    /* The roles have been judged, and what else somebody has there is no affair of ours. */
    cJSON_DeleteItemFromObjectCaseSensitive(document.root, host_table.open_group);
    return json_merge(&host_table, merged, &document, path, problems);
}

/* Judges one file by itself and merges it. A role that forbids running counts even if something else is
 * wrong. */
static int judge_file(const char *path, bool must_exist, JsonDocument *merged, ProblemList *problems,
                      HostVerdict *ret_verdict, char **ret_refusal)
{
    _cleanup_free_ char *text = NULL;
    size_t size, first = problems->count;
    struct stat st;
    int r;

    *ret_verdict = HOST_OK;
    r = read_file(path, CONFIG_SIZE_MAX, &text, &size);
    /* A dangling link is not "no file": something was meant to be there. */
    if (r == -ENOENT && !must_exist && lstat(path, &st) < 0)
        return 0;
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        problem_add(problems, PROBLEM_ERROR, path, "", 0, 0, "the file can't be read: %s",
                    read_file_problem(r));
        return unusable(problems, first, ret_verdict, ret_refusal);
    }
    return judge_text(path, text, size, merged, problems, ret_verdict, ret_refusal);
}

/* --- all files --- */

static int is_drop_in(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');

    return entry->d_name[0] != '.' && dot && streq(dot, ".json");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* One file gives the message; the others' problems are told all the same. */
static int judge_next(const char *path, bool must_exist, JsonDocument *merged, ProblemList *problems,
                      HostVerdict *verdict, char **refusal)
{
    _cleanup_free_ char *text = NULL;
    HostVerdict next;
    int r;

    r = judge_file(path, must_exist, merged, problems, &next, &text);
    if (r < 0 || next == HOST_OK)
        return r;
    /* The gravest news first, in the order of the verdicts. */
    if (*verdict == HOST_OK || next < *verdict) {
        free(*refusal);
        *refusal = TAKE_PTR(text);
        *verdict = next;
    }
    return 0;
}

static int judge_drop_ins(const char *directory, JsonDocument *merged, ProblemList *problems,
                          HostVerdict *verdict, char **refusal)
{
    struct dirent **entries;
    char first_byte;
    int n, r = 0;

    n = scandir(directory, &entries, is_drop_in, by_name);
    if (n < 0 && errno == ENOENT && readlink(directory, &first_byte, 1) < 0)
        return 0;
    if (n < 0) {
        size_t first = problems->count;
        problem_add(problems, PROBLEM_ERROR, directory, "", 0, 0, "the directory can't be read: %s",
                    strerror(errno));
        if (*verdict != HOST_OK)
            return 0;
        return unusable(problems, first, verdict, refusal);
    }
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *path = NULL;
        if (r >= 0)
            r = asprintf(&path, "%s/%s", directory, entries[i]->d_name) < 0
                    ? -ENOMEM
                    : judge_next(path, true, merged, problems, verdict, refusal);
        free(entries[i]);
    }
    free(entries);
    return r;
}

static int read_merged(const JsonDocument *merged, HostConfig *ret_config)
{
    _cleanup_problems_ ProblemList none = {0};
    TableReader reader = {.document = merged, .problems = &none};
    _cleanup_(cJSON_Deletep)
    cJSON *nothing = cJSON_CreateObject(); /* there is no file */
    ConfigFile file = {0};
    int r;

    if (!nothing)
        return -ENOMEM;
    r = table_read(&reader, &host_table, merged->root ? merged->root : nothing, "", &file);
    if (r < 0) {
        table_clear(&host_table, &file);
        return r;
    }
    *ret_config = file.config;
    return 0;
}

static int set_defaults_path(HostConfig *config, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (asprintf(&config->defaults_path, "%.*sdefaults.json", slash ? (int)(slash + 1 - path) : 0, path) <
        0) {
        config->defaults_path = NULL;
        host_config_clear(config);
        return -ENOMEM;
    }
    config->defaults.defaults_path = config->defaults_path;
    return 0;
}

int host_config_load(const char *path, ProblemList *problems, HostVerdict *ret_verdict, char **ret_refusal,
                     HostConfig *ret_config)
{
    _cleanup_free_ char *directory = NULL, *refusal = NULL;
    HostVerdict verdict = HOST_OK;
    _cleanup_(json_document_clear)
    JsonDocument merged = {0};
    int r = -ENOMEM;

    if (asprintf(&directory, "%s.d", path) >= 0)
        r = judge_next(path, false, &merged, problems, &verdict, &refusal);
    if (r >= 0)
        r = judge_drop_ins(directory, &merged, problems, &verdict, &refusal);
    if (r >= 0 && verdict == HOST_OK)
        r = read_merged(&merged, ret_config);
    if (r >= 0 && verdict == HOST_OK)
        r = set_defaults_path(ret_config, path);
    if (r < 0)
        return r;
    *ret_verdict = verdict;
    *ret_refusal = TAKE_PTR(refusal);
    return 0;
}

char *host_nixos_warning(const char *root)
{
    _cleanup_free_ char *system = say("%s/run/current-system", root), *tool = NULL;

    if (!system || access(system, F_OK) != 0)
        return NULL;
    tool = say("%s/bin/switch-to-configuration", system);
    if (!tool || access(tool, F_OK) == 0)
        return NULL;
    return say(
        "this is NixOS, but %s is missing: the host can't be rebuilt. Most likely it imports MicroVM.nix's "
        "guest "
        "module (microvm.nixosModules.microvm), which switches system.switch.enable off; a host imports only "
        "microvm.nixosModules.host",
        tool);
}
