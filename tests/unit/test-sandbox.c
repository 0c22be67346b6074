/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The properties of a hypervisor's unit against golden files (UPDATE_GOLDEN=1 writes them anew), and what
 * they must not have. That systemd takes them, and what they keep out, is tests/system/test-sandbox.sh's. */
#include "base/say.h"
#include "base/strv.h"
#include "driver/direct/sandbox.h"
#include "spec/spec-table.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../golden/recipe-cases.h"
#include "scratch.h"

#define CASES  SOURCE_DIR "/tests/golden/qemu"
#define GOLDEN SOURCE_DIR "/tests/golden/sandbox"

static const char *const system_directories[] = {"/usr", NULL};

static SandboxHost host = {.helper = (char *)"/usr/libexec/microvmd/microvmd-exec",
                           .root = (char *)"/run/microvmd/root",
                           .system = (char **)system_directories,
                           .kvm_group = 104};

static SandboxRequest request_of(const VmSpec *spec)
{
    return (SandboxRequest){.spec = spec,
                            .accel = spec->accel == ACCEL_KVM ? ACCEL_KVM : ACCEL_TCG,
                            .uid = 1900000007,
                            .host = &host,
                            .program = "/usr/bin/qemu-system-x86_64",
                            .runtime_dir = "/run/microvmd/vm/web",
                            .console_log = "/var/lib/microvmd/vm/web/console.log"};
}

/* A property a line. */
static char *settings_text(const UnitSettings *settings)
{
    const char *group = NULL;
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    assert_non_null(stream);
    for (size_t i = 0; i < settings->count; i++) {
        const UnitSetting *setting = &settings->items[i];
        if (!streq(setting->group, group))
            fprintf(stream, "[%s]\n", setting->group);
        group = setting->group;
        fprintf(stream, "%s %s", setting->name, setting->signature);
        if (!strpbrk(setting->signature, "sy") || streq(setting->signature, "(bas)"))
            fprintf(stream, " %" PRIu64, setting->number);
        for (size_t k = 0; setting->strings[k]; k++)
            fprintf(stream, " %s", setting->strings[k]);
        fprintf(stream, "\n");
    }
    fclose(stream);
    return text;
}

static char *text_of(const SandboxRequest *request)
{
    _cleanup_unit_settings_ UnitSettings settings = {0};

    assert_int_equal(sandbox_settings(request, &settings), 0);
    return settings_text(&settings);
}

static void compare(const char *name, const VmSpec *spec)
{
    SandboxRequest request = request_of(spec);
    _cleanup_free_ char *text = text_of(&request), *golden = NULL, *path = say(GOLDEN "/%s.unit", name);
    size_t size;

    if (getenv("UPDATE_GOLDEN"))
        assert_int_equal(write_file_atomic(path, text, strlen(text), 0644), 0);
    assert_int_equal(read_file(path, 65536, &golden, &size), 0);
    assert_string_equal(text, golden);
}

static void compare_case(const char *path, void *userdata)
{
    _cleanup_free_ char *name = strdup(strrchr(path, '/') + 1);
    Case c;

    *strrchr(name, '.') = '\0';
    case_load(&c, path);
    compare(name, c.spec);
    case_clear(&c);
}

static void test_golden(void **state)
{
    assert_in_range(cases_each(CASES, compare_case, NULL), 9, 99);
}

/* --- loosened --- */

static const struct {
    const char *group;
    size_t offset;
} parts[] = {
    {"filesystem", offsetof(VmSpec, sandbox_filesystem)},    {"devices", offsetof(VmSpec, sandbox_devices)},
    {"network", offsetof(VmSpec, sandbox_network)},          {"kernel", offsetof(VmSpec, sandbox_kernel)},
    {"systemCalls", offsetof(VmSpec, sandbox_system_calls)},
};

/* `text` without what is below the heading. */
static char *cut(const char *text, const char *group)
{
    _cleanup_free_ char *heading = say("[%s]\n", group);
    const char *at = strstr(text, heading), *next = at ? strstr(at + 1, "[") : NULL;

    assert_non_null(next);
    while (next[-1] != '\n')
        next = strstr(next + 1, "[");
    return say("%.*s%s", (int)(at - text), text, next);
}

/* What is switched off is gone, and nothing else. */
static void test_loosened(void **state)
{
    for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
        _cleanup_free_ char *whole = NULL, *less = NULL, *name = say("usual-without-%s", parts[i].group);
        SandboxRequest request;
        Case c;
        case_load(&c, CASES "/usual.json");
        request = request_of(c.spec);
        whole = text_of(&request);
        *(bool *)((char *)c.spec + parts[i].offset) = false;
        less = text_of(&request);
        /* There is always some file system, and message queues are hidden in it where they are not private.
         */
        if (!streq(parts[i].group, "filesystem") && !streq(parts[i].group, "kernel")) {
            _cleanup_free_ char *expected = cut(whole, parts[i].group);
            assert_string_equal(less, expected);
        }
        compare(name, c.spec);
        case_clear(&c);
    }
}

static bool has(const SandboxRequest *request, const char *name)
{
    _cleanup_free_ char *text = text_of(request);

    return strstr(text, name) != NULL;
}

/* What would protect nothing is left out only where all that makes it needless is there. */
static void test_needless(void **state)
{
    SandboxRequest request;
    Case c;

    case_load(&c, CASES "/plain.json");
    request = request_of(c.spec);
    assert_false(has(&request, "ProtectKernelTunables"));
    for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
        bool *part = (bool *)((char *)c.spec + parts[i].offset);
        *part = false;
        assert_int_equal(has(&request, "ProtectKernelTunables"), !streq(parts[i].group, "kernel"));
        *part = true;
    }
    case_clear(&c);
    case_load(&c, CASES "/usual.json");
    request = request_of(c.spec);
    assert_true(has(&request, "ProtectKernelTunables"));
    case_clear(&c);
}

/* Each key of the table is one of these parts, and each part a key. */
static void test_keys(void **state)
{
    static const char prefix[] = "sandbox.";
    size_t n = 0;

    for (size_t i = 0; i < vm_table.n_rows; i++) {
        const KeyRow *row = &vm_table.rows[i];
        bool found = false;
        if (strncmp(row->key, prefix, strlen(prefix)) != 0)
            continue;
        n++;
        for (size_t k = 0; k < ELEMENTSOF(parts); k++)
            found |= streq(row->key + strlen(prefix), parts[k].group) && row->offset == parts[k].offset;
        assert_true(found);
        assert_int_equal(row->reach, REACH_HOST);
        assert_int_equal(row->needs, CAP_SANDBOX);
    }
    assert_int_equal(n, ELEMENTSOF(parts));
}

/* --- groups --- */

static void assert_groups(const SandboxRequest *request, const char *group, const char *more)
{
    _cleanup_free_ char *text = text_of(request), *first = say("\nGroup s %s\n", group),
                        *second = say("\nSupplementaryGroups as %s\n", more ? more : "");

    assert_non_null(strstr(text, first));
    if (more)
        assert_non_null(strstr(text, second));
    else
        assert_null(strstr(text, "SupplementaryGroups"));
}

/* The group of /dev/kvm is never its own one, and it has it only where it helps. */
static void test_groups(void **state)
{
    SandboxHost other = host;
    SandboxRequest request;
    Case c;

    case_load(&c, CASES "/plain.json");
    request = request_of(c.spec);
    request.host = &other;
    assert_groups(&request, "1900000007", NULL);
    request.accel = ACCEL_KVM;
    assert_groups(&request, "1900000007", "104");
    other.kvm_node = true; /* which everybody may open */
    assert_groups(&request, "1900000007", NULL);
    {
        _cleanup_free_ char *text = text_of(&request);
        assert_non_null(strstr(text, "\nBindPaths a(ssbt) /dev/microvmd/kvm /dev/kvm\n"));
        assert_null(strstr(text, "-/dev/kvm"));
    }
    other.root = NULL; /* there are no sandboxes, so it sees the host's */
    assert_true(sandbox_needs_kvm_group(&request));
    other.root = host.root;
    assert_false(sandbox_needs_kvm_group(&request));
    c.spec->sandbox_devices = false; /* likewise */
    assert_groups(&request, "1900000007", "104");
    c.spec->sandbox_devices = true;
    other.kvm_node = false;
    other.kvm_group = NO_GROUP;
    assert_groups(&request, "1900000007", NULL);
    case_clear(&c);
}

/* --- limits --- */

static uint64_t number_of(const VmSpec *spec, Accel accel, const char *name)
{
    _cleanup_unit_settings_ UnitSettings settings = {0};
    SandboxRequest request = request_of(spec);

    request.accel = accel;
    assert_int_equal(sandbox_settings(&request, &settings), 0);
    for (size_t i = 0; i < settings.count; i++)
        if (streq(settings.items[i].name, name))
            return settings.items[i].number;
    fail_msg("no %s", name);
    return 0;
}

/* More of what takes memory, and more threads, make room for more; what is asked for is taken as it is. */
static void test_limits(void **state)
{
    uint64_t memory, tasks;
    Case c;

    case_load(&c, CASES "/usual.json");
    memory = number_of(c.spec, ACCEL_KVM, "MemoryMax");
    tasks = number_of(c.spec, ACCEL_KVM, "TasksMax");
    assert_true(memory >= (c.spec->mem_mib + 512) << 20);
    assert_true(number_of(c.spec, ACCEL_TCG, "MemoryMax") >= memory + (UINT64_C(1024) << 20));
    c.spec->vcpu += 2;
    assert_true(number_of(c.spec, ACCEL_KVM, "MemoryMax") > memory);
    assert_true(number_of(c.spec, ACCEL_KVM, "TasksMax") >= tasks + 2);
    c.spec->hotplug_mem_mib += 4096;
    assert_true(number_of(c.spec, ACCEL_KVM, "MemoryMax") > memory + (UINT64_C(4096) << 20));
    c.spec->limits_memory_max_mib = 77;
    c.spec->limits_tasks_max = 12;
    c.spec->limits_cpu_quota = 150;
    assert_int_equal(number_of(c.spec, ACCEL_TCG, "MemoryMax"), UINT64_C(77) << 20);
    assert_int_equal(number_of(c.spec, ACCEL_TCG, "TasksMax"), 12);
    assert_int_equal(number_of(c.spec, ACCEL_TCG, "CPUQuotaPerSecUSec"), 1500000);
    case_clear(&c);
}

/* --- programs elsewhere --- */

static void test_program(void **state)
{
    SandboxHost elsewhere = host;
    SandboxRequest request;
    Case c;

    case_load(&c, CASES "/plain.json");
    request = request_of(c.spec);
    request.host = &elsewhere;
    request.program = "/opt/qemu/bin/qemu-system-x86_64";
    elsewhere.helper = (char *)"/srv/build/microvmd-exec";
    {
        _cleanup_free_ char *text = text_of(&request);
        assert_non_null(strstr(text, "\nBindReadOnlyPaths a(ssbt) /opt/qemu\n"));
        assert_non_null(strstr(text, "\nBindReadOnlyPaths a(ssbt) /srv/build/microvmd-exec\n"));
        assert_non_null(strstr(text, "\nTemporaryFileSystem a(ss) /opt ro\n"));
        assert_non_null(strstr(text, "\nTemporaryFileSystem a(ss) /srv ro\n"));
    }
    /* "/usrlocal" is not below "/usr"; nor is "/cabin" a directory called "bin". */
    request.program = "/usrlocal/cabin/qemu";
    {
        _cleanup_free_ char *text = text_of(&request);
        assert_non_null(strstr(text, "\nBindReadOnlyPaths a(ssbt) /usrlocal/cabin/qemu\n"));
    }
    /* /bin is a link to /usr/bin, mostly: what is put in its place would hide what is there. */
    request.program = "/bin/sh";
    {
        _cleanup_free_ char *text = text_of(&request);
        assert_null(strstr(text, " /bin"));
    }
    case_clear(&c);
}

/* --- the root directory --- */

static void test_root(void **state)
{
    _cleanup_strv_ char **first = NULL, **second = NULL;
    _cleanup_free_ char *root = say("%s/run/root", ((Scratch *)*state)->path);
    struct stat st, place;
    bool usr = false;

    assert_int_equal(sandbox_root_make(root, &first), 0);
    assert_int_equal(sandbox_root_make(root, &second), 0); /* it is there already */
    for (size_t i = 0; first[i]; i++) {
        _cleanup_free_ char *path = say("%s%s", root, first[i]);
        assert_string_equal(first[i], second[i]);
        assert_int_equal(lstat(first[i], &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(lstat(path, &place), 0);
        assert_true(S_ISDIR(place.st_mode));
        usr |= streq(first[i], "/usr");
    }
    assert_true(usr);
    /* The host's own link, or a place to mount it at. */
    if (lstat("/lib", &st) == 0) {
        _cleanup_free_ char *path = say("%s/lib", root);
        assert_int_equal(lstat(path, &place), 0);
        assert_int_equal(place.st_mode & S_IFMT, st.st_mode & S_IFMT);
    }
}

/* The root directory is the one thing that stays when all else is to be looked for again. */
static void test_host(void **state)
{
    _cleanup_(sandbox_host_clear)
    SandboxHost known = {.root = say("%s/run/root", ((Scratch *)*state)->path)};
    _cleanup_(sandbox_host_clear)
    SandboxHost copy = {0};
    _cleanup_free_ char *text = NULL;

    setenv("MICROVMD_LIBEXECDIR", BINARY_DIR, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sandbox_host_look(&known, &text), 0);
        assert_int_equal(access(known.root, F_OK), 0);
        assert_true(known.helper && known.system[0]);
        sandbox_host_clear(&copy);
        assert_int_equal(sandbox_host_copy(&known, &copy), 0);
        assert_string_equal(copy.root, known.root);
        assert_string_equal(copy.helper, known.helper);
        assert_string_equal(copy.system[0], known.system[0]);
        sandbox_host_forget(&known);
        assert_true(known.root && !known.helper && !known.system);
    }
    /* What is not known is copied as such. */
    sandbox_host_clear(&copy);
    assert_int_equal(sandbox_host_copy(&known, &copy), 0);
    assert_true(streq(copy.root, known.root) && !copy.helper);
    /* Without sandboxes there is no such directory. */
    sandbox_host_clear(&copy);
    assert_int_equal(sandbox_host_look(&copy, &text), 0);
    assert_true(copy.helper && !copy.root && !copy.system);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),  cmocka_unit_test(test_loosened), cmocka_unit_test(test_needless),
        cmocka_unit_test(test_keys),    cmocka_unit_test(test_groups),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_program), IN_SCRATCH(test_root),           IN_SCRATCH(test_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
