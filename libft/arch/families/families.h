// The model families there are, each defined in the file of its name; the registry in family.cc lists them.
#pragma once

#include "arch/family.h"

namespace ft::arch {

family llama_family();
family bert_family();
family gpt2_family();
family gptj_family();
family gpt_neox_family();
family opt_family();
family bloom_family();
family t5_family();
family bart_family();

}  // namespace ft::arch
