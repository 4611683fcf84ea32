// The formats of checkpoints, and how a folder of each is opened. What a source is taken for is decided in
// checkpoint.cc; a format's own file says what it looks like inside.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/formats/gguf.h"
#include "io/rank_share.h"
#include "io/stored_tensor.h"
#include "io/text/json.h"

namespace ft::io {

enum class checkpoint_format : uint8_t {
  hugging_face,
  gguf,
  faster_transformer,
  megatron_0,  // checkpoint_version 0, 1, and 2 or 3: they differ in the order of query, key and value
  megatron_1,
  megatron,
  manifest,
};

inline bool is_megatron(checkpoint_format format) {
  return format >= checkpoint_format::megatron_0 && format <= checkpoint_format::megatron;
}

struct checkpoint_parts {
  checkpoint_format format = checkpoint_format::hugging_face;
  json_ptr config;          // all but GGUF: the model's configuration in the format's own words
  std::string config_file;  // where it is from, for messages
  gguf_metadata metadata;   // GGUF only
  std::vector<stored_tensor> tensors;
  std::vector<foreign_tensor> foreign;  // what the files hold besides, but libft has no tensor for
  rank_share share;                     // what was asked for; only libft's own folders leave out the rest
  bool share_alone = false;             // of split tensors, only that rank's pieces are there
  int tensor_parallel = 1;  // ranks that the tensors were saved for: a split one's pieces are "name.0", "name.1", ...
};

// A Hugging Face folder: config.json beside model.safetensors, several with model.safetensors.index.json, or, where
// there is no safetensors file, the same as pytorch_model.bin.
bool is_hugging_face(const std::string& folder);  // has a config.json
bool has_hugging_face_weights(const std::string& folder);
checkpoint_parts open_hugging_face(const std::string& folder);
// Adds its tensors alone; false when it has no weights.
bool add_hugging_face_weights(const std::string& folder, checkpoint_parts& parts);

// A folder of FasterTransformer, usually called "<n>-gpu": config.ini, and a headerless file of elements for each
// tensor and rank. Each file is a tensor of one axis, named by the file without ".bin"; its shape is the weight
// table's.
bool is_faster_transformer(const std::string& folder);
checkpoint_parts open_faster_transformer(const std::string& folder);

// A folder of Megatron-LM: mp_rank_00/model_optim_rng.pt and its like for every rank, or a folder of iterations with
// latest_checkpointed_iteration.txt. Tensors are named as in the saved dictionaries from below "model" on, but with
// layers counted through all pipeline stages, older names by the newer ones ("encoder", "self_attention"), and, where
// tensor parallelism splits a tensor, with ".<rank>" behind.
bool is_megatron(const std::string& folder);
checkpoint_parts open_megatron(const std::string& folder);

// A folder that libft wrote (io/formats/manifest.h). Tensors have libft's own names, a piece of a split one ".<rank>"
// behind.
bool is_manifest(const std::string& folder);
// Where it is split as the share is, opens the files of that rank and stage only.
checkpoint_parts open_manifest(const std::string& folder, const rank_share& share);

}  // namespace ft::io
