/*
 * Generation: requests join a session's running batch, and leave it, between steps.
 *
 * A session owns a pool of key-value pages over one model. Any thread may submit, wait, poll and cancel; a thread
 * that waits also drives the steps when no other does, so no thread of the library's own is needed. Callbacks run
 * on whichever thread drives; they must not wait on a request of the same session.
 */
#ifndef FT_GENERATE_H
#define FT_GENERATE_H

#include <stddef.h>
#include <stdint.h>

#include <ft/export.h>
#include <ft/model.h>
#include <ft/status.h>
#include <ft/tensor.h>

FT_BEGIN_DECLS

typedef struct ft_session ft_session;
typedef struct ft_request ft_request;

typedef struct ft_session_options {
    size_t struct_size;
    int32_t max_batch_size;      /* sequences computed in one step, beams included; 0: 128 */
    int32_t max_tokens_per_step; /* tokens computed in one step: longer prompts are cut in chunks; 0: what suits the
                                    device */
    int64_t kv_cache_bytes;      /* bound on key-value pages; 0: half of the memory that is free when the session is
                                    created, within a container's limit: on a GPU, where pages are taken at once, the
                                    other half is left to others; or what max_batch_size of the longest sequences fill,
                                    if that is less */
    int32_t prefix_cache; /* 1: full pages of computed tokens, prompts' and generated ones, stay until their memory
                             is needed, and a request that begins with the same tokens does not compute them
                             again; its own tokens are the same, to the bit. 0: off */
    int64_t prefix_cache_bytes; /* bound on such pages that no request holds, within kv_cache_bytes; beyond it those
                                   unused for longest go. 0: kv_cache_bytes where that is given, else 1 GiB */
} ft_session_options;

#define FT_SESSION_OPTIONS_INIT {sizeof(ft_session_options), 0, 0, 0, 1, 0}

/* options may be NULL. The session keeps the model's weights alive. FT_ERROR_UNSUPPORTED for an encoder. */
FT_API ft_status ft_session_create(ft_session **out, ft_model *model, const ft_session_options *options);

/* Cancels what still runs and frees the session. Requests may be released after it. NULL is allowed. */
FT_API void ft_session_destroy(ft_session *session);

/* What callbacks return. Any other value cancels the request, with FT_ERROR_CANCELLED. */
#define FT_CONTINUE 0
#define FT_STOP 1 /* this token was the last: the sequence finishes with FT_FINISH_STOP */

/*
 * Whether a sequence ends with the last of `tokens` (the prompt's `prompt_length`, then new ones): FT_STOP or
 * FT_CONTINUE. Asked of every sequence and, when beams run, of each of the best continuations.
 */
typedef int (*ft_stop_callback)(ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                                void *user_data);

/*
 * Steers the next token of one sequence: may read and rewrite, in place, the logits that follow `tokens` (the prompt's
 * `prompt_length`, then new ones; -1 where the prompt has an embedding). `logits` is a view [vocab_size] of float32,
 * one after another, of the memory that the token will be chosen from; its device says where that is: FT_DEVICE_CPU.
 * With beams these are log-probabilities. The library's own -infinity, of what is banned already, may be overruled, and
 * NaN is never chosen. Tokens and view belong to the library and end with the call. Called once for each sequence and
 * new token, and for each running beam, on the thread that drives the step, for one sequence at a time. FT_CONTINUE
 * goes on; any other value cancels the request.
 *
 * A token's logits pass, in Hugging Face transformers' order: penalties, banned n-grams and words, the minimum length;
 * options.constrain_logits; forced tokens; on_logits; temperature and cuts; the choice.
 */
typedef int (*ft_logits_callback)(ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                                  const ft_dl_tensor *logits, void *user_data);

typedef enum ft_early_stopping {
    FT_EARLY_STOPPING_NO = 0,  /* ends when no running beam can beat the worst sequence, judged at its present length */
    FT_EARLY_STOPPING_YES = 1, /* ends as soon as num_beams sequences have ended */
    FT_EARLY_STOPPING_NEVER = 2 /* ends when no running beam can beat the worst sequence at any length */
} ft_early_stopping;

typedef enum ft_logprobs {
    FT_LOGPROBS_NONE = 0,
    FT_LOGPROBS_RAW = 1,      /* under the model's own distribution */
    FT_LOGPROBS_PROCESSED = 2 /* under the distribution that tokens are chosen from: after penalties, bans, callbacks
                                 and, when sampling, temperature and cuts; of beams, what their scores add up */
} ft_logprobs;

/* How a request's tokens are chosen; the meaning of each is Hugging Face transformers' GenerationConfig's. */
typedef struct ft_generate_options {
    size_t struct_size;
    int32_t max_new_tokens;
    int32_t min_new_tokens;
    int32_t do_sample;        /* 0: the most probable token each step */
    float temperature;        /* greater than 0; without do_sample it is not used, and may be 0 */
    int32_t top_k;            /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off; divides positive and multiplies negative logits of tokens seen (CTRL, 2019) */
    float presence_penalty;   /* subtracted once from each generated token's logit */
    float frequency_penalty;  /* subtracted once per time the token was generated */
    int32_t no_repeat_ngram_size;    /* 0: off */
    uint64_t seed;                   /* the same seed, prompt and settings give the same tokens in any batch */
    const int32_t *stop_token_ids;   /* [num_stop_token_ids]; copied */
    int32_t num_stop_token_ids;      /* -1: the checkpoint's own; 0: none */
    const int32_t *bad_words;        /* token sequences that may not be generated, one after another; copied */
    const int32_t *bad_word_lengths; /* [num_bad_words] */
    int32_t num_bad_words;
    int32_t logprobs;             /* an ft_logprobs: which log-probabilities of the new tokens to keep */
    int32_t num_return_sequences; /* at most num_beams; without beams only with do_sample, with seed, seed + 1, ... */
    int32_t num_beams;            /* 1 (no beam search) to 128, and no more than the session's max_batch_size */
    int32_t num_beam_groups;      /* diverse beam search (Vijayakumar et al., 2016); divides num_beams; 1: off */
    float diversity_penalty;      /* subtracted for each time that the step's earlier groups chose a token */
    float length_penalty;         /* a sequence's score is its log-probability / length ^ length_penalty */
    int32_t early_stopping;       /* an ft_early_stopping */
    ft_stop_callback should_stop; /* may be NULL; gets the submission's user_data */
    float typical_p;              /* 1: off; locally typical sampling (Meister et al., 2022), after min_p */
    float top_p_decay;            /* 1: off; top_p is multiplied by it at each new token (Lee et al., 2022), ... */
    float top_p_min;              /* ... falls no lower than this, ... */
    int32_t top_p_reset_id;       /* ... and begins anew after this token; -1: none. As in FasterTransformer */
    /* An encoder-decoder's encoder reads the prompt; its decoder starts with the checkpoint's decoder_start_token_id
       and then these, [num_decoder_input_ids], copied. Callbacks see the decoder's tokens, of which these are the
       prompt. */
    const int32_t *decoder_input_ids;
    int32_t num_decoder_input_ids;
    int32_t forced_bos_token_id; /* the first new token after a prompt of one; -1: the checkpoint's, -2: none */
    int32_t forced_eos_token_id; /* the last token of a sequence that reaches its length; -1 and -2 likewise */
    int32_t prompt_logprobs;     /* 1: keep the prompt tokens' log-probabilities, under the model's own distribution */
    /*
     * A soft prompt, copied. In the place of the prompt's tokens at these positions, which rise, come embeddings of the
     * model's embedding size: [num_prompt_embeddings, size]. Callbacks see -1 for such a token of a decoder's prompt.
     */
    int32_t num_prompt_embeddings;
    const int32_t *prompt_embedding_positions;
    const float *prompt_embeddings;
    /*
     * Keys and values of positions before the prompt, [num_layers, 2, num_kv_heads, prefix_length, head_dim], where 2
     * are keys, as attention takes them (already rotated), and values. Copied; decoders only.
     */
    const float *prefix_key_values;
    int64_t prefix_length;
    ft_logits_callback constrain_logits; /* may be NULL; as on_logits, but forced tokens overrule it; gets the
                                            submission's user_data */
} ft_generate_options;

#define FT_GENERATE_OPTIONS_INIT  \
    {sizeof(ft_generate_options), \
     64,                          \
     0,                           \
     0,                           \
     1.0f,                        \
     0,                           \
     1.0f,                        \
     0.0f,                        \
     1.0f,                        \
     0.0f,                        \
     0.0f,                        \
     0,                           \
     0,                           \
     0,                           \
     -1,                          \
     0,                           \
     0,                           \
     0,                           \
     0,                           \
     1,                           \
     1,                           \
     1,                           \
     0.0f,                        \
     1.0f,                        \
     0,                           \
     0,                           \
     1.0f,                        \
     1.0f,                        \
     0.0f,                        \
     -1,                          \
     0,                           \
     0,                           \
     -1,                          \
     -1,                          \
     0,                           \
     0,                           \
     0,                           \
     0,                           \
     0,                           \
     0,                           \
     0}

/*
 * Called for each new token of the first sequence, stop tokens included, in order; with beams, when it is settled: when
 * it belongs to every sequence that can still become the best. FT_STOP ends the whole request.
 */
typedef int (*ft_token_callback)(ft_request *request, int32_t token, void *user_data);

/*
 * Queues a prompt of at least one token. options may be NULL; the callbacks may be NULL. The request belongs to the
 * caller, who releases it. FT_ERROR_OUT_OF_MEMORY, naming the numbers, for a request that could never fit the page
 * pool.
 */
FT_API ft_status ft_session_submit(ft_request **out, ft_session *session, const int32_t *prompt, size_t prompt_length,
                                   const ft_generate_options *options, ft_token_callback on_token,
                                   ft_logits_callback on_logits, void *user_data);

/* What ft_session_submit would say of this prompt and these options, status and message alike; queues nothing. */
FT_API ft_status ft_session_check(ft_session *session, const int32_t *prompt, size_t prompt_length,
                                  const ft_generate_options *options);

/* Runs one step if there is work and no other thread drives; `active` (may be NULL) gets how many requests are left. */
FT_API ft_status ft_session_step(size_t *active, ft_session *session);

/* Tokens, pages and steps so far. */
typedef struct ft_session_stats {
    size_t struct_size;
    uint64_t steps;
    uint64_t prompt_tokens; /* computed */
    uint64_t generated_tokens;
    int64_t pages_in_use; /* held by requests */
    int64_t pages_total;
    int64_t page_tokens;   /* tokens a page holds */
    uint64_t page_bytes;   /* over all layers, keys and values */
    uint64_t allocations;  /* heap and device allocations made by steps so far; constant in a steady state */
    uint64_t pages_copied; /* pages that sequences shared, copied because one of them was about to write to it */
    uint64_t prompt_tokens_reused; /* not computed, since kept pages held them */
    int64_t pages_kept;            /* held by no request, kept for those that begin alike; free to be taken */
    uint64_t steps_ahead;          /* of steps, those that were queued while the one before them ran */
    uint64_t steps_replayed;       /* of steps, those that the device repeated from a recording (CUDA graphs) */
} ft_session_stats;

#define FT_SESSION_STATS_INIT {sizeof(ft_session_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

FT_API ft_status ft_session_get_stats(ft_session_stats *out, const ft_session *session);

typedef enum ft_finish_reason {
    FT_FINISH_NONE = 0,   /* still running */
    FT_FINISH_STOP = 1,   /* a stop token, or a callback that returned FT_STOP */
    FT_FINISH_LENGTH = 2, /* max_new_tokens, or the model's last position */
    FT_FINISH_CANCELLED = 3,
    FT_FINISH_ERROR = 4
} ft_finish_reason;

/*
 * Blocks until the request has finished. FT_OK for FT_FINISH_STOP and _LENGTH; otherwise the request's own status,
 * whose message is then the thread's.
 */
FT_API ft_status ft_request_wait(ft_request *request);

/* Never blocks. */
FT_API ft_status ft_request_poll(ft_finish_reason *out, const ft_request *request);

/* Asks a request to end; it does between layers or steps. Any thread, callbacks included. */
FT_API ft_status ft_request_cancel(ft_request *request);

/* One of the sequences that a request returns. */
typedef struct ft_sequence {
    size_t struct_size;
    size_t num_tokens; /* new ones, without the prompt */
    float score; /* log-probability / length ^ length_penalty; NaN until it has ended, or without log-probabilities */
    ft_finish_reason finish_reason;
} ft_sequence;

#define FT_SEQUENCE_INIT {sizeof(ft_sequence), 0, 0.0f, FT_FINISH_NONE}

/*
 * How many sequences there are: one until the prompt is computed, then num_return_sequences. Beams show one, that of
 * the tokens settled so far, until they end; there are fewer in the end when no more exist (a callback that allows
 * but one continuation, say).
 */
FT_API ft_status ft_request_num_sequences(size_t *out, const ft_request *request);

/*
 * The index-th sequence, best first for beams. Copies up to `capacity` new tokens into `tokens` and their
 * log-probabilities into `logprobs`; `out` and both may be NULL; logprobs must have been asked for.
 */
FT_API ft_status ft_request_get_sequence(ft_sequence *out, int32_t *tokens, float *logprobs, size_t capacity,
                                         size_t index, const ft_request *request);

/*
 * The first sequence's new tokens so far, without the prompt. Copies up to `capacity` into `tokens` and their
 * log-probabilities into `logprobs` (either may be NULL; logprobs must have been asked for); `count` (may be NULL) gets
 * how many there are.
 */
FT_API ft_status ft_request_tokens(size_t *count, int32_t *tokens, float *logprobs, size_t capacity,
                                   const ft_request *request);

/*
 * As ft_request_tokens, but copies the new tokens from the one numbered `first`, 0 the first of them, on: what came
 * since `first` were known. `count` gets how many there are altogether.
 */
FT_API ft_status ft_request_tokens_from(size_t *count, int32_t *tokens, float *logprobs, size_t capacity, size_t first,
                                        const ft_request *request);

/*
 * The prompt tokens' log-probabilities, each given those before it, which options.prompt_logprobs asked for: copies up
 * to `capacity` into `logprobs`; `count` gets how many there are, the prompt's length (either may be NULL). The first
 * is NaN, as is what is not computed yet.
 */
FT_API ft_status ft_request_prompt_logprobs(size_t *count, float *logprobs, size_t capacity, const ft_request *request);

/* The message of a request that failed; "" otherwise. Lives as long as the request. */
FT_API const char *ft_request_error(const ft_request *request);

/* Drops the handle; a request that still runs is cancelled. NULL is allowed. */
FT_API void ft_request_release(ft_request *request);

FT_END_DECLS

#endif /* FT_GENERATE_H */
