/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file that others write to: what is told of it, and what the watch costs the loop. */
#include "base/clock.h"
#include "base/file-watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#define LONG_USEC UINT64_C(20000000)

typedef struct World {
    sd_event *event;
    char directory[64], path[80];
    unsigned told;
} World;

static void on_changed(void *userdata)
{
    ((World *)userdata)->told++;
}

static int set_up(void **context)
{
    World *world = calloc(1, sizeof(*world));

    snprintf(world->directory, sizeof(world->directory), "/tmp/microvmd-watch.XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    snprintf(world->path, sizeof(world->path), "%s/log", world->directory);
    assert_true(sd_event_new(&world->event) >= 0);
    *context = world;
    return 0;
}

static int tear_down(void **context)
{
    World *world = *context;

    sd_event_unref(world->event);
    (void)unlink(world->path);
    (void)rmdir(world->directory);
    free(world);
    return 0;
}

static void append(const World *world)
{
    int fd = open(world->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

/* A wake-up may be for a watch that is gone. */
static void run_until_told(World *world, unsigned times)
{
    uint64_t latest = now_usec(CLOCK_MONOTONIC) + LONG_USEC;

    while (world->told < times && now_usec(CLOCK_MONOTONIC) < latest)
        assert_true(sd_event_run(world->event, LONG_USEC) >= 0);
    assert_int_equal(world->told, times);
}

static void test_tells_once(void **context)
{
    _cleanup_(file_watch_freep)
    FileWatch *watch = NULL;
    World *world = *context;

    assert_true(file_watch_new(world->event, world->directory, "log", 1000, on_changed, world, &watch) >= 0);
    assert_true(file_watch_arm(watch) >= 0);
    append(world); /* it comes */
    append(world);
    run_until_told(world, 1);
    append(world); /* not armed */
    assert_true(sd_event_run(world->event, 50000) >= 0);
    assert_int_equal(world->told, 1);
    assert_true(file_watch_arm(watch) >= 0);
    append(world); /* it grows */
    run_until_told(world, 2);
}

static unsigned inotify_descriptors(void)
{
    DIR *stream = opendir("/proc/self/fd");
    struct dirent *entry;
    char target[PATH_MAX];
    unsigned found = 0;

    assert_non_null(stream);
    while ((entry = readdir(stream))) {
        ssize_t size = readlinkat(dirfd(stream), entry->d_name, target, sizeof(target) - 1);
        if (size < 0)
            continue;
        target[size] = '\0';
        found += strstr(target, "inotify") != NULL;
    }
    closedir(stream);
    return found;
}

/* Closing it would stop the loop for more than 10 ms. */
static void test_descriptor_stays(void **context)
{
    World *world = *context;
    sd_event_source *hold;
    FileWatch *watch;

    assert_true(file_watch_hold(world->event, &hold) >= 0);
    assert_true(file_watch_new(world->event, world->directory, "log", 1000, on_changed, world, &watch) >= 0);
    assert_true(file_watch_arm(watch) >= 0);
    append(world);
    run_until_told(world, 1);
    file_watch_free(watch);
    assert_int_equal(inotify_descriptors(), 1);
    sd_event_source_disable_unref(hold);
    assert_int_equal(inotify_descriptors(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tells_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_descriptor_stays, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
