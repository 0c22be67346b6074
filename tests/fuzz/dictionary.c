/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Prints the words of the definition language as a dictionary of libFuzzer, from the table. */
#include "spec/spec-table.h"

/* As JSON would have it: in quotation marks. */
static void print_word(const char *word, size_t length)
{
    printf("\"\\\"");
    for (size_t i = 0; i < length; i++)
        if (strchr("\"\\", word[i]) || (unsigned char)word[i] < 0x20)
            printf("\\x%02x", (unsigned char)word[i]);
        else
            putchar(word[i]);
    printf("\\\"\"\n");
}

static void print_words(const KeyTable *table)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        for (const char *at = row->key; at; at = strchr(at, '.') ? strchr(at, '.') + 1 : NULL)
            print_word(at, strcspn(at, "."));
        for (int value = 0; row->type == KEY_ENUM && value < row->enum_max; value++)
            print_word(row->enum_name(value), strlen(row->enum_name(value)));
        if (row->fallback)
            print_word(row->fallback, strlen(row->fallback));
        if (row->type == KEY_OBJECTS)
            print_words(row->items);
    }
}

int main(void)
{
    static const char *const more[] = {
        "1G",           "512M", "1min 30s",  "150%",     "db:ready",      "bridge:br0", "tap:tap0",
        "macvtap:eth0", "user", "127.0.0.1", "/dev/vda", "root=/dev/vda", "0-3,5",      "02:00:00:00:00:01"};

    print_words(&vm_table);
    for (size_t i = 0; i < ELEMENTSOF(more); i++)
        print_word(more[i], strlen(more[i]));
    return 0;
}
