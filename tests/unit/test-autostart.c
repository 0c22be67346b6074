/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is queued while the host boots, and how systemd is asked for it. */
#include "bus/handle.h"
#include "options.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/strv.h"
#include "scratch.h"

/* --- which --- */

/* Their names, with a space before each. */
static char *list(Scratch *scratch)
{
    _cleanup_strv_ char **names = NULL;
    char config[256], vms[256], below[256], run[256], *text = NULL;
    const ManagerSettings settings = {.config_path = config,
                                      .state_dir = scratch->path,
                                      .runtime_dir = run,
                                      .directories = {vms, below},
                                      .n_directories = 2};
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    snprintf(config, sizeof(config), "%s/host.json", scratch->path);
    snprintf(vms, sizeof(vms), "%s/vms", scratch->path);
    snprintf(below, sizeof(below), "%s/below", scratch->path);
    snprintf(run, sizeof(run), "%s/run", scratch->path);
    assert_int_equal(autostart_list(&settings, &names), 0);
    for (size_t i = 0; names[i]; i++)
        fprintf(stream, " %s", names[i]);
    fclose(stream);
    return text;
}

static void expect(Scratch *scratch, const char *names)
{
    _cleanup_free_ char *found = list(scratch);

    assert_string_equal(found, names);
}

static void test_list(void **context)
{
    Scratch *scratch = *context;

    expect(scratch, "");
    scratch_text(scratch, "vms/db.json", "{ \"kernel\": \"/boot/k\" }");
    scratch_text(scratch, "vms/off.json", "{ \"kernel\": \"/boot/k\", \"autostart\": false }");
    scratch_text(scratch, "vms/broken.json", "{ \"kernel\": 7 }");
    scratch_text(scratch, "vms/torn.json", "{ \"kernel\": ");
    /* Layers, drop-ins, templates. */
    scratch_text(scratch, "below/masked.json", "{ \"kernel\": \"/boot/k\" }");
    scratch_text(scratch, "vms/masked.json", "");
    scratch_text(scratch, "below/low.json", "{ \"kernel\": \"/boot/k\" }");
    scratch_text(scratch, "vms/low.json.d/off.json", "{ \"autostart\": false }");
    scratch_text(scratch, "below/lifted.json", "{ \"kernel\": \"/boot/k\", \"autostart\": false }");
    scratch_text(scratch, "vms/lifted.json.d/on.json", "{ \"autostart\": true }");
    scratch_text(scratch, "vms/web@.json", "{ \"kernel\": \"/boot/k\" }");
    scratch_text(scratch, "vms/web@1.json.d/mem.json", "{ \"mem\": 128 }");
    expect(scratch, " db lifted web@1");
}

static void test_only_once(void **context)
{
    Scratch *scratch = *context;

    scratch_text(scratch, "vms/db.json", "{ \"kernel\": \"/boot/k\" }");
    scratch_text(scratch, "run/daemon/lock", "");
    expect(scratch, " db");
    /* As microvmd leaves it, once it has started them. */
    scratch_text(scratch, "run/daemon/autostarted", "");
    expect(scratch, "");
}

static void test_guard(void **context)
{
    Scratch *scratch = *context;

    scratch_text(scratch, "vms/db.json", "{ \"kernel\": \"/boot/k\" }");
    scratch_text(scratch, "host.json", "{ \"guest\": { \"enable\": true } }");
    expect(scratch, "");
    scratch_text(scratch, "host.json", "{ torn");
    expect(scratch, "");
    scratch_text(scratch, "host.json", "{ \"defaults\": { \"driver\": \"direct\" } }");
    expect(scratch, " db");
}

/* --- how --- */

/* PID 1 of the test: refuses by name, and notes what it was asked for. */
static int on_start_unit(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    const char *unit, *mode;

    if (sd_bus_message_read(message, "ss", &unit, &mode) < 0)
        return -EINVAL;
    dprintf(*(int *)userdata, "%s %s\n", unit, mode);
    if (streq(unit, "microvmd@masked.service"))
        return sd_bus_error_set(error, "org.freedesktop.systemd1.UnitMasked", "Unit is masked.");
    if (streq(unit, "microvmd@cyclic.service"))
        return sd_bus_error_set(error, "org.freedesktop.systemd1.TransactionOrderIsCyclic", "Cyclic.");
    return sd_bus_reply_method_return(message, "o", "/org/freedesktop/systemd1/job/1");
}

static const sd_bus_vtable manager_table[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("StartUnit", "ss", "o", on_start_unit, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

_Noreturn static void be_systemd(int fd, int notes, bool dies)
{
    sd_id128_t id = SD_ID128_MAKE(01, 02, 03, 04, 05, 06, 07, 08, 09, 0a, 0b, 0c, 0d, 0e, 0f, 10);
    sd_bus *bus = NULL;

    if (sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, fd, fd) < 0 || sd_bus_set_server(bus, 1, id) < 0 ||
        sd_bus_set_anonymous(bus, 1) < 0 || sd_bus_start(bus) < 0 ||
        sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                                 manager_table, &notes) < 0)
        _exit(1);
    for (;;) {
        int r = sd_bus_process(bus, NULL);
        if (r < 0 || (dies && lseek(notes, 0, SEEK_CUR) > 0))
            _exit(0); /* its client is gone; or before it has answered */
        if (r == 0)
            sd_bus_wait(bus, UINT64_MAX);
    }
}

/* What it was asked for is in "notes". */
static int ask(Scratch *scratch, char *const *names, bool dies)
{
    int fds[2], notes = open(scratch_path(scratch, "notes"), O_RDWR | O_CREAT | O_TRUNC, 0600), r;
    sd_bus *bus = NULL;
    pid_t child;

    assert_true(notes >= 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    child = fork();
    if (child == 0) {
        close(fds[0]);
        be_systemd(fds[1], notes, dies);
    }
    close(fds[1]);
    assert_true(sd_bus_new(&bus) >= 0 && sd_bus_set_fd(bus, fds[0], fds[0]) >= 0 && sd_bus_start(bus) >= 0);
    r = handles_queue_on(bus, names);
    sd_bus_flush_close_unref(bus);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(notes);
    return r;
}

static void test_queue(void **context)
{
    Scratch *scratch = *context;
    char *names[] = {(char *)"db", (char *)"cyclic", (char *)"masked", (char *)"web@1", NULL},
         *none[] = {NULL};
    _cleanup_free_ char *notes = NULL;
    size_t size;

    assert_int_equal(ask(scratch, none, false), 0);
    /* One that is refused keeps no other one from its place. */
    assert_int_equal(ask(scratch, names, false), 0);
    assert_int_equal(read_file(scratch_path(scratch, "notes"), 4096, &notes, &size), 0);
    assert_string_equal(notes, "microvmd@db.service fail\nmicrovmd@cyclic.service fail\n"
                               "microvmd@masked.service fail\nmicrovmd@web@1.service fail\n");
}

/* Who does not answer any more is not waited for: a boot goes on. */
static void test_systemd_gone(void **context)
{
    char *names[] = {(char *)"db", (char *)"web", NULL};

    alarm(120); /* which ends the test */
    assert_true(ask(*context, names, true) <= 0);
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_list),
        IN_SCRATCH(test_only_once),
        IN_SCRATCH(test_guard),
        IN_SCRATCH(test_queue),
        IN_SCRATCH(test_systemd_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
