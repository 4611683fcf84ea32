/*
 * What the examples share: token ids from the command line or a file, and errors.
 *
 * libft computes on token ids; turning text into ids and back is a tokenizer's work (in Python, pyft does it with the
 * `tokenizers` package). So these programs take ids: as arguments, or with "@FILE" from a file of ids in text.
 */
#ifndef FT_EXAMPLE_H
#define FT_EXAMPLE_H

#include <ctype.h>
#include <ft/ft.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program with the library's message when a call failed. */
static inline void check(ft_status status, const char *what) {
    if (status == FT_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, ft_status_name(status), ft_last_error());
    exit(1);
}

typedef struct {
    int32_t *data;
    size_t count, capacity;
} token_list;

static inline void append_token(token_list *list, long id) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->data = realloc(list->data, list->capacity * sizeof *list->data);
        if (!list->data) {
            fprintf(stderr, "out of memory\n");
            exit(1);
        }
    }
    list->data[list->count++] = (int32_t)id;
}

/* Reads ids separated by spaces or commas: "101 7592 2088 102". */
static inline void parse_tokens(token_list *list, const char *text) {
    for (;;) {
        while (isspace((unsigned char)*text) || *text == ',') ++text;
        if (!*text) return;
        char *end;
        const long id = strtol(text, &end, 10);
        if (end == text) {
            fprintf(stderr, "'%s' is no token id\n", text);
            exit(2);
        }
        append_token(list, id);
        text = end;
    }
}

/* One argument: ids, or "@FILE" that holds them. */
static inline void read_tokens(token_list *list, const char *argument) {
    if (argument[0] != '@') {
        parse_tokens(list, argument);
        return;
    }
    FILE *file = fopen(argument + 1, "r");
    if (!file) {
        fprintf(stderr, "cannot open %s\n", argument + 1);
        exit(1);
    }
    long id;
    while (fscanf(file, " %ld ,", &id) == 1 || fscanf(file, " %ld", &id) == 1) append_token(list, id);
    fclose(file);
}

#endif /* FT_EXAMPLE_H */
