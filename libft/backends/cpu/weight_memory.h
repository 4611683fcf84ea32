// Memory for packed weights: pieces of large slabs that lie in huge pages where the system gives them on request. A
// model's matrices are often smaller than one huge page; with small pages, faulting them in takes longer than laying
// them out, and reading them while decoding stalls on address translation.
#pragma once

#include "core/memory.h"

namespace ft::cpu {

// Thread-safe. Slabs come from host_memory() and go back when their last piece is freed.
memory& weight_memory();

}  // namespace ft::cpu
