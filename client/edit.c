/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* edit: a person's editor on a definition. What is broken is never installed, and never lost. */
#include "definition.h"
#include "remote.h"
#include "term.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define OVERRIDE "override.json"

/* What is edited. */
typedef struct Edit {
    const char *name;
    const char *drop_in; /* NULL: the definition itself */
    char *target;        /* the file */
    char *old;           /* its content; NULL: there is none */
    char *start;         /* what the editor begins with */
    char *copy;          /* the file that it is given */
} Edit;

static void edit_clear(Edit *edit)
{
    free(edit->target);
    free(edit->old);
    free(edit->start);
    free(edit->copy);
}

/* --- what is there --- */

static int read_text(const char *path, char **ret_text)
{
    size_t size;
    int r = definition_read(path, ret_text, &size);

    if (r == -ENOENT)
        return MICROVM_EXIT_OK;
    if (r < 0)
        return fail(r == -EACCES ? MICROVM_EXIT_NOT_ALLOWED : MICROVM_EXIT_FAILURE, "%s can't be read: %s",
                    path, strerror(-r));
    return strlen(*ret_text) == size ? MICROVM_EXIT_OK : fail_nul(path);
}

/* `path` counts now; changes go to `directory`. People's own files are edited as they are; for packages'
 * files, for links to somewhere, and for what is gone with a reboot, there is a drop-in. */
static int choose_target(const Ctl *ctl, Edit *edit, const char *path, const char *directory, bool transient)
{
    _cleanup_free_ char *whole = NULL;
    struct stat st;
    bool own;
    int code;

    if (asprintf(&whole, "%s/%s.json", directory, edit->name) < 0)
        return fail_oom();
    own = !transient && strcmp(path, whole) == 0 && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
    if (!own && !(ctl->given & OPTION_FULL))
        edit->drop_in = OVERRIDE;
    if (asprintf(&edit->target, "%s/%s.json%s%s", directory, edit->name, edit->drop_in ? ".d/" : "",
                 edit->drop_in ? edit->drop_in : "") < 0)
        return fail_oom();
    code = read_text(edit->target, &edit->old);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (edit->old && *edit->old)
        edit->start = strdup(edit->old);
    else if (!edit->drop_in)
        code = read_text(path, &edit->start);
    else if (asprintf(&edit->start, "// Merged over %s: what is said here counts.\n{\n}\n", path) < 0)
        edit->start = NULL;
    return code != MICROVM_EXIT_OK ? code : edit->start ? MICROVM_EXIT_OK : fail_oom();
}

/* Where its definition is. */
static int find_definition(Ctl *ctl, bool template, char **ret_path)
{
    _cleanup_rows_ VmRows rows = {0};
    _cleanup_json_ cJSON *vm = NULL;
    int code;

    if (template)
        return define_template_path(ctl, ctl->names[0], ret_path);
    code = ctl_one_name(ctl, "edit", &rows);
    if (code == MICROVM_EXIT_OK)
        code = ctl_get_all(ctl, rows.items[0].path, rows.items[0].name, &vm);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (!*json_text(vm, "DefinitionPath"))
        return fail(MICROVM_EXIT_FAILURE, "%s has no definition any more.", ctl->names[0]);
    *ret_path = strdup(json_text(vm, "DefinitionPath"));
    return *ret_path ? MICROVM_EXIT_OK : fail_oom();
}

static int look(Ctl *ctl, Edit *edit)
{
    _cleanup_free_ char *directory = NULL, *path = NULL, *state = NULL;
    bool transient;
    int code = ctl_connect(ctl);

    if (code == MICROVM_EXIT_OK && ctl->n_names == 1)
        code = define_state(ctl, ctl->names[0], &state);
    if (code == MICROVM_EXIT_OK && state && strcmp(state, "masked") == 0)
        return fail(MICROVM_EXIT_FAILURE, "%s is masked, so that nothing defines it: microvmctl unmask %s",
                    ctl->names[0], ctl->names[0]);
    if (code == MICROVM_EXIT_OK)
        code = find_definition(ctl, state && strcmp(state, "template") == 0, &path);
    if (code == MICROVM_EXIT_OK)
        code = define_directory(ctl, &directory);
    if (code != MICROVM_EXIT_OK)
        return code;
    edit->name = ctl->names[0];
    transient = state && strcmp(state, "transient") == 0 && !(ctl->given & OPTION_FULL);
    if (transient) {
        free(directory);
        directory = strndup(path, (size_t)(strrchr(path, '/') - path));
    }
    return directory ? choose_target(ctl, edit, path, directory, transient) : fail_oom();
}

/* --- the editor --- */

static int write_copy(Edit *edit)
{
    const char *directory = getenv("TMPDIR");
    _cleanup_close_ int fd = -EBADF;
    size_t size = strlen(edit->start);

    if (asprintf(&edit->copy, "%s/microvmctl-%s.XXXXXX.json", directory && *directory ? directory : "/tmp",
                 edit->name) < 0)
        return fail_oom();
    fd = mkostemps(edit->copy, (int)strlen(".json"), O_CLOEXEC);
    if (fd < 0 || write(fd, edit->start, size) != (ssize_t)size)
        return fail(MICROVM_EXIT_FAILURE, "%s can't be written: %s", edit->copy, strerror(errno));
    return MICROVM_EXIT_OK;
}

/* A command may have arguments: a shell takes it apart. Its exit status, or -1. */
static int run_command(const char *command, const char *const *arguments)
{
    _cleanup_free_ char *line = NULL;
    const char *words[9] = {"sh", "-c", NULL, "sh"};
    int status = -1;
    pid_t child;

    if (asprintf(&line, "%s \"$@\"", command) < 0)
        return -1;
    words[2] = line;
    for (size_t i = 0; i < 4 && arguments[i]; i++)
        words[4 + i] = arguments[i];
    fflush(NULL);
    child = fork();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        signal(SIGQUIT, SIG_DFL);
        execv("/bin/sh", (char *const *)words);
        _exit(127);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run_editor(const Edit *edit)
{
    const char *command = getenv("VISUAL");
    void (*interrupted)(int), (*quit)(int);
    int status;

    if (!command || !*command)
        command = getenv("EDITOR");
    if (!command || !*command)
        command = "vi";
    interrupted = signal(SIGINT, SIG_IGN); /* these keys are the editor's */
    quit = signal(SIGQUIT, SIG_IGN);
    status = run_command(command, (const char *const[]){edit->copy, NULL});
    signal(SIGINT, interrupted);
    signal(SIGQUIT, quit);
    if (status == 0)
        return MICROVM_EXIT_OK;
    return fail(MICROVM_EXIT_FAILURE, "The editor (%s) failed; nothing is changed. What it wrote is in %s",
                command, edit->copy);
}

/* --- what came of it --- */

static void show_diff(const Ctl *ctl, const Edit *edit)
{
    _cleanup_free_ char *label = NULL;
    int in[2];

    if (ctl->quiet || ctl->json != JSON_OFF || asprintf(&label, "--label=%s", edit->target) < 0)
        return;
    /* The old content comes by a pipe: the file may have become another one. */
    if (pipe2(in, O_CLOEXEC) < 0)
        return;
    if (fork() == 0) {
        const char *at = edit->old ? edit->old : "";
        ssize_t n = 1;
        for (size_t left = strlen(at); left > 0 && n > 0; at += n, left -= (size_t)n)
            n = write(in[1], at, left);
        _exit(0);
    }
    close(in[1]);
    {
        _cleanup_close_ int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        dup2(in[0], STDIN_FILENO);
        run_command(colours() ? "diff -u --color=always" : "diff -u",
                    (const char *const[]){label, label, "-", edit->copy});
        if (saved >= 0)
            dup2(saved, STDIN_FILENO);
    }
    close(in[0]);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static bool is_blank(const char *text)
{
    return !text[strspn(text, " \t\r\n")];
}

/* An emptied drop-in is none. An empty definition would mask others, which is another wish. */
static int install(Ctl *ctl, const Edit *edit, const char *text)
{
    const DefineCall call = {.name = edit->name,
                             .content = text,
                             .file = edit->copy,
                             .drop_in = edit->drop_in,
                             .expected = edit->old ? edit->old : ""};

    return edit->drop_in && is_blank(text) ? define_remove_drop_in(ctl, &call) : define_call(ctl, &call);
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Why it is not installed may be that the file is another one by now: the next try starts from that. */
static void look_again(Ctl *ctl, Edit *edit)
{
    _cleanup_free_ char *now = NULL;
    char *old = edit->old;

    if (read_text(edit->target, &now) != MICROVM_EXIT_OK || is_same(now, old)) {
        fprintf(stderr, "%s is as it was. Your text is in %s\n", edit->target, edit->copy);
        return;
    }
    edit->old = now;
    now = old;
    fprintf(stderr, "%s was %s by somebody else meanwhile. Your text, which is not installed, is in %s\n",
            edit->target, edit->old ? "changed" : "removed", edit->copy);
    show_diff(ctl, edit);
}

/* An exit code; *ret_again: the person wants to try again. */
static int edit_once(Ctl *ctl, Edit *edit, bool *ret_again)
{
    _cleanup_free_ char *text = NULL;
    int code;

    *ret_again = false;
    code = run_editor(edit);
    if (code != MICROVM_EXIT_OK)
        return code;
    code = read_text(edit->copy, &text);
    if (code == MICROVM_EXIT_OK && (!text || strcmp(text, edit->start) == 0)) {
        unlink(edit->copy);
        if (!ctl->quiet)
            puts("Nothing changed.");
        return MICROVM_EXIT_OK;
    }
    if (code == MICROVM_EXIT_OK) {
        show_diff(ctl, edit);
        code = install(ctl, edit, text);
    }
    if (code == MICROVM_EXIT_OK) {
        unlink(edit->copy);
        if (!ctl->quiet)
            printf("Changed %s. A microVM that runs goes on as it was started.\n", edit->target);
        return code;
    }
    look_again(ctl, edit);
    *ret_again = isatty(STDIN_FILENO) && define_ask("Edit it again?");
    return code;
}

int verb_edit(Ctl *ctl)
{
    _cleanup_(edit_clear)
    Edit edit = {0};
    bool again = true;
    int code;

    if (ctl->host) /* files and editor are over there */
        return remote_exec(ctl, ctl->given & OPTION_FULL ? "edit --full" : "edit");
    code = look(ctl, &edit);
    if (code == MICROVM_EXIT_OK)
        code = write_copy(&edit);
    if (code != MICROVM_EXIT_OK)
        return code;
    while (again)
        code = edit_once(ctl, &edit, &again);
    return code;
}
