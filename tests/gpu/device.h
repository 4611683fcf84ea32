// The GPU that the tests run on.
#pragma once

#include "ops/exec.h"

namespace ft::test {

// The first GPU; null, with the reason on standard output, where there is none.
backend* gpu_backend();

// An execution on it, with a stream and scratch memory of its own.
exec& gpu();

}  // namespace ft::test
