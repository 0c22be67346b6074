/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Definitions are checked by "microvmd --check": the code that loads them, which needs no daemon, sees the
 * other files that have a say, and is of the same version as this program. (A daemon's Validate, for other
 * clients, knows neither the file's name nor what lies beside it, and has to run.)
 */
#include "definition.h"
#include "source.h"
#include "term.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

typedef struct Problem {
    char *file, *text, *pointer;
    bool error;
    unsigned line, column;
    size_t of; /* index of the file that it was found with */
} Problem;

typedef struct File {
    const char *name; /* for people */
    const char *path; /* for microvmd */
    char own_path[32];
    int fd; /* of standard input's copy; -1: another file */
    size_t errors;
} File;

typedef struct Check {
    Ctl *ctl;
    File *files; /* and one more, for problems of none of them */
    size_t n_files;
    Problem *problems;
    size_t n_problems;
    cJSON *list; /* with --json */
} Check;

static void problem_clear(Problem *problem)
{
    free(problem->file);
    free(problem->text);
    free(problem->pointer);
}

static void check_clear(Check *check)
{
    for (size_t i = 0; i < check->n_problems; i++)
        problem_clear(&check->problems[i]);
    for (size_t i = 0; check->files && i < check->n_files; i++)
        closep(&check->files[i].fd);
    free(check->problems);
    free(check->files);
    cJSON_Delete(check->list);
}

/* --- files --- */

/* Standard input as a file that microvmd can open. */
static int copy_stdin(char *path, size_t size, int *ret_fd)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_close_ int fd = -EBADF;
    size_t length, done = 0;
    ssize_t n;
    int r;

    r = definition_read("-", &text, &length);
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
static void exec_microvmd(char *const *words)
{
    static const char *const beside[] = {"../sbin/microvmd", "microvmd"};
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

static FILE *run_microvmd(const Check *check, pid_t *ret_pid)
{
    static const char *const first[] = {"microvmd", "--check", "--"};
    _cleanup_free_ char **words = calloc(ELEMENTSOF(first) + check->n_files + 1, sizeof(*words));
    size_t n = 0;
    int ends[2];
    FILE *said;

    for (; words && n < ELEMENTSOF(first); n++)
        words[n] = (char *)first[n];
    for (size_t i = 0; words && i < check->n_files; i++)
        words[n++] = (char *)check->files[i].path;
    if (!words || pipe2(ends, O_CLOEXEC) < 0)
        return NULL;
    fflush(NULL);
    *ret_pid = fork();
    if (*ret_pid == 0) {
        if (dup2(ends[1], STDOUT_FILENO) < 0)
            _exit(127);
        exec_microvmd(words);
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

/* Whether `text` begins with `path` and something that may follow it. */
static bool is_of(const char *text, const char *path, const char *behind)
{
    size_t length = strlen(path);

    return strncmp(text, path, length) == 0 && strncmp(text + length, behind, strlen(behind)) == 0;
}

/* Which file the line is about: that itself, or a drop-in of it. The name of a file may hold anything. */
static size_t find_file(const Check *check, const char *line)
{
    size_t found = check->n_files;

    for (size_t i = 0; i < check->n_files; i++) {
        const char *path = check->files[i].path;
        if ((is_of(line, path, ":") || is_of(line, path, ".d/")) &&
            (found == check->n_files || strlen(path) > strlen(check->files[found].path)))
            found = i;
    }
    return found;
}

/* -EINVAL: it is something else. */
static int parse_problem(const Check *check, const char *line, Problem *ret_problem)
{
    size_t of = find_file(check, line), skip = of < check->n_files ? strlen(check->files[of].path) : 0,
           length;
    const char *error = strstr(line + skip, ": error: "), *warning = strstr(line + skip, ": warning: ");
    const char *severity = !error || (warning && warning < error) ? warning : error, *text, *pointer = NULL;
    Problem problem = {.error = severity == error, .of = of};

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

/* Takes it over in any case. */
static int add_problem(Check *check, Problem *problem)
{
    Problem *grown = reallocarray(check->problems, check->n_problems + 1, sizeof(*grown));

    if (!grown) {
        problem_clear(problem);
        return -ENOMEM;
    }
    check->problems = grown;
    grown[check->n_problems++] = *problem;
    check->files[problem->of].errors += problem->error;
    return 0;
}

/* Takes all problems that microvmd tells; its exit status, or -errno. */
static int ask_microvmd(Check *check)
{
    _cleanup_free_ char *line = NULL, *rest = NULL;
    size_t room = 0, rest_size;
    FILE *said, *other = open_memstream(&rest, &rest_size);
    int status, r = 0;
    ssize_t length;
    pid_t pid;

    said = other ? run_microvmd(check, &pid) : NULL;
    if (!said) {
        r = -errno;
        if (other)
            fclose(other);
        return r;
    }
    while (r >= 0 && (length = getline(&line, &room, said)) > 0) {
        Problem problem;
        line[length - 1] = '\0';
        r = parse_problem(check, line, &problem);
        if (r == -EINVAL) {
            fprintf(other, "%s\n", line);
            r = 0;
        } else if (r >= 0) {
            r = add_problem(check, &problem);
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

/* --- what is told --- */

static const char *shown_name(const Check *check, const Problem *problem)
{
    const File *file = &check->files[problem->of];

    return problem->of < check->n_files && strcmp(problem->file, file->path) == 0 ? file->name
                                                                                  : problem->file;
}

static void list_problem(const Check *check, const Problem *problem)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "File", shown_name(check, problem));
    cJSON_AddStringToObject(object, "Severity", problem->error ? "error" : "warning");
    cJSON_AddStringToObject(object, "Pointer", problem->pointer);
    cJSON_AddStringToObject(object, "Text", problem->text);
    cJSON_AddNumberToObject(object, "Line", problem->line);
    cJSON_AddNumberToObject(object, "Column", problem->column);
    cJSON_AddItemToArray(check->list, object);
}

static void print_problem(const Check *check, const Problem *problem)
{
    const char *severity = problem->error ? "error" : "warning";
    _cleanup_free_ char *shown = escape(problem->text, ESCAPE_LINE),
                        *at = escape(problem->pointer, ESCAPE_LINE),
                        *file = escape(shown_name(check, problem), ESCAPE_LINE);
    _cleanup_free_ char *text = NULL;
    size_t size = 0;
    char place[32] = "";

    if (problem->line > 0)
        snprintf(place, sizeof(place), "%u:%u:", problem->line, problem->column);
    printf("%s:%s %s%s%s: %s", file ? file : "?", place, paint(severity), severity, paint_off(),
           shown ? shown : "");
    if (at && *at)
        printf(" (at %s)", at);
    putchar('\n');
    (void)definition_read(problem->file, &text, &size); /* what is wrong with it is microvmd's to say */
    if (text)
        source_show(text, size, problem->line, problem->column);
}

/* File by file. What is wrong with something else may be wrong with all of them. */
static void tell(const Check *check)
{
    for (size_t i = 0; i <= check->n_files; i++) {
        const File *file = &check->files[i];
        for (size_t k = 0; k < check->n_problems; k++)
            if (check->problems[k].of == i && check->list)
                list_problem(check, &check->problems[k]);
            else if (check->problems[k].of == i)
                print_problem(check, &check->problems[k]);
        if (i < check->n_files && file->errors == 0 && check->files[check->n_files].errors == 0 &&
            !check->list && !check->ctl->quiet)
            printf("%s: good\n", file->fd >= 0 ? "standard input" : file->name);
    }
}

/* --- the verb --- */

static int find_files(Check *check)
{
    Ctl *ctl = check->ctl;

    check->files = calloc(ctl->n_names + 1, sizeof(*check->files));
    if (!check->files)
        return fail_oom();
    for (check->n_files = 0; check->n_files < ctl->n_names; check->n_files++) {
        File *file = &check->files[check->n_files];
        int r = 0;
        file->name = file->path = ctl->names[check->n_files];
        file->fd = -EBADF;
        if (strcmp(file->name, "-") != 0)
            continue;
        r = copy_stdin(file->own_path, sizeof(file->own_path), &file->fd);
        if (r < 0)
            return fail(MICROVM_EXIT_FAILURE, "%s can't be checked: %s", file->name, strerror(-r));
        file->path = file->own_path;
    }
    return MICROVM_EXIT_OK;
}

int verb_validate(Ctl *ctl)
{
    _cleanup_(check_clear)
    Check check = {.ctl = ctl};
    size_t errors = 0;
    int code, r;

    if (ctl->n_names == 0)
        return fail(MICROVM_EXIT_USAGE, "The files to validate are missing (- is standard input).");
    if (ctl->host)
        return fail(MICROVM_EXIT_USAGE, "validate checks files of this host; run it on %s.", ctl->host);
    if (ctl->json != JSON_OFF && !(check.list = cJSON_CreateArray()))
        return fail_oom();
    code = find_files(&check);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = ask_microvmd(&check);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "Nothing can be checked: %s", strerror(-r));
    for (size_t i = 0; i <= check.n_files; i++)
        errors += check.files[i].errors;
    if (r != 0 && errors == 0) /* it has said why */
        return MICROVM_EXIT_FAILURE;
    tell(&check);
    if (check.list && (code = json_print(ctl->json, check.list)) != MICROVM_EXIT_OK)
        return code;
    return errors > 0 ? MICROVM_EXIT_FAILURE : MICROVM_EXIT_OK;
}
