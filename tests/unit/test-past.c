/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is remembered of a microVM's past, and the reports of runs that ended badly. */
#include "base/say.h"
#include "base/utf8.h"
#include "driver/qemu-event.h"
#include "supervise/crash-report.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

/* --- the trail --- */

static void test_trail_keeps_the_newest(void **context)
{
    Trail trail = {0};
    char text[32];

    for (unsigned i = 0; i < 3 * TRAIL_LENGTH + 1; i++) {
        snprintf(text, sizeof(text), "event %u", i);
        trail_add(&trail, i, MICROVM_EVENT_STATE, text);
    }
    assert_int_equal(trail.count, TRAIL_LENGTH);
    assert_int_equal(trail_get(&trail, 0)->usec, 2 * TRAIL_LENGTH + 1);
    snprintf(text, sizeof(text), "event %u", 3 * TRAIL_LENGTH);
    assert_string_equal(trail_get(&trail, TRAIL_LENGTH - 1)->text, text);
}

static void test_text_is_cut_between_characters(void **context)
{
    char text[6];

    past_copy_text(text, sizeof(text), "abcde");
    assert_string_equal(text, "abcde");
    past_copy_text(text, sizeof(text), "abcdef");
    assert_string_equal(text, "ab…"); /* "…" has three bytes, as "→" */
    past_copy_text(text, sizeof(text), "ab→");
    assert_string_equal(text, "ab→");
    past_copy_text(text, sizeof(text), "a→bc");
    assert_string_equal(text, "a…");
    past_copy_text(text, sizeof(text), "");
    assert_string_equal(text, "");
}

/* --- who asked --- */

static void test_who_asked(void **context)
{
    static const struct {
        Asked asked;
        const char *text;
    } rows[] = {
        {{.by = MICROVM_ASKED_BY_CALLER,
          .verb = MICROVM_JOB_STOP,
          .caller = {.known = true, .uid = 1000, .pid = 42, .process = "virt-thing"}},
         "stop asked for by uid 1000 (virt-thing, pid 42)"},
        {{.by = MICROVM_ASKED_BY_CALLER, .caller = {.known = true, .uid = 1000, .pid = 42}},
         "start asked for by uid 1000 (pid 42)"},
        {{.by = MICROVM_ASKED_BY_CALLER, .caller = {.known = true, .uid = 0}}, "start asked for by uid 0"},
        {{.by = MICROVM_ASKED_BY_CALLER}, "start asked for by somebody whom the bus did not tell"},
        {{.by = MICROVM_ASKED_BY_APPLY, .verb = MICROVM_JOB_RESTART, .caller = {.known = true}},
         "restart asked for by the apply of uid 0"},
        {{.by = MICROVM_ASKED_BY_AUTOSTART}, "start by its \"autostart\""},
        {{.by = MICROVM_ASKED_BY_DEPENDENCY, .whom = "web"}, "start for web, which needs it"},
        {{.by = MICROVM_ASKED_BY_HANDLE}, "start asked for through systemd, by its handle"},
        {{.by = MICROVM_ASKED_BY_SHUTDOWN, .verb = MICROVM_JOB_STOP},
         "stop because the host is shutting down, by microvmd-shutdown.service"},
        {{.by = MICROVM_ASKED_BY_OUTSIDE, .verb = MICROVM_JOB_STOP}, "stop by somebody else than microvmd"},
    };

    for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
        _cleanup_free_ char *text = asked_describe(&rows[i].asked);
        assert_string_equal(text, rows[i].text);
    }
}

/* --- on record --- */

static VmPast make_past(void)
{
    VmPast past = {
        .asked = {.by = MICROVM_ASKED_BY_APPLY,
                  .verb = MICROVM_JOB_RESTART,
                  .usec = UINT64_C(1795657288721670),
                  .caller = {.known = true, .apply = true, .uid = 4294967294, .pid = 77, .process = "a b"}},
        .end = {.usec = UINT64_C(1795657288721671),
                .start_usec = UINT64_C(1795657288721000),
                .result = MICROVM_RESULT_OOM,
                .cause = END_OOM,
                .details = {.code = CLD_KILLED, .status = SIGKILL, .unit_result = "oom-kill"},
                .memory_peak = UINT64_C(9007199254740993), /* no double holds it */
                .crash_usec = UINT64_C(1795657288721671),
                .text = "the hypervisor ran out of memory"},
    };

    trail_add(&past.trail, 1, MICROVM_EVENT_REQUEST, "start asked for");
    trail_add(&past.trail, 2, MICROVM_EVENT_HYPERVISOR, "SHUTDOWN (guest-reset)");
    return past;
}

static void test_record_and_back(void **context)
{
    VmPast past = make_past(), back;
    cJSON *record = cJSON_CreateObject(), *again = cJSON_CreateObject(), *read;
    char *text, *text_again;

    assert_true(past_write(record, &past));
    text = cJSON_PrintUnformatted(record);
    read = cJSON_Parse(text);
    past_read(read, &back);
    assert_true(past_write(again, &back));
    text_again = cJSON_PrintUnformatted(again);
    assert_string_equal(text, text_again);
    assert_true(back.asked.caller.apply);
    assert_int_equal(back.end.memory_peak, past.end.memory_peak);
    assert_int_equal(back.end.cause, END_OOM);
    assert_int_equal(back.trail.count, 2);
    assert_string_equal(trail_get(&back.trail, 1)->text, "SHUTDOWN (guest-reset)");
    cJSON_Delete(read);
    cJSON_Delete(record);
    cJSON_Delete(again);
    free(text);
    free(text_again);
}

/* An older daemon's record has nothing, a newer one's has words that are not known here. */
static void test_record_of_another_version(void **context)
{
    static const char *const records[] = {
        "{}",
        "{\"past\": 3}",
        "{\"past\": {\"asked\": {\"by\": \"a wizard\", \"verb\": \"start\"}, \"end\": [], \"events\": {}}}",
        "{\"past\": {\"asked\": 1, \"end\": {\"result\": \"bliss\"}, \"events\": [1, {}, \"\", \"7\", \"7 "
        "omen x\", \"7 state\", \"state x\", \"7 a-very-long-word-that-is-none x\"]}}",
    };

    for (size_t i = 0; i < ELEMENTSOF(records); i++) {
        cJSON *record = cJSON_Parse(records[i]);
        VmPast past;
        assert_non_null(record);
        past_read(record, &past);
        assert_int_equal(past.asked.by, MICROVM_ASKED_BY_NOBODY);
        assert_int_equal(past.end.usec, 0);
        assert_int_equal(past.trail.count, 0);
        cJSON_Delete(record);
    }
}

/* --- what QEMU says --- */

static void test_events_of_qemu(void **context)
{
    static const struct {
        const char *name, *data, *text;
    } rows[] = {
        {"SHUTDOWN", "{\"guest\": true, \"reason\": \"guest-reset\"}", "SHUTDOWN (guest-reset)"},
        {"GUEST_PANICKED", "{\"action\": \"pause\"}", "GUEST_PANICKED (pause)"},
        {"STOP", NULL, "STOP"},
        {"SHUTDOWN", "{\"reason\": \"so \\u001b[2J it is\"}", "SHUTDOWN"},
        {"SHUTDOWN", "{\"reason\": \"much-longer-than-any-word-that-qemu-has\"}", "SHUTDOWN"},
        {"SHUTDOWN", "{\"reason\": 3}", "SHUTDOWN"},
        {"RTC_CHANGE", "{\"offset\": 1}", NULL},
        {"shutdown", NULL, NULL},
    };

    for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
        cJSON *data = rows[i].data ? cJSON_Parse(rows[i].data) : NULL;
        _cleanup_free_ char *text = qemu_event_text(rows[i].name, data);
        if (rows[i].text)
            assert_string_equal(text, rows[i].text);
        else
            assert_null(text);
        cJSON_Delete(data);
    }
}

/* --- reports --- */

static void write_report(Scratch *scratch, uint64_t usec, char *console, size_t size)
{
    static const char command[] = "qemu\0-name\0caf\xe9";
    VmPast past = make_past();
    CrashFacts facts = {.name = "web",
                        .past = &past,
                        .driver = "direct",
                        .pid = 4242,
                        .command = command,
                        .command_size = sizeof(command),
                        .console = console,
                        .console_size = size};
    cJSON *report;

    past.end.usec = past.end.crash_usec = usec;
    report = crash_report_new(&facts);
    assert_non_null(report);
    assert_int_equal(crash_report_write(scratch->path, usec, report), 0);
    cJSON_Delete(report);
}

static void test_report(void **context)
{
    char console[] = "boot\nKernel panic\0 \xff →\x1b[2J";
    _cleanup_free_ char *text = NULL;
    cJSON *report;
    struct stat st;

    write_report(*context, 1795657288721671, console, sizeof(console) - 1);
    assert_int_equal(stat(scratch_path(*context, "crash-1795657288721671.json"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(crash_report_read(((Scratch *)*context)->path, 1795657288721671, &text), 0);
    assert_non_null(strstr(text, "\"timestamp\":1795657288721671,"));
    assert_non_null(strstr(text, "\"memoryPeak\":9007199254740993,"));
    report = cJSON_Parse(text);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(report, "console")),
                        "boot\nKernel panic? ? →\x1b[2J");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(report, "command"), 2)),
                        "caf?");
    assert_string_equal(
        cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(report, "exit"), "code")), "killed");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(report, "unitResult")), "oom-kill");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(report, "events")), 2);
    cJSON_Delete(report);
}

/* Each control character takes six bytes in JSON. */
static void test_report_is_bounded(void **context)
{
    char *console = malloc(CRASH_CONSOLE_MAX);
    _cleanup_free_ char *text = NULL;

    memset(console, '\x01', CRASH_CONSOLE_MAX);
    memcpy(console + CRASH_CONSOLE_MAX - 4, "last", 4);
    write_report(*context, 7, console, CRASH_CONSOLE_MAX);
    free(console);
    assert_int_equal(crash_report_read(((Scratch *)*context)->path, 7, &text), 0);
    assert_true(strlen(text) <= CRASH_REPORT_SIZE_MAX && strlen(text) > CRASH_REPORT_SIZE_MAX / 4);
    assert_non_null(strstr(text, "last\"}"));
}

static void test_reports_are_few(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *text = NULL;
    CrashRows rows;

    assert_int_equal(crash_report_list("/nonexistent", &rows), 0);
    assert_int_equal(rows.count, 0);
    scratch_text(scratch, "crash-0.json", "{}");
    scratch_text(scratch, "crash-12x.json", "{}");
    scratch_text(scratch, "crash-99.json", "no report");
    scratch_text(scratch, "console.log", "");
    for (uint64_t i = 100; i < 100 + CRASH_REPORTS_MAX + 2; i++)
        write_report(scratch, i, NULL, 0);
    assert_int_equal(crash_report_list(scratch->path, &rows), 0);
    assert_int_equal(rows.count, CRASH_REPORTS_MAX);
    assert_int_equal(rows.items[0].usec, 100 + CRASH_REPORTS_MAX + 1);
    assert_int_equal(rows.items[0].result, MICROVM_RESULT_OOM);
    assert_string_equal(rows.items[0].reason, "the hypervisor ran out of memory");
    assert_int_equal(rows.items[CRASH_REPORTS_MAX - 1].usec, 102);
    crash_rows_clear(&rows);
    assert_int_equal(crash_report_read(scratch->path, 100, &text), -ENOENT);
    assert_int_equal(access(scratch_path(scratch, "crash-99.json"), F_OK), -1); /* the oldest of all */
    assert_int_equal(access(scratch_path(scratch, "console.log"), F_OK), 0);
    assert_int_equal(access(scratch_path(scratch, "crash-0.json"), F_OK), 0); /* none of ours */
}

static void test_report_that_cant_be_written(void **context)
{
    VmPast past = make_past();
    cJSON *report = crash_report_new(&(CrashFacts){.name = "web", .past = &past});

    assert_int_equal(crash_report_write("/dev/null", 1, report), -ENOTDIR);
    cJSON_Delete(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trail_keeps_the_newest),
        cmocka_unit_test(test_text_is_cut_between_characters),
        cmocka_unit_test(test_who_asked),
        cmocka_unit_test(test_record_and_back),
        cmocka_unit_test(test_record_of_another_version),
        cmocka_unit_test(test_events_of_qemu),
        IN_SCRATCH(test_report),
        IN_SCRATCH(test_report_is_bounded),
        IN_SCRATCH(test_reports_are_few),
        cmocka_unit_test(test_report_that_cant_be_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
