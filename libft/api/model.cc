// ft/model.h.
#include <nlohmann/json.hpp>

#include "api/guard.h"
#include "api/handles.h"
#include "runtime/tune.h"

using namespace ft;
using namespace ft::api;

namespace {

const io::json& find_config(const ft_model* model, const char* key) {
  require(key, "key");
  const io::json& config = *require(model, "model").config;
  const auto found = config.find(key);
  if (found == config.end()) fail(FT_ERROR_NOT_FOUND, "the model has no configuration key '", key, "'");
  return *found;
}

void require_type(bool holds, const char* key, const char* wanted) {
  if (!holds) fail(FT_ERROR_INVALID_ARGUMENT, "configuration '", key, "' is not ", wanted);
}

runtime::model_options to_options(const ft_model_options& given) {
  runtime::model_options options;
  if (given.device) options.device = given.device;
  if (given.dtype) options.dtype = given.dtype;
  options.tensor_parallel = given.tensor_parallel;
  options.pipeline_parallel = given.pipeline_parallel;
  options.num_threads = given.num_threads;
  if (given.progress)
    options.on_progress = [callback = given.progress, data = given.user_data](uint64_t done, uint64_t total) {
      if (callback(done, total, data) != 0) fail(FT_ERROR_CANCELLED, "the progress callback cancelled loading");
    };
  // cudaStreamPerThread: whichever thread drives a step would queue it on a stream of its own.
  if (given.stream == reinterpret_cast<void*>(2))
    fail(FT_ERROR_INVALID_ARGUMENT,
         "options.stream is the per-thread default stream, which is another one in each "
         "thread; give a stream that was made");
  options.stream = given.stream;
  options.allocator = {given.allocate, given.deallocate, given.allocator_data};
  return options;
}

}  // namespace

ft_status ft_model_open(ft_model** out, const char* source, const ft_model_options* options) {
  return guard([&] {
    require(out, "out") = nullptr;
    require(source, "source");
    const ft_model_options defaults = FT_MODEL_OPTIONS_INIT;
    const ft_model_options given = read_options(options, defaults, "options");
    auto model = std::make_unique<ft_model>();
    model->impl = runtime::model::open(source, to_options(given));
    model->checkpoint = std::make_unique<ft_checkpoint>(model->impl->shared_checkpoint());
    model->config = model->impl->config().to_json();
    model->config_text = model->config->dump();
    model->device = model->impl->compute().device().name();
    model->dtype = model->impl->dtype_name();
    model->ranks = model->impl->ranks().infos();
    *out = model.release();
  });
}

void ft_model_close(ft_model* model) {
  if (model && !model->forked()) delete model;
}

ft_status ft_model_config_int(int64_t* out, const ft_model* model, const char* key) {
  return guard([&] {
    const io::json& value = find_config(model, key);
    require_type(value.is_number_integer() || value.is_boolean(), key, "an integer");
    require(out, "out") = value.is_boolean() ? value.get<bool>() : value.get<int64_t>();
  });
}

ft_status ft_model_config_float(double* out, const ft_model* model, const char* key) {
  return guard([&] {
    const io::json& value = find_config(model, key);
    require_type(value.is_number(), key, "a number");
    require(out, "out") = value.get<double>();
  });
}

ft_status ft_model_config_string(const char** out, const ft_model* model, const char* key) {
  return guard([&] {
    const io::json& value = find_config(model, key);
    require_type(value.is_string(), key, "a string");
    require(out, "out") = value.get_ref<const std::string&>().c_str();
  });
}

ft_status ft_model_config(const char** out, const ft_model* model) {
  return guard([&] { require(out, "out") = require(model, "model").config_text.c_str(); });
}

ft_status ft_model_checkpoint(const ft_checkpoint** out, const ft_model* model) {
  return guard([&] { require(out, "out") = require(model, "model").checkpoint.get(); });
}

ft_status ft_model_placement(const char** device, const char** dtype, uint64_t* weight_bytes, const ft_model* model) {
  return guard([&] {
    require(model, "model");
    if (device) *device = model->device.c_str();
    if (dtype) *dtype = model->dtype.c_str();
    if (weight_bytes) *weight_bytes = model->impl->weight_bytes();
  });
}

ft_status ft_model_rank_count(size_t* count, const ft_model* model) {
  return guard([&] { require(count, "count") = require(model, "model").ranks.size(); });
}

ft_status ft_model_rank_info(ft_rank_info* out, const ft_model* model, size_t rank) {
  return guard([&] {
    const auto& ranks = require(model, "model").ranks;
    if (rank >= ranks.size())
      fail(FT_ERROR_INVALID_ARGUMENT, "rank is ", rank, "; the model has ", ranks.size(), " ranks");
    const runtime::rank_info& r = ranks[rank];
    write_struct(out,
                 {sizeof(ft_rank_info), r.device.c_str(), r.tensor_rank, r.pipeline_stage, r.first_layer, r.num_layers,
                  r.num_kv_heads, r.weight_bytes, r.transport.c_str()},
                 "out");
  });
}

ft_status ft_model_tune(ft_model* model, const int64_t* token_counts, size_t num_counts, ft_tune_callback report,
                        void* user_data) {
  return guard([&] {
    require(model, "model");
    require(token_counts, "token_counts");
    for (const tuned_product& p : runtime::tune(*model->impl, {token_counts, num_counts}))
      if (report) report(p.name.c_str(), p.before_us, p.after_us, user_data);
  });
}

ft_status ft_model_tuning(const char** path, const char** problem, const ft_model* model) {
  return guard([&] {
    static thread_local tuning_state state;
    state = require(model, "model").impl->compute().device().tuning();
    if (path) *path = state.path.c_str();
    if (problem) *problem = state.problem.c_str();
  });
}
