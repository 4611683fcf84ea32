// What becomes of a checkpoint's weights on a device, decided once when a model is opened: the dtype that it computes
// in, which weights stay as they are stored, and the memory that all of them take.
#pragma once

#include <string>

#include "arch/family.h"

namespace ft::arch {

struct compute_choice {
  dtype compute = dtype::f32;     // of matrices: f32, bf16, f16, or i8 (dynamic int8)
  dtype key_values = dtype::f32;  // of kept keys and values
  bool keep_quantised = true;     // see build_options
  std::string name;               // what most weights lie in: "float32", "q4_1", "int8"
};

// For the option `dtype`. "auto" is the checkpoint's own where it is a float type. What is stored in another format is
// computed on as it is where the device has kernels for that; else in the checkpoint's 16-bit float type (float16 where
// it has none), never in float32, which takes several times the memory. Throws ft::error for a name that is none.
compute_choice choose_compute(const std::string& wanted, const model_config& config, const io::checkpoint& source,
                              const backend& device);

// What building the network with these options would place on the device, by the recipe itself. Reads no weight.
placed_bytes measure(const model_config& config, const weight_match& match, const build_options& options);

// Throws ft::error (FT_ERROR_OUT_OF_MEMORY) saying what takes how much when less is free on the device: at once, not
// after minutes of loading.
void require_room(const model_config& config, const weight_match& match, const build_options& options);

}  // namespace ft::arch
