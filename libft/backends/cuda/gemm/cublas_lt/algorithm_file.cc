#include "backends/cuda/gemm/cublas_lt/algorithm_file.h"

#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "core/status.h"

namespace ft::cuda {
namespace {

constexpr const char* first_line = "libft gemm algorithms 1";
constexpr const char* hex_digits = "0123456789abcdef";

std::string folder() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (const std::string own = set("FT_CACHE_DIR"); !own.empty()) return own;
  if (const std::string cache = set("XDG_CACHE_HOME"); !cache.empty()) return cache + "/libft";
  if (const std::string home = set("HOME"); !home.empty()) return home + "/.cache/libft";
  return "";
}

// "NVIDIA H200, cuBLASLt 130100" -> "nvidia-h200-cublaslt-130100"
std::string as_file_name(const std::string& text) {
  std::string name;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)))
      name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  return name;
}

std::optional<algorithm> from_hex(const std::string& text) {
  algorithm a{};
  if (text.size() != 2 * a.size()) return {};
  const std::string digits = hex_digits;
  for (size_t i = 0; i < a.size(); ++i) {
    const size_t high = digits.find(text[2 * i]), low = digits.find(text[2 * i + 1]);
    if (high == std::string::npos || low == std::string::npos) return {};
    a[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return a;
}

}  // namespace

algorithm_file::algorithm_file(const std::string& made_for) : made_for_(made_for) {
  const std::string in = folder();
  if (in.empty()) return;
  path_ = cat(in, "/gemm-", as_file_name(made_for), ".txt");
  read();
  if (!problem_.empty()) algorithms_.clear();
}

void algorithm_file::read() {
  std::ifstream file(path_);
  if (!file) return;
  std::string line;
  if (!std::getline(file, line) || line != first_line) {
    problem_ = cat(path_, ": this is no file of tuned algorithms; remove it");
    return;
  }
  if (!std::getline(file, line) || line != made_for_) {
    problem_ = cat(path_, ": it was made for ", line, ", not for ", made_for_, "; tune again");
    return;
  }
  for (int number = 3; std::getline(file, line); ++number) {
    const size_t middle = line.find(" = ");
    const auto found = middle == std::string::npos ? std::nullopt : from_hex(line.substr(middle + 3));
    if (!found) {
      problem_ = cat(path_, ": line ", number, " is damaged; tune again");
      return;
    }
    algorithms_[line.substr(0, middle)] = *found;
  }
}

const algorithm* algorithm_file::find(const std::string& range) const {
  const auto it = algorithms_.find(range);
  return it == algorithms_.end() ? nullptr : &it->second;
}

void algorithm_file::save() const {
  if (path_.empty())
    fail(FT_ERROR_INVALID_ARGUMENT,
         "there is no place to keep tuned algorithms: neither FT_CACHE_DIR, XDG_CACHE_HOME nor HOME is set");
  const std::string made = cat(path_, ".", getpid());
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
  {
    std::ofstream file(made);
    file << first_line << '\n' << made_for_ << '\n';
    for (const auto& [range, bytes] : algorithms_) {
      file << range << " = ";
      for (const uint8_t byte : bytes) file << hex_digits[byte >> 4] << hex_digits[byte & 15];
      file << '\n';
    }
    file.close();
    if (!file) {
      std::filesystem::remove(made, ignored);
      fail(FT_ERROR_INVALID_ARGUMENT, made,
           ": tuned algorithms cannot be kept there; set FT_CACHE_DIR to a folder that is writable, on a disk with "
           "room");
    }
  }
  std::error_code failure;
  std::filesystem::rename(made, path_, failure);
  if (failure)
    fail(FT_ERROR_INVALID_ARGUMENT, path_, ": tuned algorithms cannot be kept there: ", failure.message(),
         "; set FT_CACHE_DIR to another folder");
}

}  // namespace ft::cuda
