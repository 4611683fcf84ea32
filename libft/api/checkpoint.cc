// ft/checkpoint.h.
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "api/guard.h"
#include "api/handles.h"

using namespace ft;
using namespace ft::api;

namespace {

// Fills in which weights each tensor holds.
void name_weights(const arch::weight_match& match, std::vector<ft_checkpoint::listed>& tensors) {
  std::unordered_map<std::string_view, std::string> held;
  for (const arch::weight_match::entry& entry : match.entries)
    for (const std::string& piece : (entry ? *entry.source : entry.spec->sources.front()).pieces) {
      std::string& names = held[piece];
      names += cat(names.empty() ? "" : ", ", entry.spec->name);
    }
  for (ft_checkpoint::listed& tensor : tensors)
    if (const auto at = held.find(tensor.name); at != held.end()) tensor.weights = at->second;
}

}  // namespace

ft_checkpoint::ft_checkpoint(std::shared_ptr<const io::checkpoint> source) : impl(std::move(source)) {
  const arch::model_config model = arch::config_of(*impl);
  config = model.to_json()->dump();

  const arch::weight_table table = arch::weights_of(model, *impl);
  const arch::weight_match match = arch::match(table, *impl);
  std::vector<const io::stored_tensor*> unused = match.unused;
  std::sort(unused.begin(), unused.end());
  for (const io::stored_tensor& stored : impl->tensors()) {
    const bool used = !std::binary_search(unused.begin(), unused.end(), &stored);
    tensors.push_back({stored.name,
                       std::string(name(stored.data.type)),
                       stored.file->path(),
                       {stored.data.shape.begin(), stored.data.shape.begin() + stored.data.rank},
                       used ? FT_TENSOR_USED : FT_TENSOR_UNUSED,
                       bytes_of(stored.data.type, stored.data.size())});
  }
  std::vector<const io::foreign_tensor*> unused_foreign = match.unused_foreign;
  std::sort(unused_foreign.begin(), unused_foreign.end());
  for (const io::foreign_tensor& t : impl->foreign_tensors()) {
    const bool used = !std::binary_search(unused_foreign.begin(), unused_foreign.end(), &t);
    tensors.push_back(
        {t.name, t.dtype, t.file->path(), t.shape, used ? FT_TENSOR_UNSUPPORTED : FT_TENSOR_UNUSED, t.bytes});
  }
  for (arch::missing_tensor& lacking : arch::missing(match))
    tensors.push_back({std::move(lacking.name), "", "", std::move(lacking.shape), FT_TENSOR_MISSING, 0});
  name_weights(match, tensors);
}

namespace {

const io::gguf_value& find_metadata(const ft_checkpoint* checkpoint, const char* key) {
  require(key, "key");
  const io::gguf_value* value = require(checkpoint, "checkpoint").impl->metadata().find(key);
  if (!value) fail(FT_ERROR_NOT_FOUND, "the checkpoint has no metadata key '", key, "'");
  return *value;
}

void require_index(const io::gguf_value& value, size_t index) {
  if (index >= value.length())
    fail(FT_ERROR_NOT_FOUND, "metadata '", value.key, "' has ", value.length(), " elements; index ", index,
         " is past the end");
}

[[noreturn]] void refuse_type(const io::gguf_value& value, const char* wanted) {
  fail(FT_ERROR_INVALID_ARGUMENT, "metadata '", value.key, "' does not hold ", wanted);
}

}  // namespace

ft_status ft_checkpoint_open(ft_checkpoint** out, const char* source) {
  return guard([&] {
    require(out, "out") = nullptr;
    *out = std::make_unique<ft_checkpoint>(io::checkpoint::open(&require(source, "source"))).release();
  });
}

void ft_checkpoint_close(ft_checkpoint* checkpoint) { delete checkpoint; }

ft_status ft_checkpoint_format(const char** out, const ft_checkpoint* checkpoint) {
  return guard([&] {
    switch (require(checkpoint, "checkpoint").impl->format()) {
      case io::checkpoint_format::hugging_face:
        require(out, "out") = "safetensors";
        break;
      case io::checkpoint_format::gguf:
        require(out, "out") = "gguf";
        break;
      case io::checkpoint_format::faster_transformer:
        require(out, "out") = "faster_transformer";
        break;
      case io::checkpoint_format::megatron_0:
      case io::checkpoint_format::megatron_1:
      case io::checkpoint_format::megatron:
        require(out, "out") = "megatron";
        break;
      case io::checkpoint_format::manifest:
        require(out, "out") = "libft";
        break;
    }
  });
}

ft_status ft_checkpoint_config(const char** out, const ft_checkpoint* checkpoint) {
  return guard([&] { require(out, "out") = require(checkpoint, "checkpoint").config.c_str(); });
}

ft_status ft_checkpoint_tensor_count(size_t* out, const ft_checkpoint* checkpoint) {
  return guard([&] { require(out, "out") = require(checkpoint, "checkpoint").tensors.size(); });
}

ft_status ft_checkpoint_tensor(ft_tensor_info* out, const ft_checkpoint* checkpoint, size_t index) {
  return guard([&] {
    const auto& tensors = require(checkpoint, "checkpoint").tensors;
    if (index >= tensors.size())
      fail(FT_ERROR_NOT_FOUND, "the checkpoint lists ", tensors.size(), " tensors; index ", index, " is past the end");
    const ft_checkpoint::listed& t = tensors[index];
    write_struct(out,
                 {sizeof(ft_tensor_info), t.name.c_str(), t.dtype.c_str(), t.file.empty() ? nullptr : t.file.c_str(),
                  t.shape.data(), static_cast<int32_t>(t.shape.size()), t.usage, t.size_bytes,
                  t.weights.empty() ? nullptr : t.weights.c_str()},
                 "out");
  });
}

ft_status ft_checkpoint_metadata_count(size_t* out, const ft_checkpoint* checkpoint) {
  return guard([&] { require(out, "out") = require(checkpoint, "checkpoint").impl->metadata().values().size(); });
}

ft_status ft_checkpoint_metadata_key(const char** out, const ft_checkpoint* checkpoint, size_t index) {
  return guard([&] {
    const auto& values = require(checkpoint, "checkpoint").impl->metadata().values();
    if (index >= values.size())
      fail(FT_ERROR_NOT_FOUND, "the checkpoint has ", values.size(), " metadata keys; index ", index,
           " is past the end");
    require(out, "out") = values[index].key.c_str();
  });
}

ft_status ft_checkpoint_metadata_type(ft_metadata_type* type, size_t* length, const ft_checkpoint* checkpoint,
                                      const char* key) {
  return guard([&] {
    const io::gguf_value& value = find_metadata(checkpoint, key);
    constexpr ft_metadata_type types[] = {FT_METADATA_INT, FT_METADATA_FLOAT, FT_METADATA_BOOL, FT_METADATA_STRING};
    require(type, "type") = types[value.data.index()];
    require(length, "length") = value.length();
  });
}

ft_status ft_checkpoint_metadata_int(int64_t* out, const ft_checkpoint* checkpoint, const char* key, size_t index) {
  return guard([&] {
    const io::gguf_value& value = find_metadata(checkpoint, key);
    require_index(value, index);
    if (const auto* integers = std::get_if<std::vector<int64_t>>(&value.data))
      require(out, "out") = (*integers)[index];
    else if (const auto* booleans = std::get_if<std::vector<bool>>(&value.data))
      require(out, "out") = (*booleans)[index];
    else
      refuse_type(value, "integers");
  });
}

ft_status ft_checkpoint_metadata_float(double* out, const ft_checkpoint* checkpoint, const char* key, size_t index) {
  return guard([&] {
    const io::gguf_value& value = find_metadata(checkpoint, key);
    require_index(value, index);
    const auto* numbers = std::get_if<std::vector<double>>(&value.data);
    if (!numbers) refuse_type(value, "floating-point numbers");
    require(out, "out") = (*numbers)[index];
  });
}

ft_status ft_checkpoint_metadata_string(const char** out, size_t* length, const ft_checkpoint* checkpoint,
                                        const char* key, size_t index) {
  return guard([&] {
    const io::gguf_value& value = find_metadata(checkpoint, key);
    require_index(value, index);
    const auto* strings = std::get_if<std::vector<std::string>>(&value.data);
    if (!strings) refuse_type(value, "strings");
    require(out, "out") = (*strings)[index].c_str();
    if (length) *length = (*strings)[index].size();
  });
}
