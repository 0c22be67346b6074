/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether the QEMU of this host takes the arguments that its recipe makes, descriptors and all: it is started
 * stopped (-S) and told to quit. Paths are odd on purpose.
 */
#include "base/file.h"
#include "driver/libvirt/xml-writer.h"
#include "driver/qemu-common.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "../golden/recipe-cases.h"
#include "../unit/scratch.h"

enum {
    IMAGE_SIZE = 1 << 20,
    CLUSTER = 1 << 16,
    PATIENCE_MSEC = 60000, /* a net for what hangs, not a measure */
    FIRST_FREE_FD = 100,
};

/* --- images --- */

static void put_be(uint8_t *at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
}

/* docs/interop/qcow2 in QEMU's sources: header, refcount table, one refcount block, L1 table. */
static void write_qcow2(int fd)
{
    _cleanup_free_ uint8_t *image = calloc(4, CLUSTER);

    assert_non_null(image);
    memcpy(image, "QFI\xfb", 4);
    put_be(image + 4, 3, 4);            /* version */
    put_be(image + 20, 16, 4);          /* bits of a cluster */
    put_be(image + 24, IMAGE_SIZE, 8);  /* size */
    put_be(image + 36, 1, 4);           /* entries of the L1 table */
    put_be(image + 40, 3 * CLUSTER, 8); /* which is there */
    put_be(image + 48, 1 * CLUSTER, 8); /* refcount table */
    put_be(image + 56, 1, 4);           /* clusters of it */
    put_be(image + 96, 4, 4);           /* refcounts have 16 bits */
    put_be(image + 100, 104, 4);        /* length of the header */
    put_be(image + CLUSTER, 2 * CLUSTER, 8);
    for (size_t i = 0; i < 4; i++)
        put_be(image + 2 * CLUSTER + 2 * i, 1, 2);
    assert_int_equal(pwrite(fd, image, 4 * CLUSTER, 0), 4 * CLUSTER);
}

/* A fixed one: the data, then a footer ("Virtual Hard Disk Image Format Specification"). */
static void write_vhd(int fd)
{
    uint8_t footer[512] = "conectix";
    uint32_t sum = 0;

    put_be(footer + 8, 2, 4);
    put_be(footer + 12, 0x10000, 4);
    put_be(footer + 16, UINT64_MAX, 8);
    memcpy(footer + 28, "qem2", 4);
    put_be(footer + 40, IMAGE_SIZE, 8);
    put_be(footer + 48, IMAGE_SIZE, 8);
    put_be(footer + 60, 2, 4); /* fixed */
    for (size_t i = 0; i < sizeof(footer); i++)
        sum += footer[i];
    put_be(footer + 64, ~sum & UINT32_MAX, 4);
    assert_int_equal(pwrite(fd, footer, sizeof(footer), IMAGE_SIZE), sizeof(footer));
}

static int open_volume(Scratch *scratch, const VolumeSpec *volume, size_t index)
{
    char name[32];
    int fd;

    snprintf(name, sizeof(name), "volume%zu", index);
    fd = open(scratch_path(scratch, name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, IMAGE_SIZE), 0);
    if (volume->image_type == IMAGE_QCOW2)
        write_qcow2(fd);
    else if (volume->image_type == IMAGE_VHD)
        write_vhd(fd);
    close(fd);
    fd = open(scratch_path(scratch, name), (volume->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* --- sockets --- */

static struct sockaddr_un socket_address(Scratch *scratch, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", scratch->path, name);
    return address;
}

static int listen_at(Scratch *scratch, const char *name)
{
    struct sockaddr_un address = socket_address(scratch, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    unlink(address.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static int open_descriptor(Scratch *scratch, const VmSpec *spec, const Descriptor *descriptor)
{
    switch (descriptor->kind) {
    case DESCRIPTOR_CONTROL:
        return listen_at(scratch, "control");
    case DESCRIPTOR_CONSOLE:
        return listen_at(scratch, "console");
    case DESCRIPTOR_NOTIFY:
        return listen_at(scratch, "notify");
    case DESCRIPTOR_AGENT:
        return listen_at(scratch, "agent");
    case DESCRIPTOR_VSOCK:
        return open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);
    case DESCRIPTOR_VOLUME:
        return open_volume(scratch, &spec->volumes[descriptor->index], descriptor->index);
    default:
        fail_msg("nobody opens that here");
        return -EBADF;
    }
}

/* --- the process --- */

static _Noreturn void become(char **argv, int *fds, size_t n, const char *errors)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < n; i++)
        fds[i] = fcntl(fds[i], F_DUPFD, FIRST_FREE_FD);
    dup2(open(errors, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), STDERR_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    for (size_t i = 0; i < n; i++)
        dup2(fds[i], COMMAND_FIRST_FD + (int)i);
    close_range(COMMAND_FIRST_FD + (unsigned)n, ~0U, 0);
    execvp(argv[0], argv);
    _exit(127);
}

static pid_t launch(Scratch *scratch, const VmSpec *spec, Command *command)
{
    _cleanup_free_ char *errors = strdup(scratch_path(scratch, "errors"));
    int fds[FIRST_FREE_FD];
    pid_t pid;

    assert_in_range(command->n_descriptors, 1, ELEMENTSOF(fds) - COMMAND_FIRST_FD);
    for (size_t i = 0; i < command->n_descriptors; i++)
        fds[i] = open_descriptor(scratch, spec, &command->descriptors[i]);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        become(command->argv, fds, command->n_descriptors, errors);
    for (size_t i = 0; i < command->n_descriptors; i++)
        close(fds[i]);
    return pid;
}

/* Reads what QEMU answers until it closes the connection, as it does when it ends. */
static void converse(Scratch *scratch, char *answers, size_t size)
{
    static const char requests[] =
        "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n{\"execute\":\"quit\"}\n";
    struct sockaddr_un address = socket_address(scratch, "control");
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t have = 0;
    ssize_t n = -1;

    answers[0] = '\0';
    /* It ended already: then nobody listens, and the caller shows what it said. */
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        send(fd, requests, strlen(requests), MSG_NOSIGNAL) < 0)
        return;
    while (have < size - 1 && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, PATIENCE_MSEC) > 0 &&
           (n = recv(fd, answers + have, size - 1 - have, 0)) > 0)
        have += (size_t)n;
    answers[have] = '\0';
}

/* --- definitions --- */

/* What this test has nothing of: taps, virtiofsd, devices, services, huge pages, vsock. */
static void leave_out_host_side(VmSpec *spec)
{
    size_t n_devices = 0;

    for (size_t i = 0; i < spec->n_interfaces; i++)
        spec->interfaces[i].type = INTERFACE_USER;
    for (size_t i = 0; i < spec->n_shares; i++)
        spec->shares[i].proto = SHARE_9P;
    for (size_t i = 0; i < spec->n_devices; i++)
        if (spec->devices[i].bus == DEVICE_USB) {
            DeviceSpec usb = spec->devices[i];
            spec->devices[i] = spec->devices[n_devices];
            spec->devices[n_devices++] = usb;
        }
    for (size_t i = n_devices; i < spec->n_devices; i++) {
        DeviceSpec *device = &spec->devices[i];
        free(device->path);
        free(device->qemu_id);
        free(device->qemu_bus);
        free(device->qemu_extra_args);
    }
    spec->n_devices = n_devices;
    for (size_t i = 0; i < spec->n_volumes; i++)
        if (spec->volumes[i].image[0] == '/')
            assert_int_equal(free_and_strdup(&spec->volumes[i].image, "own.img"), 0);
    for (size_t i = 0; i < spec->n_forward_ports; i++) {
        spec->forward_ports[i].host_port = 0;            /* any */
        spec->forward_ports[i].from = FORWARD_FROM_HOST; /* QEMU connects to the other at once */
    }
    spec->hugepage_mem = false;
    if (access("/dev/vhost-vsock", R_OK | W_OK) < 0)
        spec->vsock_cid = 0;
}

/* Real files, of odd names. */
static void point_at_files(Case *c, Scratch *scratch, char paths[4][600])
{
    const char *guest = getenv("MICROVMD_GUEST");

    snprintf(paths[0], sizeof(paths[0]), "%s/vmlinuz", guest);
    snprintf(paths[1], sizeof(paths[1]), "%s/initrd", guest);
    snprintf(paths[2], sizeof(paths[2]), "%s/console, logfile=x \"log\"", scratch->path);
    if (c->request.kernel)
        c->request.kernel = paths[0];
    if (c->request.initrd)
        c->request.initrd = paths[1];
    c->request.console_log = paths[2];
    snprintf(paths[3], sizeof(paths[3]), "%s/share, readonly=on 'x'", scratch->path);
    assert_true(mkdir(paths[3], 0700) == 0 || errno == EEXIST);
    for (size_t i = 0; i < c->spec->n_shares; i++)
        assert_int_equal(free_and_strdup(&c->spec->shares[i].source, paths[3]), 0);
    for (size_t i = 0; i < c->spec->n_credentials; i++)
        assert_int_equal(
            free_and_strdup(&c->credentials[i], scratch_text(scratch, "credential, string=x", "secret")), 0);
}

/* Of the machines of one architecture. */
typedef struct Trial {
    Scratch *scratch;
    const char *qemu;
    bool aarch64;
    size_t tried;
} Trial;

static void try_case(const char *path, void *userdata)
{
    Trial *trial = userdata;
    Scratch *scratch = trial->scratch;
    _cleanup_(command_clear)
    Command command = {0};
    _cleanup_free_ char *errors = NULL;
    char paths[4][600], answers[65536];
    siginfo_t end = {0};
    size_t size;
    pid_t pid;
    Case c;

    case_load(&c, path);
    if ((c.spec->qemu_machine == QEMU_MACHINE_VIRT) != trial->aarch64) {
        case_clear(&c);
        return;
    }
    trial->tried++;
    leave_out_host_side(c.spec);
    point_at_files(&c, scratch, paths);
    c.request.accel = ACCEL_TCG;
    assert_int_equal(recipe_qemu.render(&c.request, &command), 0);
    assert_int_equal(free_and_strdup(&command.argv[0], trial->qemu), 0);
    command_add(&command, "-S");
    pid = launch(scratch, c.spec, &command);
    converse(scratch, answers, sizeof(answers));
    if (!strstr(answers, "SHUTDOWN"))
        kill(pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)pid, &end, WEXITED), 0);
    assert_int_equal(read_file(scratch_path(scratch, "errors"), 65536, &errors, &size), 0);
    print_message("# %s: %s\n", strrchr(path, '/') + 1, *errors ? errors : "taken without a word");
    if (end.si_code != CLD_EXITED || end.si_status != 0 || *errors)
        fail_msg("%s: QEMU ended with %d, after \"%s\", and said: %s", path, end.si_status, answers, errors);
    assert_non_null(strstr(answers, "\"prelaunch\""));
    assert_int_equal(access(paths[2], F_OK), c.spec->qemu_serial_console ? 0 : -1);
    unlink(paths[2]);
    case_clear(&c);
}

static size_t try_all(Trial trial)
{
    const char *guest = getenv("MICROVMD_GUEST");

    if (!guest || access(guest, R_OK) < 0)
        skip();
    cases_each(SOURCE_DIR "/tests/golden/qemu", try_case, &trial);
    return trial.tried;
}

static void test_accepted(void **state)
{
    assert_in_range(try_all((Trial){.scratch = *state, .qemu = "qemu-system-x86_64"}), 9, 99);
}

static void test_accepted_by_qemu_system_aarch64(void **state)
{
    static const char *const places[] = {"/usr/bin/qemu-system-aarch64",
                                         "/usr/local/bin/qemu-system-aarch64"};

    for (size_t i = 0; i < ELEMENTSOF(places); i++)
        if (access(places[i], X_OK) == 0) {
            assert_in_range(try_all((Trial){.scratch = *state, .qemu = places[i], .aarch64 = true}), 2, 99);
            return;
        }
    skip();
}

/* A number or a truth that libvirt would pass on as another type, QEMU would refuse. */
static void check_property(const char *name, const char *type)
{
    static const struct {
        const char *type, *value, *passed;
    } rules[] = {{"bool", "on", "bool"},
                 {"uint32", "1", "unsigned"},
                 {"uint16", "1", "unsigned"},
                 {"uint8", "1", "unsigned"}};
    for (size_t i = 0; i < ELEMENTSOF(rules); i++)
        if (streq(type, rules[i].type)) {
            assert_string_equal(xml_property_type(name, rules[i].value), rules[i].passed);
            return;
        }
    if (strncmp(type, "int", 3) == 0 || strncmp(type, "uint", 4) == 0)
        return;
    /* texts, and words that include "on" */
    if (!streq(xml_property_type(name, "on"), "string") || !streq(xml_property_type(name, "1"), "string"))
        fail_msg("%s is of type %s, which is written as a text", name, type);
}

/* As this QEMU lists them itself. */
static void test_types_of_properties(void **state)
{
    static const char *const devices[] = {"vfio-pci", "usb-host"};

    for (size_t i = 0; i < ELEMENTSOF(devices); i++) {
        char command[64], line[256], name[64], type[32];
        FILE *stream;
        int n = 0;
        snprintf(command, sizeof(command), "qemu-system-x86_64 -device %s,help", devices[i]);
        stream = popen(command, "re");
        assert_non_null(stream);
        while (fgets(line, sizeof(line), stream))
            if (sscanf(line, " %63[a-z-]=<%31[A-Za-z0-9]>", name, type) == 2) {
                check_property(name, type);
                n++;
            }
        assert_int_equal(pclose(stream), 0);
        assert_in_range(n, 10, 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_of_properties),
        cmocka_unit_test_setup_teardown(test_accepted, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_accepted_by_qemu_system_aarch64, scratch_setup,
                                        scratch_teardown),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
