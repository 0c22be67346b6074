/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/direct/command.h"

#include "base/say.h"
#include "driver/qemu-common.h"
#include "launch/marked.h"

void command_clear(Command *command)
{
    for (size_t i = 0; i < command->n_arguments; i++)
        free(command->argv[i]);
    for (size_t i = 0; i < command->n_environment; i++)
        free(command->environment[i]);
    free(command->argv);
    free(command->environment);
    free(command->descriptors);
    *command = (Command){0};
}

/* Takes `text`; NULL: there was no memory for it. */
static void take(Command *command, char ***list, size_t *n, char *text)
{
    char **grown = text ? reallocarray(*list, *n + 2, sizeof(*grown)) : NULL;

    if (!grown) {
        free(text);
        command->oom = true;
        return;
    }
    *list = grown;
    grown[(*n)++] = text;
    grown[*n] = NULL;
}

static void take_argument(Command *command, char *text)
{
    take(command, &command->argv, &command->n_arguments, text);
}

void command_add(Command *command, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    take_argument(command, say_list(format, arguments));
    va_end(arguments);
}

void command_add_text(Command *command, const char *text)
{
    take_argument(command, strdup(text));
}

void command_set_text(Command *command, const char *name, const char *value)
{
    take(command, &command->environment, &command->n_environment, say("%s=%s", name, value));
}

void command_mark(Command *command, const char *runtime_dir, sd_id128_t generation)
{
    take(command, &command->environment, &command->n_environment, mark_of_run(runtime_dir, generation));
}

void command_set(Command *command, const char *name, const char *format, ...)
{
    _cleanup_free_ char *value = NULL;
    va_list arguments;

    va_start(arguments, format);
    value = say_list(format, arguments);
    va_end(arguments);
    if (value)
        command_set_text(command, name, value);
    else
        command->oom = true;
}

/* Takes `more`. */
static void append(Command *command, char *more)
{
    char *longer = NULL, **last = command->n_arguments > 0 ? &command->argv[command->n_arguments - 1] : NULL;

    if (!more || !last || asprintf(&longer, "%s%s", *last, more) < 0) {
        command->oom = true;
    } else {
        free(*last);
        *last = longer;
    }
    free(more);
}

void command_put(Command *command, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    append(command, say_list(format, arguments));
    va_end(arguments);
}

void command_put_text(Command *command, const char *text)
{
    append(command, strdup(text));
}

void command_put_option(Command *command, const char *value)
{
    append(command, qemu_option_value(value));
}

int command_descriptor(Command *command, DescriptorKind kind, size_t index)
{
    Descriptor *grown;

    for (size_t i = 0; i < command->n_descriptors; i++)
        if (command->descriptors[i].kind == kind && command->descriptors[i].index == index)
            return COMMAND_FIRST_FD + (int)i;
    grown = reallocarray(command->descriptors, command->n_descriptors + 1, sizeof(*grown));
    if (!grown) {
        command->oom = true;
        return -1;
    }
    command->descriptors = grown;
    grown[command->n_descriptors++] = (Descriptor){kind, index};
    return COMMAND_FIRST_FD + (int)(command->n_descriptors - 1);
}
