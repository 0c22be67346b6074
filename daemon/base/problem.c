/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/problem.h"

#include "base/utf8.h"

#include <stdarg.h>

enum {
    TEXT_MAX = 1024,     /* a value of a megabyte is quoted in part */
    SAME_FILE_MAX = 200, /* as many does nobody read */
};

void problem_list_clear(ProblemList *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].file);
        free(list->items[i].pointer);
        free(list->items[i].text);
    }
    free(list->items);
    *list = (ProblemList){0};
}

/* For a person, a terminal and D-Bus, whatever was in the file. */
static void tidy(char *text)
{
    if (!text)
        return;
    if (strlen(text) > TEXT_MAX)
        memcpy(text + TEXT_MAX - 3, "...", 4);
    utf8_make_printable(text);
}

/* Whether the list has enough of this file: the last one then says so. */
static bool is_full(ProblemList *list, ProblemSeverity severity, const char *file)
{
    Problem *last = list->count > 0 ? &list->items[list->count - 1] : NULL;
    char *text;

    if (!last || !streq(last->file, file)) {
        list->same_file = 0;
        return false;
    }
    if (++list->same_file < SAME_FILE_MAX)
        return false;
    if (list->same_file == SAME_FILE_MAX && (text = strdup("there are more problems here than are shown"))) {
        free(last->text);
        last->text = text;
    }
    last->severity = MAX(last->severity, severity);
    return true;
}

void problem_add(ProblemList *list, ProblemSeverity severity, const char *file, const char *pointer,
                 unsigned line, unsigned column, const char *format, ...)
{
    Problem problem = {.severity = severity, .line = line, .column = column};
    Problem *grown;
    va_list arguments;

    problem.file = file ? strdup(file) : NULL;
    tidy(problem.file);
    if (is_full(list, severity, problem.file)) {
        free(problem.file);
        return;
    }
    va_start(arguments, format);
    if (vasprintf(&problem.text, format, arguments) < 0)
        problem.text = NULL;
    va_end(arguments);
    problem.pointer = pointer ? strdup(pointer) : NULL;
    tidy(problem.text);
    tidy(problem.pointer);

    grown = reallocarray(list->items, list->count + 1, sizeof(*grown));
    if (grown) {
        list->items = grown;
        grown[list->count++] = problem;
        return;
    }
    free(problem.file);
    free(problem.pointer);
    free(problem.text);
    /* A list that can't grow must not look shorter than it is: what it has last becomes the error. */
    if (severity == PROBLEM_ERROR && list->count > 0)
        list->items[list->count - 1].severity = PROBLEM_ERROR;
}

bool problem_list_is_full(const ProblemList *list)
{
    return list->same_file + 1 >= SAME_FILE_MAX;
}

static bool is_told(const ProblemList *list, const Problem *problem)
{
    for (size_t i = list->count; i-- > 0;)
        if (list->items[i].line == problem->line && list->items[i].column == problem->column &&
            streq(list->items[i].file, problem->file) && streq(list->items[i].pointer, problem->pointer) &&
            streq(list->items[i].text, problem->text))
            return true;
    return false;
}

void problem_list_move(ProblemList *list, ProblemList *from, const char *fresh)
{
    for (size_t i = 0; i < from->count; i++) {
        const Problem *problem = &from->items[i];
        if ((fresh && streq(problem->file, fresh)) || !is_told(list, problem))
            problem_add(list, problem->severity, problem->file, problem->pointer, problem->line,
                        problem->column, "%s", problem->text ? problem->text : "out of memory");
    }
    problem_list_clear(from);
}

size_t problem_count(const ProblemList *list, ProblemSeverity severity)
{
    size_t n = 0;

    for (size_t i = 0; i < list->count; i++)
        n += list->items[i].severity == severity;
    return n;
}

char *problem_format(const Problem *problem)
{
    const char *text = problem->text ? problem->text : "out of memory";
    char *formatted = NULL;
    size_t size;
    FILE *stream = open_memstream(&formatted, &size);

    if (!stream)
        return NULL;
    if (problem->file)
        fprintf(stream, "%s:", problem->file);
    if (problem->line > 0)
        fprintf(stream, "%u:%u:", problem->line, problem->column);
    if (problem->file || problem->line > 0)
        fputc(' ', stream);
    fprintf(stream, "%s: %s", problem->severity == PROBLEM_ERROR ? "error" : "warning", text);
    if (!isempty(problem->pointer))
        fprintf(stream, " (at %s)", problem->pointer);
    if (fclose(stream) != 0) {
        free(formatted);
        return NULL;
    }
    return formatted;
}
