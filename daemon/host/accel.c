/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/accel.h"

#include "base/say.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define KVM_DEVICE "/dev/kvm"

/* Whether `uid` with `gid` and the groups of its user may read and write, by the mode bits. */
static int may_open(const struct stat *st, HostUser user)
{
    enum {
        MAX_GROUPS = 256,
        ENTRY_SIZE = 16384
    };
    gid_t groups[MAX_GROUPS] = {user.gid};
    int n = MAX_GROUPS;
    struct passwd entry, *found = NULL;
    char buffer[ENTRY_SIZE];

    if (user.uid == 0)
        return 0;
    if (st->st_uid == user.uid)
        return (st->st_mode & 0600) == 0600 ? 0 : -EACCES;
    if (getpwuid_r(user.uid, &entry, buffer, sizeof(buffer), &found) != 0 || !found ||
        getgrouplist(found->pw_name, user.gid, groups, &n) < 0)
        n = 1;
    for (int i = 0; i < n; i++)
        if (groups[i] == st->st_gid)
            return (st->st_mode & 0060) == 0060 ? 0 : -EACCES;
    return (st->st_mode & 0006) == 0006 ? 0 : -EACCES;
}

#if defined(__x86_64__) || defined(__i386__)
/* The first "flags" line of /proc/cpuinfo; all processors of a host have the same. */
static bool cpu_shows_virtualization(void)
{
    _cleanup_fclose_ FILE *stream = fopen("/proc/cpuinfo", "re");
    _cleanup_free_ char *line = NULL;
    size_t size = 0;

    while (stream && getline(&line, &size, stream) > 0) {
        char *state = NULL;
        if (strncmp(line, "flags", 5) != 0)
            continue;
        for (char *word = strtok_r(line, " \t\n", &state); word; word = strtok_r(NULL, " \t\n", &state))
            if (streq(word, "vmx") || streq(word, "svm"))
                return true;
        return false;
    }
    return false;
}
#endif

#if defined(__x86_64__)
/* Counted against the clock for a moment that makes the error smaller than a crystal's. Blocks that long. */
static uint64_t measure_tsc_khz(void)
{
    enum {
        MOMENT_NSEC = 20000000
    };
    struct timespec before, after;
    uint64_t first, last, nsec;

    clock_gettime(CLOCK_MONOTONIC, &before);
    first = __rdtsc();
    nanosleep(&(struct timespec){.tv_nsec = MOMENT_NSEC}, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    last = __rdtsc();
    nsec = (uint64_t)(after.tv_sec - before.tv_sec) * 1000000000 + (uint64_t)after.tv_nsec -
           (uint64_t)before.tv_nsec;
    return nsec > 0 ? (uint64_t)((unsigned __int128)(last - first) * 1000000 / nsec) : 0;
}
#endif

int accel_device_error(HostUser user)
{
    _cleanup_close_ int fd = -EBADF;
    struct stat st;
    int r;

    if (stat(KVM_DEVICE, &st) < 0)
        return -errno;
    r = may_open(&st, user);
    if (r < 0)
        return r;
    /* That it can be opened at all is only known by doing it; we are root, or that very user. */
    fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : 0;
}

void accel_facts_read(HostUser user, AccelFacts *ret_facts)
{
    AccelFacts facts = {.device_exists = access(KVM_DEVICE, F_OK) == 0,
                        .device_error = accel_device_error(user)};

#if defined(__x86_64__) || defined(__i386__)
    facts.cpu_needs_flags = true;
    facts.cpu_has_flags = cpu_shows_virtualization();
#endif
#if defined(__x86_64__)
    facts.tsc_khz = measure_tsc_khz();
#endif
    *ret_facts = facts;
}

/* Why KVM can't be used; NULL: it can. */
static char *obstacle(const AccelFacts *facts)
{
    if (!facts->device_exists)
        return say(KVM_DEVICE
                   " does not exist (is the kvm module loaded, virtualization on in the firmware?)");
    if (facts->device_error < 0)
        return say(KVM_DEVICE " can't be opened by the user that runs the hypervisor (%s)",
                   strerror(-facts->device_error));
    if (facts->cpu_needs_flags && !facts->cpu_has_flags)
        return say(
            KVM_DEVICE
            " is there, but the processor shows neither vmx nor svm: ordinary guests hang on such hosts");
    return NULL;
}

int accel_choose(Accel wanted, const AccelFacts *facts, bool had_kvm, Accel *ret_accel, char **ret_reason)
{
    _cleanup_free_ char *why_not = wanted == ACCEL_TCG ? NULL : obstacle(facts);

    if (wanted == ACCEL_TCG || !why_not) {
        *ret_accel = wanted == ACCEL_TCG ? ACCEL_TCG : ACCEL_KVM;
        *ret_reason = say(wanted == ACCEL_AUTO ? "KVM can be used here" : "the definition says so");
        return 0;
    }
    if (wanted == ACCEL_KVM) {
        *ret_reason = say("the definition says \"accel\": \"kvm\", but %s", why_not);
        return -ENODEV;
    }
    if (had_kvm) {
        *ret_reason = say("it has run under KVM before, and now %s; mend that, or accept slow emulation with "
                          "\"accel\": \"tcg\"",
                          why_not);
        return -ENODEV;
    }
    *ret_accel = ACCEL_TCG;
    *ret_reason = TAKE_PTR(why_not);
    return 0;
}
