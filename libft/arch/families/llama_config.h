// Config maps of the Llama line; see llama.cc.
#pragma once

#include "arch/config/config.h"
#include "io/checkpoint.h"

namespace ft::arch {

model_config llama_config(const io::checkpoint& source);

}  // namespace ft::arch
