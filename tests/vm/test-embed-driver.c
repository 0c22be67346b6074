/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The driver on real QEMU under TCG, by the QEMU driver of libvirt inside this process: no libvirtd, and
 * nothing of this machine's libvirt is touched.
 */
#include "harness.h"

#include "base/file.h"
#include "plan/prepare.h"

#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static char directory[64], uri[128], guest[512], kernel[544], initrd[544], console_log[96];
static Harness harness;

/* One microVM with what it borrows. */
typedef struct Machine {
    VmSpec spec;
    char *params[1];
    char param[128];
    StartRequest request;
    char *cmdline;
} Machine;

static Machine machine;

static void machine_clear(void)
{
    free(machine.cmdline);
    memset(&machine, 0, sizeof(machine));
}

/* `words`: what the guest does, see tests/guest/init. */
static void machine_describe(const char *words)
{
    machine_clear();
    machine.spec = harness_spec("web");
    snprintf(machine.param, sizeof(machine.param), "microvm.test=%s", words);
    machine.params[0] = machine.param;
    machine.spec.kernel_params = machine.params;
    machine.spec.n_kernel_params = 1;
    machine.spec.initrd = initrd;
    machine.spec.machine_id = (char *)"dc449f31-234a-af5f-a0e8-2c21ab644d76";
}

static void machine_launch(void)
{
    AccelFacts facts;

    harness.driver->ops->accel_facts(harness.driver, &facts);
    unlink(console_log);
    machine.request = harness_request(&machine.spec, directory);
    machine.request.kernel = kernel;
    machine.request.initrd = initrd;
    machine.request.console_log = console_log;
    machine.cmdline = kernel_command_line(&machine.spec, facts.tsc_khz);
    assert_non_null(machine.cmdline);
    machine.request.cmdline = machine.cmdline;
    assert_int_equal(harness.driver->ops->start(harness.driver, &machine.request), 0);
}

static Seen machine_start(const char *words)
{
    machine_describe(words);
    machine_launch();
    return *harness_expect(&harness, DRIVER_STARTED, "web");
}

static int stop_machine(StopAction action)
{
    return harness.driver->ops->stop(harness.driver, "web", machine.request.generation, action);
}

/* Runs the loop until the guest has said `words`. */
static void await_console(const char *words)
{
    time_t deadline = time(NULL) + PATIENCE;

    while (time(NULL) < deadline) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        if (read_file(console_log, 1 << 20, &text, &size) >= 0 && strstr(text, words))
            return;
        sd_event_run(harness.event, 50000);
    }
    fail_msg("the guest did not say \"%s\"", words);
}

static int set_up(void **state)
{
    harness_open(&harness, uri);
    assert_int_equal(harness_sync(&harness), 0);
    return 0;
}

static int tear_down(void **state)
{
    /* A test that failed may have left its QEMU; it is ended by what it is, not by its name. */
    if (harness.driver && machine.spec.name && stop_machine(STOP_ACTION_KILL) >= 0)
        harness_idle(&harness, 3000000, DRIVER_ENDED);
    harness_close(&harness);
    machine_clear();
    return 0;
}

/* microVMs outlive a daemon that is killed, and the next one finds them with all that it needs. */
static void test_adoption(void **state)
{
    sd_id128_t *generation;
    const Seen *seen;
    int report[2], status, fd;
    char byte;
    pid_t pid;

    assert_int_equal(pipe(report), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        harness_open(&harness, uri);
        harness_sync(&harness);
        machine_start("count");
        if (write(report[1], &machine.request.generation, sizeof(sd_id128_t)) < 0)
            _exit(1);
        pause();
    }
    close(report[1]);
    machine_describe("count");
    generation = &machine.request.generation;
    assert_int_equal(read(report[0], generation, sizeof(*generation)), sizeof(*generation));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(read(report[0], &byte, 1), 0);
    close(report[0]);

    harness_open(&harness, uri);
    seen = harness_wait(&harness, DRIVER_FOUND, "web");
    assert_true(sd_id128_equal(seen->generation, *generation));
    assert_true(seen->run.pid > 1);
    assert_int_equal(seen->run.accel, ACCEL_TCG);
    harness_expect(&harness, DRIVER_SYNCED, NULL);
    await_console("count 1");
    assert_int_equal(harness.driver->ops->open_console(harness.driver, "web", *generation, &fd), 0);
    close(fd);
    /* A clean stop of the driver leaves it, too; and the same process may open it again. */
    harness_close(&harness);
    harness_open(&harness, uri);
    assert_int_equal(harness_sync(&harness), 1);
    assert_int_equal(harness.driver->ops->kill(harness.driver, "web", *generation, SIGKILL), 0);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_CRASHED);
}

/* A file system that the guest writes to, in the state directory. */
static void make_volume(void)
{
    char command[256];

    snprintf(command, sizeof(command),
             "truncate -s 16M %s/data.img && PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -q -F %s/data.img",
             directory, directory);
    assert_int_equal(system(command), 0);
}

static void test_volume_and_power_off(void **state)
{
    VolumeSpec volume = {.image = (char *)"data.img", .size_mib = 16, .serial = (char *)"data"};
    char command[256], said[64] = "";
    FILE *pipe;

    make_volume();
    machine_describe("write=hello,poweroff=0");
    machine.spec.volumes = &volume;
    machine.spec.n_volumes = 1;
    machine_launch();
    harness_expect(&harness, DRIVER_STARTED, "web");
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_POWEROFF);
    snprintf(command, sizeof(command),
             "PATH=$PATH:/sbin:/usr/sbin debugfs -R 'cat /written' %s/data.img 2>/dev/null", directory);
    pipe = popen(command, "re");
    assert_non_null(pipe);
    assert_non_null(fgets(said, sizeof(said), pipe));
    pclose(pipe);
    assert_string_equal(said, "hello\n");
}

static void test_reset_and_panic(void **state)
{
    machine_start("reboot=0");
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_REBOOT);
    /* With panic=-1 a panic looks like a reset to QEMU; the console tells (supervise/ending.h). */
    machine_start("panic=0");
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_REBOOT);
    await_console("Kernel panic");
}

static void test_graceful_stop(void **state)
{
    machine_start("count");
    await_console("count 1");
    assert_int_equal(stop_machine(STOP_ACTION_ACPI), 0);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_POWEROFF);
    await_console("power button");
}

static void by_other(int (*act)(virDomainPtr domain))
{
    virConnectPtr other = virConnectOpen(uri);
    virDomainPtr domain;

    assert_non_null(other);
    domain = virDomainLookupByName(other, "web");
    assert_non_null(domain);
    assert_int_equal(act(domain), 0);
    virDomainFree(domain);
    virConnectClose(other);
}

static void test_ended_by_somebody(void **state)
{
    machine_start("count");
    await_console("count 1");
    by_other(virDomainSuspend);
    harness_expect(&harness, DRIVER_PAUSED, "web");
    by_other(virDomainResume);
    harness_expect(&harness, DRIVER_RESUMED, "web");
    by_other(virDomainShutdown);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_ASKED);
    machine_start("count");
    by_other(virDomainDestroy);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
}

/* Types `keys` every few seconds until the console says `words`: what comes while the guest's shell starts is
 * lost. */
static void type_until(int fd, const char *keys, const char *words)
{
    char text[65536] = "";
    size_t size = 0;

    for (int i = 0; i < PATIENCE / 2 && !strstr(text, words); i++) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        assert_true(write(fd, keys, strlen(keys)) == (ssize_t)strlen(keys));
        while (!strstr(text, words) && poll(&poll_fd, 1, 2000) == 1) {
            ssize_t n = read(fd, text + size, sizeof(text) - 1 - size);
            assert_true(n > 0);
            size += (size_t)n;
        }
    }
    assert_non_null(strstr(text, words));
}

static void test_signals_pause_and_console(void **state)
{
    Seen started = machine_start("");
    sd_id128_t generation = machine.request.generation;
    int fd;

    assert_true(started.run.pid > 1);
    assert_int_equal(started.run.accel, ACCEL_TCG);
    await_console("ready");
    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", generation, true), 0);
    harness_expect(&harness, DRIVER_PAUSED, "web");
    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", generation, false), 0);
    harness_expect(&harness, DRIVER_RESUMED, "web");

    /* The console is attachable beside its log. The guest's shell echoes and answers. */
    assert_int_equal(harness.driver->ops->open_console(harness.driver, "web", generation, &fd), 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    type_until(fd, "\r", "/ # ");
    type_until(fd, "echo to$((20+1))\r", "to21");
    close(fd);
    await_console("to21");

    assert_int_equal(harness.driver->ops->kill(harness.driver, "web", generation, SIGTERM), 0);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_TERMINATED);
}

/* A QEMU that hangs does not hang the others, and can be ended. */
static void test_hung_hypervisor(void **state)
{
    Seen started = machine_start("count");
    char exe[64];

    await_console("ready");
    assert_int_equal(harness.driver->ops->kill(harness.driver, "web", machine.request.generation, SIGSTOP),
                     0);
    assert_int_equal(stop_machine(STOP_ACTION_ACPI), 0);
    assert_int_equal(harness_idle(&harness, 500000, DRIVER_ENDED), 0);
    assert_int_equal(stop_machine(STOP_ACTION_KILL), 0);
    assert_int_equal(harness_wait(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
    snprintf(exe, sizeof(exe), "/proc/%d/exe", started.run.pid); /* which a zombie has not */
    for (int i = 0; i < PATIENCE * 10 && access(exe, F_OK) == 0; i++)
        harness_idle(&harness, 100000, DRIVER_ENDED);
    assert_int_equal(access(exe, F_OK), -1);
}

/* As many devices as check() lets through. */
static void test_all_slots(void **state)
{
    enum {
        N = 23
    };
    VolumeSpec volumes[N] = {0};
    char names[N][16], path[128];
    _cleanup_problems_ ProblemList problems = {0};

    machine_describe("poweroff=0");
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "slot%d.img", i);
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        assert_int_equal(write_file_atomic(path, "", 0, 0600), 0);
        assert_int_equal(truncate(path, 1 << 20), 0);
        volumes[i].image = names[i];
    }
    machine.spec.volumes = volumes;
    machine.spec.n_volumes = N;
    harness.driver->ops->check(&machine.spec, &(Runner){0},
                               &(TableReader){.document = &(JsonDocument){0}, .problems = &problems});
    assert_int_equal(problem_count(&problems, PROBLEM_ERROR), 0);
    machine_launch();
    harness_expect(&harness, DRIVER_STARTED, "web");
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_POWEROFF);
}

/* The port is free for the first, and the second start says why it failed. */
static void test_forwards_and_hints(void **state)
{
    InterfaceSpec interface = {
        .type = INTERFACE_USER, .id = (char *)"net0", .mac = (char *)"02:00:00:00:00:01"};
    ForwardSpec forward = {FORWARD_FROM_HOST, FORWARD_TCP, (char *)"127.0.0.1", 0, NULL, 80};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client;
    const Seen *seen;
    char answer[16] = "";

    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    machine_describe("http");
    forward.host_port = ntohs(address.sin_port);
    machine.spec.interfaces = &interface;
    machine.spec.n_interfaces = 1;
    machine.spec.forward_ports = &forward;
    machine.spec.n_forward_ports = 1;
    machine_launch();
    seen = harness_expect(&harness, DRIVER_START_FAILED, "web");
    assert_non_null(strstr(seen->text, "another process listens on that port"));
    close(fd);
    free(machine.cmdline);
    machine_launch();
    harness_expect(&harness, DRIVER_STARTED, "web");
    await_console("microvm-guest: http");
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, length), 0);
    assert_int_equal(write(client, "GET / HTTP/1.0\r\n\r\n", 18), 18);
    assert_true(recv(client, answer, 8, MSG_WAITALL) == 8);
    assert_memory_equal(answer, "HTTP/1.", 7);
    close(client);
    assert_int_equal(stop_machine(STOP_ACTION_KILL), 0);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
}

/* PCIe root ports of one's own, in slots of one's own, and a display without a window: QEMU starts with them.
 */
static void test_root_ports_and_display(void **state)
{
    RootPortSpec ports[] = {{.id = (char *)"one", .chassis = 7, .slot = 3}, {.id = (char *)"two"}};
    const Seen *seen;

    machine_describe("idle");
    machine.spec.qemu_machine = QEMU_MACHINE_Q35;
    machine.spec.qemu_root_ports = ports;
    machine.spec.n_qemu_root_ports = ELEMENTSOF(ports);
    machine.spec.graphics = true;
    machine_launch();
    seen = harness_expect(&harness, DRIVER_STARTED, "web");
    assert_non_null(seen);
    assert_int_equal(stop_machine(STOP_ACTION_KILL), 0);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
}

/* libvirt's QEMU driver takes all that is written: every word of it, and every device gets its address. */
static void test_golden_files(void **state)
{
    static const char *const names[] = {"minimal", "every-microvm", "every-q35", "placement", "boot-disk"};
    virConnectPtr connection = virConnectOpen(uri);

    if (!connection)
        fail_msg("%s", virGetLastErrorMessage());
    for (size_t i = 0; i < ELEMENTSOF(names); i++) {
        _cleanup_free_ char *xml = NULL;
        virDomainPtr domain;
        char path[512];
        size_t size;
        snprintf(path, sizeof(path), SOURCE_DIR "/tests/golden/%s.xml", names[i]);
        assert_int_equal(read_file(path, 1 << 20, &xml, &size), 0);
        domain = virDomainDefineXMLFlags(connection, xml, VIR_DOMAIN_DEFINE_VALIDATE);
        if (!domain)
            fail_msg("%s: %s", names[i], virGetLastErrorMessage());
        assert_int_equal(virDomainUndefine(domain), 0);
        virDomainFree(domain);
    }
    virConnectClose(connection);
}

static int group_set_up(void **state)
{
    const char *made = getenv("MICROVMD_GUEST");
    char command[1200];

    snprintf(directory, sizeof(directory), "/tmp/microvmd-test.XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(uri, sizeof(uri), "qemu:///embed?root=%s/libvirt", directory);
    snprintf(console_log, sizeof(console_log), "%s/console.log", directory);
    snprintf(guest, sizeof(guest), "%s", made ? made : directory);
    snprintf(command, sizeof(command), SOURCE_DIR "/tests/guest/make-guest.sh %s >&2", guest);
    if (!made && system(command) != 0)
        return -1;
    /* libvirt changes the owner of what QEMU opens: copies, as the daemon makes them. */
    snprintf(command, sizeof(command), "cp %s/vmlinuz %s/kernel && cp %s/initrd %s/boot-initrd", guest,
             directory, guest, directory);
    snprintf(kernel, sizeof(kernel), "%s/kernel", directory);
    snprintf(initrd, sizeof(initrd), "%s/boot-initrd", directory);
    return system(command) == 0 ? 0 : -1;
}

static int group_tear_down(void **state)
{
    return remove_tree(directory);
}

int main(void)
{
#define VM(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_adoption, tear_down), /* first: it forks before there are threads */
        VM(test_volume_and_power_off),
        VM(test_reset_and_panic),
        VM(test_graceful_stop),
        VM(test_ended_by_somebody),
        VM(test_signals_pause_and_console),
        VM(test_hung_hypervisor),
        VM(test_all_slots),
        VM(test_forwards_and_hints),
        VM(test_root_ports_and_display),
        cmocka_unit_test(test_golden_files), /* libvirt takes ten connections of this kind in a process */
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, group_set_up, group_tear_down);
}
