/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reload after reload of good and broken files: what is needed afterwards is what was needed after the first.
 */
#include "base/log.h"
#include "manager-world.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>

/* Of any bytes. */
static void write_definition(ManagerWorld *world, const char *name, const char *text, size_t size)
{
    _cleanup_free_ char *path = manager_world_path(world, name);

    assert_int_equal(write_file_atomic(path, text, size, 0644), 0);
}

static int setup(void **context)
{
    ManagerWorld *world = calloc(1, sizeof(*world));

    manager_world_make(world, 0, &(ManagerObserver){0});
    *context = world;
    return 0;
}

static int teardown(void **context)
{
    manager_world_clear(*context);
    free(*context);
    return 0;
}

/* And whatever comes of it. */
static size_t reload(ManagerWorld *world)
{
    size_t n = manager_world_reload(world);

    while (sd_event_run(world->event, 0) > 0)
        ;
    return n;
}

static void write_files(ManagerWorld *world)
{
    static const char *const broken[] = {
        "{",
        "[]",
        "null",
        "{\"kernel\": 1}",
        "{\"kernel\": \"/k\", \"x\": 1}",
        "{\"kernel\": \"/k\", \"vcpu\": 01}",
        "{\"kernel\": \"/k\", \"kernel\": \"/k\"}",
        "{\"kernel\": \"/k\", \"volumes\": [{\"size\": \"x\"}, 1]}",
        "\"\xff\"",
        "{\"kernel",
        "/* {",
    };
    static const char good[] = "{\"kernel\": \"/k\", \"volumes\": [\"/a.img\"], \"interfaces\": [\"user\"]}";
    _cleanup_free_ char *fifo = manager_world_path(world, "fifo"),
                        *directory = manager_world_path(world, "directory"),
                        *dangling = manager_world_path(world, "dangling");
    char name[32], *deep = malloc(1 << 20);

    for (size_t i = 0; i < ELEMENTSOF(broken); i++) {
        snprintf(name, sizeof(name), "broken%zu", i);
        write_definition(world, name, broken[i], strlen(broken[i]));
    }
    memset(deep, '[', 1 << 20);
    write_definition(world, "deep", deep, 1 << 20);
    free(deep);
    write_definition(world, "nul", "{\"kernel\": \"/\0\"}", 16);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(mkdir(directory, 0755), 0);
    assert_int_equal(symlink("nowhere", dangling), 0);
    write_definition(world, "good", good, strlen(good));
}

static void test_reloads_leave_nothing(void **context)
{
    /* Chunks differ by a few bytes from reload to reload; one lost block a reload would be 2,400 bytes at
     * least. */
    enum {
        RELOADS = 100,
        ROUNDING = 512
    };
    ManagerWorld *world = *context;
    struct mallinfo2 first, last;

    write_files(world);
    assert_int_equal(reload(world), 17);
    assert_int_equal(reload(world), 0);
    first = mallinfo2();
    for (int i = 0; i < RELOADS; i++)
        assert_int_equal(reload(world), 0);
    last = mallinfo2();
    /* Under AddressSanitizer both are 0; there its own leak check has the word. */
    assert_in_range(last.uordblks + last.hblkhd, 0, first.uordblks + first.hblkhd + ROUNDING);
    assert_non_null(manager_find(world->manager, "good")->spec);
    assert_null(manager_find(world->manager, "deep")->spec);
}

static void test_order_and_lookup(void **context)
{
    ManagerWorld *world = *context;

    write_files(world);
    reload(world);
    for (size_t i = 1; i < world->manager->n_vms; i++)
        assert_true(strcmp(world->manager->vms[i - 1]->name, world->manager->vms[i]->name) < 0);
    assert_null(manager_find(world->manager, "nobody"));
}

static void test_directories_and_masks(void **context)
{
    ManagerWorld *world = *context;
    _cleanup_(definitions_clear)
    Definitions found = {0};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *lower = NULL, *path = NULL;
    const char *directories[2] = {world->definitions};

    assert_true(asprintf(&lower, "%s/lower", world->directory) > 0);
    directories[1] = lower;
    assert_int_equal(mkdir(lower, 0755), 0);
    write_definition(world, "both", "{\"kernel\": \"/upper\"}", 20);
    write_definition(world, "masked", "", 0);
    for (const char *const *name = (const char *const[]){"both", "masked", "nulled", "Both", "lower", NULL};
         *name; name++) {
        free(path);
        assert_true(asprintf(&path, "%s/%s.json", lower, *name) > 0);
        assert_int_equal(write_file_atomic(path, "{\"kernel\": \"/lower\"}", 20, 0644), 0);
    }
    free(path);
    assert_true(asprintf(&path, "%s/nulled.json", world->definitions) > 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(definitions_load(directories, 2, &(SpecContext){0}, NULL,
                                      &(Surroundings){.state_dir = "/state"}, &problems, &found),
                     0);
    assert_int_equal(found.count, 2);
    assert_string_equal(found.items[0].name, "both");
    assert_string_equal(found.items[0].spec->kernel, "/upper");
    assert_string_equal(found.items[1].name, "lower");
    assert_int_equal(problem_count(&problems, PROBLEM_ERROR), 1); /* "Both" differs only in case */
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* Who writes in place empties first: at that moment nothing is undeclared. A mask is there to stay. */
static void test_written_in_place(void **context)
{
    static const char good[] = "{\"kernel\": \"/k\"}";
    ManagerWorld *world = *context;
    _cleanup_free_ char *path = manager_world_path(world, "web");
    struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

    write_definition(world, "web", good, strlen(good));
    assert_int_equal(reload(world), 1);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(reload(world), 0);
    assert_false(vm_is_undeclared(manager_find(world->manager, "web")));
    assert_non_null(manager_find(world->manager, "web")->spec);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_int_equal(reload(world), 1);
    assert_null(manager_find(world->manager, "web"));
}

int main(int argc, char *argv[])
{
    const struct CMUnitTest tests[] = {
        TEST(test_reloads_leave_nothing),
        TEST(test_written_in_place),
        TEST(test_order_and_lookup),
        TEST(test_directories_and_masks),
    };

    /* What malloc keeps for the next time would be counted as in use. */
    if (!getenv("GLIBC_TUNABLES")) {
        setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);
        execv("/proc/self/exe", argv);
    }
    mallopt(M_MXFAST, 0);
    setenv("MICROVMD_LOG_LEVEL", "crit", 1);
    log_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
