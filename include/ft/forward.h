/*
 * One pass over whole sequences: hidden states, logits, pooled and sentence embeddings.
 *
 * Padding is never computed: rows are packed before the pass and laid out again after it, so a row's result does
 * not depend on its neighbours.
 */
#ifndef FT_FORWARD_H
#define FT_FORWARD_H

#include <stddef.h>
#include <stdint.h>

#include <ft/export.h>
#include <ft/model.h>
#include <ft/status.h>
#include <ft/tensor.h>

FT_BEGIN_DECLS

/*
 * Tensors lie in host memory or on the model's GPU. Integers there are copied to the host, which lays the batch out;
 * embeddings stay where they are. A GPU's tensor has to be ready (ft_tensor_ready_after), or the model's stream be the
 * caller's own, on which it is computed.
 *
 * Integer tensors may have any integer width and any strides. Either padded: input_ids [batch, seq]
 * with attention_mask [batch, seq] (non-zero marks a token; padding on either side; NULL: all are tokens), or
 * ragged: input_ids [total_tokens] with row_offsets [rows + 1].
 */
typedef struct ft_forward_inputs {
    size_t struct_size;
    const ft_tensor *input_ids;
    const ft_tensor *attention_mask; /* may be NULL */
    const ft_tensor *token_type_ids; /* as input_ids; may be NULL: zeros */
    const ft_tensor *row_offsets;    /* given exactly when input_ids is ragged */
    /* Encoder-decoders, whose encoder reads input_ids: as many rows for the decoder, by the same rules. Needed for
       logits and last_hidden_state. */
    const ft_tensor *decoder_input_ids;
    const ft_tensor *decoder_attention_mask;
    const ft_tensor *decoder_row_offsets;
    /*
     * In the place of input_ids, or of decoder_input_ids: embeddings, of any float type and any strides, with one more
     * axis than the ids would have, of the model's embedding size (on a GPU not float64). Positions and what else is
     * added to the embeddings of tokens is added to these; no scale is applied.
     */
    const ft_tensor *inputs_embeds;
    const ft_tensor *decoder_inputs_embeds;
} ft_forward_inputs;

#define FT_FORWARD_INPUTS_INIT {sizeof(ft_forward_inputs), 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* What to compute; a model that lacks one of them refuses with FT_ERROR_UNSUPPORTED. */
#define FT_OUTPUT_LAST_HIDDEN_STATE (1u << 0)
#define FT_OUTPUT_POOLER (1u << 1)
#define FT_OUTPUT_LOGITS (1u << 2)
#define FT_OUTPUT_EMBEDDING (1u << 3) /* encoder-decoders: of the encoder's states */
#define FT_OUTPUT_ENCODER_LAST_HIDDEN_STATE (1u << 4)

typedef enum ft_pooling {
    FT_POOLING_AUTO = 0, /* what the checkpoint's sentence-transformers modules say; else mean */
    FT_POOLING_MEAN = 1,
    FT_POOLING_CLS = 2,
    FT_POOLING_LAST = 3,
    FT_POOLING_MAX = 4
} ft_pooling;

typedef struct ft_forward_options {
    size_t struct_size;
    uint32_t outputs;   /* FT_OUTPUT_* flags; 0: last hidden state, and pooler, logits and the encoder's last hidden
                           state where the model has them */
    ft_pooling pooling; /* of the embedding */
    int32_t normalize;  /* embedding scaled to Euclidean length 1 when non-zero */
    /*
     * Where the outputs are to lie: "cpu" or NULL, in host memory; or the model's own device ("cuda", "cuda:1"). Those
     * on a GPU are being computed when the call returns: ft_tensor_wait makes a stream or the caller wait for them.
     */
    const char *output_device;
} ft_forward_options;

#define FT_FORWARD_OPTIONS_INIT {sizeof(ft_forward_options), 0, FT_POOLING_AUTO, 1, 0}

/*
 * float32 tensors (hidden states and pooler output that stay on a GPU: in the dtype it computes in), each NULL when not
 * asked for; the caller releases them. [..] is [batch, seq] for padded input (zeros where the mask is zero) and
 * [total_tokens] for ragged input; encoder-decoders' last_hidden_state and logits are the decoder's and laid out as
 * decoder_input_ids.
 */
typedef struct ft_forward_outputs {
    size_t struct_size;
    ft_tensor *last_hidden_state;         /* [.., hidden_size] */
    ft_tensor *pooler_output;             /* [batch, hidden_size] */
    ft_tensor *logits;                    /* [.., vocab_size] language models; [.., num_labels] token classifiers;
                                             [batch, num_labels] sequence classifiers */
    ft_tensor *embedding;                 /* [batch, embedding_size] */
    ft_tensor *encoder_last_hidden_state; /* [.., hidden_size], as input_ids */
} ft_forward_outputs;

#define FT_FORWARD_OUTPUTS_INIT {sizeof(ft_forward_outputs), 0, 0, 0, 0, 0}

/* Runs the pass; blocks until outputs in host memory are there. options may be NULL. Any thread. On failure every
 * output is NULL. */
FT_API ft_status ft_forward(ft_forward_outputs *out, ft_model *model, const ft_forward_inputs *inputs,
                            const ft_forward_options *options);

FT_END_DECLS

#endif /* FT_FORWARD_H */
