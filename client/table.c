/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "table.h"

#include "term.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

enum {
    COLUMNS_MAX = 16,
    GAP = 2,
    NARROWEST = 4,
};

struct Table {
    const char *const *headers;
    size_t n_columns, n_rows;
    char **cells;        /* n_rows × n_columns */
    const char **paints; /* of each row's state */
};

Table *table_new(const char *const *headers, size_t n_columns)
{
    Table *table = n_columns <= COLUMNS_MAX ? calloc(1, sizeof(*table)) : NULL;

    if (table) {
        table->headers = headers;
        table->n_columns = n_columns;
    }
    return table;
}

void table_freep(Table **table)
{
    if (!*table)
        return;
    for (size_t i = 0; i < (*table)->n_rows * (*table)->n_columns; i++)
        free((*table)->cells[i]);
    free((*table)->cells);
    free((*table)->paints);
    free(*table);
}

int table_add(Table *table, const char *const *cells, const char *state)
{
    char **grown = reallocarray(table->cells, (table->n_rows + 1) * table->n_columns, sizeof(*grown));
    const char **paints = reallocarray(table->paints, table->n_rows + 1, sizeof(*paints));

    if (grown)
        table->cells = grown;
    if (paints)
        table->paints = paints;
    if (!grown || !paints)
        return -ENOMEM;
    grown += table->n_rows * table->n_columns;
    for (size_t i = 0; i < table->n_columns; i++) {
        grown[i] = escape(cells[i], ESCAPE_LINE);
        if (!grown[i]) {
            while (i > 0)
                free(grown[--i]);
            return -ENOMEM;
        }
    }
    paints[table->n_rows++] = paint(state);
    return 0;
}

/* Length and width of the character at `text`, which is UTF-8. */
static size_t next_character(const char *text, size_t *ret_width)
{
    int length = utf8_length(text, strlen(text)), width;
    mbstate_t state = {0};
    wchar_t character;

    *ret_width = 1;
    if (length <= 1)
        return 1;
    if (mbrtowc(&character, text, (size_t)length, &state) != (size_t)length)
        return (size_t)length;
    width = wcwidth(character);
    *ret_width = width >= 0 ? (size_t)width : 1;
    return (size_t)length;
}

size_t text_width(const char *text)
{
    size_t total = 0, width;

    while (*text) {
        text += next_character(text, &width);
        total += width;
    }
    return total;
}

static void print_cell(const char *text, size_t room, bool last)
{
    size_t wide = text_width(text), bytes = 0, used = 0, width, length;

    if (wide <= room) {
        printf("%s%*s", text, last ? 0 : (int)(room - wide + GAP), "");
        return;
    }
    while (text[bytes]) {
        length = next_character(text + bytes, &width);
        if (used + width > room - 1)
            break;
        bytes += length;
        used += width;
    }
    printf("%.*s…%*s", (int)bytes, text, last ? 0 : (int)(room - used - 1 + GAP), "");
}

/* The widest column gives way first. */
static void fit(size_t *widths, size_t n, size_t room)
{
    for (;;) {
        size_t total = (n - 1) * GAP, widest = 0;
        for (size_t i = 0; i < n; i++) {
            total += widths[i];
            widest = widths[i] > widths[widest] ? i : widest;
        }
        if (total <= room || widths[widest] <= NARROWEST)
            return;
        widths[widest]--;
    }
}

void table_print(const Table *table, bool legend)
{
    size_t widths[COLUMNS_MAX] = {0}, n = table->n_columns;

    for (size_t c = 0; c < n; c++) {
        widths[c] = legend ? text_width(table->headers[c]) : 0;
        for (size_t r = 0; r < table->n_rows; r++)
            widths[c] = MAX(widths[c], text_width(table->cells[r * n + c]));
    }
    if (on_terminal())
        fit(widths, n, terminal_width());
    if (legend) {
        fputs(paint_bold(), stdout);
        for (size_t c = 0; c < n; c++)
            print_cell(table->headers[c], widths[c], c == n - 1);
        printf("%s\n", paint_off());
    }
    for (size_t r = 0; r < table->n_rows; r++) {
        for (size_t c = 0; c < n; c++) {
            bool coloured = strcmp(table->headers[c], "STATE") == 0;
            if (coloured)
                fputs(table->paints[r], stdout);
            print_cell(table->cells[r * n + c], widths[c], c == n - 1);
            if (coloured)
                fputs(paint_off(), stdout);
        }
        putchar('\n');
    }
}
