/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies made ahead: given away once, only of what is there now, never many. */
#include "resource/spare-copies.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

typedef struct World {
    char spare[512], from[512], to[512];
    int64_t later; /* when what was written just now has settled */
} World;

static World world_of(Scratch *scratch)
{
    World world = {.later = time(NULL) + 10};

    snprintf(world.spare, sizeof(world.spare), "%s", scratch_path(scratch, "spare"));
    snprintf(world.to, sizeof(world.to), "%s", scratch_path(scratch, "to"));
    snprintf(world.from, sizeof(world.from), "%s", scratch_text(scratch, "from", "a kernel"));
    return world;
}

static size_t count(const char *directory)
{
    DIR *stream = opendir(directory);
    size_t n = 0;

    if (!stream)
        return 0;
    for (struct dirent *entry; (entry = readdir(stream));)
        n += entry->d_name[0] != '.';
    closedir(stream);
    return n;
}

static void test_given_away_once(void **context)
{
    World world = world_of(*context);
    _cleanup_free_ char *text = NULL;
    FileStamp stamp = {0}, source;
    struct stat st;
    size_t size;

    assert_int_equal(spare_copy_take(world.spare, world.from, world.to, &stamp), -ENOENT);
    assert_int_equal(spare_copy_make(world.spare, world.from, world.later), 0);
    assert_int_equal(spare_copy_make(world.spare, world.from, world.later), 0);
    assert_int_equal(count(world.spare), 1);
    assert_int_equal(stat(world.spare, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(spare_copy_take(world.spare, world.from, world.to, &stamp), 0);
    assert_int_equal(read_file(world.to, 64, &text, &size), 0);
    assert_string_equal(text, "a kernel");
    assert_int_equal(stat(world.to, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(file_stamp(world.from, &source), 0);
    assert_true(file_stamp_equal(&stamp, &source));
    assert_int_equal(spare_copy_take(world.spare, world.from, world.to, &stamp), -ENOENT);
}

/* Also when whoever wrote it has put its times back, as rsync and cp -p do. */
static void test_only_of_what_is_there_now(void **context)
{
    World world = world_of(*context);
    struct stat before;
    FileStamp stamp;
    FILE *stream;

    assert_int_equal(spare_copy_make(world.spare, world.from, world.later), 0);
    assert_int_equal(stat(world.from, &before), 0);
    usleep(20000); /* more than a step of the kernel's coarse clock */
    stream = fopen(world.from, "r+");
    assert_non_null(stream);
    assert_true(fputs("b", stream) >= 0);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(utimensat(AT_FDCWD, world.from, (struct timespec[]){before.st_atim, before.st_mtim}, 0),
                     0);
    assert_int_equal(spare_copy_take(world.spare, world.from, world.to, &stamp), -ENOENT);
}

static void test_not_of_what_changed_just_now(void **context)
{
    World world = world_of(*context);

    assert_int_equal(spare_copy_make(world.spare, world.from, time(NULL)), -EAGAIN);
    assert_int_equal(count(world.spare), 0);
    assert_int_equal(spare_copy_make(world.spare, "/nonexistent/kernel", world.later), -ENOENT);
}

static void test_never_many(void **context)
{
    Scratch *scratch = *context;
    World world = world_of(scratch);
    FileStamp stamp;
    char name[16];

    for (int i = 0; i < 9; i++) {
        snprintf(name, sizeof(name), "kernel%d", i);
        assert_int_equal(spare_copy_make(world.spare, scratch_text(scratch, name, name), world.later), 0);
    }
    assert_int_equal(count(world.spare), 4);
    assert_int_equal(spare_copy_take(world.spare, scratch_path(scratch, "kernel8"), world.to, &stamp), 0);
    /* Sparse, so that it takes no room here. */
    assert_int_equal(truncate(world.from, (off_t)65 << 20), 0);
    assert_int_equal(spare_copy_make(world.spare, world.from, world.later), -ENOSPC);
    assert_int_equal(count(world.spare), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_given_away_once),
        IN_SCRATCH(test_only_of_what_is_there_now),
        IN_SCRATCH(test_not_of_what_changed_just_now),
        IN_SCRATCH(test_never_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
