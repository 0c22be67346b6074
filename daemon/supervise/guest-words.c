/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/guest-words.h"

#include "base/utf8.h"

/* Targets that a boot only passes through: bootup(7), systemd.special(7). */
static const char *const early_targets[] = {
    "sysinit",
    "basic",
    "local-fs",
    "remote-fs",
    "swap",
    "cryptsetup",
    "paths",
    "slices",
    "sockets",
    "timers",
    "network",
    "network-online",
    "nss-lookup",
    "nss-user-lookup",
    "time-set",
    "time-sync",
    "getty",
    "machines",
    "integritysetup",
    "veritysetup",
    "first-boot-complete",
    "remote-cryptsetup",
    "remote-veritysetup",
    "initrd",
    "initrd-fs",
    "initrd-root-fs",
    "initrd-root-device",
    "initrd-usr-fs",
    "initrd-switch-root",
    "bluetooth",
    "printer",
    "smartcard",
    "sound",
    "usb-gadget",
    "rpcbind",
    "ssh-access",
    "tpm2",
    "boot-complete",
    "factory-reset",
    "soft-reboot",
};

static bool is_early(const char *unit)
{
    static const char suffix[] = ".target", before[] = "-pre";
    size_t length = strlen(unit);

    if (length < strlen(suffix) || !streq(unit + length - strlen(suffix), suffix))
        return true;
    length -= strlen(suffix);
    if (length > strlen(before) && strncmp(unit + length - strlen(before), before, strlen(before)) == 0)
        length -= strlen(before);
    for (size_t i = 0; i < ELEMENTSOF(early_targets); i++)
        if (strlen(early_targets[i]) == length && strncmp(early_targets[i], unit, length) == 0)
            return true;
    return false;
}

static bool is_emergency(const char *unit)
{
    return streq(unit, "emergency.target") || streq(unit, "rescue.target");
}

/* People are shown it: a guest's own words, so nothing that a terminal acts on. */
static void put_status(GuestNews *news, const char *before, const char *value)
{
    snprintf(news->status, sizeof(news->status), "%s%s", before, value);
    utf8_make_printable(news->status);
}

static void take_active(GuestWords *words, const char *unit, GuestNews *news)
{
    words->targets = true;
    put_status(news, "reached ", unit);
    if (is_emergency(unit)) {
        words->emergency = news->stuck = true;
        news->trouble = streq(unit, "rescue.target") ? "the guest is in a rescue shell"
                                                     : "the guest is in an emergency shell";
    } else if (!is_early(unit)) {
        words->booted = true;
        /* Who leaves an emergency shell boots on, and does not say a second time that it has booted. */
        news->ready = words->ready && !words->emergency;
    }
}

static void take_ready(GuestWords *words, GuestNews *news)
{
    words->ready = true;
    words->stopping = false;
    if (words->emergency)
        return; /* an emergency shell is where this boot ends */
    if (!words->targets || words->booted) {
        news->ready = true;
        return;
    }
    news->stuck = true;
    news->trouble = "the guest has booted, but not to its multi-user.target";
}

static void take(GuestWords *words, const char *key, const char *value, GuestNews *news)
{
    if (streq(key, "READY") && streq(value, "1")) {
        take_ready(words, news);
    } else if (streq(key, "STATUS")) {
        put_status(news, "", value);
    } else if (streq(key, "X_SYSTEMD_UNIT_ACTIVE")) {
        take_active(words, value, news);
    } else if (streq(key, "X_SYSTEMD_UNIT_INACTIVE") && is_emergency(value)) {
        words->emergency = false;
    } else if ((streq(key, "STOPPING") && streq(value, "1")) || streq(key, "X_SYSTEMD_SHUTDOWN")) {
        words->stopping = true;
        news->trouble = "the guest is shutting down";
        if (streq(key, "X_SYSTEMD_SHUTDOWN"))
            put_status(news, "shutting down: ", value);
    } else if (streq(key, "EXIT_STATUS")) {
        put_status(news, "ends with exit status ", value);
    } else if (streq(key, "WATCHDOG")) {
        news->alive |= streq(value, "1");
        news->hangs |= streq(value, "trigger");
    }
}

void guest_words_take(GuestWords *words, char *message, GuestNews *ret_news)
{
    *ret_news = (GuestNews){0};
    for (char *line; (line = strsep(&message, "\n"));) {
        char *value = strchr(line, '=');
        if (!value)
            continue;
        *value++ = '\0';
        value[strcspn(value, "\r")] = '\0';
        take(words, line, value, ret_news);
    }
    if (ret_news->ready)
        ret_news->trouble = NULL;
}
