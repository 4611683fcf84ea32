#include "arch/family.h"

#include <algorithm>

#include "arch/families.h"
#include "core/status.h"
#include "io/printable.h"

namespace ft::arch {

const std::vector<family>& families() {
  static const std::vector<family> all = {
      llama_family(), bert_family(),  gpt2_family(), gptj_family(), gpt_neox_family(),
      opt_family(),   bloom_family(), t5_family(),   bart_family(),
  };
  return all;
}

const family& family_of(const io::checkpoint& source) {
  const bool gguf = source.format() == io::checkpoint_format::gguf;
  const std::string type =
      gguf ? source.metadata().string("general.architecture", "") : source.config().string("model_type", "");
  std::string known;
  for (const family& f : families()) {
    for (std::string_view name : gguf ? f.gguf : f.hugging_face) {
      if (name == type) return f;
      known += cat(known.empty() ? "" : ", ", name);
    }
  }
  const char* key = gguf ? "general.architecture" : "model_type";
  if (type.empty())
    fail(FT_ERROR_CHECKPOINT, source.source(), ": ", key, " is not given, so the kind of model is not known");
  fail(FT_ERROR_UNSUPPORTED, source.source(), ": ", key, " '", io::printable(type),
       "' is not supported; supported are ", known);
}

}  // namespace ft::arch
