/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "definitions-across.h"

#include "across.h"

#include <stdarg.h>

static void across_clear(Across *across)
{
    for (size_t i = 0; i < across->n_findings; i++) {
        free(across->findings[i].pointer);
        free(across->findings[i].text);
    }
    free(across->findings);
    free(across->before);
    free(across->barred);
    free(across->verdicts);
}

static int across_begin(Across *across, const Definitions *before)
{
    Definitions *definitions = across->definitions;

    across->before = calloc(definitions->count + 1, sizeof(*across->before));
    across->barred = calloc(definitions->count + 1, sizeof(*across->barred));
    across->verdicts = calloc(definitions->count + 1, sizeof(*across->verdicts));
    if (!across->before || !across->barred || !across->verdicts)
        return -ENOMEM;
    for (size_t i = 0; i < definitions->count; i++) {
        Definition *definition = &definitions->items[i];
        const Definition *then = before ? definitions_find(before, definition->name) : NULL;
        across->before[i] = then ? then->spec : NULL;
        across->barred[i] = !definition->read;
        definition->rival = vm_spec_unref(definition->rival);
    }
    return 0;
}

void across_find(Across *across, ProblemSeverity severity, size_t index, const char *pointer,
                 const char *format, ...)
{
    Finding finding = {.index = index, .number = across->n_findings, .severity = severity};
    va_list arguments;

    if ((across->n_findings & (across->n_findings - 1)) == 0) { /* room in powers of two */
        size_t room = across->n_findings > 0 ? 2 * across->n_findings : 1;
        Finding *grown = reallocarray(across->findings, room, sizeof(*grown));
        if (!grown) {
            across->oom = true;
            return;
        }
        across->findings = grown;
    }
    va_start(arguments, format);
    if (vasprintf(&finding.text, format, arguments) < 0)
        finding.text = NULL;
    va_end(arguments);
    finding.pointer = strdup(pointer);
    across->oom |= !finding.pointer || !finding.text;
    across->barred[index] |= severity == PROBLEM_ERROR;
    across->findings[across->n_findings++] = finding;
}

/* --- what follows --- */

static int by_definition(const void *left, const void *right)
{
    const Finding *a = left, *b = right;

    if (a->index != b->index)
        return a->index < b->index ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* Tells the `n` findings in one definition, whose files are read once more for their lines. */
static int tell(Definition *definition, const Layers *below, const Finding *findings, size_t n,
                ProblemList *problems)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_problems_ ProblemList known = {0};
    TableReader reader = {.document = &document, .file = definition->path, .problems = problems};
    size_t before = problems->count, errors = problem_count(problems, PROBLEM_ERROR);

    (void)layers_merge(definition->name, below, &definition->files, &known, &document);
    for (size_t i = 0; i < n; i++)
        table_problem(&reader, findings[i].severity, findings[i].pointer, false, "%s", findings[i].text);
    if (problem_count(problems, PROBLEM_ERROR) == errors)
        return 0;
    definition->error = definition_summarize(problems, before);
    return definition->error ? 0 : -ENOMEM;
}

/* Without an error of its own, a definition is as good as its verdict. */
static void settle(const Across *across)
{
    for (size_t i = 0; i < across->definitions->count; i++) {
        Definition *definition = &across->definitions->items[i];
        VmSpec *spec = across->verdicts[i] == VERDICT_GOOD ? vm_spec_ref(definition->read) : NULL;
        vm_spec_unref(definition->spec);
        definition->spec = spec;
        if (definition->read) { /* else it is about that */
            free(definition->error);
            definition->error = NULL;
        }
    }
}

static int decide(Across *across)
{
    _cleanup_(rivals_freep)
    Rivals *rivals = NULL;
    int r = rivals_new(across, &rivals);

    if (r < 0)
        return r;
    across_check_names(across);
    do
        rivals_decide(rivals);
    while (across_check_circles(across) && !across->oom);
    rivals_tell(rivals);
    return across->oom ? -ENOMEM : 0;
}

int definitions_check_across(Definitions *definitions, const Definitions *before, const Layers *below,
                             const Surroundings *around, ProblemList *problems)
{
    _cleanup_(across_clear)
    Across across = {.definitions = definitions, .around = around};
    int r = across_begin(&across, before);

    if (r >= 0)
        r = decide(&across);
    if (r < 0)
        return r;
    settle(&across);
    if (across.n_findings > 0)
        qsort(across.findings, across.n_findings, sizeof(*across.findings), by_definition);
    for (size_t start = 0, end; start < across.n_findings && r >= 0; start = end) {
        const Finding *findings = &across.findings[start];
        for (end = start + 1; end < across.n_findings && across.findings[end].index == findings->index;)
            end++;
        r = tell(&definitions->items[findings->index], below, findings, end - start, problems);
    }
    across_check_memory(&across, problems);
    return r;
}
