/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is stopped before whom, a host that is emptied, and a stop that can't be put on record. */
#include "order-world.h"

static void test_stops_in_reverse(void **context)
{
    World *world = *context;
    StopJobs jobs;

    begin_chain(world);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_REFUSE, "app", "db", "log", "web");
    assert_int_equal(jobs.count, 4);
    assert_int_equal(jobs.items[1].before, MICROVM_RUNNING);
    stop_jobs_clear(&jobs);
    /* It runs on, and says why. */
    assert_int_equal(state(world, "db"), MICROVM_RUNNING);
    assert_true(find(world, "db")->record.stop_held);
    assert_string_equal(find(world, "db")->record.reason, "running; its stop waits for app to stop");
    assert_int_equal(find(world, "db")->job.verb, MICROVM_JOB_STOP);
    wait_for(world, "db", MICROVM_INACTIVE);
    wait_for(world, "log", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "log,web,app,db,");
    assert_non_null(strstr(world->jobs, "db stop done,"));
    assert_false(find(world, "db")->record.stop_held);
}

static void test_stop_of_what_others_require(void **context)
{
    World *world = *context;
    _cleanup_free_ char *error = NULL;
    MicroVM *db;
    StopJobs jobs = {0};

    begin_chain(world);
    db = find(world, "db");
    assert_int_equal(manager_stop(world->base.manager, &db, 1, &(StopOptions){.timeout_usec = UINT64_MAX},
                                  MICROVM_DEPENDENTS_REFUSE, &jobs, &error),
                     -EMLINK);
    assert_string_equal(error, "app requires db and is not to be stopped");
    assert_int_equal(state(world, "db"), MICROVM_RUNNING);
    assert_null(strstr(world->jobs, "stop"));
    /* with those that require it, and those that require these */
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_STOP, "db");
    assert_int_equal(jobs.count, 3);
    assert_string_equal(jobs.items[0].vm->name, "db");
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "web,app,db,");
    assert_int_equal(state(world, "log"), MICROVM_RUNNING);
    /* who does not run requires nothing */
    start(world, "db");
    wait_for(world, "db", MICROVM_RUNNING);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_REFUSE, "db");
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    stop(world, "log");
}

static void test_stop_without_those_that_require_it(void **context)
{
    World *world = *context;
    StopJobs jobs;

    begin_chain(world);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_IGNORE, "db");
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "db,");
    assert_int_equal(state(world, "app"), MICROVM_RUNNING);
    stop(world, "web");
    stop(world, "app");
    stop(world, "log");
}

/* A stop that waits is taken back by a start; an end meanwhile is a stop, not a failure. */
static void test_held_stop(void **context)
{
    World *world = *context;
    _cleanup_free_ char *error = NULL;
    StopJobs jobs;
    uint64_t job;

    begin_chain(world);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_REFUSE, "db", "app", "web");
    stop_jobs_clear(&jobs);
    start(world, "db");
    assert_non_null(strstr(world->jobs, "db stop superseded,"));
    assert_string_equal(find(world, "db")->record.reason, "the guest is running");
    assert_true(find(world, "db")->record.wanted);
    vm_ended(find(world, "app"), END_CRASHED, "the hypervisor was killed");
    wait_for(world, "app", MICROVM_INACTIVE);
    assert_false(find(world, "app")->record.stop_held);
    wait_for(world, "web", MICROVM_INACTIVE);
    assert_int_equal(state(world, "db"), MICROVM_RUNNING);
    /* by force nobody waits for anybody */
    assert_int_equal(
        vm_request_stop(find(world, "db"), &(StopOptions){.force = true, .held = true}, &job, &error), 0);
    assert_int_equal(state(world, "db"), MICROVM_STOPPING);
    wait_for(world, "db", MICROVM_INACTIVE);
    stop(world, "log");
}

/* What its definition said when each was started counts, and that may be a circle. */
static void test_stops_in_a_circle(void **context)
{
    World *world = *context;
    StopJobs jobs;

    define(world, "a", "\"after\": [\"b\"], \"priority\": 1");
    define(world, "b", "\"mem\": 64");
    begin(world);
    start(world, "a");
    wait_for(world, "a", MICROVM_RUNNING);
    define(world, "a", "\"mem\": 64, \"priority\": 1");
    define(world, "b", "\"after\": [\"a\"]");
    manager_world_reload(&world->base);
    start(world, "b");
    wait_for(world, "b", MICROVM_RUNNING);
    jobs = STOP_ALL(world, MICROVM_DEPENDENTS_REFUSE, "a", "b");
    stop_jobs_clear(&jobs);
    wait_for(world, "a", MICROVM_INACTIVE);
    wait_for(world, "b", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "a,b,");
}

static void test_drain(void **context)
{
    World *world = *context;
    _cleanup_free_ char *error = NULL, *path = NULL;
    StopJobs jobs = {0};

    define(world, "off", "\"mem\": 64");
    begin_chain(world);
    assert_int_equal(manager_drain(world->base.manager, UINT64_MAX, &jobs, &error), 0);
    assert_int_equal(jobs.count, 4);
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    wait_for(world, "log", MICROVM_INACTIVE);
    assert_string_equal(world->stopped, "log,web,app,db,");
    assert_int_equal(manager_may_start(world->base.manager, find(world, "off"), &error), -EUSERS);
    /* Whoever asks past that is held. */
    start(world, "off");
    assert_int_equal(state(world, "off"), MICROVM_WAITING);
    assert_non_null(strstr(find(world, "off")->record.reason, "microvmctl undrain"));
    assert_int_equal(find(world, "off")->held_by, MICROVM_HOLD_DRAIN);
    assert_true(asprintf(&path, "%s/daemon/drained", world->base.directory) > 0);
    assert_int_equal(access(path, F_OK), 0);
    world->started[0] = '\0';
    assert_int_equal(manager_undrain(world->base.manager, true, &jobs), 0);
    assert_int_equal(jobs.count, 4);
    stop_jobs_clear(&jobs);
    assert_int_not_equal(access(path, F_OK), 0);
    wait_for(world, "web", MICROVM_RUNNING);
    wait_for(world, "log", MICROVM_RUNNING);
    wait_for(world, "off", MICROVM_RUNNING);
    assert_true(strstr(world->started, "db,") < strstr(world->started, "app,"));
    /* and stays empty */
    assert_int_equal(manager_drain(world->base.manager, UINT64_MAX, &jobs, &error), 0);
    stop_jobs_clear(&jobs);
    wait_for(world, "db", MICROVM_INACTIVE);
    wait_for(world, "off", MICROVM_INACTIVE);
    wait_for(world, "log", MICROVM_INACTIVE);
    assert_int_equal(manager_undrain(world->base.manager, false, &jobs), 0);
    assert_int_equal(jobs.count, 0);
    stop_jobs_clear(&jobs);
    assert_int_equal(state(world, "db"), MICROVM_INACTIVE);
    assert_int_equal(manager_may_start(world->base.manager, find(world, "off"), &error), 0);
}

static void test_record_is_written_later(void **context)
{
    World *world = *context;
    _cleanup_(vm_record_clear)
    VmRecord record = {0};
    _cleanup_free_ char *error = NULL;
    uint64_t job;
    MicroVM *vm;

    define(world, "web", "\"mem\": 64");
    begin(world);
    start(world, "web");
    wait_for(world, "web", MICROVM_RUNNING);
    vm = find(world, "web");
    assert_int_equal(remove_tree(vm->runtime_dir), 0);
    assert_int_equal(write_file_atomic(vm->runtime_dir, "", 0, 0600), 0);
    stop(world, "web");
    assert_non_null(vm->save_timer);
    assert_int_equal(unlink(vm->runtime_dir), 0);
    /* Who asks for what is there already has it on record, too. */
    assert_int_equal(vm_request_stop(vm, &(StopOptions){.timeout_usec = UINT64_MAX}, &job, &error), 0);
    assert_null(vm->save_timer);
    assert_int_equal(vm_record_read(vm->record_path, &record), 0);
    assert_int_equal(record.state, MICROVM_INACTIVE);
    assert_true(record.decided);
    assert_false(record.wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_stops_in_reverse),
        TEST(test_stop_of_what_others_require),
        TEST(test_stop_without_those_that_require_it),
        TEST(test_held_stop),
        TEST(test_stops_in_a_circle),
        TEST(test_drain),
        TEST(test_record_is_written_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
