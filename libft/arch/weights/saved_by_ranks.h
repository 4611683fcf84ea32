// GPT as training frameworks save it by ranks: FasterTransformer's folders of GPT, GPT-J and GPT-NeoX, and
// Megatron-LM's checkpoints. All four name a layer's weights as Megatron does. The recipes are those of the families.
#pragma once

#include "arch/config/config.h"
#include "arch/weights/weight_table.h"
#include "io/checkpoint.h"

namespace ft::arch {

// Whether this is a format of such checkpoints.
bool is_saved_by_ranks(io::checkpoint_format format);

// The family it names is gpt2, gptj, gpt_neox, or, for what FasterTransformer runs as a variant of GPT, opt or bloom.
model_config gpt_config_by_ranks(const io::checkpoint& source);

weight_table gpt_weights_by_ranks(const model_config& config, io::checkpoint_format format);

}  // namespace ft::arch
