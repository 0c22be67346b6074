/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz.h"

#include "driver/direct/recipe.h"
#include "driver/libvirt/xml.h"
#include "plan/prepare.h"

enum {
    DEPTH_MAX = 32
};

/* --- a reader of XML as it is written here: elements, attributes, text, the five entities --- */

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr(":_-.", c);
}

static const char *skip_name(const char *at)
{
    const char *start = at;

    while (*at && is_name(*at))
        at++;
    MUST(at > start && !strchr("-.0123456789", *start));
    return at;
}

/* One character of text or of an attribute's value. */
static const char *skip_character(const char *at)
{
    static const char *const entities[] = {"&amp;",  "&lt;", "&gt;",  "&quot;",
                                           "&apos;", "&#9;", "&#10;", "&#13;"};

    MUST(*at != '<' && (unsigned char)*at != 0x7f &&
         ((unsigned char)*at >= 0x20 || *at == '\n' || *at == '\t'));
    if (*at != '&')
        return at + 1;
    for (size_t i = 0; i < ELEMENTSOF(entities); i++)
        if (strncmp(at, entities[i], strlen(entities[i])) == 0)
            return at + strlen(entities[i]);
    MUST(!"a & begins an entity");
    return NULL;
}

/* Behind the name of an opening tag, up to and with '>'. */
static const char *skip_attributes(const char *at, bool *ret_empty)
{
    const char *names[DEPTH_MAX];
    size_t lengths[DEPTH_MAX], n = 0;

    while (*at == ' ') {
        const char *name = ++at;
        char quote;
        at = skip_name(at);
        MUST(n < DEPTH_MAX);
        names[n] = name;
        lengths[n] = (size_t)(at - name);
        for (size_t i = 0; i < n; i++)
            MUST(lengths[i] != lengths[n] || strncmp(names[i], name, lengths[n]) != 0);
        n++;
        MUST(*at == '=');
        quote = *++at;
        MUST(quote == '\'' || quote == '"');
        for (at++; *at != quote; at = skip_character(at))
            MUST(*at);
        at++;
    }
    *ret_empty = *at == '/';
    at += *ret_empty;
    MUST(*at == '>');
    return at + 1;
}

static void check_well_formed(const char *xml)
{
    const char *open[DEPTH_MAX];
    size_t lengths[DEPTH_MAX], depth = 0, roots = 0;

    MUST(fuzz_is_utf8(xml));
    for (const char *at = xml; *at;) {
        const char *name;
        bool empty;
        if (*at != '<') {
            MUST(depth > 0 || *at == '\n');
            at = skip_character(at);
            continue;
        }
        if (at[1] == '/') {
            MUST(depth > 0 && strncmp(at + 2, open[depth - 1], lengths[depth - 1]) == 0);
            at += 2 + lengths[--depth];
            MUST(*at++ == '>');
            continue;
        }
        name = at + 1;
        at = skip_name(name);
        roots += depth == 0;
        MUST(depth < DEPTH_MAX);
        open[depth] = name;
        lengths[depth] = (size_t)(at - name);
        at = skip_attributes(at, &empty);
        depth += !empty;
    }
    MUST(depth == 0 && roots == 1);
}

/* --- what a definition becomes --- */

static StartRequest request_for(VmSpec *spec, const char *cmdline, char **credentials, Accel accel)
{
    for (size_t i = 0; i < spec->n_credentials; i++)
        credentials[i] = (char *)"/run/vm/web/credential";
    return (StartRequest){.spec = spec,
                          .generation =
                              SD_ID128_MAKE(01, 23, 45, 67, 89, ab, cd, ef, 01, 23, 45, 67, 89, ab, cd, ef),
                          .accel = accel,
                          .kernel = spec->kernel ? "/run/vm/web/kernel" : NULL,
                          .initrd = spec->initrd ? "/run/vm/web/initrd" : NULL,
                          .cmdline = cmdline,
                          .credentials = credentials,
                          .console_log = "/var/vm/web/console.log",
                          .state_dir = "/var/vm/web",
                          .notify_socket = "/run/vm/web/notify.sock",
                          .notify_vsock_port = spec->vcpu % 2 ? 28022 : 0};
}

static void check_xml(VmSpec *spec, const char *cmdline, DomainTarget target, Accel accel)
{
    _cleanup_free_ char **credentials = calloc(spec->n_credentials + 1, sizeof(*credentials));
    StartRequest request;
    _cleanup_free_ char *xml = NULL;
    sd_id128_t generation;
    int r;

    MUST(credentials);
    request = request_for(spec, cmdline, credentials, accel);
    r = domain_xml(&request, &target, &xml);
    MUST(r == 0 || r == -EINVAL);
    if (r < 0)
        return;
    check_well_formed(xml);
    MUST(domain_generation_parse(xml, &generation) == 0 && sd_id128_equal(generation, request.generation));
}

/* What was read as a definition can be written, and what comes last are the definition's own arguments. */
static void check_arguments(VmSpec *spec, const char *cmdline, Accel accel)
{
    _cleanup_free_ char **credentials = calloc(spec->n_credentials + 1, sizeof(*credentials));
    _cleanup_(command_clear)
    Command command = {0};
    StartRequest request;

    MUST(credentials);
    request = request_for(spec, cmdline, credentials, accel);
    MUST(recipe_qemu.render(&request, &command) == 0);
    MUST(command.n_arguments > spec->n_qemu_args && !command.argv[command.n_arguments]);
    for (size_t i = 0; i < command.n_arguments; i++)
        MUST(fuzz_is_utf8(command.argv[i]) && !strchr(command.argv[i], '\n'));
    for (size_t i = 1; i <= spec->n_qemu_args; i++)
        MUST(streq(command.argv[command.n_arguments - i], spec->qemu_args[spec->n_qemu_args - i]));
}

int fuzz_xml(const uint8_t *data, size_t size)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = fuzz_load("web", data, size);
    _cleanup_(plan_freep)
    Plan *plan = NULL;
    _cleanup_free_ char *cmdline = NULL;

    if (!spec)
        return 0;
    MUST(plan_new(spec, "/var/vm/web", "/run/vm/web", "/run/daemon/boot", &plan) == 0);
    for (size_t i = 0; i < plan->n_steps; i++)
        MUST(plan->steps[i].to && plan->steps[i].to[0] == '/');
    cmdline = kernel_command_line(spec, size % 2 ? 1000 : 0);
    MUST(cmdline && !strchr(cmdline, '\n'));
    check_xml(spec, cmdline, (DomainTarget){.type = DOMAIN_QEMU, .dac = true, .selinux = true}, ACCEL_TCG);
    check_xml(spec, cmdline, (DomainTarget){.type = DOMAIN_QEMU, .no_arch_capabilities = true}, ACCEL_KVM);
    check_xml(spec, cmdline, (DomainTarget){.type = DOMAIN_TEST}, ACCEL_TCG);
    check_arguments(spec, cmdline, ACCEL_TCG);
    check_arguments(spec, cmdline, ACCEL_KVM);
    return 0;
}
