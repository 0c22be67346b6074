/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Definitions are checked by "microvmd --check": the code that loads them, which needs no daemon, sees the
 * other files that have a say, and is of the same version as this program. (A daemon's Validate, for other
 * clients, knows neither the file's name nor what lies beside it, and has to run.)
 */
#include "ctl.h"
#include "source.h"
#include "term.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
    FILE_MAX = 1024 * 1024, /* as microvmd */
};

typedef struct Problem {
    char *file, *text, *pointer;
    bool error;
    unsigned line, column;
} Problem;

typedef struct Check {
    Ctl *ctl;
    size_t errors;
    cJSON *list;      /* with --json */
    const char *name; /* of the file, for people */
    const char *path; /* of the same, for microvmd */
    char *text;       /* what is in it; NULL: it can't be read */
    size_t size;
} Check;

static void problem_clear(Problem *problem)
{
    free(problem->file);
    free(problem->text);
    free(problem->pointer);
}

/* --- the file --- */

/* All of a file, and one byte more than there may be, to tell. */
static int read_all(int fd, char **ret_text, size_t *ret_size)
{
    _cleanup_free_ char *text = malloc(FILE_MAX + 1);
    size_t used = 0;
    ssize_t n;

    if (!text)
        return -ENOMEM;
    do {
        n = read(fd, text + used, FILE_MAX + 1 - used);
        if (n < 0 && errno != EINTR)
            return -errno;
        used += n > 0 ? (size_t)n : 0;
    } while (n != 0 && used <= FILE_MAX);
    *ret_text = text;
    *ret_size = used;
    text = NULL;
    return 0;
}

/* For the lines that are shown; what is wrong with the file itself is microvmd's to say. */
static void read_source(Check *check)
{
    _cleanup_close_ int fd = open(check->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        (void)read_all(fd, &check->text, &check->size);
}

/* Standard input as a file that microvmd can open. */
static int copy_stdin(char *path, size_t size, int *ret_fd)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_close_ int fd = -EBADF;
    size_t length, done = 0;
    ssize_t n;
    int r;

    r = read_all(STDIN_FILENO, &text, &length);
    if (r < 0)
        return r;
    fd = memfd_create("definition", 0);
    if (fd < 0)
        return -errno;
    for (; done < length; done += (size_t)n) {
        n = write(fd, text + done, length - done);
        if (n < 0)
            return -errno;
    }
    snprintf(path, size, "/dev/fd/%d", fd);
    *ret_fd = fd;
    fd = -EBADF;
    return 0;
}

/* --- microvmd --- */

/* In place of this process: the microvmd that was installed or built with it, else the first one there is. */
static void exec_microvmd(const char *file)
{
    static const char *const beside[] = {"../sbin/microvmd", "microvmd"};
    char *const words[] = {(char *)"microvmd", (char *)"--check", (char *)"--", (char *)file, NULL};
    static const char *const others[] = {"/usr/local/sbin/microvmd", "/usr/sbin/microvmd"};
    char own[4096];
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

    own[n > 0 ? n : 0] = '\0';
    for (size_t i = 0; i < ELEMENTSOF(beside) && strrchr(own, '/'); i++) {
        char path[sizeof(own) + 32];
        snprintf(path, sizeof(path), "%.*s/%s", (int)(strrchr(own, '/') - own), own, beside[i]);
        execv(path, words);
    }
    execvp("microvmd", words);
    /* not in everybody's PATH */
    for (size_t i = 0; i < ELEMENTSOF(others); i++)
        execv(others[i], words);
    fprintf(stderr, "microvmctl: microvmd, which checks definitions, is not installed here.\n");
    _exit(127);
}

static FILE *run_microvmd(const char *file, pid_t *ret_pid)
{
    int ends[2];
    FILE *said;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return NULL;
    fflush(NULL);
    *ret_pid = fork();
    if (*ret_pid == 0) {
        if (dup2(ends[1], STDOUT_FILENO) < 0)
            _exit(127);
        exec_microvmd(file);
    }
    close(ends[1]);
    said = *ret_pid > 0 ? fdopen(ends[0], "re") : NULL;
    if (!said)
        close(ends[0]);
    return said;
}

/* --- what it says: FILE:LINE:COLUMN: error: TEXT (at POINTER) --- */

/* Cuts ":NUMBER" off the end. */
static bool cut_number(char *text, unsigned *ret_number)
{
    char *colon = strrchr(text, ':'), *end;
    unsigned long number;

    if (!colon || colon[1] < '0' || colon[1] > '9')
        return false;
    number = strtoul(colon + 1, &end, 10);
    if (*end || number > UINT32_MAX)
        return false;
    *colon = '\0';
    *ret_number = (unsigned)number;
    return true;
}

/* -EINVAL: it is something else. */
static int parse_problem(const char *path, const char *line, Problem *ret_problem)
{
    /* The name of the file may hold anything. */
    size_t skip = strncmp(line, path, strlen(path)) == 0 ? strlen(path) : 0, length;
    const char *error = strstr(line + skip, ": error: "), *warning = strstr(line + skip, ": warning: ");
    const char *severity = !error || (warning && warning < error) ? warning : error, *text, *pointer = NULL;
    Problem problem = {.error = severity == error};

    if (!severity)
        return -EINVAL;
    text = strchr(severity + 2, ':') + 2;
    length = strlen(text);
    for (const char *at = text; (at = strstr(at, " (at /")); at++)
        pointer = at;
    if (pointer && text[length - 1] == ')')
        length = (size_t)(pointer - text);
    else
        pointer = NULL;
    problem.file = strndup(line, (size_t)(severity - line));
    problem.text = strndup(text, length);
    problem.pointer = pointer ? strndup(pointer + 5, strlen(pointer) - 6) : strdup("");
    if (!problem.file || !problem.text || !problem.pointer) {
        problem_clear(&problem);
        return -ENOMEM;
    }
    if (cut_number(problem.file, &problem.column) && !cut_number(problem.file, &problem.line))
        problem.column = 0;
    *ret_problem = problem;
    return 0;
}

static void tell(Check *check, const Problem *problem)
{
    const char *severity = problem->error ? "error" : "warning";
    bool here = strcmp(problem->file, check->path) == 0;
    const char *file = here ? check->name : problem->file;
    _cleanup_free_ char *shown = escape(problem->text, ESCAPE_LINE),
                        *at = escape(problem->pointer, ESCAPE_LINE);
    _cleanup_free_ char *shown_file = escape(file, ESCAPE_LINE);
    char place[32] = "";

    check->errors += problem->error;
    if (check->list) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "File", file);
        cJSON_AddStringToObject(object, "Severity", severity);
        cJSON_AddStringToObject(object, "Pointer", problem->pointer);
        cJSON_AddStringToObject(object, "Text", problem->text);
        cJSON_AddNumberToObject(object, "Line", problem->line);
        cJSON_AddNumberToObject(object, "Column", problem->column);
        cJSON_AddItemToArray(check->list, object);
        return;
    }
    if (problem->line > 0)
        snprintf(place, sizeof(place), "%u:%u:", problem->line, problem->column);
    printf("%s:%s %s%s%s: %s", shown_file ? shown_file : "?", place, paint(severity), severity, paint_off(),
           shown ? shown : "");
    if (at && *at)
        printf(" (at %s)", at);
    putchar('\n');
    if (here && check->text)
        source_show(check->text, check->size, problem->line, problem->column);
}

/* Tells all problems that microvmd tells; its exit status, or -errno. */
static int check_file(Check *check)
{
    _cleanup_free_ char *line = NULL, *rest = NULL;
    size_t room = 0, rest_size;
    FILE *said, *other = open_memstream(&rest, &rest_size);
    int status, r = 0;
    ssize_t length;
    pid_t pid;

    said = other ? run_microvmd(check->path, &pid) : NULL;
    if (!said)
        return -errno;
    while (r >= 0 && (length = getline(&line, &room, said)) > 0) {
        Problem problem;
        line[length - 1] = '\0';
        r = parse_problem(check->path, line, &problem);
        if (r == -EINVAL) {
            fprintf(other, "%s\n", line);
            r = 0;
        } else if (r >= 0) {
            tell(check, &problem);
            problem_clear(&problem);
        }
    }
    fclose(said);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (fclose(other) != 0 || r < 0)
        return -ENOMEM;
    if (WIFEXITED(status) && WEXITSTATUS(status) == MICROVM_EXIT_GUARD)
        fputs(rest, stderr); /* the host's own configuration is wrong, and nothing was checked */
    return WIFEXITED(status) ? WEXITSTATUS(status) : MICROVM_EXIT_FAILURE;
}

static int validate_file(Check *check)
{
    _cleanup_close_ int fd = -EBADF;
    size_t before = check->errors;
    char path[32];
    int r = 0;

    check->path = check->name;
    if (strcmp(check->name, "-") == 0) {
        r = copy_stdin(path, sizeof(path), &fd);
        check->path = path;
    }
    if (r >= 0) {
        read_source(check);
        r = check_file(check);
    }
    free(check->text);
    check->text = NULL;
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "%s can't be checked: %s", check->name, strerror(-r));
    if (r == 0 && !check->list && !check->ctl->quiet)
        printf("%s: good\n", strcmp(check->name, "-") == 0 ? "standard input" : check->name);
    return r != 0 && check->errors == before ? MICROVM_EXIT_FAILURE : MICROVM_EXIT_OK;
}

int verb_validate(Ctl *ctl)
{
    Check check = {.ctl = ctl, .list = ctl->json != JSON_OFF ? cJSON_CreateArray() : NULL};
    int code = MICROVM_EXIT_OK;

    if (ctl->n_names == 0)
        code = fail(MICROVM_EXIT_USAGE, "The files to validate are missing (- is standard input).");
    else if (ctl->host)
        code = fail(MICROVM_EXIT_USAGE, "validate checks files of this host; run it on %s.", ctl->host);
    for (size_t i = 0; i < ctl->n_names && code == MICROVM_EXIT_OK; i++) {
        check.name = ctl->names[i];
        code = validate_file(&check);
    }
    if (code == MICROVM_EXIT_OK && check.list)
        code = json_print(ctl->json, check.list);
    cJSON_Delete(check.list);
    return code == MICROVM_EXIT_OK && check.errors > 0 ? MICROVM_EXIT_FAILURE : code;
}
