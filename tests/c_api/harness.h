/*
 * The harness of the C API's tests: C11, and only what a user of the installed library has.
 *
 * A failed check prints where it stands and the library's message, and is counted; the test goes on, so that one run
 * shows everything that is wrong. Checks may be made from any thread.
 */
#ifndef FT_TESTS_HARNESS_H
#define FT_TESTS_HARNESS_H

#include <ft/ft.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

extern atomic_int failed_checks;

#define CHECK(condition)                                                                         \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      atomic_fetch_add(&failed_checks, 1);                                                       \
      printf("%s:%d: %s does not hold (%s)\n", __FILE__, __LINE__, #condition, ft_last_error()); \
    }                                                                                            \
  } while (0)

#define CHECK_STATUS(expected, call)                                                                            \
  do {                                                                                                          \
    ft_status status_ = (call);                                                                                 \
    if (status_ != (expected)) {                                                                                \
      atomic_fetch_add(&failed_checks, 1);                                                                      \
      printf("%s:%d: %s gave %s, not %s (%s)\n", __FILE__, __LINE__, #call, ft_status_name(status_), #expected, \
             ft_last_error());                                                                                  \
    }                                                                                                           \
  } while (0)

#define CHECK_OK(call) CHECK_STATUS(FT_OK, call)

/* The call is refused as the caller's fault, and the message says something new. */
#define CHECK_INVALID(call)                           \
  do {                                                \
    provoke_other_message();                          \
    CHECK_STATUS(FT_ERROR_INVALID_ARGUMENT, call);    \
    CHECK(ft_last_error()[0] && !is_other_message()); \
  } while (0)

/* Sets this thread's message to a known one, so that a call which fails without a message is noticed. */
void provoke_other_message(void);
int is_other_message(void);

/* The path of a checkpoint that tests/fixtures/make_tiny.py wrote; static per name, any thread. */
const char* tiny(const char* name);

/* Opens a tiny checkpoint with `threads` threads; ends the program when it cannot, since nothing could be tested. */
ft_model* open_tiny(const char* name, int threads);
ft_session* open_session(ft_model* model);

/* A prompt of `length` tokens of the tiny models' vocabulary that depends on `seed`. */
void make_prompt(int32_t* tokens, size_t length, unsigned seed);

/* Greedy options for exactly `max_new_tokens`: no stop tokens. */
ft_generate_options greedy(int32_t max_new_tokens);

/* Generates to the end; returns the number of tokens, copied into `tokens`. */
size_t generate(int32_t* tokens, size_t capacity, ft_session* session, const int32_t* prompt, size_t length,
                const ft_generate_options* options);

/* A prompt of three tokens is refused as the caller's fault once `change` has been made to `o`, its greedy options. */
#define CHECK_REFUSED(session, change)                                                                         \
  do {                                                                                                         \
    ft_generate_options o = greedy(4);                                                                         \
    ft_request* refused = NULL;                                                                                \
    change;                                                                                                    \
    CHECK_INVALID(ft_session_submit(&refused, session, (const int32_t[3]){5, 6, 7}, 3, &o, NULL, NULL, NULL)); \
    CHECK(refused == NULL);                                                                                    \
  } while (0)

/* A fresh folder, and the path of a folder or file that a test may make in it. Removing fails when it holds more. */
typedef struct {
  char folder[64], out[80];
} workplace;
workplace make_workplace(void);
int entries(const char* folder);
void remove_workplace(const workplace* w);

/* Sanitizers end the program when an allocation is refused, so tests that ask for the impossible skip that there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif /* FT_TESTS_HARNESS_H */
