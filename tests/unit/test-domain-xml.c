/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain XML against golden files (UPDATE_GOLDEN=1 writes them anew), and what is read from libvirt's. */
#include "base/file.h"
#include "domain-specs.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define GUESTS_SOCKET "/run/microvmd/vm/<web>/notify.sock"

static void compare(const char *name, const StartRequest *request, const DomainTarget *target)
{
    _cleanup_free_ char *xml = NULL, *golden = NULL, *path = NULL;
    size_t size;

    assert_int_equal(domain_xml(request, target, &xml), 0);
    assert_true(asprintf(&path, SOURCE_DIR "/tests/golden/%s.xml", name) > 0);
    if (getenv("UPDATE_GOLDEN"))
        assert_int_equal(write_file_atomic(path, xml, strlen(xml), 0644), 0);
    assert_int_equal(read_file(path, 65536, &golden, &size), 0);
    assert_string_equal(xml, golden);
}

static void test_minimal(void **state)
{
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);

    compare("minimal", &request, &system_target);
}

static VolumeSpec volumes[] = {
    {.image = (char *)"data.img", .serial = (char *)"data-1"},
    {.image = (char *)"/srv/shared<1>&2.img", .read_only = true},
    {.image = (char *)"/var/lib/microvmd/vm/web/own.img"},
    {.image = (char *)"/var/lib/microvmd/vm/web/../other/stolen.img"},
    {.image = (char *)"/var/lib/microvmd/vm/web2/neighbour.img"},
};
static ForwardSpec forwards[] = {
    {FORWARD_FROM_HOST, FORWARD_TCP, (char *)"127.0.0.1", 2222, NULL, 22},
    {FORWARD_FROM_HOST, FORWARD_UDP, (char *)"0.0.0.0", 5353, (char *)"10.0.2.15", 53},
    {FORWARD_FROM_GUEST, FORWARD_TCP, (char *)"127.0.0.1", 8080, (char *)"10.0.2.200", 80},
    {FORWARD_FROM_GUEST, FORWARD_TCP, (char *)"127.0.0.1", 8081, NULL, 81},
};

static VmSpec full_spec(void)
{
    VmSpec spec = minimal_spec();

    spec.vcpu = 4;
    spec.volumes = volumes;
    spec.n_volumes = ELEMENTSOF(volumes);
    spec.interfaces = interfaces;
    spec.n_interfaces = ELEMENTSOF(interfaces);
    spec.forward_ports = forwards;
    spec.n_forward_ports = ELEMENTSOF(forwards);
    return spec;
}

static void test_full(void **state)
{
    VmSpec spec = full_spec();
    StartRequest request = request_for(&spec);

    request.accel = ACCEL_KVM;
    request.initrd = "/run/microvmd/vm/web/initrd";
    request.cmdline = "console=ttyS0 quote=\"a b\" other='c' less<more&";
    compare("full", &request, &system_target);
    /* libvirt refuses labels of security drivers that it has not loaded. */
    compare("full-no-security-drivers", &request,
            &(DomainTarget){.type = DOMAIN_QEMU, .no_arch_capabilities = true});
    compare("full-selinux", &request, &(DomainTarget){.type = DOMAIN_QEMU, .dac = true, .selinux = true});
    compare("full-test", &request, &(DomainTarget){.type = DOMAIN_TEST});
}

/* --- all that can be said --- */

static VolumeSpec formats[] = {
    {.image = (char *)"root.qcow2", .image_type = IMAGE_QCOW2, .direct = true},
    {.image = (char *)"/srv/old.vhd", .image_type = IMAGE_VHD, .read_only = true},
};

static VmSpec every_spec(QemuMachine machine)
{
    VmSpec spec = minimal_spec();

    spec.qemu_machine = machine;
    spec.description = (char *)"Web & <more>";
    spec.vcpu = 3;
    spec.cpu = (char *)"Nehalem";
    spec.balloon = true;
    spec.deflate_on_oom = true;
    spec.initial_balloon_mem_mib = 128;
    spec.volumes = formats;
    spec.n_volumes = ELEMENTSOF(formats);
    spec.interfaces = cards;
    spec.n_interfaces = ELEMENTSOF(cards);
    spec.shares = shares;
    spec.n_shares = ELEMENTSOF(shares);
    spec.vsock_cid = 42;
    spec.credentials = credentials;
    spec.n_credentials = ELEMENTSOF(credentials);
    spec.qemu_args = arguments;
    spec.n_qemu_args = ELEMENTSOF(arguments);
    spec.limits_cpu_quota = 150;
    spec.limits_cpu_affinity = (char *)"0-3,5";
    spec.limits_memory_max_mib = 2048;
    spec.limits_io_weight = 200;
    return spec;
}

static void test_every_key_on_microvm(void **state)
{
    VmSpec spec = every_spec(QEMU_MACHINE_MICROVM);
    StartRequest request = request_for(&spec);

    spec.hugepage_mem = true;
    request.credentials = credential_copies;
    request.notify_socket = GUESTS_SOCKET;
    compare("every-microvm", &request, &system_target);
}

static void test_every_key_on_q35(void **state)
{
    VmSpec spec = every_spec(QEMU_MACHINE_Q35);
    StartRequest request = request_for(&spec);

    spec.devices = devices;
    spec.n_devices = ELEMENTSOF(devices);
    spec.hotplug_mem_mib = 1024;
    spec.hotplugged_mem_mib = 256;
    spec.deflate_on_oom = false;
    spec.virtiofsd_threads = 4;
    spec.forward_ports = forwards;
    spec.n_forward_ports = 1;
    spec.qemu_serial_console = false;
    request.credentials = credential_copies;
    spec.watchdog_type = WATCHDOG_DEVICE;
    spec.watchdog_action = ON_TIMEOUT_RESTART;
    request.notify_socket = GUESTS_SOCKET;
    request.notify_vsock_port = 28022;
    compare("every-q35", &request, &system_target);
}

/* A port that nobody has insisted on never keeps a guest from starting. */
static void test_no_notify_port(void **state)
{
    VmSpec spec = every_spec(QEMU_MACHINE_MICROVM);
    StartRequest request = request_for(&spec);
    VolumeSpec many[MMIO_SLOTS] = {{0}};
    char path[200], *xml = NULL;

    for (size_t i = 0; i < ELEMENTSOF(many); i++)
        many[i].image = (char *)"disk.img";
    request.credentials = credential_copies;
    request.notify_socket = GUESTS_SOCKET;
    spec.volumes = many;
    for (spec.n_volumes = 0; spec.n_volumes < ELEMENTSOF(many); spec.n_volumes++) {
        size_t others = spec.n_interfaces + spec.n_shares + 2; /* vsock, balloon */
        assert_int_equal(domain_xml(&request, &system_target, &xml), 0);
        assert_int_equal(strstr(xml, NOTIFY_PORT_NAME) != NULL, spec.n_volumes + others < MMIO_SLOTS);
        free(xml);
    }
    spec.n_volumes = 0;
    memset(path, 'x', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    request.notify_socket = path; /* libvirt would refuse it */
    assert_int_equal(domain_xml(&request, &system_target, &xml), 0);
    assert_null(strstr(xml, NOTIFY_PORT_NAME));
    free(xml);
}

/* A keyboard for ctrl-alt-del, which "microvm" has not of its own. */
static void test_stop_by_keys(void **state)
{
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);
    StopStepSpec step = {.action = STOP_ACTION_CTRL_ALT_DEL};

    spec.stop_steps = &step;
    spec.n_stop_steps = 1;
    compare("stop-by-keys", &request, &system_target);
}

/* A channel to the guest's agent, on the device that the port for its words is on; libvirt's test driver has
 * no channels. */
static void test_stop_by_agent(void **state)
{
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);
    StopStepSpec step = {.action = STOP_ACTION_AGENT};
    DomainTarget test = {.type = DOMAIN_TEST};
    _cleanup_free_ char *xml = NULL;

    spec.stop_steps = &step;
    spec.n_stop_steps = 1;
    compare("stop-by-agent", &request, &system_target);
    request.notify_socket = GUESTS_SOCKET;
    assert_int_equal(domain_xml(&request, &system_target, &xml), 0);
    assert_non_null(strstr(xml, "<controller type='virtio-serial' index='0' ports='3'>"));
    assert_non_null(strstr(xml, NOTIFY_PORT_NAME));
    assert_non_null(strstr(xml, AGENT_PORT_NAME));
    free(TAKE_PTR(xml));
    assert_int_equal(domain_xml(&request, &test, &xml), 0);
    assert_null(strstr(xml, "virtio-serial"));
}

/* What libvirt has words for only in QEMU's own, and the user. */
static void test_words_of_qemu(void **state)
{
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);
    StringPair options[] = {{(char *)"mem-merge", (char *)"off"},
                            {(char *)"firmware", (char *)"/srv/a,b<c>"}};
    DeviceSpec own[] = {devices[0], devices[2]};

    own[0].qemu_extra_args =
        (char *)"x-vga=on,display=on,romfile=/srv/a,,b.rom,x-pci-vendor-id=0x10de,bootindex=-1,multifunction";
    own[1].qemu_extra_args = (char *)"port=1,isobufs=8,pcap=/srv/<usb>.pcap,guest-reset=off";
    own[1].qemu_id = (char *)"ua-key";
    spec.qemu_machine = QEMU_MACHINE_Q35;
    spec.qemu_machine_opts = options;
    spec.n_qemu_machine_opts = ELEMENTSOF(options);
    spec.socket = (char *)"/run/guests/a,b.sock";
    spec.devices = own;
    spec.n_devices = ELEMENTSOF(own);
    request.user = &(HostUser){1000, 100};
    compare("words-of-qemu", &request, &system_target);
    compare("words-of-qemu-test", &request, &(DomainTarget){.type = DOMAIN_TEST});
}

static void test_types_of_properties(void **state)
{
    static const struct {
        const char *name, *value, *type;
    } cases[] = {
        {"x-vga", "on", "bool"},
        {"x-vga", "off", "bool"},
        {"x-req", "true", "bool"},
        {"x-req", "no", "bool"},
        {"display", "on", "string"},
        {"x-msix-relocation", "off", "string"},
        {"rombar", "0", "unsigned"},
        {"x-pci-vendor-id", "0x10de", "unsigned"},
        {"port", "1", "string"},
        {"addr", "06.0", "string"},
        {"addr", "-", "string"},
        {"addr", "-x", "string"},
        {"bootindex", "-1", "signed"},
        {"romsize", "18446744073709551615", "unsigned"},
        {"romsize", "18446744073709551616", "string"},
        {"rombar", "", "string"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++)
        assert_string_equal(xml_property_type(cases[i].name, cases[i].value), cases[i].type);
}

/* Where a device is plugged in, and a display. */
static void test_placement(void **state)
{
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);
    RootPortSpec ports[] = {{.id = (char *)"gpu-port", .chassis = 1, .slot = 3}, {.id = (char *)"net-port"}};
    DeviceSpec placed[] = {devices[0], devices[1], devices[2]};

    placed[0].qemu_bus = (char *)"net-port";
    placed[0].qemu_id = (char *)"ua-net";
    placed[1].qemu_bus = (char *)"gpu-port";
    placed[2].qemu_id = (char *)"ua-key";
    spec.qemu_machine = QEMU_MACHINE_Q35;
    spec.qemu_root_ports = ports;
    spec.n_qemu_root_ports = ELEMENTSOF(ports);
    spec.devices = placed;
    spec.n_devices = ELEMENTSOF(placed);
    spec.graphics = true;
    compare("placement", &request, &system_target);
}

static void test_boot_from_disk(void **state)
{
    const bool block_volumes[] = {true, true};
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);

    spec.boot = BOOT_DISK;
    spec.kernel = NULL;
    spec.qemu_machine = QEMU_MACHINE_Q35;
    spec.cpu = (char *)"max";
    spec.volumes = volumes;
    spec.n_volumes = 2;
    request.kernel = NULL;
    request.block_volumes = block_volumes;
    compare("boot-disk", &request, &system_target);
}

/* --- what is read --- */

static void test_generation(void **state)
{
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);
    _cleanup_free_ char *xml = NULL;
    sd_id128_t generation;

    assert_int_equal(domain_xml(&request, &system_target, &xml), 0);
    assert_int_equal(domain_generation_parse(xml, &generation), 0);
    assert_true(sd_id128_equal(generation, GENERATION));
    assert_int_equal(
        domain_generation_parse("<run generation=\"0123456789abcdef0123456789abcdef\"/>", &generation), 0);
    assert_true(sd_id128_equal(generation, GENERATION));
    assert_int_equal(domain_generation_parse("<run/>", &generation), -EBADMSG);
    assert_int_equal(domain_generation_parse("<run generation='12'/>", &generation), -EBADMSG);
    assert_int_equal(domain_generation_parse("<run generation='", &generation), -EBADMSG);
    assert_int_equal(domain_generation_parse("<run generation=", &generation), -EBADMSG);
    assert_int_equal(domain_generation_parse("", &generation), -EBADMSG);
}

static void test_what_libvirt_says(void **state)
{
    static const char live[] = "<domain type='kvm' id='7'><devices><disk><source path='/wrong'/></disk>"
                               "<serial type='pty'><source path='/dev/pts/3'/></serial></devices></domain>";
    static const char capabilities[] =
        "<capabilities><host><secmodel><model>apparmor</model><doi>0</doi></secmodel><secmodel><model>dac</"
        "model>"
        "<doi>0</doi><baselabel "
        "type='kvm'>+64055:+107</baselabel></secmodel></host><model>selinux</model></capabilities>";
    _cleanup_free_ char *console = domain_console_path(live);
    HostUser user;

    assert_string_equal(console, "/dev/pts/3");
    assert_null(domain_console_path("<domain type='test'><serial type='pty'>"));
    assert_null(domain_console_path("<domain/>"));
    assert_int_equal(domain_accel(live), ACCEL_KVM);
    assert_int_equal(domain_accel("<domain type='qemu'>"), ACCEL_TCG);
    assert_int_equal(capabilities_owner(capabilities, &user), 0);
    assert_int_equal(user.uid, 64055);
    assert_int_equal(user.gid, 107);
    assert_int_equal(capabilities_owner("<capabilities/>", &user), -ENOENT);
    assert_true(capabilities_has_security(capabilities, "dac"));
    assert_true(capabilities_has_security(capabilities, "apparmor"));
    assert_false(capabilities_has_security(capabilities, "selinux"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimal),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_every_key_on_microvm),
        cmocka_unit_test(test_every_key_on_q35),
        cmocka_unit_test(test_no_notify_port),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_stop_by_keys),
        cmocka_unit_test(test_stop_by_agent),
        cmocka_unit_test(test_words_of_qemu),
        cmocka_unit_test(test_types_of_properties),
        cmocka_unit_test(test_boot_from_disk),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_what_libvirt_says),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
