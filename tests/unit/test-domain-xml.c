/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain XML against golden files (UPDATE_GOLDEN=1 writes them anew) and against hostile values. */
#include "base/file.h"
#include "driver/libvirt/xml.h"

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
                    .kernel = (char *)"/boot/vmlinuz"};
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

static void test_minimal(void **state)
{
    VmSpec spec = minimal_spec();
    StartRequest request = request_for(&spec);

    compare("minimal", &request, &system_target);
}

static VolumeSpec volumes[] = {
    {.image = (char *)"data.img", .serial = (char *)"d&ta"},
    {.image = (char *)"/srv/shared <1>.img", .read_only = true},
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
    InterfaceSpec interfaces[2];
    ForwardSpec forwards[2];
    StartRequest request;
    const char **slots[16];
    size_t n_slots;
} Texts;

static void texts_fill(Texts *t)
{
    *t = (Texts){.spec = minimal_spec(), .volume = {.image = (char *)"a.img", .serial = (char *)"serial"}};
    memcpy(t->interfaces, interfaces, sizeof(interfaces));
    t->forwards[0] = (ForwardSpec){FORWARD_FROM_HOST, FORWARD_TCP, (char *)"h", 1, (char *)"g", 2};
    t->forwards[1] = (ForwardSpec){FORWARD_FROM_GUEST, FORWARD_TCP, (char *)"h", 1, (char *)"g", 2};
    t->spec.volumes = &t->volume;
    t->spec.n_volumes = 1;
    t->spec.interfaces = t->interfaces;
    t->spec.n_interfaces = 2;
    t->spec.forward_ports = t->forwards;
    t->spec.n_forward_ports = 2;
    t->request = request_for(&t->spec);
    t->request.initrd = "/initrd";
    const char **slots[] = {
        (const char **)&t->spec.name,
        (const char **)&t->spec.machine_id,
        (const char **)&t->volume.image,
        (const char **)&t->volume.serial,
        (const char **)&t->interfaces[0].mac,
        (const char **)&t->interfaces[1].mac,
        (const char **)&t->forwards[0].host_address,
        (const char **)&t->forwards[0].guest_address,
        (const char **)&t->forwards[1].host_address,
        (const char **)&t->forwards[1].guest_address,
        &t->request.kernel,
        &t->request.initrd,
        &t->request.cmdline,
        &t->request.console_log,
        &t->request.state_dir,
    };
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
    static const size_t option_slots[] = {4, 6, 7, 8, 9}; /* of texts_fill() */
    Texts texts;

    for (size_t i = 0; i < ELEMENTSOF(option_slots); i++) {
        _cleanup_free_ char *xml = NULL;
        texts_fill(&texts);
        *texts.slots[option_slots[i]] = "x,hostfwd=evil";
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
    uid_t uid;
    gid_t gid;

    assert_string_equal(console, "/dev/pts/3");
    assert_null(domain_console_path("<domain type='test'><serial type='pty'>"));
    assert_null(domain_console_path("<domain/>"));
    assert_int_equal(domain_accel(live), ACCEL_KVM);
    assert_int_equal(domain_accel("<domain type='qemu'>"), ACCEL_TCG);
    assert_int_equal(capabilities_owner(capabilities, &uid, &gid), 0);
    assert_int_equal(uid, 64055);
    assert_int_equal(gid, 107);
    assert_int_equal(capabilities_owner("<capabilities/>", &uid, &gid), -ENOENT);
    assert_true(capabilities_has_security(capabilities, "dac"));
    assert_true(capabilities_has_security(capabilities, "apparmor"));
    assert_false(capabilities_has_security(capabilities, "selinux"));
}

static void test_slots(void **state)
{
    VmSpec spec = minimal_spec();
    VolumeSpec many[24] = {0};
    _cleanup_problems_ ProblemList problems = {0};
    TableReader reader = {.document = &(JsonDocument){0}, .problems = &problems};

    spec.driver = DRIVER_KIND_LIBVIRT;
    spec.volumes = many;
    spec.n_volumes = 22;
    spec.interfaces = interfaces;
    spec.n_interfaces = 1;
    driver_ops(DRIVER_KIND_LIBVIRT)->check(&spec, &(Runner){0}, &reader);
    assert_int_equal(problem_count(&problems, PROBLEM_ERROR), 0);
    spec.n_volumes = 23;
    driver_ops(DRIVER_KIND_LIBVIRT)->check(&spec, &(Runner){0}, &reader);
    assert_int_equal(problem_count(&problems, PROBLEM_ERROR), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimal),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_hostile_text_stays_text),
        cmocka_unit_test(test_control_characters_are_refused),
        cmocka_unit_test(test_commas_are_doubled),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_what_libvirt_says),
        cmocka_unit_test(test_slots),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
