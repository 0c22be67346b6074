/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/guest-words.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static GuestNews hear(GuestWords *words, const char *message)
{
    char text[8192];
    GuestNews news;

    snprintf(text, sizeof(text), "%s", message);
    guest_words_take(words, text, &news);
    return news;
}

static void test_ready(void **state)
{
    GuestWords words = {0};
    GuestNews news = hear(&words, "STATUS=Loading\nWHATEVER=1\nnonsense\nREADY=0");

    assert_false(news.ready);
    assert_string_equal(news.status, "Loading");
    news = hear(&words, "READY=1\r\n");
    assert_true(news.ready);
    assert_string_equal(news.status, "");
    news = hear(&words, "READY=1\nSTATUS=Serving\nX_SYSTEMD_SIGNALS_LEVEL=2");
    assert_true(news.ready);
    assert_null(news.trouble);
    assert_string_equal(news.status, "Serving");
}

/* As systemd 254 and later has it, a message each. */
static void test_boot_of_systemd(void **state)
{
    static const char *const on_the_way[] = {
        "X_SYSTEMD_HOSTNAME=web", "X_SYSTEMD_UNIT_ACTIVE=local-fs-pre.target",
        "X_SYSTEMD_UNIT_ACTIVE=sysinit.target", "X_SYSTEMD_UNIT_ACTIVE=basic.target",
        "X_SYSTEMD_UNIT_ACTIVE=network-online.target"};
    GuestWords words = {0};
    GuestNews news;

    for (size_t i = 0; i < ELEMENTSOF(on_the_way); i++) {
        news = hear(&words, on_the_way[i]);
        assert_false(news.ready || news.trouble);
    }
    news = hear(&words, "X_SYSTEMD_UNIT_ACTIVE=multi-user.target");
    assert_string_equal(news.status, "reached multi-user.target");
    assert_false(news.ready);
    assert_true(hear(&words, "READY=1\nSTATUS=Startup finished in 1.1s.").ready);
    news = hear(&words, "STOPPING=1\nSTATUS=Shutting down");
    assert_string_equal(news.trouble, "the guest is shutting down");
    news = hear(&words, "X_SYSTEMD_SHUTDOWN=reboot");
    assert_string_equal(news.status, "shutting down: reboot");
    assert_string_equal(hear(&words, "EXIT_STATUS=3").status, "ends with exit status 3");
}

static void test_boot_that_fails(void **state)
{
    GuestWords words = {0};
    GuestNews news;

    hear(&words, "X_SYSTEMD_UNIT_ACTIVE=sysinit.target");
    hear(&words, "X_SYSTEMD_UNIT_ACTIVE=network-pre.target");
    news = hear(&words, "READY=1");
    assert_false(news.ready);
    assert_true(news.stuck);
    assert_string_equal(news.trouble, "the guest has booted, but not to its multi-user.target");
    assert_true(hear(&words, "X_SYSTEMD_UNIT_ACTIVE=multi-user.target").ready);
}

static void test_a_target_of_its_own(void **state)
{
    GuestWords words = {0};

    hear(&words, "X_SYSTEMD_UNIT_ACTIVE=basic.target");
    hear(&words, "X_SYSTEMD_UNIT_ACTIVE=shop.target");
    assert_true(hear(&words, "READY=1").ready);
}

static void test_emergency(void **state)
{
    GuestWords words = {0};
    GuestNews news = hear(&words, "X_SYSTEMD_UNIT_ACTIVE=emergency.target");

    assert_true(news.stuck);
    assert_string_equal(news.trouble, "the guest is in an emergency shell");
    news = hear(&words, "READY=1");
    assert_false(news.ready || news.stuck || news.trouble);
    /* Somebody mends it and goes on. */
    assert_false(hear(&words, "X_SYSTEMD_UNIT_INACTIVE=emergency.target").ready);
    assert_false(hear(&words, "X_SYSTEMD_UNIT_ACTIVE=basic.target").ready);
    assert_true(hear(&words, "X_SYSTEMD_UNIT_ACTIVE=multi-user.target").ready);
    assert_string_equal(hear(&words, "X_SYSTEMD_UNIT_ACTIVE=rescue.target").trouble,
                        "the guest is in a rescue shell");
}

static void test_watchdog(void **state)
{
    GuestWords words = {0};

    assert_true(hear(&words, "WATCHDOG=1").alive);
    assert_true(hear(&words, "WATCHDOG=trigger").hangs);
    assert_false(hear(&words, "WATCHDOG=2").alive);
}

static void test_hostile(void **state)
{
    GuestWords words = {0};
    char message[8192] = "STATUS=";
    GuestNews news;

    memset(message + strlen(message), 'a', 4000);
    assert_int_equal(strlen(hear(&words, message).status), GUEST_STATUS_MAX - 1);
    assert_string_equal(hear(&words, "STATUS=\x1b[2Jred\xff\tx\xc2\x9b").status, "?[2Jred??x??");
    assert_string_equal(hear(&words, "STATUS=%s%n").status, "%s%n");
    assert_string_equal(hear(&words, "X_SYSTEMD_UNIT_ACTIVE=").status, "reached ");
    news = hear(&words, "");
    assert_false(news.ready || news.alive || news.hangs || news.trouble);
    news = hear(&words, "=\n==\n=READY=1\nREADY\nREADY=\nready=1\n\n\n");
    assert_false(news.ready);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready),           cmocka_unit_test(test_boot_of_systemd),
        cmocka_unit_test(test_boot_that_fails), cmocka_unit_test(test_a_target_of_its_own),
        cmocka_unit_test(test_emergency),       cmocka_unit_test(test_watchdog),
        cmocka_unit_test(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
