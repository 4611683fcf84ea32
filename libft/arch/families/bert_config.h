// Config maps of the BERT line; see bert.cc.
#pragma once

#include <string>

#include "arch/config/config.h"
#include "io/checkpoint.h"

namespace ft::arch {

model_config bert_config(const io::checkpoint& source);

// What the names of a Hugging Face checkpoint's encoder begin with when it was saved with a head: "bert.", "roberta.",
// "distilbert.".
std::string bert_prefix(const std::string& model_type);

}  // namespace ft::arch
