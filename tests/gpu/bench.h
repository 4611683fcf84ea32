// Times of single kernels on the GPU against the time that their memory traffic takes at least.
#pragma once

namespace ft::test {

// Prints a table of the rows whose names contain the filter; null: all.
void run_benchmarks(const char* filter);

// The same of a few layers of models' decoding steps, one operation after another.
void run_layer_benchmarks(const char* filter);

}  // namespace ft::test
