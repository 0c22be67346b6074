/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which files make up a definition, and what happens when somebody writes to them meanwhile. */
#include "definitions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <fcntl.h>
#include <sys/syscall.h>

static const char good[] = "{ \"kernel\": \"/k\" }";

/* What is done in the middle of the next read of a file, once; the last one is done each time. */
typedef void (*meanwhile_fn)(Scratch *scratch);
static struct {
    meanwhile_fn run;
    Scratch *scratch;
    bool always;
    unsigned reads;
} meanwhile;

/* In place of libc's, for the daemon's library too. */
ssize_t read(int fd, void *buffer, size_t size);
ssize_t read(int fd, void *buffer, size_t size)
{
    meanwhile_fn run = meanwhile.run;
    ssize_t n;

    n = syscall(SYS_read, fd, buffer, size);
    meanwhile.reads++;
    if (run) {
        if (!meanwhile.always)
            meanwhile.run = NULL;
        run(meanwhile.scratch);
    }
    return n;
}

static int setup(void **context)
{
    int r = scratch_setup(context);
    Scratch *scratch = *context;

    assert_int_equal(mkdir(scratch_path(scratch, "etc"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(scratch, "usr"), 0755), 0);
    memset(&meanwhile, 0, sizeof(meanwhile));
    meanwhile.scratch = scratch;
    return r;
}

typedef struct Loaded {
    Definitions found;
    ProblemList problems;
} Loaded;

static void loaded_clear(Loaded *loaded)
{
    definitions_clear(&loaded->found);
    problem_list_clear(&loaded->problems);
}
#define _cleanup_loaded_ _cleanup_(loaded_clear)

/* "etc" over "usr" over defaults.json. */
static void load(Scratch *scratch, const Definitions *before, Loaded *ret_loaded)
{
    char etc[128], usr[128], defaults[128];
    const char *const directories[] = {etc, usr};
    SpecContext context = {.defaults_path = defaults};

    snprintf(etc, sizeof(etc), "%s/etc", scratch->path);
    snprintf(usr, sizeof(usr), "%s/usr", scratch->path);
    snprintf(defaults, sizeof(defaults), "%s/defaults.json", scratch->path);
    memset(ret_loaded, 0, sizeof(*ret_loaded));
    assert_int_equal(definitions_load(directories, 2, &context, before,
                                      &(Surroundings){.state_dir = "/state"}, &ret_loaded->problems,
                                      &ret_loaded->found),
                     0);
}

static const Definition *get(const Loaded *loaded, const char *name)
{
    const Definition *definition = definitions_find(&loaded->found, name);

    if (!definition)
        fail_msg("there is no %s", name);
    return definition;
}

static void assert_no_problems(const Loaded *loaded)
{
    for (size_t i = 0; i < loaded->problems.count; i++)
        fail_msg("%s: %s", loaded->problems.items[i].file, loaded->problems.items[i].text);
}

static const VmSpec *spec_of(const Loaded *loaded, const char *name)
{
    const Definition *definition = get(loaded, name);

    if (!definition->spec)
        fail_msg("%s", definition->error);
    return definition->spec;
}

/* --- layers --- */

static void test_order(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded loaded = {0};

    scratch_text(scratch, "defaults.json",
                 "{ \"vcpu\": 1, \"mem\": 1, \"description\": \"defaults\", \"kernel\": \"/d\" }");
    scratch_text(scratch, "defaults.json.d/a.json", "{ \"description\": \"defaults.d\", \"vcpu\": 7 }");
    scratch_text(scratch, "usr/web.json", "{ \"vcpu\": 99, \"kernelParams\": [\"never\"] }");
    scratch_text(scratch, "etc/web.json", "{ \"vcpu\": 2, \"mem\": 2, \"kernelParams\": [\"web\"] }");
    scratch_text(scratch, "etc/web.json.d/20.json", "{ \"mem\": 20, \"kernelParams+\": [\"20\"] }");
    scratch_text(scratch, "usr/web.json.d/10.json",
                 "{ \"mem\": 10, \"vcpu\": 10, \"kernelParams+\": [\"10\"] }");
    scratch_text(scratch, "usr/web.json.d/20.json", "{ \"vcpu\": 20 }"); /* etc has one of that name */
    scratch_text(scratch, "usr/web.json.d/30.json", "{ \"kernelParams+\": [\"30\"] }");
    scratch_text(scratch, "usr/web.json.d/40.json", "{ \"vcpu\": 40 }");
    scratch_text(scratch, "etc/web.json.d/40.json", ""); /* masked */
    scratch_text(scratch, "usr/web.json.d/50.json", "{ \"vcpu\": 50 }");
    assert_int_equal(symlink("/dev/null", scratch_path(scratch, "etc/web.json.d/50.json")), 0);
    scratch_text(scratch, "etc/web.json.d/README", "no drop-in");
    scratch_text(scratch, "etc/web.json.d/.x.json", "no drop-in");
    load(scratch, NULL, &loaded);
    assert_no_problems(&loaded);
    assert_int_equal(loaded.found.count, 1);
    assert_int_equal(spec_of(&loaded, "web")->vcpu, 10);
    assert_int_equal(spec_of(&loaded, "web")->mem_mib, 20);
    assert_string_equal(spec_of(&loaded, "web")->description, "defaults.d");
    assert_string_equal(spec_of(&loaded, "web")->kernel, "/d");
    assert_int_equal(spec_of(&loaded, "web")->n_kernel_params, 4);
    assert_string_equal(spec_of(&loaded, "web")->kernel_params[0], "web");
    assert_string_equal(spec_of(&loaded, "web")->kernel_params[1], "10");
    assert_string_equal(spec_of(&loaded, "web")->kernel_params[2], "20");
    assert_string_equal(spec_of(&loaded, "web")->kernel_params[3], "30");
    assert_string_equal(get(&loaded, "web")->path, scratch_path(scratch, "etc/web.json"));
}

/* Of the file that says it, and the others' microVMs are not touched. */
static void test_bad_drop_in(void **context)
{
    Scratch *scratch = *context;
    static const char *const bad[] = {"{", "[]", "{\n\"vcpu\": \"x\"}", "{\n\"kernel\": null}",
                                      "{\n\"a\": 1}"};

    scratch_text(scratch, "etc/db.json", good);
    scratch_text(scratch, "etc/web.json", good);
    for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
        _cleanup_loaded_ Loaded loaded = {0};
        scratch_text(scratch, "usr/web.json.d/x.json", bad[i]);
        load(scratch, NULL, &loaded);
        assert_null(get(&loaded, "web")->spec);
        assert_non_null(spec_of(&loaded, "db"));
        assert_non_null(strstr(get(&loaded, "web")->error, "usr/web.json.d/x.json:"));
        if (strstr(bad[i], "null")) /* that is where the kernel was taken out */
            assert_non_null(strstr(get(&loaded, "web")->error, "x.json:2:11: error: \"kernel\" is missing"));
        assert_int_equal(problem_count(&loaded.problems, PROBLEM_ERROR), 1);
        assert_string_equal(loaded.problems.items[0].file, scratch_path(scratch, "usr/web.json.d/x.json"));
    }
}

/* Told once, not with each definition. */
static void test_bad_defaults(void **context)
{
    Scratch *scratch = *context;
    static const char *const bad[] = {"{", "{ \"vpcu\": 1 }", "[1]"};

    scratch_text(scratch, "etc/a.json", good);
    scratch_text(scratch, "etc/b.json", good);
    for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
        _cleanup_loaded_ Loaded loaded = {0};
        scratch_text(scratch, "defaults.json", bad[i]);
        load(scratch, NULL, &loaded);
        assert_int_equal(loaded.problems.count, 1);
        assert_string_equal(loaded.problems.items[0].file, scratch_path(scratch, "defaults.json"));
        for (size_t k = 0; k < 2; k++)
            assert_non_null(strstr(get(&loaded, k ? "b" : "a")->error, "defaults.json:1:"));
    }
}

static void test_drop_ins_without_definition(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded loaded = {0};

    scratch_text(scratch, "etc/web.json.d/x.json", good);
    scratch_text(scratch, "usr/off.json", good);
    scratch_text(scratch, "etc/off.json", "");
    scratch_text(scratch, "etc/off.json.d/x.json", good);
    load(scratch, NULL, &loaded);
    assert_int_equal(loaded.found.count, 0);
    assert_int_equal(loaded.problems.count, 1);
    assert_int_equal(loaded.problems.items[0].severity, PROBLEM_WARNING);
    assert_non_null(strstr(loaded.problems.items[0].text, "no definition web.json"));
}

static void test_drop_ins_that_are_none(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded loaded = {0};

    scratch_text(scratch, "etc/a.json", good);
    scratch_text(scratch, "etc/a.json.d", "a file");
    scratch_text(scratch, "etc/b.json", good);
    assert_int_equal(symlink("nowhere", scratch_path(scratch, "etc/b.json.d")), 0);
    scratch_text(scratch, "etc/c.json", good);
    assert_int_equal(mkdir_parents(scratch_path(scratch, "etc/c.json.d/x.json"), 0755), 0);
    load(scratch, NULL, &loaded);
    assert_int_equal(problem_count(&loaded.problems, PROBLEM_ERROR), 3);
    for (size_t i = 0; i < loaded.found.count; i++)
        assert_null(loaded.found.items[i].spec);
}

/* --- templates --- */

static void test_templates(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded loaded = {0};

    scratch_text(scratch, "usr/web@.json",
                 "{ \"kernel\": \"/usr/%i\", \"description\": \"%n\", \"vcpu\": 1 }");
    scratch_text(scratch, "usr/web@.json.d/x.json", "{ \"vcpu\": 2, \"mem\": 2 }");
    assert_int_equal(symlink("../usr/web@.json", scratch_path(scratch, "etc/web@1.json")), 0);
    scratch_text(scratch, "etc/web@1.json.d/a.json", "{ \"mem\": 3 }");
    scratch_text(scratch, "etc/web@2.json.d/a.json", "{ \"mem\": 4 }");
    scratch_text(scratch, "etc/web@3.json", "{ \"kernel\": \"/own/%i\" }");
    assert_int_equal(symlink("/dev/null", scratch_path(scratch, "etc/web@4.json")), 0);
    scratch_text(scratch, "usr/web@4.json.d/a.json", "{}");
    load(scratch, NULL, &loaded);
    assert_no_problems(&loaded);
    assert_int_equal(loaded.found.count, 3);
    assert_string_equal(spec_of(&loaded, "web@1")->kernel, "/usr/1");
    assert_string_equal(spec_of(&loaded, "web@1")->description, "web@1");
    assert_int_equal(spec_of(&loaded, "web@1")->vcpu, 2);
    assert_int_equal(spec_of(&loaded, "web@1")->mem_mib, 3);
    assert_string_equal(spec_of(&loaded, "web@2")->kernel, "/usr/2");
    assert_int_equal(spec_of(&loaded, "web@2")->mem_mib, 4);
    assert_string_equal(spec_of(&loaded, "web@3")->kernel, "/own/3"); /* its drop-ins count all the same */
    assert_int_equal(spec_of(&loaded, "web@3")->vcpu, 2);
}

/* The link was made for the template of /usr, which /etc overrides now. */
static void test_overridden_template(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded loaded = {0}, masked = {0};

    scratch_text(scratch, "usr/web@.json", "{ \"kernel\": \"/usr\" }");
    scratch_text(scratch, "etc/web@.json", "{ \"kernel\": \"/etc\" }");
    assert_int_equal(symlink("web@.json", scratch_path(scratch, "usr/web@1.json")), 0);
    load(scratch, NULL, &loaded);
    assert_string_equal(spec_of(&loaded, "web@1")->kernel, "/etc");
    scratch_text(scratch, "etc/web@.json", "");
    load(scratch, NULL, &masked);
    assert_int_equal(masked.found.count, 0);
}

static void test_instance_without_template(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded loaded = {0};

    assert_int_equal(symlink("web@.json", scratch_path(scratch, "etc/web@1.json")), 0);
    scratch_text(scratch, "etc/@.json", good);
    scratch_text(scratch, "etc/a@b@.json", good);
    load(scratch, NULL, &loaded);
    assert_int_equal(loaded.found.count, 1);
    assert_non_null(strstr(get(&loaded, "web@1")->error, "No such file"));
    assert_int_equal(problem_count(&loaded.problems, PROBLEM_ERROR), 3);
}

static void test_links_out_of_the_directory(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded loaded = {0};

    scratch_text(scratch, "elsewhere/real.json", "{ \"kernel\": \"/%n\" }");
    scratch_text(scratch, "elsewhere/drop-ins/x.json", "{ \"vcpu\": 3 }");
    assert_int_equal(symlink("../elsewhere/real.json", scratch_path(scratch, "etc/web.json")), 0);
    assert_int_equal(symlink("../elsewhere/drop-ins", scratch_path(scratch, "etc/web.json.d")), 0);
    load(scratch, NULL, &loaded);
    assert_string_equal(spec_of(&loaded, "web")->kernel, "/web"); /* the link has the name */
    assert_int_equal(spec_of(&loaded, "web")->vcpu, 3);
}

/* --- what is read again --- */

static void settle(void)
{
    /* Longer ago than a clock tick, by the file system's own clock, so that its times can be trusted. */
    usleep(60000);
}

static void test_reuse(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded first = {0}, second = {0}, third = {0}, fourth = {0};

    scratch_text(scratch, "etc/a.json", good);
    scratch_text(scratch, "etc/b.json", good);
    scratch_text(scratch, "etc/bad.json", "{");
    settle();
    load(scratch, NULL, &first);
    meanwhile.reads = 0;
    load(scratch, &first.found, &second);
    assert_ptr_equal(spec_of(&first, "a"), spec_of(&second, "a"));
    assert_ptr_equal(spec_of(&first, "b"), spec_of(&second, "b"));
    assert_int_equal(second.problems.count, 1); /* what is broken is told each time */
    assert_int_equal(meanwhile.reads, 2);

    scratch_text(scratch, "etc/b.json.d/x.json", "{ \"vcpu\": 2 }");
    settle();
    load(scratch, &second.found, &third);
    assert_ptr_equal(spec_of(&second, "a"), spec_of(&third, "a"));
    assert_int_equal(spec_of(&third, "b")->vcpu, 2);

    scratch_text(scratch, "defaults.json", "{ \"vcpu\": 5 }");
    load(scratch, &third.found, &fourth);
    assert_int_equal(spec_of(&fourth, "a")->vcpu, 5);
    assert_int_equal(spec_of(&fourth, "b")->vcpu, 2);
}

/* Times are as coarse as a clock tick: what was written just now is read again. */
static void test_fresh_files_are_read_again(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded first = {0};

    for (int i = 0; i < 20; i++) {
        _cleanup_loaded_ Loaded again = {0};
        char text[64];
        _cleanup_close_ int fd = -EBADF;
        snprintf(text, sizeof(text), "{ \"kernel\": \"/k%02d\" }", i);
        fd = open(scratch_path(scratch, "etc/a.json"), O_WRONLY | O_CREAT, 0644);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text)); /* the same inode and size */
        load(scratch, &first.found, &again);
        assert_memory_equal(spec_of(&again, "a")->kernel, text + 13, 4);
        loaded_clear(&first);
        first = again;
        memset(&again, 0, sizeof(again));
    }
}

/* --- while it is read --- */

static void replace(Scratch *scratch)
{
    scratch_text(scratch, "etc/a.json", "{ \"kernel\": \"/new\" }");
}

static void write_over(Scratch *scratch)
{
    _cleanup_close_ int fd = open(scratch_path(scratch, "etc/a.json"), O_WRONLY | O_TRUNC);
    static const char text[] = "{ \"kernel\": \"/new\", \"description\": \"longer than before\" }";

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* As if written to, whatever the clock says. */
static void touch(Scratch *scratch)
{
    static time_t seconds = 1000000000;
    const struct timespec times[] = {{0, UTIME_OMIT}, {++seconds, 0}};

    assert_int_equal(utimensat(AT_FDCWD, scratch_path(scratch, "etc/a.json"), times, 0), 0);
}

static void take_away(Scratch *scratch)
{
    assert_int_equal(unlink(scratch_path(scratch, "etc/a.json")), 0);
}

static void take_drop_in_away(Scratch *scratch)
{
    assert_int_equal(unlink(scratch_path(scratch, "etc/a.json.d/x.json")), 0);
}

static void test_changed_while_read(void **context)
{
    static const meanwhile_fn writers[] = {replace, write_over};
    Scratch *scratch = *context;

    for (size_t i = 0; i < ELEMENTSOF(writers); i++) {
        _cleanup_loaded_ Loaded loaded = {0};
        scratch_text(scratch, "etc/a.json", "{ \"kernel\": \"/old\" }");
        meanwhile.run = writers[i];
        load(scratch, NULL, &loaded);
        assert_null(meanwhile.run);
        assert_string_equal(spec_of(&loaded, "a")->kernel, "/new");
        assert_no_problems(&loaded);
    }
}

static void test_changed_all_the_time(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded loaded = {0};

    scratch_text(scratch, "etc/a.json", good);
    scratch_text(scratch, "usr/b.json", good);
    meanwhile.run = touch;
    meanwhile.always = true;
    load(scratch, NULL, &loaded);
    meanwhile.run = NULL;
    assert_non_null(strstr(get(&loaded, "a")->error, "being written all the time"));
    assert_non_null(spec_of(&loaded, "b"));
}

/* Between listing and reading: what is left counts. */
static void test_removed_before_read(void **context)
{
    Scratch *scratch = *context;
    _cleanup_loaded_ Loaded gone = {0}, lower = {0}, drop_in = {0};

    scratch_text(scratch, "defaults.json", "{}"); /* something to read before */
    scratch_text(scratch, "etc/a.json", good);
    meanwhile.run = take_away;
    load(scratch, NULL, &gone);
    assert_int_equal(gone.found.count, 0);
    assert_int_equal(gone.problems.count, 0);

    scratch_text(scratch, "etc/a.json", good);
    scratch_text(scratch, "usr/a.json", "{ \"kernel\": \"/usr\" }");
    meanwhile.run = take_away;
    load(scratch, NULL, &lower);
    assert_string_equal(spec_of(&lower, "a")->kernel, "/usr");

    scratch_text(scratch, "usr/a.json", good);
    scratch_text(scratch, "etc/a.json.d/x.json", "{ \"vcpu\": 2 }");
    meanwhile.run = take_drop_in_away;
    load(scratch, NULL, &drop_in);
    assert_int_equal(spec_of(&drop_in, "a")->vcpu, 1);
}

/* --- where values came from --- */

static void test_origins(void **context)
{
    Scratch *scratch = *context;
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *json = NULL, *defaults = NULL;
    char etc[128], wanted[256];
    const char *const directories[] = {etc};
    SpecContext context_here = {0};
    cJSON *answer, *origins;

    scratch_text(scratch, "defaults.json", "{\n \"vcpu\": 4 }");
    scratch_text(scratch, "etc/web.json", "{\n\n \"kernel\": \"/%n\", \"labels\": {},\n \"vcpu\": null }");
    scratch_text(scratch, "etc/web.json.d/x.json", "{ \"mem\": 7 }");
    snprintf(etc, sizeof(etc), "%s/etc", scratch->path);
    context_here.defaults_path = defaults = strdup(scratch_path(scratch, "defaults.json"));
    assert_int_equal(definition_find(directories, 1, "none", &context_here, &problems, &files), -ENOENT);
    assert_int_equal(definition_find(directories, 1, "web", &context_here, &problems, &files), 0);
    assert_int_equal(files.count, 3);
    assert_string_equal(files.items[0].path, defaults);
    assert_string_equal(files.items[files.main].path, scratch_path(scratch, "etc/web.json"));
    assert_int_equal(definition_origins("web", &files, &problems, &json), 0);
    answer = cJSON_Parse(json);
    assert_non_null(answer);
    origins = cJSON_GetObjectItem(answer, "origins");
    assert_int_equal(cJSON_GetArraySize(origins), 3);
    snprintf(wanted, sizeof(wanted), "%s/web.json:3", etc);
    assert_string_equal(cJSON_GetObjectItem(origins, "/kernel")->valuestring, wanted);
    assert_string_equal(cJSON_GetObjectItem(origins, "/labels")->valuestring, wanted);
    snprintf(wanted, sizeof(wanted), "%s/web.json.d/x.json:1", etc);
    assert_string_equal(cJSON_GetObjectItem(origins, "/mem")->valuestring, wanted);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(answer, "definition"), "kernel")->valuestring,
                        "/web");
    cJSON_Delete(answer);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_bad_drop_in),
        TEST(test_bad_defaults),
        TEST(test_drop_ins_without_definition),
        TEST(test_drop_ins_that_are_none),
        TEST(test_templates),
        TEST(test_overridden_template),
        TEST(test_instance_without_template),
        TEST(test_links_out_of_the_directory),
        TEST(test_reuse),
        TEST(test_fresh_files_are_read_again),
        TEST(test_changed_while_read),
        TEST(test_changed_all_the_time),
        TEST(test_removed_before_read),
        TEST(test_origins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
