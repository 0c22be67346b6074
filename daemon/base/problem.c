/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/problem.h"

#include <stdarg.h>

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

void problem_add(ProblemList *list, ProblemSeverity severity, const char *file, const char *pointer,
                 unsigned line, unsigned column, const char *format, ...)
{
    Problem problem = {.severity = severity, .line = line, .column = column};
    Problem *grown;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&problem.text, format, arguments) < 0)
        problem.text = NULL;
    va_end(arguments);
    problem.file = file ? strdup(file) : NULL;
    problem.pointer = pointer ? strdup(pointer) : NULL;

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
