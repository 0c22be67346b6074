/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What workers do with libvirt: calls that may block. They touch nothing but the call. */
#include "driver/libvirt/internal.h"

#include "base/clock.h"
#include "base/say.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

enum {
    AGENT_ANSWER_SEC = 2, /* for it to say no */
};
#define REMOVAL_USEC UINT64_C(5000000)
static const struct timespec removal_pause = {.tv_nsec = 5000000};

char *libvirt_error_text(void)
{
    const char *message = virGetLastErrorMessage();
    char *text = strdup(message ? message : "no reason given");

    /* Some messages come with a line break at the end. */
    for (size_t n = text ? strlen(text) : 0; n > 0 && text[n - 1] == '\n';)
        text[--n] = '\0';
    return text;
}

void domain_facts_clear(DomainFacts *facts)
{
    free(facts->name);
    free(facts->uuid);
    free(facts->console);
    safe_close(facts->pidfd);
    *facts = (DomainFacts){.pidfd = -EBADF};
}

/* 0, -ENOENT: gone; -EBUSY: not ours; -EIO: libvirt can't say, and nothing may be concluded. */
static int read_generation(virDomainPtr domain, sd_id128_t *ret_generation)
{
    _cleanup_free_ char *metadata = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT,
                                                         DOMAIN_METADATA_URI, VIR_DOMAIN_AFFECT_CURRENT);

    if (metadata)
        return domain_generation_parse(metadata, ret_generation) < 0 ? -EBUSY : 0;
    switch (virGetLastErrorCode()) {
    case VIR_ERR_NO_DOMAIN:
        return -ENOENT;
    case VIR_ERR_NO_DOMAIN_METADATA:
    case VIR_ERR_ACCESS_DENIED: /* libvirt's own rules hide it from us */
        return -EBUSY;
    default:
        return -EIO;
    }
}

/* All but the generation. Name and UUID are in the handle; what has to be asked for may fail, and the run is
 * no less there. */
static int describe(virDomainPtr domain, const char *pid_directory, DomainFacts *facts)
{
    _cleanup_free_ char *xml = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (virDomainGetUUIDString(domain, uuid) < 0)
        return -EIO;
    facts->name = strdup(virDomainGetName(domain));
    facts->uuid = strdup(uuid);
    if (!facts->name || !facts->uuid) {
        domain_facts_clear(facts);
        return -ENOMEM;
    }
    xml = virDomainGetXMLDesc(domain, 0);
    if (xml) {
        facts->accel = domain_accel(xml);
        facts->console = domain_console_path(xml);
        if (strstr(xml, "<driver type='virtiofs'"))
            facts->helper = process_find_virtiofsd(pid_directory, (int)virDomainGetID(domain), facts->name);
    }
    if (process_find(pid_directory, facts->name, uuid, &facts->pid, &facts->pidfd) < 0)
        facts->pidfd = -EBADF; /* shown as 0, and signals can't be sent; everything else works */
    return 0;
}

int domain_facts_read(virDomainPtr domain, const char *pid_directory, DomainFacts *ret_facts)
{
    DomainFacts facts = {.pidfd = -EBADF, .accel = ACCEL_AUTO};
    int state = VIR_DOMAIN_NOSTATE, r;

    r = read_generation(domain, &facts.generation);
    if (r >= 0)
        r = describe(domain, pid_directory, &facts);
    if (r < 0)
        return r;
    if (virDomainGetState(domain, &state, NULL, 0) >= 0)
        facts.paused = state == VIR_DOMAIN_PAUSED;
    *ret_facts = facts;
    return 0;
}

static int fail(Call *call, int error, const char *what)
{
    _cleanup_free_ char *message = libvirt_error_text();

    if (!call->text)
        call->text = say("%s: %s", what, message ? message : "out of memory");
    return error;
}

static int say_busy(Call *call, const char *before, const char *after)
{
    return say_why(&call->text, -EBUSY, "%s \"%s\" %s", before, call->name, after);
}

/* Nothing of that name may be there: a foreign domain is never touched, and an old run must be gone first. */
static int check_free(Call *call)
{
    virDomainPtr other = virDomainLookupByName(call->connection, call->name);
    sd_id128_t generation;
    bool ours, kept;

    if (!other)
        return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? 0 : fail(call, -EIO, "libvirt did not answer");
    ours = read_generation(other, &generation) >= 0;
    kept = virDomainIsActive(other) == 0;
    virDomainFree(other);
    if (!ours)
        return say_busy(call, "libvirt has a domain",
                        "that microvmd did not make; it is left alone: rename it, or this microVM");
    if (kept)
        return say_busy(call, "somebody made libvirt keep the domain",
                        "beyond its run; it is left alone: virsh undefine it");
    return say_busy(call, "a former run of", "still runs in libvirt");
}

static int start_failed(Call *call)
{
    const char *hint = start_hint(virGetLastErrorMessage());
    int r = fail(call, -EIO, "libvirt could not start it");
    char *longer;

    if (hint && call->text && asprintf(&longer, "%s (%s)", call->text, hint) >= 0) {
        free(call->text);
        call->text = longer;
    }
    return r;
}

static int check_uuid_free(Call *call)
{
    virDomainPtr twin = virDomainLookupByUUIDString(call->connection, call->uuid);

    if (!twin)
        return 0;
    (void)say_why(&call->text, -EBUSY,
                  "libvirt has a domain \"%s\" of the same UUID; give this microVM another \"machineId\"",
                  virDomainGetName(twin));
    virDomainFree(twin);
    return -EBUSY;
}

static bool is_taken(void)
{
    return virGetLastErrorCode() == VIR_ERR_OPERATION_FAILED && virGetLastErrorDomain() == VIR_FROM_DOMAIN;
}

/*
 * A former run that libvirt is about to forget is hidden from lookups already, but in the way still ("is
 * already being removed", virDomainObjListAddObjLocked()); when it is gone is told to nobody. A restart comes
 * at that very moment.
 */
static int create(Call *call, virDomainPtr *ret_domain)
{
    uint64_t latest = now_usec(CLOCK_MONOTONIC) + REMOVAL_USEC;

    for (;;) {
        int r;
        *ret_domain = virDomainCreateXML(call->connection, call->xml, 0);
        if (*ret_domain || !is_taken() || now_usec(CLOCK_MONOTONIC) >= latest)
            return 0;
        r = check_uuid_free(call);
        if (r < 0)
            return r;
        nanosleep(&removal_pause, NULL);
    }
}

static int run_start(Call *call)
{
    virDomainPtr domain = NULL;
    uint64_t before;
    int r;

    r = check_free(call);
    if (r < 0)
        return r;
    before = now_usec(CLOCK_MONOTONIC);
    r = create(call, &domain);
    if (r < 0)
        return r;
    /* QEMU aborts where its CPU has an MSR that the host's KVM refuses: seen with 0x10a on hosts that are
     * guests. */
    if (!domain && call->fallback_xml && strstr(virGetLastErrorMessage(), "failed to set MSR 0x10a")) {
        call->fell_back = true;
        domain = virDomainCreateXML(call->connection, call->fallback_xml, 0);
    }
    call->usec = now_usec(CLOCK_MONOTONIC) - before;
    if (!domain)
        return start_failed(call);
    /* It has started, whatever can be found out of it; it may even have ended. Whose it is need not be asked,
     * and whether somebody pauses it is told by events. */
    describe(domain, call->pid_directory, &call->facts);
    virDomainFree(domain);
    return 0;
}

/* The domain, if it is that very run. */
static int find_run(Call *call, virDomainPtr *ret_domain)
{
    virDomainPtr domain = virDomainLookupByName(call->connection, call->name);
    sd_id128_t generation;
    int r;

    if (!domain) {
        call->gone = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
        return call->gone ? -ESRCH : fail(call, -EIO, "libvirt did not answer");
    }
    r = read_generation(domain, &generation);
    if (r >= 0 && sd_id128_equal(generation, call->generation)) {
        *ret_domain = domain;
        return 0;
    }
    if (r == -EIO)
        r = fail(call, -EIO,
                 "libvirt did not answer"); /* before the handle goes: that clears libvirt's error */
    else
        call->gone = true; /* what has its name now is another one */
    virDomainFree(domain);
    return call->gone ? -ESRCH : r;
}

static int shut_down(virDomainPtr domain)
{
    int r = virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
    int code = r < 0 ? virGetLastErrorCode() : VIR_ERR_OK;

    /* Drivers without ACPI (libvirt's test driver) know only the plain call. */
    if (code == VIR_ERR_INVALID_ARG || code == VIR_ERR_ARGUMENT_UNSUPPORTED || code == VIR_ERR_NO_SUPPORT)
        r = virDomainShutdown(domain);
    return r;
}

static int press_ctrl_alt_del(virDomainPtr domain)
{
    unsigned codes[] = {29, 56, 111}; /* KEY_LEFTCTRL, KEY_LEFTALT, KEY_DELETE of linux/input-event-codes.h */

    return virDomainSendKey(domain, VIR_KEYCODE_SET_LINUX, 100, codes, ELEMENTSOF(codes), 0);
}

/*
 * Whether its agent, or libvirt, has said no; else nobody has answered, who may yet do so. libvirt has no
 * code of its own for what the agent says, and the same one for a connection that ends, as it does when the
 * guest obeys: of the two only the former names the command, in any language.
 */
static bool is_refusal(int code, const char *message)
{
    return code == VIR_ERR_NO_SUPPORT || code == VIR_ERR_ARGUMENT_UNSUPPORTED /* no such channel */ ||
           (code == VIR_ERR_INTERNAL_ERROR && strstr(message, "guest-shutdown"));
}

/*
 * Not by virDomainShutdownFlags(), which waits a minute for the guest to end: an agent that obeys says
 * nothing (QEMU's guest agent protocol reference, guest-shutdown). That it is there is asked before.
 */
static int ask_agent(Call *call, virDomainPtr domain)
{
    _cleanup_free_ char *pong = virDomainQemuAgentCommand(domain, "{\"execute\":\"guest-ping\"}",
                                                          VIR_DOMAIN_QEMU_AGENT_COMMAND_DEFAULT, 0),
                        *answer = NULL;

    if (pong)
        answer = virDomainQemuAgentCommand(
            domain, "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}",
            AGENT_ANSWER_SEC, 0);
    if (answer)
        return 0;
    call->refused = is_refusal(virGetLastErrorCode(), virGetLastErrorMessage());
    return pong && !call->refused ? 0 : -1;
}

/* A transient domain that has stopped stays listed for a moment; one that somebody made persistent, for ever.
 */
static int look(Call *call, virDomainPtr domain)
{
    if (virDomainIsActive(domain) != 0)
        return 0;
    if (virDomainIsPersistent(domain) > 0)
        call->gone = true;
    else
        call->fading = true;
    return 0;
}

static int act(Call *call)
{
    virDomainPtr domain = NULL;
    int r;

    r = find_run(call, &domain);
    if (r < 0)
        return r;
    if (call->kind == CALL_CHECK)
        r = look(call, domain);
    else if (call->kind == CALL_SHUTDOWN)
        r = shut_down(domain);
    else if (call->kind == CALL_KEYS)
        r = press_ctrl_alt_del(domain);
    else if (call->kind == CALL_AGENT)
        r = ask_agent(call, domain);
    else if (call->kind == CALL_TERMINATE)
        r = virDomainDestroyFlags(domain, VIR_DOMAIN_DESTROY_GRACEFUL);
    else if (call->kind == CALL_SUSPEND)
        r = virDomainSuspend(domain);
    else if (call->kind == CALL_RESUME)
        r = virDomainResume(domain);
    else if (call->kind == CALL_SET_MEMORY)
        r = virDomainSetMemoryFlags(domain, (unsigned long)call->memory_kib, VIR_DOMAIN_AFFECT_LIVE);
    else if (call->kind == CALL_DESTROY)
        r = virDomainDestroy(domain);
    if (r < 0)
        r = fail(call, -EIO, "libvirt refused");
    virDomainFree(domain);
    return r;
}

void call_run(void *argument)
{
    Call *call = argument;

    virResetLastError();
    call->error = call->kind == CALL_START ? run_start(call) : act(call);
    call->lost = call->error < 0 && virConnectIsAlive(call->connection) == 0;
    /* Here, not on the loop thread: the last reference says good-bye to libvirtd, which may hang. */
    virConnectClose(call->connection);
    call->connection = NULL;
}
