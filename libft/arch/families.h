// The model families there are, each defined in the file of its name; the registry in family.cc lists them.
#pragma once

#include "arch/family.h"

namespace ft::arch {

family llama_family();
family bert_family();

}  // namespace ft::arch
