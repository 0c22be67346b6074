/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's arguments against golden files (UPDATE_GOLDEN=1 writes them anew) and against hostile values. */
#include "base/file.h"
#include "driver/qemu-common.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "../golden/recipe-cases.h"

#define CASES SOURCE_DIR "/tests/golden/qemu"

/* An argument a line, then the descriptors. */
static char *command_text(const Command *command)
{
    static const char *const kinds[] = {
        [DESCRIPTOR_CONTROL] = "control", [DESCRIPTOR_CONSOLE] = "console", [DESCRIPTOR_KERNEL] = "kernel",
        [DESCRIPTOR_INITRD] = "initrd",   [DESCRIPTOR_VOLUME] = "volume",   [DESCRIPTOR_TAP] = "tap",
        [DESCRIPTOR_SHARE] = "share",     [DESCRIPTOR_NOTIFY] = "notify",   [DESCRIPTOR_AGENT] = "agent",
        [DESCRIPTOR_VSOCK] = "vsock"};
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    assert_non_null(stream);
    for (size_t i = 0; i < command->n_arguments; i++)
        fprintf(stream, "%s\n", command->argv[i]);
    assert_null(command->argv[command->n_arguments]);
    for (size_t i = 0; i < command->n_descriptors; i++)
        fprintf(stream, "%d = %s %zu\n", COMMAND_FIRST_FD + (int)i, kinds[command->descriptors[i].kind],
                command->descriptors[i].index);
    fclose(stream);
    return text;
}

static void compare(const char *path, void *userdata)
{
    _cleanup_(command_clear)
    Command command = {0};
    _cleanup_free_ char *text = NULL, *golden = NULL, *to = NULL;
    Case c;
    size_t size;

    case_load(&c, path);
    assert_int_equal(recipe_qemu.render(&c.request, &command), 0);
    text = command_text(&command);
    assert_true(asprintf(&to, "%.*s.argv", (int)(strlen(path) - strlen(".json")), path) > 0);
    if (getenv("UPDATE_GOLDEN"))
        assert_int_equal(write_file_atomic(to, text, strlen(text), 0644), 0);
    assert_int_equal(read_file(to, 65536, &golden, &size), 0);
    assert_string_equal(text, golden);
    case_clear(&c);
}

static void test_golden(void **state)
{
    assert_in_range(cases_each(CASES, compare, NULL), 9, 99);
}

/* --- text from outside --- */

/* Every text that comes from outside: the arguments are said once for markers, then for hostile words. */
enum {
    AS_IT_IS, /* a whole argument */
    AS_OPTION /* a value in QEMU's option syntax */
};

typedef struct Texts {
    VmSpec spec;
    VolumeSpec volume;
    InterfaceSpec interfaces[3];
    ShareSpec shares[2];
    DeviceSpec device;
    RootPortSpec port;
    StringPair credential, machine_option;
    char *copy, *argument;
    StartRequest request;
    struct {
        const char **text;
        int form;
    } slots[32];
    size_t n_slots;
} Texts;

static void add_slot(Texts *t, void *text, int form)
{
    assert_in_range(t->n_slots, 0, ELEMENTSOF(t->slots) - 1);
    t->slots[t->n_slots].text = text;
    t->slots[t->n_slots++].form = form;
}

static void texts_fill(Texts *t)
{
    *t = (Texts){
        .spec = {.vcpu = 2, .mem_mib = 64, .qemu_machine = QEMU_MACHINE_Q35, .qemu_serial_console = true},
        .volume = {.image = (char *)"a.img"},
        .interfaces = {{.type = INTERFACE_USER}, {.type = INTERFACE_TAP}, {.type = INTERFACE_BRIDGE}},
        .shares = {{.proto = SHARE_9P}, {.proto = SHARE_VIRTIOFS}},
        .device = {.bus = DEVICE_USB, .path = (char *)"vendorid=0x1,productid=0x2"},
    };
    t->spec.volumes = &t->volume;
    t->spec.interfaces = t->interfaces;
    t->spec.n_interfaces = ELEMENTSOF(t->interfaces);
    t->spec.shares = t->shares;
    t->spec.n_shares = ELEMENTSOF(t->shares);
    t->spec.devices = &t->device;
    t->spec.qemu_root_ports = &t->port;
    t->spec.credentials = &t->credential;
    t->spec.qemu_machine_opts = &t->machine_option;
    t->spec.qemu_args = &t->argument;
    t->spec.n_volumes = t->spec.n_devices = t->spec.n_qemu_root_ports = t->spec.n_credentials =
        t->spec.n_qemu_machine_opts = t->spec.n_qemu_args = 1;
    t->machine_option.name = (char *)"x-oem-id";
    t->request = (StartRequest){
        .spec = &t->spec, .accel = ACCEL_TCG, .credentials = &t->copy, .state_dir = "/var/lib/vm"};
    add_slot(t, &t->request.kernel, AS_IT_IS);
    add_slot(t, &t->request.initrd, AS_IT_IS);
    add_slot(t, &t->request.cmdline, AS_IT_IS);
    add_slot(t, &t->spec.machine_id, AS_IT_IS);
    add_slot(t, &t->argument, AS_IT_IS);
    add_slot(t, &t->request.console_log, AS_OPTION);
    add_slot(t, &t->spec.name, AS_OPTION);
    add_slot(t, &t->volume.serial, AS_OPTION);
    for (size_t i = 0; i < ELEMENTSOF(t->interfaces); i++)
        add_slot(t, &t->interfaces[i].mac, AS_OPTION);
    add_slot(t, &t->shares[0].tag, AS_OPTION);
    add_slot(t, &t->shares[0].source, AS_OPTION);
    add_slot(t, &t->shares[1].tag, AS_OPTION);
    add_slot(t, &t->shares[1].socket, AS_OPTION);
    add_slot(t, &t->device.qemu_id, AS_OPTION);
    add_slot(t, &t->device.qemu_bus, AS_OPTION);
    add_slot(t, &t->port.id, AS_OPTION);
    add_slot(t, &t->credential.name, AS_OPTION);
    add_slot(t, &t->copy, AS_OPTION);
    add_slot(t, &t->machine_option.value, AS_OPTION);
    for (size_t i = 0; i < t->n_slots; i++)
        *t->slots[i].text = "@MARK@";
}

static void render_texts(Texts *t, Command *command)
{
    assert_int_equal(recipe_qemu.render(&t->request, command), 0);
}

/* What an argument becomes when its marker is replaced. */
static char *expected_argument(const char *argument, const char *marker, const char *value, int form)
{
    const char *at = strstr(argument, marker);
    _cleanup_free_ char *option = qemu_option_value(value);
    char *text;

    if (!at)
        return strdup(argument);
    if (form == AS_IT_IS)
        assert_string_equal(argument, marker);
    assert_true(asprintf(&text, "%.*s%s%s", (int)(at - argument), argument, form == AS_IT_IS ? value : option,
                         at + strlen(marker)) >= 0);
    return text;
}

static const char *const hostile[] = {
    ",",
    ",,",
    "a,b=c",
    "x,readonly=off,path=/etc",
    "=",
    "a b",
    "\"'",
    "new\nline",
    "fd:3",
    "json:{\"a\"}",
    "{\"driver\":\"file\"}",
    "-S",
    "",
    "%s%n",
    "\xc3\xa4",
    "help",
    "?",
    "a:b-c:d",
};

static void test_hostile_text_stays_text(void **state)
{
    for (size_t slot = 0;; slot++) {
        _cleanup_(command_clear)
        Command good = {0};
        Texts texts;
        size_t found = 0;
        texts_fill(&texts);
        if (slot == texts.n_slots)
            break;
        *texts.slots[slot].text = "@THIS@";
        render_texts(&texts, &good);
        for (size_t i = 0; i < good.n_arguments; i++)
            found += strstr(good.argv[i], "@THIS@") != NULL;
        assert_int_equal(found, 1);
        for (size_t k = 0; k < ELEMENTSOF(hostile); k++) {
            _cleanup_(command_clear)
            Command got = {0};
            *texts.slots[slot].text = hostile[k];
            render_texts(&texts, &got);
            assert_int_equal(got.n_arguments, good.n_arguments);
            assert_int_equal(got.n_descriptors, good.n_descriptors);
            for (size_t i = 0; i < got.n_arguments; i++) {
                _cleanup_free_ char *expected =
                    expected_argument(good.argv[i], "@THIS@", hostile[k], texts.slots[slot].form);
                assert_string_equal(got.argv[i], expected);
            }
        }
    }
}

/* The name of an image is in no argument: it is opened by us. */
static void test_images_are_descriptors(void **state)
{
    _cleanup_(command_clear)
    Command good = {0};
    Texts texts;

    texts_fill(&texts);
    render_texts(&texts, &good);
    for (size_t k = 0; k < ELEMENTSOF(hostile); k++) {
        _cleanup_(command_clear)
        Command got = {0};
        texts.volume.image = (char *)hostile[k];
        render_texts(&texts, &got);
        assert_int_equal(got.n_arguments, good.n_arguments);
        for (size_t i = 0; i < got.n_arguments; i++)
            assert_string_equal(got.argv[i], good.argv[i]);
    }
}

/* Syntax that has no quotes: what the check lets through by no means is not written. */
static void test_impossible_is_not_written(void **state)
{
    static const char *const addresses[] = {"h", "127.0.0.1:1-:2", "127.0.0.1,hostfwd=tcp::1-:1", ""};
    static const char *const paths[] = {"", "0000:00", "x:y.z", "vendorid=,productid=", "00:02.0"};
    ForwardSpec forward = {FORWARD_FROM_HOST, FORWARD_TCP, (char *)"127.0.0.1", 1, NULL, 2};
    Texts texts;

    texts_fill(&texts);
    texts.spec.forward_ports = &forward;
    texts.spec.n_forward_ports = 1;
    for (size_t i = 0; i < 2 * ELEMENTSOF(addresses); i++) {
        _cleanup_(command_clear)
        Command command = {0};
        forward.host_address = (char *)(i % 2 ? "127.0.0.1" : addresses[i / 2]);
        forward.guest_address = (char *)(i % 2 ? addresses[i / 2] : NULL);
        assert_int_equal(recipe_qemu.render(&texts.request, &command), -EINVAL);
    }
    texts.spec.n_forward_ports = 0;
    for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
        _cleanup_(command_clear)
        Command command = {0};
        texts.device.path = (char *)paths[i];
        assert_int_equal(recipe_qemu.render(&texts.request, &command), -EINVAL);
    }
    texts.spec.n_devices = 0;
    for (size_t i = 0; i < 2; i++) {
        _cleanup_(command_clear)
        Command command = {0};
        texts.spec.cpu = (char *)(i ? "max,+evil" : "max");
        assert_int_equal(recipe_qemu.render(&texts.request, &command), i ? -EINVAL : 0);
    }
}

/* --- what the host's facts change --- */

/* Whatever it is called. */
static void test_image_that_is_a_device(void **state)
{
    VolumeSpec volumes[] = {{.image = (char *)"/dev/a"}, {.image = (char *)"/srv/b"}};
    VmSpec spec = {.name = (char *)"web",
                   .machine_id = (char *)"id",
                   .vcpu = 1,
                   .mem_mib = 64,
                   .volumes = volumes,
                   .n_volumes = ELEMENTSOF(volumes)};
    const bool block_volumes[] = {false, true};
    StartRequest request = {
        .spec = &spec, .accel = ACCEL_TCG, .kernel = "/k", .cmdline = "", .block_volumes = block_volumes};
    _cleanup_(command_clear)
    Command command = {0};
    _cleanup_free_ char *text = NULL;

    assert_int_equal(recipe_qemu.render(&request, &command), 0);
    text = command_text(&command);
    assert_non_null(strstr(text, "\n{\"driver\":\"file\",\"node-name\":\"file0\""));
    assert_non_null(strstr(text, "\n{\"driver\":\"host_device\",\"node-name\":\"file1\""));
    assert_null(strstr(text, "\n{\"driver\":\"file\",\"node-name\":\"file1\""));
}

/* The CPU that is asked for; NULL: none. *ret_again: whether it is worth a try without arch-capabilities. */
static const char *cpu_of(const VmSpec *spec, Accel accel, bool no_arch_capabilities, bool *ret_again)
{
    static char cpu[64];
    StartRequest request = {.spec = (VmSpec *)spec,
                            .accel = accel,
                            .kernel = "/k",
                            .cmdline = "",
                            .no_arch_capabilities = no_arch_capabilities};
    _cleanup_(command_clear)
    Command command = {0};

    assert_int_equal(recipe_qemu.render(&request, &command), 0);
    *ret_again = command.arch_capabilities;
    for (size_t i = 0; i + 1 < command.n_arguments; i++)
        if (streq(command.argv[i], "-cpu")) {
            snprintf(cpu, sizeof(cpu), "%s", command.argv[i + 1]);
            return cpu;
        }
    return NULL;
}

static void test_cpu(void **state)
{
    static const struct {
        const char *given;
        QemuMachine machine;
        Accel accel;
        bool no_arch_capabilities;
        const char *cpu;
        bool again;
    } cases[] = {
        {NULL, QEMU_MACHINE_MICROVM, ACCEL_TCG, false, NULL, false},
        {NULL, QEMU_MACHINE_MICROVM, ACCEL_KVM, false, "host", true},
        {NULL, QEMU_MACHINE_MICROVM, ACCEL_KVM, true, "host,-arch-capabilities", false},
        {"Nehalem", QEMU_MACHINE_MICROVM, ACCEL_TCG, false, "Nehalem", false},
        {"Nehalem", QEMU_MACHINE_MICROVM, ACCEL_KVM, false, "Nehalem", false},
        {"Nehalem", QEMU_MACHINE_MICROVM, ACCEL_KVM, true, "Nehalem", false},
        /* An ARM processor has no such feature. */
        {NULL, QEMU_MACHINE_VIRT, ACCEL_TCG, false, "max", false},
        {NULL, QEMU_MACHINE_VIRT, ACCEL_KVM, false, "host", false},
        {NULL, QEMU_MACHINE_VIRT, ACCEL_KVM, true, "host", false},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        VmSpec spec = {.name = (char *)"web", .machine_id = (char *)"id", .vcpu = 1, .mem_mib = 64};
        bool again;
        spec.cpu = (char *)cases[i].given;
        spec.qemu_machine = cases[i].machine;
        assert_true(
            streq(cpu_of(&spec, cases[i].accel, cases[i].no_arch_capabilities, &again), cases[i].cpu));
        assert_int_equal(again, cases[i].again);
    }
}

/* --- what it can do --- */

static void test_capabilities(void **state)
{
    static const Capability unbuilt[] = {
        CAP_NET_TAP,          CAP_NET_BRIDGE, CAP_NET_MACVTAP,  CAP_DEVICE_PCI,         CAP_DEVICE_USB,
        CAP_DEVICE_PLACEMENT, CAP_USER,       CAP_CPU_QUOTA,    CAP_CPU_AFFINITY,       CAP_MEMORY_MAX,
        CAP_IO_WEIGHT,        CAP_TASKS_MAX,  CAP_HOST_SCRIPTS, CAP_VIRTIOFS_READ_ONLY, CAP_VIRTIOFSD_OPTIONS,
        CAP_GRAPHICS};
    static const Capability with_pci[] = {CAP_DISK_BOOT, CAP_MEMORY_HOTPLUG, CAP_PCIE_ROOT_PORTS};
    CapabilitySet small = recipe_qemu.capabilities(&(VmSpec){.qemu_machine = QEMU_MACHINE_MICROVM});
    CapabilitySet large = recipe_qemu.capabilities(&(VmSpec){.qemu_machine = QEMU_MACHINE_Q35});

    for (size_t i = 0; i < ELEMENTSOF(unbuilt); i++)
        assert_false((small | large) & CAPABILITY(unbuilt[i]));
    for (size_t i = 0; i < ELEMENTSOF(with_pci); i++) {
        assert_false(small & CAPABILITY(with_pci[i]));
        assert_true(large & CAPABILITY(with_pci[i]));
    }
    assert_true(small & CAPABILITY(CAP_QEMU_MACHINE_OPTIONS));
    assert_true(small & CAPABILITY(CAP_9P_MAPPED_FILE));
    assert_true(small & CAPABILITY(CAP_IMAGE_VHDX));
}

/* Offered where there is room and nobody else is told where to speak. */
static void test_notify_way(void **state)
{
    VmSpec spec = {.qemu_machine = QEMU_MACHINE_MICROVM, .vsock_cid = 7};
    StartRequest request = {.spec = &spec};
    StringPair credential = {(char *)NOTIFY_CREDENTIAL, (char *)"/etc/mine"};

    assert_int_equal(qemu_notify_way(&request, 0), NOTIFY_NOT);
    request.notify_vsock_port = 28022;
    assert_int_equal(qemu_notify_way(&request, 0), NOTIFY_BY_VSOCK);
    spec.credentials = &credential;
    spec.n_credentials = 1;
    assert_int_equal(qemu_notify_way(&request, 0), NOTIFY_NOT);
    request.notify_socket = "/run/notify.sock";
    assert_int_equal(qemu_notify_way(&request, 0), NOTIFY_BY_PORT);
    spec.n_volumes = MMIO_SLOTS - 2;
    assert_int_equal(qemu_notify_way(&request, 0), NOTIFY_BY_PORT);
    assert_int_equal(qemu_notify_way(&request, 1), NOTIFY_NOT);
    spec.stop_steps = &(StopStepSpec){.action = STOP_ACTION_AGENT}; /* there is such a device in any case */
    spec.n_stop_steps = 1;
    assert_int_equal(qemu_notify_way(&request, 1), NOTIFY_BY_PORT);
}

/* Both are ports of one device, whose first port is a console's. */
static void test_serial_ports(void **state)
{
    VmSpec spec = {.stop_steps = &(StopStepSpec){.action = STOP_ACTION_AGENT}};

    assert_int_equal(qemu_serial_ports(&spec, NOTIFY_NOT), 0);
    assert_int_equal(qemu_serial_ports(&spec, NOTIFY_BY_VSOCK), 0);
    assert_int_equal(qemu_serial_ports(&spec, NOTIFY_BY_PORT), 2);
    spec.n_stop_steps = 1;
    assert_int_equal(qemu_serial_ports(&spec, NOTIFY_BY_VSOCK), 2);
    assert_int_equal(qemu_serial_ports(&spec, NOTIFY_BY_PORT), 3);
}

/* What a guest can be asked to stop by, and whether a keyboard is added for it. */
static void test_stops(void **state)
{
    StringPair option = {(char *)"acpi", (char *)"off"};
    StopStepSpec keys = {.action = STOP_ACTION_CTRL_ALT_DEL}, button = {.action = STOP_ACTION_ACPI};
    const struct {
        QemuMachine machine;
        const StopStepSpec *step;
        bool acpi_off, button, keys, added;
    } cases[] = {
        {QEMU_MACHINE_MICROVM, NULL, false, true, true, false},
        {QEMU_MACHINE_MICROVM, &button, false, true, true, false},
        {QEMU_MACHINE_MICROVM, &keys, false, true, true, true},
        {QEMU_MACHINE_MICROVM, NULL, true, false, true, true},
        {QEMU_MACHINE_MICROVM, &button, true, false, true, false},
        {QEMU_MACHINE_Q35, &keys, false, true, true, false},
        {QEMU_MACHINE_Q35, NULL, true, false, true, false},
        {QEMU_MACHINE_VIRT, NULL, false, true, false, false},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        VmSpec spec = {.qemu_machine = cases[i].machine,
                       .stop_steps = (StopStepSpec *)cases[i].step,
                       .n_stop_steps = cases[i].step ? 1 : 0,
                       .qemu_machine_opts = &option,
                       .n_qemu_machine_opts = cases[i].acpi_off ? 1 : 0};
        CapabilitySet can = recipe_qemu.capabilities(&spec);
        assert_int_equal(!!(can & CAPABILITY(CAP_STOP_BUTTON)), cases[i].button);
        assert_int_equal(!!(can & CAPABILITY(CAP_STOP_KEYS)), cases[i].keys);
        assert_true(!!(can & CAPABILITY(CAP_STOP_AGENT)));
        assert_int_equal(qemu_adds_keyboard(&spec), cases[i].added);
    }
}

/* How many problems there are with it, and whether one of them says `words`. */
static size_t problems_with(const VmSpec *spec, const char *words)
{
    _cleanup_problems_ ProblemList problems = {0};
    TableReader reader = {.document = &(JsonDocument){0}, .problems = &problems};
    bool said = !words;

    recipe_qemu.check(spec, &(Runner){.what = "the test"}, &reader);
    for (size_t i = 0; i < problems.count; i++)
        said |= words && strstr(problems.items[i].text, words);
    assert_true(said);
    return problems.count;
}

static void test_check(void **state)
{
    VmSpec spec = {.vcpu = 1, .mem_mib = 64};
    VolumeSpec many[24] = {0};
    StringPair option = {(char *)"acpi", (char *)"off"};
    ShareSpec share = {.proto = SHARE_VIRTIOFS, .socket = (char *)"/s"};

    /* One slot is taken by the source of random numbers. */
    spec.volumes = many;
    spec.n_volumes = 22;
    assert_int_equal(problems_with(&spec, NULL), 0);
    spec.n_volumes = 23;
    assert_int_equal(problems_with(&spec, "23 devices"), 1);
    spec.qemu_machine_opts = &option;
    spec.n_qemu_machine_opts = 1;
    spec.n_volumes = 7;
    assert_int_equal(problems_with(&spec, NULL), 0);
    spec.n_volumes = 8;
    assert_int_equal(problems_with(&spec, "8 devices"), 1);
    spec.qemu_machine = QEMU_MACHINE_Q35;
    assert_int_equal(problems_with(&spec, NULL), 0);
    option.name = (char *)"type";
    assert_int_equal(problems_with(&spec, "the machine is chosen by"), 1);
    option.name = (char *)"accel";
    assert_int_equal(problems_with(&spec, "this is chosen by"), 1);
    spec.n_qemu_machine_opts = 0;
    spec.shares = &share;
    spec.n_shares = 1;
    assert_int_equal(problems_with(&spec, NULL), 0);
    share.socket = NULL;
    assert_int_equal(problems_with(&spec, "no virtiofsd yet"), 1);
    share.proto = SHARE_9P;
    spec.hotplug_mem_mib = 3;
    assert_int_equal(problems_with(&spec, "multiple of 2 MiB"), 1);
}

/* QEMU's own rules: qemu(1), and util/qemu-option.c in its sources. */
static void test_options(void **state)
{
    static const struct {
        const char *text, *taken;
        int end;
    } cases[] = {
        {"", "", 0},
        {"a=b", "a=b;", 0},
        {"a=b,c=d", "a=b;c=d;", 0},
        {"a,b=", "a=on;b=;", 0},
        {"a=b,,c,d=,,,e==f", "a=b,c;d=,;e==f;", 0},
        {"a=b,", "a=b;", 0},
        {"=b", "", -EINVAL},
        {"a=b,=c", "a=b;", -EINVAL},
        {",a=b", "", -EINVAL},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        const char *at = cases[i].text;
        char taken[64] = "";
        QemuOption option;
        int r;
        while ((r = qemu_option_take(&at, &option)) > 0) {
            size_t length = strlen(taken);
            snprintf(taken + length, sizeof(taken) - length, "%s=%s;", option.name, option.value);
            qemu_option_clear(&option);
        }
        assert_string_equal(taken, cases[i].taken);
        assert_int_equal(r, cases[i].end);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_hostile_text_stays_text),
        cmocka_unit_test(test_images_are_descriptors),
        cmocka_unit_test(test_impossible_is_not_written),
        cmocka_unit_test(test_image_that_is_a_device),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_notify_way),
        cmocka_unit_test(test_serial_ports),
        cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_options),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
