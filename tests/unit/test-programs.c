/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where programs are, and that what changes there is noticed. */
#include "base/file.h"
#include "base/say.h"
#include "driver/direct/programs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "scratch.h"

typedef struct World {
    Scratch *scratch;
    sd_event *event;
    Programs *programs;
    char *first, *second; /* directories; the first is not there */
} World;

static void world_up(World *world, Scratch *scratch)
{
    _cleanup_free_ char *path = NULL;

    *world = (World){.scratch = scratch,
                     .first = say("%s/opt/tools/bin", scratch->path),
                     .second = say("%s/bin", scratch->path)};
    assert_int_equal(mkdir(world->second, 0755), 0);
    path = say("%s:bin:%s::", world->first, world->second);
    assert_int_equal(sd_event_new(&world->event), 0);
    assert_int_equal(programs_new(world->event, path, &world->programs), 0);
}

static void world_down(World *world)
{
    programs_free(world->programs);
    sd_event_unref(world->event);
    free(world->first);
    free(world->second);
}

/* What has happened by now is heard of. */
static void settle(World *world)
{
    while (sd_event_run(world->event, 0) > 0)
        ;
}

static char *install(const char *directory, const char *name, mode_t mode)
{
    char *path = say("%s/%s", directory, name);
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
    return path;
}

static void assert_found(World *world, const char *expected)
{
    const char *path = programs_find(world->programs, "qemu");

    if (!expected)
        assert_null(path);
    else
        assert_string_equal(path, expected);
}

static void test_comes_and_goes(void **state)
{
    _cleanup_free_ char *path = NULL;
    World world;

    world_up(&world, *state);
    assert_found(&world, NULL);
    path = install(world.second, "qemu", 0755);
    settle(&world);
    assert_found(&world, path);
    assert_int_equal(unlink(path), 0);
    settle(&world);
    assert_found(&world, NULL);
    world_down(&world);
}

/* It is looked for ahead, and not when it is asked for. */
static void test_ahead(void **state)
{
    _cleanup_free_ char *path = NULL;
    World world;

    world_up(&world, *state);
    path = install(world.second, "qemu", 0755);
    assert_found(&world, path);
    assert_int_equal(unlink(path), 0);
    assert_found(&world, path); /* known, until the loop hears of it */
    settle(&world);
    assert_found(&world, NULL);
    world_down(&world);
}

/* An earlier directory wins, once it is there, with all that is above it. */
static void test_earlier_directory(void **state)
{
    _cleanup_free_ char *later = NULL, *earlier = NULL, *top = NULL, *moved = NULL;
    World world;

    world_up(&world, *state);
    later = install(world.second, "qemu", 0755);
    assert_found(&world, later);
    top = say("%s/opt", world.scratch->path);
    assert_int_equal(mkdir(top, 0755), 0);
    settle(&world);
    assert_int_equal(mkdir_parents(world.first, 0755), 0);
    settle(&world);
    assert_found(&world, later);
    earlier = install(world.first, "qemu", 0755);
    settle(&world);
    assert_found(&world, earlier);
    /* and when it goes as a whole */
    moved = say("%s/old", world.scratch->path);
    assert_int_equal(rename(world.first, moved), 0);
    settle(&world);
    assert_found(&world, later);
    world_down(&world);
}

/* One that is not to be executed is only better than none. */
static void test_not_executable(void **state)
{
    _cleanup_free_ char *earlier = NULL, *later = NULL;
    World world;

    world_up(&world, *state);
    assert_found(&world, NULL);
    assert_int_equal(mkdir_parents(world.first, 0755), 0);
    earlier = install(world.first, "qemu", 0644);
    settle(&world);
    assert_found(&world, earlier);
    later = install(world.second, "qemu", 0755);
    settle(&world);
    assert_found(&world, later);
    assert_int_equal(chmod(earlier, 0755), 0);
    settle(&world);
    assert_found(&world, earlier);
    world_down(&world);
}

/* Who finds that it is not there any more says so. */
static void test_told_to_look(void **state)
{
    _cleanup_free_ char *path = NULL;
    World world;

    world_up(&world, *state);
    path = install(world.second, "qemu", 0755);
    assert_found(&world, path);
    assert_int_equal(unlink(path), 0);
    programs_look_again(world.programs);
    assert_found(&world, NULL);
    free(install(world.second, "qemu", 0755));
    assert_found(&world, path); /* of what is nowhere nothing is known */
    world_down(&world);
}

/* What else is installed there does not make it look again, and wakes nobody twice. */
static void test_others(void **state)
{
    _cleanup_free_ char *path = NULL, *other = NULL;
    World world;

    world_up(&world, *state);
    assert_found(&world, NULL);
    other = install(world.second, "qemu-img", 0755);
    settle(&world);
    assert_found(&world, NULL);
    path = install(world.second, "qemu", 0755);
    settle(&world);
    assert_found(&world, path);
    assert_int_equal(sd_event_run(world.event, 0), 0);
    world_down(&world);
}

/* Without a place in $PATH there is nothing to be found, and nothing relative is looked into. */
static void test_nowhere(void **state)
{
    World world = {.scratch = *state};

    assert_int_equal(sd_event_new(&world.event), 0);
    assert_int_equal(programs_new(world.event, "", &world.programs), 0);
    assert_null(programs_find(world.programs, "sh"));
    programs_free(world.programs);
    assert_int_equal(programs_new(world.event, "bin:.:", &world.programs), 0);
    assert_null(programs_find(world.programs, "sh"));
    world_down(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_comes_and_goes), IN_SCRATCH(test_ahead),        IN_SCRATCH(test_earlier_directory),
        IN_SCRATCH(test_not_executable), IN_SCRATCH(test_told_to_look), IN_SCRATCH(test_others),
        IN_SCRATCH(test_nowhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
