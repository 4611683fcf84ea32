// What the config maps of decoders read alike.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "arch/config/config.h"
#include "io/checkpoint.h"

namespace ft::arch {

// The key that the file gives, of several that transformers takes for the same thing; the first when it gives none.
std::string_view given_key(const io::json_reader& config, std::initializer_list<std::string_view> keys);

// architecture, head and tied_embeddings. `tied` is what the configuration says. Files may hold the output matrix of
// tied models too; as in transformers, it counts only where it differs from the embedding, which lies under the first
// of `inputs` that is there. Throws ft::error (FT_ERROR_UNSUPPORTED) for a head that decoders do not have here.
void read_decoder_head(model_config& c, const io::json_reader& config, const io::checkpoint& source, bool tied,
                       std::string_view output, std::initializer_list<std::string_view> inputs);

// ALiBi's slopes for a number of heads (arXiv:2108.12409); one that is no power of two takes the odd ones of the next.
std::vector<float> alibi_slopes_for(int64_t num_heads);

// What follows from hidden_size, num_heads and num_layers where every head has keys and values of its own and the heads
// share out the hidden size: GPT-2 and what came after it. Special tokens and the checkpoint's dtype too.
void finish_decoder(model_config& c, const io::checkpoint& source);

}  // namespace ft::arch
