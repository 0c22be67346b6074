/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a program as systemd runs a hypervisor: StartTransientUnit with the very properties of the sandbox.
 *
 *   bench-unit run UNIT UID RUNTIME_DIR LOG DEFINITION PROGRAM [ARG...]
 *       its standard input, output and error are ours; returns when it has been started
 *   bench-unit measure ROUNDS UID RUNTIME_DIR LOG DEFINITION PROGRAM [ARG...]
 *       how long it takes until the program says its first byte: with all, with the user alone, with nothing,
 *       with each group beside the user, and with all but one property; interleaved, in ms
 *   bench-unit running UNIT UID RUNTIME_DIR LOG DEFINITION QEMU ARG...
 *       how long it takes until QEMU says, by QMP on descriptor 0, that the guest runs; descriptor 1 is a
 * socket for the console; ends it then
 *
 * RUNTIME_DIR is that of the microVM, LOG its console log. MICROVMD_BENCH_ACCEL=kvm: as under KVM.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/strv.h"
#include "driver/direct/sandbox.h"
#include "spec/loader.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    SETTLE_USEC = 20000, /* for systemd, until it is done with what has ended */
};

#define ROOT "/run/microvmd/root"

typedef struct Bench {
    sd_bus *bus;
    char *const *argv;
    UnitSettings all;
} Bench;

static _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "bench-unit: %s: %s\n", what, strerror(-error));
    exit(EXIT_FAILURE);
}

static void check(const char *what, int r)
{
    if (r < 0)
        die(what, r);
}

/* --- the unit --- */

static int append_command(sd_bus_message *message, char *const *argv)
{
    int r = sd_bus_message_open_container(message, 'r', "sv");

    r = r < 0 ? r : sd_bus_message_append(message, "s", "ExecStart");
    r = r < 0 ? r : sd_bus_message_open_container(message, 'v', "a(sasb)");
    r = r < 0 ? r : sd_bus_message_open_container(message, 'a', "(sasb)");
    r = r < 0 ? r : sd_bus_message_open_container(message, 'r', "sasb");
    r = r < 0 ? r : sd_bus_message_append(message, "s", argv[0]);
    r = r < 0 ? r : sd_bus_message_append_strv(message, (char **)argv);
    r = r < 0 ? r : sd_bus_message_append(message, "b", 0);
    for (int i = 0; i < 4 && r >= 0; i++)
        r = sd_bus_message_close_container(message);
    return r;
}

static int start(Bench *bench, const char *unit, const UnitSettings *settings, int input, int output)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *message = NULL;
    int r;

    check("message", sd_bus_message_new_method_call(
                         bench->bus, &message, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                         "org.freedesktop.systemd1.Manager", "StartTransientUnit"));
    r = sd_bus_message_append(message, "ss", unit, "fail");
    r = r < 0 ? r : sd_bus_message_open_container(message, 'a', "(sv)");
    r = r < 0 ? r
              : sd_bus_message_append(message, "(sv)(sv)(sv)(sv)(sv)", "Description", "s", "bench-unit",
                                      "CollectMode", "s", "inactive-or-failed", "StandardInputFileDescriptor",
                                      "h", input, "StandardOutputFileDescriptor", "h", output,
                                      "StandardErrorFileDescriptor", "h", STDERR_FILENO);
    r = r < 0 ? r : append_command(message, bench->argv);
    r = r < 0 ? r : unit_settings_append(message, settings);
    r = r < 0 ? r : sd_bus_message_close_container(message);
    r = r < 0 ? r : sd_bus_message_append(message, "a(sa(sv))", 0);
    check("message", r);
    r = sd_bus_call(bench->bus, message, 0, &error, NULL);
    if (r < 0)
        fprintf(stderr, "bench-unit: StartTransientUnit: %s\n", error.message);
    sd_bus_error_free(&error);
    sd_bus_message_unref(message);
    return r;
}

/* --- how long it takes --- */

typedef struct Variant {
    const char *kind; /* "", "group" or "property" */
    const char *name;
    double *times;
} Variant;

static bool belongs(const Variant *variant, const UnitSetting *setting)
{
    if (streq(variant->kind, "none"))
        return false;
    if (streq(variant->kind, "group"))
        return streq(setting->group, "user") || streq(setting->group, variant->name);
    return !streq(variant->kind, "property") || !streq(setting->name, variant->name);
}

static double once(Bench *bench, const Variant *variant)
{
    static unsigned number;
    UnitSettings some = {.items = calloc(bench->all.count + 1, sizeof(UnitSetting))};
    char unit[64], byte;
    uint64_t before;
    double took;
    int ends[2];

    for (size_t i = 0; i < bench->all.count; i++)
        if (belongs(variant, &bench->all.items[i]))
            some.items[some.count++] = bench->all.items[i];
    snprintf(unit, sizeof(unit), "bench-unit-%u-%u.service", (unsigned)getpid(), number++);
    check("pipe", pipe(ends) < 0 ? -errno : 0);
    before = now_usec(CLOCK_MONOTONIC);
    if (start(bench, unit, &some, STDIN_FILENO, ends[1]) < 0)
        exit(EXIT_FAILURE);
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 1)
        die(variant->name, -EPIPE);
    took = (double)(now_usec(CLOCK_MONOTONIC) - before) / 1000;
    while (read(ends[0], &byte, 1) > 0)
        ;
    close(ends[0]);
    free(some.items);
    usleep(SETTLE_USEC);
    return took;
}

static int listen_at(const char *directory, const char *name, struct sockaddr_un *ret_address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "%s/%s", directory, name);
    unlink(ret_address->sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)ret_address, sizeof(*ret_address)) < 0 || listen(fd, 1) < 0)
        die(name, -errno);
    return fd;
}

static double until_running(Bench *bench, const char *unit, const char *directory)
{
    static const char questions[] = "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-status\"}\n";
    sd_bus_error error = SD_BUS_ERROR_NULL;
    struct sockaddr_un console_address, address;
    int console = listen_at(directory, "bench-console.sock", &console_address);
    int control = listen_at(directory, "bench-control.sock", &address);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char line[65536];
    uint64_t before;
    FILE *answers;
    double took;

    if (client < 0 || connect(client, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        write(client, questions, strlen(questions)) < 0)
        die(address.sun_path, -errno);
    answers = fdopen(client, "r");
    before = now_usec(CLOCK_MONOTONIC);
    if (start(bench, unit, &bench->all, control, console) < 0)
        exit(EXIT_FAILURE);
    close(control);
    do {
        if (!fgets(line, sizeof(line), answers))
            die(unit, -EPIPE);
    } while (!strstr(line, "\"running\""));
    took = (double)(now_usec(CLOCK_MONOTONIC) - before) / 1000;
    check("KillUnit", sd_bus_call_method(bench->bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                         "org.freedesktop.systemd1.Manager", "KillUnit", &error, NULL, "ssi",
                                         unit, "all", SIGKILL));
    while (fgets(line, sizeof(line), answers))
        ;
    fclose(answers);
    close(console);
    usleep(SETTLE_USEC);
    return took;
}

static int by_value(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;

    return first < second ? -1 : first > second;
}

/* Without one of these nothing runs at all, or it is another experiment. */
static bool is_measurable(const char *name)
{
    static const char *const needed[] = {"DynamicUser", "User", "Group", "RootDirectory",
                                         "BindReadOnlyPaths"};

    for (size_t i = 0; i < ELEMENTSOF(needed); i++)
        if (streq(name, needed[i]))
            return false;
    return true;
}

static size_t list_variants(const UnitSettings *all, Variant *variants)
{
    size_t n = 0;

    variants[n++] = (Variant){"", "all", NULL};
    variants[n++] = (Variant){"group", "user", NULL};
    variants[n++] = (Variant){"none", "no property at all", NULL};
    for (size_t i = 0; i < all->count; i++) {
        bool group = false, property = false;
        for (size_t k = 0; k < n; k++) {
            group |= streq(variants[k].kind, "group") && streq(variants[k].name, all->items[i].group);
            property |= streq(variants[k].kind, "property") && streq(variants[k].name, all->items[i].name);
        }
        if (!group)
            variants[n++] = (Variant){"group", all->items[i].group, NULL};
        if (!property && is_measurable(all->items[i].name))
            variants[n++] = (Variant){"property", all->items[i].name, NULL};
    }
    return n;
}

static void measure(Bench *bench, size_t rounds)
{
    Variant *variants = calloc(2 * bench->all.count + 4, sizeof(*variants));
    size_t n = list_variants(&bench->all, variants);
    const double *all, *user;

    for (size_t i = 0; i < n; i++)
        variants[i].times = calloc(rounds, sizeof(double));
    for (size_t round = 0; round < rounds; round++)
        for (size_t i = 0; i < n; i++)
            variants[(i + round) % n].times[round] = once(bench, &variants[(i + round) % n]);
    for (size_t i = 0; i < n; i++)
        qsort(variants[i].times, rounds, sizeof(double), by_value);
    all = variants[0].times;
    user = variants[1].times;
    printf("%-34s %7s %7s\n", "", "median", "least");
    printf("%-34s %7.1f %7.1f\n", "all", all[rounds / 2], all[0]);
    printf("%-34s %7.1f %7.1f\n", "the user alone", user[rounds / 2], user[0]);
    printf("%-34s %7.1f %7.1f\n", variants[2].name, variants[2].times[rounds / 2], variants[2].times[0]);
    for (size_t i = 3; i < n; i++) {
        bool group = streq(variants[i].kind, "group");
        const double *times = variants[i].times, *base = group ? user : all;
        printf("%s %-*s %+7.1f %+7.1f\n", group ? "user and" : "all but", group ? 25 : 26, variants[i].name,
               times[rounds / 2] - base[rounds / 2], times[0] - base[0]);
    }
}

int main(int argc, char *argv[])
{
    SpecContext context = {.driver = DRIVER_KIND_DIRECT, .accel = ACCEL_TCG};
    _cleanup_problems_ ProblemList problems = {0};
    bool kvm = streq(getenv("MICROVMD_BENCH_ACCEL"), "kvm");
    VmSpec *spec = NULL;
    Bench bench = {0};
    SandboxHost host = {.kvm_group = NO_GROUP};
    struct stat st;
    char *text;
    size_t size;
    uid_t uid;
    int r = 0;

    if (argc < 8) {
        fprintf(stderr, "usage: bench-unit run|measure UNIT|ROUNDS UID RUNTIME_DIR LOG DEFINITION PROGRAM "
                        "[ARG...]\n");
        return 2;
    }
    uid = (uid_t)strtoul(argv[3], NULL, 10);
    bench.argv = argv + 7;
    host.helper = bench.argv[0];
    host.root = (char *)ROOT;
    host.kvm_node = access(KVM_NODE, F_OK) == 0;
    if (kvm && stat("/dev/kvm", &st) == 0)
        host.kvm_group = st.st_gid;
    check(argv[6], read_file(argv[6], SPEC_FILE_MAX, &text, &size));
    if (vm_spec_parse("bench", NULL, text, size, &context, &problems, &spec) < 0)
        die(problems.count > 0 ? problems.items[0].text : argv[6], -EBADMSG);
    check(ROOT, sandbox_root_make(ROOT, &host.system));
    check("settings", sandbox_settings(&(SandboxRequest){.spec = spec,
                                                         .accel = kvm ? ACCEL_KVM : ACCEL_TCG,
                                                         .uid = uid,
                                                         .host = &host,
                                                         .program = bench.argv[0],
                                                         .runtime_dir = argv[4],
                                                         .console_log = argv[5]},
                                       &bench.all));
    check("the system bus", sd_bus_open_system(&bench.bus));
    if (streq(argv[1], "measure"))
        measure(&bench, strtoul(argv[2], NULL, 10));
    else if (streq(argv[1], "running"))
        printf("%.1f\n", until_running(&bench, argv[2], argv[4]));
    else
        r = start(&bench, argv[2], &bench.all, STDIN_FILENO, STDOUT_FILENO);
    sd_bus_flush_close_unref(bench.bus);
    unit_settings_clear(&bench.all);
    strv_free(host.system);
    vm_spec_unref(spec);
    free(text);
    return r < 0;
}
