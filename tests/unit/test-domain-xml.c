/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain XML against golden files (UPDATE_GOLDEN=1 writes them anew) and against hostile values. */
#include "base/file.h"
#include "driver/libvirt/xml-writer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define GENERATION SD_ID128_MAKE(01, 23, 45, 67, 89, ab, cd, ef, 01, 23, 45, 67, 89, ab, cd, ef)

static const DomainTarget system_target = {.type = DOMAIN_QEMU, .dac = true};

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

/* Three lines boot. */
static VmSpec minimal_spec(void)
{
    return (VmSpec){.name = (char *)"web",
                    .machine_id = (char *)"dc449f31-234a-af5f-a0e8-2c21ab644d76",
                    .vcpu = 1,
                    .mem_mib = 512,
                    .kernel = (char *)"/boot/vmlinuz",
                    .qemu_serial_console = true};
}

static StartRequest request_for(VmSpec *spec)
{
    return (StartRequest){.spec = spec,
                          .generation = GENERATION,
                          .accel = ACCEL_TCG,
                          .kernel = "/run/microvmd/vm/web/kernel",
                          .cmdline = "console=ttyS0 reboot=t panic=-1",
                          .console_log = "/var/lib/microvmd/vm/web/console.log",
                          .state_dir = "/var/lib/microvmd/vm/web"};
}

#define GUESTS_SOCKET "/run/microvmd/vm/<web>/notify.sock"

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
static InterfaceSpec interfaces[] = {
    {.type = INTERFACE_USER, .id = (char *)"net0", .mac = (char *)"02:00:00:00:00:01"},
    {.type = INTERFACE_USER, .id = (char *)"net1", .mac = (char *)"02:00:00:00:00:02"},
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

static char *arguments[] = {(char *)"-no-user-config", (char *)"-global=a,b=<c>"};
static StringPair credentials[] = {
    {(char *)"db.password", (char *)"/etc/keys/db"},
    {(char *)"ssh", (char *)"/etc/keys/ssh"},
};
static char *credential_copies[] = {(char *)"/run/microvmd/vm/web/credential.db.password",
                                    (char *)"/run/microvmd/vm/web/credential.ssh"};
static VolumeSpec formats[] = {
    {.image = (char *)"root.qcow2", .image_type = IMAGE_QCOW2, .direct = true},
    {.image = (char *)"/srv/old.vhd", .image_type = IMAGE_VHD, .read_only = true},
};
static InterfaceSpec cards[] = {
    {.type = INTERFACE_TAP, .id = (char *)"mvm-tap", .mac = (char *)"02:00:00:00:00:01", .tap_vhost = true},
    {.type = INTERFACE_BRIDGE,
     .id = (char *)"mvm-br",
     .mac = (char *)"02:00:00:00:00:02",
     .bridge = (char *)"br0"},
    {.type = INTERFACE_MACVTAP,
     .id = (char *)"mvm-mv",
     .mac = (char *)"02:00:00:00:00:03",
     .macvtap_link = (char *)"eth0",
     .macvtap_mode = MACVTAP_PASSTHRU},
    {.type = INTERFACE_USER, .id = (char *)"mvm-user", .mac = (char *)"02:00:00:00:00:04"},
};
static ShareSpec shares[] = {
    {.tag = (char *)"plain", .source = (char *)"/srv/plain", .security_model = SECURITY_NONE},
    {.tag = (char *)"mapped",
     .source = (char *)"/srv/mapped",
     .security_model = SECURITY_MAPPED,
     .read_only = true},
    {.tag = (char *)"fast",
     .source = (char *)"/srv/fast",
     .proto = SHARE_VIRTIOFS,
     .cache = SHARE_CACHE_ALWAYS},
    {.tag = (char *)"foreign",
     .source = (char *)"/srv/foreign",
     .proto = SHARE_VIRTIOFS,
     .socket = (char *)"/run/virtiofsd.sock"},
};
static DeviceSpec devices[] = {
    {.bus = DEVICE_PCI, .path = (char *)"0000:0a:1f.7"},
    {.bus = DEVICE_PCI, .path = (char *)"00:02.0"},
    {.bus = DEVICE_USB, .path = (char *)"vendorid=0x46d,productid=0xc52b"},
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
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);

    spec.boot = BOOT_DISK;
    spec.kernel = NULL;
    spec.qemu_machine = QEMU_MACHINE_Q35;
    spec.cpu = (char *)"max";
    spec.volumes = volumes;
    spec.n_volumes = 2;
    request.kernel = NULL;
    compare("boot-disk", &request, &system_target);
}

/* What its capability refuses is never written as something else; nor is what has not the form of a device.
 */
static void test_impossible_is_not_written(void **state)
{
    static const char *const paths[] = {"", "0000:00", "x:y.z", "vendorid=,productid=", "'/>"};
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);
    InterfaceSpec card = cards[2];
    ShareSpec share = shares[0];
    DeviceSpec device = {.bus = DEVICE_PCI};
    char *xml = NULL;

    card.macvtap_mode = MACVTAP_SOURCE;
    spec.interfaces = &card;
    spec.n_interfaces = 1;
    assert_int_equal(domain_xml(&request, &system_target, &xml), -EINVAL);
    spec.n_interfaces = 0;
    share.security_model = SECURITY_MAPPED_FILE;
    spec.shares = &share;
    spec.n_shares = 1;
    assert_int_equal(domain_xml(&request, &system_target, &xml), -EINVAL);
    spec.n_shares = 0;
    spec.devices = &device;
    spec.n_devices = 1;
    for (size_t i = 0; i < ELEMENTSOF(paths); i++)
        for (DeviceBus bus = 0; bus < DEVICE_BUS_MAX; bus++) {
            device = (DeviceSpec){.bus = bus, .path = (char *)paths[i]};
            assert_int_equal(domain_xml(&request, &system_target, &xml), -EINVAL);
        }
    assert_null(xml);
}

/* --- hostile values --- */

/* Names of elements and attributes alone, in their order. */
static char *skeleton(const char *xml)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    char quote = 0;
    bool tag = false;

    assert_non_null(stream);
    for (; *xml; xml++) {
        if (tag && quote)
            quote = *xml == quote ? 0 : quote;
        else if (tag && (*xml == '\'' || *xml == '"'))
            quote = *xml;
        else if (*xml == '<' || *xml == '>')
            tag = *xml == '<';
        if ((tag && !quote) || *xml == '>')
            fputc(*xml, stream);
    }
    fclose(stream);
    return text;
}

/* Every text that comes from outside, one after the other. */
typedef struct Texts {
    VmSpec spec;
    VolumeSpec volume;
    InterfaceSpec interfaces[5];
    ForwardSpec forwards[2];
    ShareSpec shares[ELEMENTSOF(shares)];
    StringPair credential;
    char *copy, *argument;
    StringPair machine_option;
    DeviceSpec device;
    StartRequest request;
    const char **slots[40];
    size_t n_slots;
} Texts;

/* Those that end up in option strings of QEMU come first. */
enum {
    OPTION_SLOTS = 8
};

static void texts_fill(Texts *t)
{
    *t = (Texts){.spec = minimal_spec(), .volume = {.image = (char *)"a.img", .serial = (char *)"serial"}};
    t->interfaces[0] = interfaces[0];
    t->interfaces[1] = interfaces[1];
    memcpy(&t->interfaces[2], cards, 3 * sizeof(*cards)); /* tap, bridge, macvtap */
    memcpy(t->shares, shares, sizeof(shares));
    t->credential = credentials[0];
    t->copy = credential_copies[0];
    t->argument = arguments[0];
    t->forwards[0] = (ForwardSpec){FORWARD_FROM_HOST, FORWARD_TCP, (char *)"h", 1, (char *)"g", 2};
    t->forwards[1] = (ForwardSpec){FORWARD_FROM_GUEST, FORWARD_TCP, (char *)"h", 1, (char *)"g", 2};
    t->spec.volumes = &t->volume;
    t->spec.n_volumes = 1;
    t->spec.interfaces = t->interfaces;
    t->spec.n_interfaces = ELEMENTSOF(t->interfaces);
    t->spec.forward_ports = t->forwards;
    t->spec.n_forward_ports = 2;
    t->spec.description = (char *)"description";
    t->spec.cpu = (char *)"model";
    t->spec.limits_cpu_affinity = (char *)"0";
    t->spec.shares = t->shares;
    t->spec.n_shares = ELEMENTSOF(t->shares);
    t->spec.credentials = &t->credential;
    t->spec.n_credentials = 1;
    t->spec.qemu_args = &t->argument;
    t->spec.n_qemu_args = 1;
    t->machine_option = (StringPair){(char *)"name", (char *)"value"};
    t->spec.qemu_machine_opts = &t->machine_option;
    t->spec.n_qemu_machine_opts = 1;
    t->spec.socket = (char *)"/socket";
    t->device = devices[0];
    t->device.qemu_extra_args = (char *)"romfile=a";
    t->spec.devices = &t->device;
    t->spec.n_devices = 1;
    t->request = request_for(&t->spec);
    t->request.initrd = "/initrd";
    t->request.credentials = &t->copy;
    const char **slots[] = {
        (const char **)&t->interfaces[0].mac,
        (const char **)&t->forwards[0].host_address,
        (const char **)&t->forwards[0].guest_address,
        (const char **)&t->forwards[1].host_address,
        (const char **)&t->forwards[1].guest_address,
        (const char **)&t->machine_option.name,
        (const char **)&t->machine_option.value,
        (const char **)&t->spec.socket,
        (const char **)&t->spec.name,
        (const char **)&t->spec.machine_id,
        (const char **)&t->spec.description,
        (const char **)&t->spec.cpu,
        (const char **)&t->spec.limits_cpu_affinity,
        (const char **)&t->volume.image,
        (const char **)&t->volume.serial,
        (const char **)&t->interfaces[1].mac,
        (const char **)&t->interfaces[2].id,
        (const char **)&t->interfaces[3].bridge,
        (const char **)&t->interfaces[4].macvtap_link,
        (const char **)&t->shares[0].tag,
        (const char **)&t->shares[0].source,
        (const char **)&t->shares[2].tag,
        (const char **)&t->shares[2].source,
        (const char **)&t->shares[3].socket,
        (const char **)&t->credential.name,
        (const char **)&t->copy,
        (const char **)&t->argument,
        (const char **)&t->device.qemu_id,
        &t->request.kernel,
        &t->request.initrd,
        &t->request.cmdline,
        &t->request.console_log,
        &t->request.state_dir,
    };
    _Static_assert(sizeof(slots) <= sizeof(t->slots), "all of them fit");
    memcpy(t->slots, slots, sizeof(slots));
    t->n_slots = ELEMENTSOF(slots);
}

static void test_hostile_text_stays_text(void **state)
{
    static const char *const values[] = {
        "'/><evil attribute='",
        "\"/><evil/>",
        "</name><evil/><name>",
        "&lt;evil&gt;",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "&evil;",
        "' xmlns:evil='",
        "%s%n",
        "\xc3\xa4",
    };
    _cleanup_free_ char *good = NULL, *expected = NULL;
    Texts texts;

    texts_fill(&texts);
    assert_int_equal(domain_xml(&texts.request, &system_target, &good), 0);
    expected = skeleton(good);
    for (size_t slot = 0; slot < texts.n_slots; slot++)
        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
            _cleanup_free_ char *xml = NULL, *got = NULL;
            texts_fill(&texts);
            *texts.slots[slot] = values[i];
            assert_int_equal(domain_xml(&texts.request, &system_target, &xml), 0);
            got = skeleton(xml);
            assert_string_equal(got, expected);
        }
}

static void test_control_characters_are_refused(void **state)
{
    Texts texts;

    texts_fill(&texts);
    for (size_t slot = 0; slot < texts.n_slots; slot++)
        for (int byte = 1; byte < 0x20; byte++) {
            char value[] = {'a', (char)byte, 'b', '\0'}, *xml = NULL;
            texts_fill(&texts);
            *texts.slots[slot] = value;
            assert_int_equal(domain_xml(&texts.request, &system_target, &xml), -EINVAL);
            assert_null(xml);
        }
}

/* A comma ends a value in QEMU's option strings, unless doubled. */
static void test_commas_are_doubled(void **state)
{
    Texts texts;

    for (size_t i = 0; i < OPTION_SLOTS; i++) {
        _cleanup_free_ char *xml = NULL;
        texts_fill(&texts);
        *texts.slots[i] = "x,hostfwd=evil";
        assert_int_equal(domain_xml(&texts.request, &system_target, &xml), 0);
        assert_non_null(strstr(xml, "x,,hostfwd=evil"));
        assert_null(strstr(xml, "x,hostfwd=evil"));
    }
}

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

/* How many problems the driver has with it, and whether one of them says `words`. */
static size_t problems_with(const VmSpec *spec, const char *words)
{
    _cleanup_problems_ ProblemList problems = {0};
    TableReader reader = {.document = &(JsonDocument){0}, .problems = &problems};
    bool said = !words;

    driver_ops(DRIVER_KIND_LIBVIRT)->check(spec, &(Runner){.what = "the test"}, &reader);
    for (size_t i = 0; i < problems.count; i++)
        said |= words && strstr(problems.items[i].text, words);
    assert_true(said);
    return problems.count;
}

static void test_slots(void **state)
{
    VmSpec spec = minimal_spec();
    VolumeSpec many[24] = {0};

    spec.volumes = many;
    spec.n_volumes = 18;
    spec.interfaces = interfaces;
    spec.n_interfaces = 1;
    spec.shares = shares;
    spec.n_shares = 2;
    spec.vsock_cid = 3;
    spec.balloon = true;
    assert_int_equal(problems_with(&spec, NULL), 0);
    spec.n_volumes = 19;
    assert_int_equal(problems_with(&spec, "24 devices"), 1);
    spec.qemu_machine = QEMU_MACHINE_Q35;
    assert_int_equal(problems_with(&spec, NULL), 0);
}

static void test_what_libvirt_would_do_otherwise(void **state)
{
    VmSpec spec = minimal_spec();
    InterfaceSpec tap = {.type = INTERFACE_TAP, .id = (char *)"vnet-web"};
    InterfaceSpec macvtap = {.type = INTERFACE_MACVTAP, .id = (char *)"macvtap7"};
    ShareSpec share = {.proto = SHARE_VIRTIOFS, .read_only = true};

    spec.interfaces = &tap;
    spec.n_interfaces = 1;
    assert_int_equal(problems_with(&spec, "begin with \"vnet\""), 1);
    tap.type = INTERFACE_USER; /* no interface of the host has that name */
    assert_int_equal(problems_with(&spec, NULL), 0);
    spec.interfaces = &macvtap;
    assert_int_equal(problems_with(&spec, "begin with \"macvtap\""), 1);
    spec.n_interfaces = 0;
    spec.shares = &share;
    spec.n_shares = 1;
    assert_int_equal(problems_with(&spec, "read-only shares by virtiofs"), 1);
    share = (ShareSpec){.proto = SHARE_9P, .read_only = true};
    assert_int_equal(problems_with(&spec, NULL), 0);
    spec.hotplug_mem_mib = 3;
    assert_int_equal(problems_with(&spec, "multiple of 2 MiB"), 1);
}

static void test_where_devices_can_be(void **state)
{
    VmSpec spec = minimal_spec();
    RootPortSpec ports[] = {{.id = (char *)"a", .chassis = 1}, {.id = (char *)"b", .chassis = 2}};
    DeviceSpec placed[] = {devices[0], devices[1]};

    spec.qemu_machine = QEMU_MACHINE_Q35;
    spec.qemu_root_ports = ports;
    spec.n_qemu_root_ports = ELEMENTSOF(ports);
    spec.devices = placed;
    spec.n_devices = ELEMENTSOF(placed);
    placed[0].qemu_bus = (char *)"a";
    placed[1].qemu_bus = (char *)"b";
    assert_int_equal(problems_with(&spec, NULL), 0);
    placed[1].qemu_bus = (char *)"a";
    assert_int_equal(problems_with(&spec, "room for one device"), 1);
    placed[1].qemu_bus = (char *)"c";
    assert_int_equal(problems_with(&spec, "no PCIe root port of that name"), 1);
    placed[1].qemu_bus = NULL;
    placed[1].qemu_id = (char *)"key";
    assert_int_equal(problems_with(&spec, "\"ua-key\""), 1);
    placed[1] = devices[2];
    placed[1].qemu_bus = (char *)"b";
    assert_int_equal(problems_with(&spec, "USB device"), 1);
    spec.n_devices = 0;
    ports[1].chassis = 1;
    assert_int_equal(problems_with(&spec, "chassis and slot"), 1);
    ports[1].slot = 1;
    assert_int_equal(problems_with(&spec, NULL), 0);
    ports[1].id = ports[0].id;
    assert_int_equal(problems_with(&spec, "is that of"), 1);
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
        cmocka_unit_test(test_impossible_is_not_written),
        cmocka_unit_test(test_hostile_text_stays_text),
        cmocka_unit_test(test_control_characters_are_refused),
        cmocka_unit_test(test_commas_are_doubled),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_what_libvirt_says),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_what_libvirt_would_do_otherwise),
        cmocka_unit_test(test_where_devices_can_be),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
