/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fork launcher and microvmd-exec, with programs in a hypervisor's place; and the users that they get. */
#include "launch/handover.h"
#include "launch/internal.h"
#include "launch/marked.h"
#include "launch/uid.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "debugger.h"
#include "scratch.h"

static int nothing(const Launched *launched, void *userdata)
{
    return 0;
}

static int refuse(const Launched *launched, void *userdata)
{
    *(ProcessId *)userdata = launched->id;
    return -EDQUOT;
}

static int die(const Launched *launched, void *userdata)
{
    (void)!write(*(int *)userdata, &launched->id, sizeof(launched->id));
    raise(SIGKILL);
    return 0;
}

static int launch_request(const LaunchRequest *request, launch_prepared_fn prepared, void *userdata,
                          Launched *ret, int *ret_pidfd)
{
    LaunchRequest complete = *request;
    char *text = NULL;
    int r;

    complete.helper = BINARY_DIR "/microvmd-exec";
    r = launch_process(&complete, prepared, userdata, ret, ret_pidfd, &text);

    assert_null(text); /* the number says it all */
    return r;
}

/* Runs a shell script with these descriptors; its output is in ret_text. Returns its exit status or an error.
 */
static int run_script(Scratch *scratch, LaunchRequest request, const char *script, char **ret_text)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, (char *)"a b,c\n\"", (char *)"", NULL};
    const char *path = scratch_path(scratch, "output");
    _cleanup_close_ int pidfd = -EBADF;
    siginfo_t info = {0};
    Launched id;
    size_t size;
    int r;

    request.output = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    request.argv = argv;
    r = launch_request(&request, nothing, NULL, &id, &pidfd);
    safe_close(request.output);
    assert_int_equal(r, 0);
    assert_int_equal(waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
    assert_int_equal(read_file(scratch_path(scratch, "output"), 65536, ret_text, &size), 0);
    return info.si_status;
}

static void test_arguments_and_descriptors(void **context)
{
    Scratch *scratch = *context;
    int one = open(scratch_text(scratch, "one", "first\n"), O_RDONLY | O_CLOEXEC);
    int two = open(scratch_text(scratch, "two", "second\n"), O_RDONLY | O_CLOEXEC);
    int fds[] = {two, one, two};
    char *environment[] = {(char *)"GIVEN=a b=c\n", (char *)"EMPTY=", NULL};
    _cleanup_free_ char *text = NULL, *more = NULL;

    assert_int_equal(run_script(scratch, (LaunchRequest){.environment = environment},
                                "printf '[%s][%s]' \"$GIVEN\" \"${EMPTY-none}\"; [ -n \"$PATH\" ]", &more),
                     0);
    assert_string_equal(more, "[a b=c\n][]");
    /* Nothing but what it was given, and /dev/null as its input; 6 is the shell's own, to list them. */
    assert_int_equal(run_script(scratch, (LaunchRequest){.fds = fds, .n_fds = 3},
                                "cat <&3; cat <&4; printf '[%s][%s]\\n' \"$0\" \"$1\"; cat; cd "
                                "/proc/self/fd; echo [0-9]*; exit 7",
                                &text),
                     7);
    assert_string_equal(text, "second\nfirst\n[a b,c\n\"][]\n0 1 2 3 4 5 6\n");
    close(one);
    close(two);
}

static void test_many_descriptors(void **context)
{
    enum {
        MANY = 600
    };
    Scratch *scratch = *context;
    _cleanup_free_ char *text = NULL;
    int fds[MANY];

    for (int i = 0; i < MANY; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%d\n", i);
        fds[i] = open(scratch_text(scratch, "number", number), O_RDONLY | O_CLOEXEC);
        assert_true(fds[i] >= 0);
    }
    assert_int_equal(run_script(scratch, (LaunchRequest){.fds = fds, .n_fds = MANY},
                                "cat /proc/self/fd/3 /proc/self/fd/252 /proc/self/fd/253 /proc/self/fd/602",
                                &text),
                     0);
    assert_string_equal(text, "0\n249\n250\n599\n");
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
}

/* It runs as its user, with no right left, in a session of its own, deaf to nothing. */
static void test_rights(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *text = NULL;

    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(scratch->path, 0755), 0);
    assert_int_equal(
        run_script(scratch, (LaunchRequest){.uid = 1900000007, .gid = 1900000007, .extra_gid = 1900000007},
                   "id -u; id -G; grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|SigBlk):' /proc/self/status;"
                   " cut -d' ' -f1,5,6 /proc/self/stat | awk '{print $3 != 0}'; umask",
                   &text),
        0);
    assert_string_equal(text,
                        "1900000007\n1900000007\nSigBlk:\t0000000000000000\n"
                        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
                        "CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n1\n0077\n");
}

static void test_no_program(void **context)
{
    Scratch *scratch = *context;
    char script[512], *argv[] = {(char *)"/nonexistent/qemu", NULL};
    int output = open("/dev/null", O_WRONLY | O_CLOEXEC), pidfd = -EBADF;
    Launched id;

    assert_int_equal(
        launch_request(&(LaunchRequest){.argv = argv, .output = output}, nothing, NULL, &id, &pidfd),
        -ENOENT);
    snprintf(script, sizeof(script), "%s", scratch_text(scratch, "qemu", "#!/nonexistent/sh\n"));
    argv[0] = script;
    assert_int_equal(
        launch_request(&(LaunchRequest){.argv = argv, .output = output}, nothing, NULL, &id, &pidfd),
        -EACCES);
    assert_int_equal(chmod(script, 0700), 0);
    assert_int_equal(
        launch_request(&(LaunchRequest){.argv = argv, .output = output}, nothing, NULL, &id, &pidfd),
        -ENOENT);
    assert_int_equal(pidfd, -EBADF);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
    close(output);
}

/* What could not be put on record has never run. */
static void test_not_on_record(void **context)
{
    Scratch *scratch = *context;
    char script[1024], *argv[] = {(char *)"/bin/sh", (char *)"-c", script, NULL};
    int output = open("/dev/null", O_WRONLY | O_CLOEXEC), pidfd = -EBADF;
    ProcessId id = {0};
    Launched ignored;

    snprintf(script, sizeof(script), "touch %s", scratch_path(scratch, "ran"));
    assert_int_equal(
        launch_request(&(LaunchRequest){.argv = argv, .output = output}, refuse, &id, &ignored, &pidfd),
        -EDQUOT);
    assert_true(id.pid > 1 && id.start_ticks > 0);
    assert_int_equal(process_open(&id, &pidfd), -ESRCH);
    assert_int_equal(access(scratch_path(scratch, "ran"), F_OK), -1);
    close(output);
}

/* So that nobody takes it for a hypervisor that has ended. */
static void assert_has_run_nothing(pid_t pid)
{
    int status;

    alarm(60);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    alarm(0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), HANDOVER_NOTHING_RUN);
}

/* Whoever asked for it dies before it was put on record, or at once after: nothing is run. */
static void test_asker_dies(void **context)
{
    Scratch *scratch = *context;
    char script[1024], *argv[] = {(char *)"/bin/sh", (char *)"-c", script, NULL};
    const char *record = scratch_path(scratch, "id");
    int output = open("/dev/null", O_WRONLY | O_CLOEXEC),
        fd = open(record, O_RDWR | O_CREAT | O_CLOEXEC, 0600), pidfd;
    ProcessId id = {0};
    Launched ignored;
    pid_t asker;

    snprintf(script, sizeof(script), "touch %s", scratch_path(scratch, "ran"));
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    asker = fork();
    assert_true(asker >= 0);
    if (asker == 0) {
        launch_request(&(LaunchRequest){.argv = argv, .output = output}, die, &fd, &ignored, &pidfd);
        _exit(0);
    }
    assert_int_equal(waitpid(asker, NULL, 0), asker);
    assert_int_equal(pread(fd, &id, sizeof(id), 0), sizeof(id));
    assert_has_run_nothing(id.pid);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
    assert_int_equal(access(scratch_path(scratch, "ran"), F_OK), -1);
    close(fd);
    close(output);
}

/* Dies later, so that nobody hears why the program can't be executed. */
static void test_asker_dies_at_the_end(void **context)
{
    static const char program[] = "/nonexistent/qemu";
    HandoverHeader header = {.arguments_size = sizeof(program)};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec vector = {&header, sizeof(header)};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    int output = open("/dev/null", O_WRONLY | O_CLOEXEC), ours, theirs, answer[2];
    LaunchRequest request = {.helper = BINARY_DIR "/microvmd-exec", .output = output};
    sd_id128_t invocation;
    pid_t pid, speaker;

    assert_int_equal(handover_open(&ours, &theirs), 0);
    assert_int_equal(fork_start(&request, theirs, &pid), 0);
    close(theirs);
    assert_int_equal(handover_hear(ours, &speaker, &invocation), 0);
    assert_int_equal(speaker, pid);
    assert_int_equal(pipe2(answer, O_CLOEXEC), 0);
    close(answer[0]);
    *CMSG_FIRSTHDR(&message) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &answer[1], sizeof(int));
    assert_int_equal(sendmsg(ours, &message, 0), sizeof(header));
    assert_int_equal(write(ours, program, sizeof(program)), sizeof(program));
    close(answer[1]);
    assert_has_run_nothing(pid);
    close(ours);
    close(output);
}

/* Something else than microvmd-exec, which says nothing, or is nobody. */
static void test_no_hello(void **context)
{
    static const char *const scripts[] = {"#!/bin/sh\nexit 0\n", "#!/bin/sh\necho nonsense >&0\n", NULL};
    Scratch *scratch = *context;
    char *argv[] = {(char *)"/bin/true", NULL};
    int output = open("/dev/null", O_WRONLY | O_CLOEXEC), pidfd = -EBADF;
    LaunchRequest request = {.argv = argv, .output = output};
    Launched launched;

    for (size_t i = 0; i < ELEMENTSOF(scripts); i++) {
        _cleanup_free_ char *helper = strdup(scratch_path(scratch, "microvmd-exec")), *text = NULL;
        int r;
        request.helper = helper;
        if (scripts[i])
            assert_int_equal(chmod(scratch_text(scratch, "microvmd-exec", scripts[i]), 0700), 0);
        else
            assert_int_equal(unlink(helper), 0);
        r = launch_process(&request, nothing, NULL, &launched, &pidfd, &text);
        assert_true(scripts[i] ? r < 0 : r == -ELIBACC);
        assert_non_null(strstr(text, "microvmd-exec"));
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
    }
    assert_int_equal(pidfd, -EBADF);
    close(output);
}

static void test_where_helper_is(void **context)
{
    Scratch *scratch = *context;
    _cleanup_free_ char *path = NULL, *none = NULL, *text = NULL;

    setenv("MICROVMD_LIBEXECDIR", scratch->path, 1);
    assert_int_equal(helper_find(&none, &text), -ELIBACC);
    assert_null(none);
    assert_non_null(strstr(text, "microvmd-exec"));
    assert_int_equal(chmod(scratch_text(scratch, "microvmd-exec", "#!/bin/true\n"), 0700), 0);
    assert_int_equal(helper_find(&path, &text), 0);
    assert_string_equal(path, scratch_path(scratch, "microvmd-exec"));
    setenv("MICROVMD_LIBEXECDIR", BINARY_DIR, 1);
}

/* Who says hello is told by the socket, not by what it says. */
static void test_who_it_is(void **context)
{
    _cleanup_free_ char *text = NULL;
    Launched launched = {0};
    Scratch *scratch = *context;
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)"echo $$ $INVOCATION_ID", NULL}, expected[64];
    int output = open(scratch_path(scratch, "output"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), pidfd = -EBADF;
    size_t size;

    setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef", 1);
    assert_int_equal(
        launch_request(&(LaunchRequest){.argv = argv, .output = output}, nothing, NULL, &launched, &pidfd),
        0);
    unsetenv("INVOCATION_ID");
    assert_int_equal(waitpid(launched.id.pid, NULL, 0), launched.id.pid);
    assert_int_equal(read_file(scratch_path(scratch, "output"), 65536, &text, &size), 0);
    snprintf(expected, sizeof(expected), "%d 0123456789abcdef0123456789abcdef\n", (int)launched.id.pid);
    assert_string_equal(text, expected);
    /* A child inherits it from the daemon; it has no unit of its own. */
    assert_true(sd_id128_is_null(launched.invocation));
    close(pidfd);
    close(output);
}

static void test_choice(void **context)
{
    bool systemd = access("/run/systemd/system", F_OK) == 0;
    Launcher launcher;

    assert_int_equal(launcher_choose("fork", &launcher), 0);
    assert_int_equal(launcher, LAUNCHER_FORK);
    assert_int_equal(launcher_choose("auto", &launcher), 0);
    assert_int_equal(launcher, systemd && geteuid() == 0 ? LAUNCHER_SYSTEMD : LAUNCHER_FORK);
    assert_int_equal(launcher_choose("systemd", &launcher), !systemd ? -ENOSYS : geteuid() != 0 ? -EPERM : 0);
    assert_int_equal(launcher_choose("init", &launcher), -EINVAL);
}

/* The number of a process may be another one's by now. */
static void test_the_very_process(void **context)
{
    ProcessId self = {.pid = getpid(), .start_ticks = 1};
    int pidfd = -EBADF;

    assert_int_equal(process_open(&self, &pidfd), -ESRCH);
    self.pid = 0x3fffff;
    assert_int_equal(process_open(&self, &pidfd), -ESRCH);
}

static void test_users(void **context)
{
    Scratch *scratch = *context;
    char directory[512], name[16];
    uid_t web, other, uid;

    snprintf(directory, sizeof(directory), "%s", scratch_path(scratch, "uids"));
    assert_int_equal(uid_allot(directory, "web", 1900000000, &web), 0);
    assert_int_equal(uid_allot(directory, "db", 1900000000, &other), 0);
    assert_int_not_equal(web, other);
    assert_true(web >= 1900000000 && web < 1900000000 + UIDS);
    assert_int_equal(uid_allot(directory, "web", 1900000000, &uid), 0);
    assert_int_equal(uid, web); /* it keeps it */
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof(name), "vm%d", i);
        assert_int_equal(uid_allot(directory, name, 1900000000, &uid), 0);
        assert_true(uid != web && uid != other);
    }
    assert_int_equal(uid_allot(directory, "db", 1900000000, &uid), 0);
    assert_int_equal(uid, other);
}

static void count_users(const char *link, const char *name, void *userdata)
{
    ++*(size_t *)userdata;
}

/* One that is given back is somebody else's next, and hides none of those that were put behind it. */
static void test_users_given_back(void **context)
{
    enum {
        MANY = 1000, /* enough that some are behind others */
    };
    Scratch *scratch = *context;
    char directory[512], name[16];
    uid_t users[MANY], uid;
    size_t count = 0;

    snprintf(directory, sizeof(directory), "%s", scratch_path(scratch, "uids"));
    assert_int_equal(uid_each(directory, count_users, &count), 0);
    assert_int_equal(uid_release(directory, "nobody"), 0);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "vm%d", i);
        assert_int_equal(uid_allot(directory, name, 1900000000, &users[i]), 0);
    }
    for (int i = 0; i < MANY; i += 2) {
        snprintf(name, sizeof(name), "vm%d", i);
        assert_int_equal(uid_release(directory, name), 0);
    }
    assert_int_equal(uid_each(directory, count_users, &count), 0);
    assert_int_equal(count, MANY / 2);
    for (int i = 1; i < MANY; i += 2) {
        snprintf(name, sizeof(name), "vm%d", i);
        assert_int_equal(uid_allot(directory, name, 1900000000, &uid), 0);
        assert_int_equal(uid, users[i]);
    }
    assert_int_equal(uid_allot(directory, "vm0", 1900000000, &uid), 0);
    assert_int_equal(uid, users[0]);
}

typedef struct Marked {
    pid_t pid;
    char name[16];
    sd_id128_t generation;
    size_t count;
} Marked;

static void take_marked(pid_t pid, const char *microvm, sd_id128_t generation, bool errand, void *userdata)
{
    Marked *marked = userdata;

    marked->pid = pid;
    snprintf(marked->name, sizeof(marked->name), "%s", microvm);
    marked->generation = generation;
    marked->count++;
}

static void test_marked(void **context)
{
    Scratch *scratch = *context;
    char directory[512], other[520], *argv[] = {(char *)"/bin/sleep", (char *)"60", NULL};
    _cleanup_free_ char *run = NULL;
    _cleanup_close_ int pidfd = -EBADF;
    sd_id128_t generation;
    Marked marked = {0};
    Launched launched;

    snprintf(directory, sizeof(directory), "%s", scratch_path(scratch, "run/vm"));
    snprintf(other, sizeof(other), "%s/we", directory); /* no directory above "web" */
    assert_int_equal(sd_id128_randomize(&generation), 0);
    assert_true(asprintf(&run, "%s/web", directory) > 0);
    char *environment[] = {mark_of_run(run, generation), NULL};
    assert_int_equal(launch_request(&(LaunchRequest){.argv = argv, .environment = environment, .output = 1},
                                    nothing, NULL, &launched, &pidfd),
                     0);
    assert_int_equal(marked_each(directory, take_marked, &marked), 0);
    assert_int_equal(marked.count, 1);
    assert_int_equal(marked.pid, launched.id.pid);
    assert_string_equal(marked.name, "web");
    assert_true(sd_id128_equal(marked.generation, generation));
    assert_int_equal(marked_each(other, take_marked, &marked), 0);
    assert_int_equal(marked.count, 1);
    process_kill(pidfd);
    assert_int_equal(waitid((idtype_t)P_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED), 0);
    free(environment[0]);
}

/* Whoever ends it goes on, after a while: it may hang in the kernel, too, on a dead disk. */
static void test_hangs_while_it_ends(void **context)
{
    pid_t pid = fork(), tracer;

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    tracer = debugger(pid, PTRACE_O_TRACEEXIT);
    alarm(30);
    fork_undo(pid);
    alarm(0);
    debugger_end(tracer);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_arguments_and_descriptors),
        IN_SCRATCH(test_many_descriptors),
        IN_SCRATCH(test_rights),
        IN_SCRATCH(test_no_program),
        IN_SCRATCH(test_not_on_record),
        IN_SCRATCH(test_asker_dies),
        IN_SCRATCH(test_asker_dies_at_the_end),
        IN_SCRATCH(test_no_hello),
        cmocka_unit_test(test_hangs_while_it_ends),
        IN_SCRATCH(test_where_helper_is),
        IN_SCRATCH(test_who_it_is),
        IN_SCRATCH(test_choice),
        IN_SCRATCH(test_the_very_process),
        IN_SCRATCH(test_users),
        IN_SCRATCH(test_users_given_back),
        IN_SCRATCH(test_marked),
    };

    setenv("MICROVMD_LIBEXECDIR", BINARY_DIR, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
