// libft's own checkpoints: folders written by `pyft convert`.
//
//   manifest.json            "format": "libft", "version": 2, "family", "config": the configuration in libft's terms,
//                            "tensor_parallel", "pipeline_parallel", "files": [{"name", "rank", "stage"}, ...],
//                            "weights": {libft's name: {"dtype", "shape", "shard"}, ...}
//   weights[.stage-S][.rank-R].safetensors
//                            what tensor rank R of pipeline stage S needs; without R every rank of the stage, without S
//                            every stage. A tensor lies in one file, or in those of all ranks of a stage: its pieces
//
// A rank therefore reads at most four files. Blocks of GGUF's types lie as bytes [rows, bytes of a row], since
// safetensors has no such types; "weights" names the type and the shape in elements.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ft::io {

constexpr std::string_view manifest_file = "manifest.json";
constexpr std::string_view manifest_format = "libft";
constexpr int manifest_version = 2;  // 1 had a flat configuration

// Of the rank's and the stage's share; nothing: of all of them.
std::string weights_file(std::optional<int> rank, std::optional<int> stage);

}  // namespace ft::io
