/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain XML of values that mean harm, or that libvirt has no words for. */
#include "domain-specs.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_impossible_is_not_written),
        cmocka_unit_test(test_hostile_text_stays_text),
        cmocka_unit_test(test_control_characters_are_refused),
        cmocka_unit_test(test_commas_are_doubled),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
