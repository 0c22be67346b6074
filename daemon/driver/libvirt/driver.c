/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver's operations and what it keeps of each run. */
#include "driver/libvirt/internal.h"

#include "base/log.h"
#include "driver/qemu-common.h"

#include <fcntl.h>
#include <libvirt/virterror.h>
#include <signal.h>
#include <sys/syscall.h>
#include <termios.h>

enum {
    CONTROL_THREADS = 2,
    WORK_THREADS = 4, /* libvirtd serves five calls a connection at a time */
    AGENT_THREADS = 3,
};
#define GRACE_USEC UINT64_C(2000000)

static LibvirtDriver *of(Driver *driver)
{
    return (LibvirtDriver *)driver;
}

void driver_say(LibvirtDriver *driver, const DriverEvent *event)
{
    driver->handler(&driver->driver, event, driver->userdata);
}

/* --- runs --- */

Run *run_find_name(LibvirtDriver *driver, const char *name)
{
    for (Run *run = driver->runs; run; run = run->next)
        if (streq(run->name, name))
            return run;
    return NULL;
}

Run *run_find(LibvirtDriver *driver, const char *name, sd_id128_t generation)
{
    Run *run = run_find_name(driver, name);

    return run && sd_id128_equal(run->generation, generation) ? run : NULL;
}

Run *run_new(LibvirtDriver *driver, const char *name, sd_id128_t generation)
{
    Run *run = calloc(1, sizeof(*run));

    if (!run)
        return NULL;
    run->driver = driver;
    run->generation = generation;
    run->pidfd = -EBADF;
    run->stopped_detail = -1;
    run->name = strdup(name);
    run->next = driver->runs;
    driver->runs = run;
    if (run->name)
        return run;
    run_free(run);
    return NULL;
}

void run_free(Run *run)
{
    for (Run **link = &run->driver->runs; *link; link = &(*link)->next)
        if (*link == run) {
            *link = run->next;
            break;
        }
    call_forget_queue(run);
    sd_event_source_disable_unref(run->recheck);
    safe_close(run->pidfd);
    free(run->console);
    free(run->name);
    free(run);
}

void run_take_facts(Run *run, DomainFacts *facts)
{
    free(run->console);
    run->console = TAKE_PTR(facts->console);
    safe_close(run->pidfd);
    run->pidfd = TAKE_FD(facts->pidfd);
    run->pid = facts->pid;
}

/* --- operations --- */

/* What libvirt has words for, from 9.0 on. */
static CapabilitySet capabilities(const VmSpec *spec)
{
    static const Capability of_all[] = {
        CAP_QEMU,
        CAP_MACHINE_MICROVM,
        CAP_MACHINE_Q35,
        CAP_CPU_MODEL,
        CAP_HUGEPAGES,
        CAP_BALLOON,
        CAP_IMAGE_FORMATS,
        CAP_DIRECT_IO,
        CAP_DISK_SERIAL,
        CAP_NET_USER,
        CAP_NET_TAP,
        CAP_NET_BRIDGE,
        CAP_NET_MACVTAP,
        CAP_VHOST_NET,
        CAP_SHARE_9P,
        CAP_SHARE_VIRTIOFS,
        CAP_VIRTIOFSD_THREADS,
        CAP_VSOCK,
        CAP_CREDENTIALS,
        CAP_NOTIFY,
        CAP_QEMU_ARGUMENTS,
        CAP_NO_CONSOLE,
        CAP_CPU_QUOTA,
        CAP_CPU_AFFINITY,
        CAP_MEMORY_MAX,
        CAP_IO_WEIGHT,
        CAP_MACHINED,
        CAP_USER,
        CAP_CONTROL_SOCKET,
        CAP_QEMU_MACHINE_OPTIONS,
        CAP_CONSOLE_JOURNAL,
    };
    static const Capability with_pci[] = {
        CAP_DISK_BOOT,       CAP_MEMORY_HOTPLUG, CAP_DEVICE_PCI,     CAP_DEVICE_USB, CAP_DEVICE_PLACEMENT,
        CAP_PCIE_ROOT_PORTS, CAP_GRAPHICS,       CAP_DEVICE_OPTIONS, CAP_WATCHDOG,
    };
    CapabilitySet set = qemu_stop_capabilities(spec);

    for (size_t i = 0; i < ELEMENTSOF(of_all); i++)
        set |= CAPABILITY(of_all[i]);
    for (size_t i = 0; i < ELEMENTSOF(with_pci) && spec->qemu_machine == QEMU_MACHINE_Q35; i++)
        set |= CAPABILITY(with_pci[i]);
    return set;
}

static int start(Driver *base, const StartRequest *request)
{
    LibvirtDriver *driver = of(base);
    DomainTarget target = driver->target;
    _cleanup_free_ char *xml = NULL, *fallback = NULL;
    Run *run;
    int r;

    if (!driver->online)
        return -EHOSTDOWN;
    if (run_find_name(driver, request->spec->name))
        return -EBUSY;
    /* A libvirt that is not the system's runs all of them as itself. */
    if (request->user && target.type == DOMAIN_QEMU && !target.dac)
        return -EOPNOTSUPP;
    r = domain_xml(request, &target, &xml);
    if (r >= 0 && request->accel == ACCEL_KVM && target.type == DOMAIN_QEMU && !target.no_arch_capabilities) {
        target.no_arch_capabilities = true;
        r = domain_xml(request, &target, &fallback);
    }
    if (r < 0)
        return r;
    run = run_new(driver, request->spec->name, request->generation);
    if (!run)
        return -ENOMEM;
    run->starting = true;
    r = call_submit_start(run, request->spec->machine_id, TAKE_PTR(xml), TAKE_PTR(fallback));
    if (r < 0)
        run_free(run);
    return r;
}

/* SIGKILL is ours to send: libvirt gives a process time that it has had. What is left libvirt takes away. */
static int destroy(Run *run)
{
    if (run->pidfd >= 0 && syscall(SYS_pidfd_send_signal, run->pidfd, SIGKILL, NULL, 0) >= 0)
        run->killed = true;
    return call_submit(run, CALL_DESTROY);
}

static int stop(Driver *base, const char *name, sd_id128_t generation, StopAction action)
{
    Run *run = run_find(of(base), name, generation);
    int r;

    if (!of(base)->online)
        return -EHOSTDOWN;
    if (!run)
        return -ESRCH;
    if (run->asking && action != STOP_ACTION_AGENT)
        run->asking->late = true;
    switch (action) {
    case STOP_ACTION_AGENT:
        return run->asking ? 0 : call_submit(run, CALL_AGENT); /* it is asked already */
    case STOP_ACTION_ACPI:
        r = call_submit(run, CALL_SHUTDOWN);
        if (r >= 0)
            run->we_asked = true;
        return r;
    case STOP_ACTION_CTRL_ALT_DEL:
        return call_submit(run, CALL_KEYS);
    case STOP_ACTION_TERM:
        return call_submit(run, run->starting ? CALL_DESTROY : CALL_TERMINATE);
    case STOP_ACTION_KILL:
        return destroy(run);
    default:
        return -EOPNOTSUPP;
    }
}

static int set_paused(Driver *base, const char *name, sd_id128_t generation, bool paused)
{
    Run *run = run_find(of(base), name, generation);

    if (!of(base)->online)
        return -EHOSTDOWN;
    return run ? call_submit(run, paused ? CALL_SUSPEND : CALL_RESUME) : -ESRCH;
}

static int set_memory(Driver *base, const char *name, sd_id128_t generation, uint64_t bytes)
{
    Run *run = run_find(of(base), name, generation);

    return run ? call_submit_memory(run, bytes) : -ESRCH;
}

static int send_signal(Driver *base, const char *name, sd_id128_t generation, int number)
{
    Run *run = run_find(of(base), name, generation);

    if (!run || !run->announced)
        return -ESRCH;
    if (run->pidfd < 0)
        return -EOPNOTSUPP;
    return syscall(SYS_pidfd_send_signal, run->pidfd, number, NULL, 0) < 0 ? -errno : 0;
}

static int open_console(Driver *base, const char *name, sd_id128_t generation, int *ret_fd)
{
    Run *run = run_find(of(base), name, generation);
    _cleanup_close_ int fd = -EBADF;
    struct termios termios;

    if (!run)
        return -ESRCH;
    if (!run->console)
        return -EOPNOTSUPP;
    fd = open(run->console, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (tcgetattr(fd, &termios) == 0) {
        cfmakeraw(&termios);
        tcsetattr(fd, TCSANOW, &termios);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void accel_facts(Driver *base, AccelFacts *ret_facts)
{
    *ret_facts = of(base)->accel_facts;
}

static Driver *libvirt_driver_free(Driver *base)
{
    LibvirtDriver *driver = of(base);

    if (!driver)
        return NULL;
    driver->epoch++; /* what still comes is of the past */
    sd_event_source_disable_unref(driver->retry);
    while (driver->runs)
        run_free(driver->runs);
    workers_stop(driver->work_workers, GRACE_USEC);
    workers_stop(driver->agent_workers, GRACE_USEC);
    workers_stop(driver->control_workers, GRACE_USEC);
    libvirt_close(&driver->connections, GRACE_USEC);
    libvirt_events_stop();
    libvirt_discard_early(driver);
    sd_event_unref(driver->event);
    free(driver->pid_directory);
    free(driver->uri);
    if (driver->box)
        post_box_shut(driver->box);
    post_box_unref(driver->box);
    mailbox_free(driver->letters);
    free(driver);
    return NULL;
}

const DriverOps libvirt_driver_ops = {
    .capabilities = capabilities,
    .check = libvirt_check,
    .start = start,
    .stop = stop,
    .set_paused = set_paused,
    .set_memory = set_memory,
    .kill = send_signal,
    .open_console = open_console,
    .accel_facts = accel_facts,
    .free = libvirt_driver_free,
};

/* --- making one --- */

static void silence(void *userdata, virErrorPtr error)
{
    /* libvirt would print each error on standard error; ours carry them in their texts. */
}

int libvirt_driver_new(const DriverSetup *setup, Driver **ret_driver)
{
    LibvirtDriver *driver = calloc(1, sizeof(*driver));
    bool embed;
    int r;

    if (!driver)
        return -ENOMEM;
    driver->early_last = &driver->early;
    driver->connections = (Connections){.lifecycle_id = -1, .qmp_id = -1};
    driver->driver = (Driver){.ops = &libvirt_driver_ops, .kind = DRIVER_KIND_LIBVIRT};
    driver->event = sd_event_ref(setup->event);
    driver->handler = setup->handler;
    driver->userdata = setup->userdata;
    driver->uri = strdup(setup->config->libvirt_uri);
    virSetErrorFunc(NULL, silence);
    r = libvirt_events_start();
    if (r < 0 || !driver->uri) {
        sd_event_unref(driver->event);
        free(driver->uri);
        free(driver);
        return r < 0 ? r : -ENOMEM;
    }
    embed = strncmp(driver->uri, "qemu:///embed", 13) == 0;
    driver->driver.rotates_console = strncmp(driver->uri, "qemu:///", 8) == 0 && !embed;
    driver->pid_directory = process_pid_directory(driver->uri);
    if (embed && (r = embed_prepare(driver->uri)) < 0)
        log_warning_errno(r, "Can't prepare the embedded libvirt (%s): %m", driver->uri);
    r = mailbox_new(driver->event, libvirt_on_letter, libvirt_letter_free, driver, &driver->letters);
    if (r >= 0)
        r = post_box_new(driver->letters, &driver->box);
    if (r >= 0)
        r = workers_new(driver->event, "libvirt-control", CONTROL_THREADS, &driver->control_workers);
    if (r >= 0)
        r = workers_new(driver->event, "libvirt-work", WORK_THREADS, &driver->work_workers);
    if (r >= 0)
        r = workers_new(driver->event, "libvirt-agent", AGENT_THREADS, &driver->agent_workers);
    if (r >= 0)
        r = libvirt_connect(driver);
    if (r < 0) {
        libvirt_driver_free(&driver->driver);
        return r;
    }
    *ret_driver = &driver->driver;
    return 0;
}
