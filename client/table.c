/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

#include <wchar.h>

struct Table {
    const char *const *headers;
    size_t n_columns;
    char **cells; /* n_rows × n_columns */
    char **states;
    size_t n_rows;
};

Table *table_new(const char *const *headers, size_t n_columns)
{
    Table *table = calloc(1, sizeof(*table));

    if (table) {
        table->headers = headers;
        table->n_columns = n_columns;
    }
    return table;
}

Table *table_free(Table *table)
{
    if (!table)
        return NULL;
    for (size_t i = 0; i < table->n_rows * table->n_columns; i++)
        free(table->cells[i]);
    for (size_t i = 0; i < table->n_rows; i++)
        free(table->states[i]);
    free(table->cells);
    free(table->states);
    free(table);
    return NULL;
}

void table_add(Table *table, const char *const *cells, const char *state)
{
    char **grown = reallocarray(table->cells, (table->n_rows + 1) * table->n_columns, sizeof(*grown));
    char **states = reallocarray(table->states, table->n_rows + 1, sizeof(*states));

    if (grown)
        table->cells = grown;
    if (states)
        table->states = states;
    if (!grown || !states)
        return;
    for (size_t i = 0; i < table->n_columns; i++)
        grown[table->n_rows * table->n_columns + i] = escape(cells[i], false);
    states[table->n_rows++] = strdup(state);
}

/* Columns that a text takes on the terminal. */
static size_t width(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_cell(const char *text, size_t room, bool last)
{
    size_t w = width(text);

    if (w > room && room > 1) {
        size_t n = 0, columns = 0;
        while (text[n] && columns < room - 1) {
            n++;
            while (((unsigned char)text[n] & 0xc0) == 0x80)
                n++;
            columns++;
        }
        printf("%.*s…", (int)n, text);
    } else {
        printf("%s%*s", text, last ? 0 : (int)(room - w), "");
    }
    if (!last)
        fputs("  ", stdout);
}

void table_print(Table *table, bool legend)
{
    size_t widths[16] = {0}, total = 0, last = table->n_columns - 1, terminal = isatty(STDOUT_FILENO) ? terminal_width() : SIZE_MAX;

    for (size_t c = 0; c < table->n_columns; c++) {
        widths[c] = legend ? width(table->headers[c]) : 0;
        for (size_t r = 0; r < table->n_rows; r++) {
            const char *cell = table->cells[r * table->n_columns + c];
            widths[c] = MAX(widths[c], width(cell ? cell : ""));
        }
        total += widths[c] + 2;
    }
    if (total - 2 > terminal && total - 2 - widths[last] < terminal)
        widths[last] = terminal - (total - 2 - widths[last]);
    if (legend) {
        fputs(PAINT_BOLD, stdout);
        for (size_t c = 0; c < table->n_columns; c++)
            print_cell(table->headers[c], widths[c], c == last);
        printf("%s\n", PAINT_OFF);
    }
    for (size_t r = 0; r < table->n_rows; r++) {
        for (size_t c = 0; c < table->n_columns; c++) {
            const char *cell = table->cells[r * table->n_columns + c];
            bool coloured = strcmp(table->headers[c], "STATE") == 0 && table->states[r];
            if (coloured)
                fputs(paint(table->states[r]), stdout);
            print_cell(cell ? cell : "", widths[c], c == last);
            if (coloured)
                fputs(PAINT_OFF, stdout);
        }
        putchar('\n');
    }
}
