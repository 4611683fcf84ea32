// The file that tuned algorithms are kept in: one for each GPU model and version of cuBLAS, whose algorithms mean
// nothing to another. In $FT_CACHE_DIR, else $XDG_CACHE_HOME/libft, else ~/.cache/libft.
//
//   libft gemm algorithms 1
//   NVIDIA H200, cuBLASLt 130100
//   <range> = <the algorithm's 64 bytes in hexadecimal>
//   ...
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

namespace ft::cuda {

using algorithm = std::array<uint8_t, 64>;  // a cublasLtMatmulAlgo_t's own bytes

class algorithm_file {
 public:
  // Reads it, if it is there. What cannot be used is ignored, and problem() says why.
  explicit algorithm_file(const std::string& made_for);

  const algorithm* find(const std::string& range) const;
  void put(const std::string& range, const algorithm& a) { algorithms_[range] = a; }
  // Replaces the file as a whole. Throws ft::error (FT_ERROR_INVALID_ARGUMENT: the folder is the caller's to choose)
  // when it cannot be written.
  void save() const;

  const std::string& path() const { return path_; }  // empty: there is no place for one
  const std::string& problem() const { return problem_; }

 private:
  void read();

  std::string made_for_, path_, problem_;
  std::map<std::string, algorithm> algorithms_;
};

}  // namespace ft::cuda
