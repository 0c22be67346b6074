/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The driver on libvirt's own test driver: in this process, and in a libvirtd of our own on a private socket,
 * which can be stopped and killed.
 */
#include "harness.h"

#include "base/file.h"

#include <grp.h>
#include <libvirt/libvirt.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define URI "test:///default" /* comes with a running domain "test" that is not ours */

static Harness harness;
static virConnectPtr other; /* somebody else; keeps the state of test:///default between two drivers */

static int set_up(void **state)
{
    harness_open(&harness, URI);
    other = virConnectOpen(URI);
    assert_non_null(other);
    assert_int_equal(harness_sync(&harness), 0);
    return 0;
}

static int tear_down(void **state)
{
    harness_close(&harness);
    if (other)
        virConnectClose(other);
    other = NULL;
    return 0;
}

static StartRequest start(VmSpec *spec)
{
    StartRequest request = harness_request(spec, "/nonexistent");
    const Seen *seen;

    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    seen = harness_expect(&harness, DRIVER_STARTED, spec->name);
    assert_true(sd_id128_equal(seen->generation, request.generation));
    assert_true(seen->call_usec > 0);
    return request;
}

static bool is_running(const char *name)
{
    virDomainPtr domain = virDomainLookupByName(other, name);
    bool running = domain && virDomainIsActive(domain) == 1;

    if (domain)
        virDomainFree(domain);
    return running;
}

static void by_other(const char *name, int (*act)(virDomainPtr domain))
{
    virDomainPtr domain = virDomainLookupByName(other, name);

    assert_non_null(domain);
    assert_int_equal(act(domain), 0);
    virDomainFree(domain);
}

static void test_start_and_force(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = start(&spec);
    const Seen *seen;

    assert_true(is_running("web"));
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), -EBUSY);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_KILL),
                     0);
    seen = harness_expect(&harness, DRIVER_ENDED, "web");
    assert_int_equal(seen->cause, END_DESTROYED);
    assert_true(sd_id128_equal(seen->generation, request.generation));
    assert_false(is_running("web"));
    /* Nothing is left: the next one starts at once. */
    request = start(&spec);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_ACPI),
                     0);
    assert_int_equal(harness_wait(&harness, DRIVER_ENDED, "web")->cause, END_SHUTDOWN);
    request = start(&spec);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_TERM),
                     0);
    assert_int_equal(harness_wait(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
    request = start(&spec);
    /* Its domains have no agent, nor will they. */
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_AGENT),
                     0);
    seen = harness_wait(&harness, DRIVER_STOP_REFUSED, "web");
    assert_int_equal(seen->action, STOP_ACTION_AGENT);
    assert_non_null(strstr(seen->text, "could not ask the guest's agent to shut it down"));
    assert_int_equal(
        harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_COMMAND),
        -EOPNOTSUPP);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_KILL),
                     0);
    harness_wait(&harness, DRIVER_ENDED, "web");
}

static void test_destroyed_by_somebody(void **state)
{
    VmSpec spec = harness_spec("web");

    start(&spec);
    by_other("web", virDomainDestroy);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
}

static void test_pause(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = start(&spec);
    const Seen *seen;

    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", request.generation, true), 0);
    harness_expect(&harness, DRIVER_PAUSED, "web");
    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", request.generation, false), 0);
    harness_expect(&harness, DRIVER_RESUMED, "web");
    by_other("web", virDomainSuspend);
    harness_expect(&harness, DRIVER_PAUSED, "web");
    by_other("web", virDomainResume);
    harness_expect(&harness, DRIVER_RESUMED, "web");
    /* What libvirt refuses is told. */
    by_other("web", virDomainSuspend);
    harness_expect(&harness, DRIVER_PAUSED, "web");
    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", request.generation, true), 0);
    seen = harness_expect(&harness, DRIVER_CALL_FAILED, "web");
    assert_non_null(strstr(seen->text, "could not pause it"));
    assert_non_null(strstr(seen->text, "not running")); /* libvirt's own words */
}

static void test_memory(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = start(&spec);
    sd_id128_t stale = {.qwords = {1, 2}};
    const DriverOps *ops = harness.driver->ops;
    virDomainPtr domain;
    virDomainInfo info;

    assert_int_equal(ops->set_memory(harness.driver, "web", request.generation, UINT64_C(3) << 20), 0);
    harness_expect(&harness, DRIVER_MEMORY_SET, "web");
    domain = virDomainLookupByName(other, "web");
    assert_int_equal(virDomainGetInfo(domain, &info), 0);
    virDomainFree(domain);
    assert_int_equal(info.memory, 3 << 10);
    assert_int_equal(ops->set_memory(harness.driver, "web", stale, 1 << 20), -ESRCH);
    assert_int_equal(ops->set_memory(harness.driver, "web", request.generation, UINT64_C(1) << 50), 0);
    assert_non_null(
        strstr(harness_expect(&harness, DRIVER_CALL_FAILED, "web")->text, "could not tell its balloon"));
}

static void test_foreign_domain_is_left_alone(void **state)
{
    VmSpec spec = harness_spec("test");
    StartRequest request = harness_request(&spec, "/nonexistent");
    const Seen *seen;

    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    seen = harness_expect(&harness, DRIVER_START_FAILED, "test");
    assert_int_equal(seen->error, -EBUSY);
    assert_non_null(strstr(seen->text, "microvmd did not make"));
    assert_int_equal(harness.driver->ops->stop(harness.driver, "test", request.generation, STOP_ACTION_KILL),
                     -ESRCH);
    assert_true(is_running("test"));
    /* A name is not a run: what took the place of ours is not ended in its stead. */
    spec = harness_spec("web");
    request = start(&spec);
    by_other("web", virDomainDestroy);
    virDomainFree(virDomainCreateXML(
        other, "<domain type='test'><name>web</name><memory>1024</memory><os><type>hvm</type></os></domain>",
        0));
    harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_KILL);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
    assert_true(is_running("web"));
    /* Defined, but not running, is no less somebody's. */
    by_other("test", virDomainDestroy);
    spec = harness_spec("test");
    request = harness_request(&spec, "/nonexistent");
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    assert_int_equal(harness_expect(&harness, DRIVER_START_FAILED, "test")->error, -EBUSY);
    assert_false(is_running("test"));
}

static void test_adoption(void **state)
{
    VmSpec spec = harness_spec("web"), second = harness_spec("db");
    StartRequest request = start(&spec);
    const Seen *seen;

    second.machine_id = (char *)"dc449f31-234a-af5f-a0e8-2c21ab644d77";
    start(&second);
    by_other("db", virDomainSuspend);
    harness_close(&harness);
    assert_true(is_running("web"));
    harness_open(&harness, URI);
    assert_int_equal(harness_sync(&harness), 2);
    harness.next = 0;
    seen = harness_wait(&harness, DRIVER_FOUND, "web");
    assert_true(sd_id128_equal(seen->generation, request.generation));
    assert_false(seen->run.paused);
    harness.next = 0;
    assert_true(harness_wait(&harness, DRIVER_FOUND, "db")->run.paused);
    harness_wait(&harness, DRIVER_SYNCED, NULL);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_KILL),
                     0);
    assert_int_equal(harness_expect(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
}

static void test_unknown_runs(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = start(&spec);
    sd_id128_t stale = SD_ID128_MAKE(00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 01);
    int fd;

    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", stale, STOP_ACTION_KILL), -ESRCH);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "other", request.generation, STOP_ACTION_KILL),
                     -ESRCH);
    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", stale, true), -ESRCH);
    assert_int_equal(harness.driver->ops->kill(harness.driver, "web", stale, SIGTERM), -ESRCH);
    assert_int_equal(harness.driver->ops->open_console(harness.driver, "web", stale, &fd), -ESRCH);
    /* The test driver has no process and no pty. */
    assert_int_equal(harness.driver->ops->kill(harness.driver, "web", request.generation, SIGTERM),
                     -EOPNOTSUPP);
    assert_true(harness.driver->ops->open_console(harness.driver, "web", request.generation, &fd) < 0);
    assert_true(is_running("web"));
}

static void test_refused_start(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = harness_request(&spec, "/nonexistent");
    const Seen *seen;

    spec.machine_id = (char *)"not a uuid";
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    seen = harness_expect(&harness, DRIVER_START_FAILED, "web");
    assert_int_equal(seen->error, -EIO);
    assert_non_null(strstr(seen->text, "uuid"));
    request.cmdline = "a\nb";
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), -EINVAL);
    spec = harness_spec("web");
    start(&spec);
}

static void test_many_at_once(void **state)
{
    enum {
        N = 40
    };
    VmSpec specs[N];
    StartRequest requests[N];
    char names[N][16], uuids[N][40];

    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "vm%d", i);
        snprintf(uuids[i], sizeof(uuids[i]), "dc449f31-234a-af5f-a0e8-2c21ab64%04d", i);
        specs[i] = harness_spec(names[i]);
        specs[i].machine_id = uuids[i];
        requests[i] = harness_request(&specs[i], "/nonexistent");
        assert_int_equal(harness.driver->ops->start(harness.driver, &requests[i]), 0);
        /* Ordered while it starts: carried out after. */
        assert_int_equal(
            harness.driver->ops->stop(harness.driver, names[i], requests[i].generation, STOP_ACTION_KILL), 0);
    }
    for (int i = 0; i < N; i++) {
        harness.next = 0;
        harness_wait(&harness, DRIVER_STARTED, names[i]);
        assert_int_equal(harness_wait(&harness, DRIVER_ENDED, names[i])->cause, END_DESTROYED);
    }
}

static void test_free_while_busy(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = harness_request(&spec, "/nonexistent");

    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    harness_close(&harness);
    harness_open(&harness, URI); /* and before it has connected */
    harness_close(&harness);
}

static void test_unreachable(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = harness_request(&spec, "/nonexistent");

    harness_open(&harness, "test:///nonexistent/file.xml");
    assert_true(strlen(harness_expect(&harness, DRIVER_OFFLINE, NULL)->text) > 0);
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), -EHOSTDOWN);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_KILL),
                     -EHOSTDOWN);
    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", request.generation, true),
                     -EHOSTDOWN);
    harness_expect(&harness, DRIVER_OFFLINE, NULL); /* it tries again */
}

/* --- a libvirtd of our own --- */

/*
 * As an unprivileged user: libvirtd that runs as root manages /run/libvirt, /etc/libvirt and the networks of
 * the machine wherever its socket is, and this machine's libvirt is not ours.
 */
#define NOBODY 65534

static struct {
    char directory[64];
    char uri[192];
    pid_t pid;
} server;

static void server_exec(void)
{
    char path[128], pid_file[128];

    snprintf(path, sizeof(path), "%s/libvirtd.conf", server.directory);
    snprintf(pid_file, sizeof(pid_file), "%s/pid", server.directory);
    if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
        _exit(126);
    if (geteuid() == 0)
        _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("XDG_RUNTIME_DIR", server.directory, 1);
    setenv("XDG_CONFIG_HOME", server.directory, 1);
    setenv("XDG_CACHE_HOME", server.directory, 1);
    setenv("XDG_DATA_HOME", server.directory, 1);
    setenv("HOME", server.directory, 1);
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    execlp("libvirtd", "libvirtd", "--config", path, "--pid-file", pid_file, NULL);
    _exit(127);
}

static void server_start(void)
{
    char path[128];

    /* The socket is there when it answers; a former one's would look the same. */
    snprintf(path, sizeof(path), "%s/libvirt-sock", server.directory);
    unlink(path);
    server.pid = fork();
    assert_true(server.pid >= 0);
    if (server.pid == 0)
        server_exec();
}

/* Until it goes on it reads nothing. */
static void server_freeze(void)
{
    int status;

    assert_int_equal(kill(server.pid, SIGSTOP), 0);
    assert_int_equal(waitpid(server.pid, &status, WUNTRACED), server.pid);
    assert_true(WIFSTOPPED(status));
}

static void server_end(int signal)
{
    if (server.pid > 0) {
        kill(server.pid, signal);
        kill(server.pid, SIGCONT);
        waitpid(server.pid, NULL, 0);
    }
    server.pid = 0;
}

static int server_set_up(void **state)
{
    char path[128], settings[512];
    int n;

    snprintf(server.directory, sizeof(server.directory), "/tmp/microvmd-test.XXXXXX");
    assert_non_null(mkdtemp(server.directory));
    snprintf(server.uri, sizeof(server.uri), "test+unix:///default?socket=%s/libvirt-sock", server.directory);
    n = snprintf(settings, sizeof(settings),
                 "unix_sock_dir = \"%s\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n"
                 "log_outputs = \"3:file:%s/log\"\n",
                 server.directory, server.directory);
    snprintf(path, sizeof(path), "%s/libvirtd.conf", server.directory);
    assert_int_equal(write_file_atomic(path, settings, (size_t)n, 0644), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(server.directory, NOBODY, NOBODY), 0);
    server_start();
    harness_open(&harness, server.uri);
    assert_int_equal(harness_sync(&harness),
                     0); /* it may be OFFLINE before that: the server takes its time */
    return 0;
}

static int server_tear_down(void **state)
{
    harness_close(&harness);
    kill(server.pid, SIGCONT);
    if (other)
        virConnectClose(other); /* while there is somebody to take leave of */
    other = NULL;
    server_end(SIGKILL);
    remove_tree(server.directory);
    return 0;
}

static void test_server_dies(void **state)
{
    VmSpec spec = harness_spec("web"), second = harness_spec("db");
    StartRequest request = start(&spec);

    server_end(SIGKILL);
    harness_expect(&harness, DRIVER_OFFLINE, NULL);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_KILL),
                     -EHOSTDOWN);
    second.machine_id = (char *)"dc449f31-234a-af5f-a0e8-2c21ab644d77";
    request = harness_request(&second, "/nonexistent");
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), -EHOSTDOWN);
    server_start();
    /* The domains of the test driver went with it. The driver does not tell of their end: it has not seen it.
     */
    assert_int_equal(harness_sync(&harness), 0);
    assert_int_equal(harness_idle(&harness, 200000, DRIVER_ENDED), 0);
    start(&spec);
}

/* One that was ordered when libvirtd was about to die gets no answer, and is free to be started after. */
static void test_server_dies_during_a_start(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = harness_request(&spec, "/nonexistent");

    server_freeze();
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    assert_int_equal(harness_idle(&harness, 200000, DRIVER_STARTED), 0);
    server_end(SIGKILL);
    harness_expect(&harness, DRIVER_OFFLINE, NULL);
    server_start();
    assert_int_equal(harness_sync(&harness), 0);
    start(&spec);
}

/* A libvirtd that hangs is away, too: keep-alive messages tell. Who pauses is not left waiting. */
static void test_server_hangs(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = start(&spec);

    other = virConnectOpen(server.uri); /* the test driver forgets its domains when nobody is there */
    assert_non_null(other);
    server_freeze();
    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", request.generation, true), 0);
    assert_int_equal(harness.driver->ops->set_paused(harness.driver, "web", request.generation, false), 0);
    harness_wait(&harness, DRIVER_OFFLINE, NULL);
    harness.next = 0;
    harness_wait(&harness, DRIVER_CALL_FAILED, "web");
    harness_wait(&harness, DRIVER_CALL_FAILED, "web");
    assert_int_equal(kill(server.pid, SIGCONT), 0);
    assert_int_equal(harness_sync(&harness), 1);
    assert_int_equal(harness.driver->ops->stop(harness.driver, "web", request.generation, STOP_ACTION_KILL),
                     0);
    assert_int_equal(harness_wait(&harness, DRIVER_ENDED, "web")->cause, END_DESTROYED);
}

static void test_free_while_the_server_hangs(void **state)
{
    VmSpec spec = harness_spec("web");
    struct timespec before, after;

    start(&spec);
    server_freeze();
    clock_gettime(CLOCK_MONOTONIC, &before);
    harness_close(&harness);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_in_range(after.tv_sec - before.tv_sec, 0, 60);
}

int main(void)
{
#define LOCAL(test)  cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define SERVER(test) cmocka_unit_test_setup_teardown(test, server_set_up, server_tear_down)
    const struct CMUnitTest tests[] = {
        LOCAL(test_start_and_force),
        LOCAL(test_destroyed_by_somebody),
        LOCAL(test_pause),
        LOCAL(test_memory),
        LOCAL(test_foreign_domain_is_left_alone),
        LOCAL(test_adoption),
        LOCAL(test_unknown_runs),
        LOCAL(test_refused_start),
        LOCAL(test_many_at_once),
        LOCAL(test_free_while_busy),
        cmocka_unit_test_teardown(test_unreachable, tear_down),
        SERVER(test_server_dies),
        SERVER(test_server_dies_during_a_start),
        SERVER(test_server_hangs),
        SERVER(test_free_while_the_server_hangs),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
