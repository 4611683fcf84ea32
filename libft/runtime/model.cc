#include "runtime/model.h"

#include <algorithm>

#include "arch/weights/weight_view.h"
#include "backends/devices.h"
#include "core/status.h"

namespace ft::runtime {
namespace {

// The dtype that matrices are computed in. A quantised checkpoint's own is not one of them: its blocks are computed on
// directly, and what it stores unquantised runs in float32.
dtype compute_dtype_for(const std::string& name, const arch::model_config& config) {
  const std::string& wanted = name == "auto" ? config.checkpoint_dtype : name;
  if (wanted == "int8") return dtype::i8;
  const std::optional<dtype> type = dtype_from_name(wanted);
  if (type == dtype::f32 || type == dtype::bf16 || type == dtype::f16) return *type;
  if (name == "auto") return dtype::f32;
  fail(FT_ERROR_INVALID_ARGUMENT, "dtype '", name, "' is unknown; use auto, float32, bfloat16, float16 or int8");
}

void require_one_rank(const char* option, int ranks) {
  if (ranks < 1) fail(FT_ERROR_INVALID_ARGUMENT, option, " is ", ranks, "; it must be at least 1");
  if (ranks > 1) fail(FT_ERROR_UNSUPPORTED, option, " is ", ranks, "; this build runs a model on one rank");
}

// Where the model is to lie: on the device, with the caller's memory and stream where those are given.
placement place(const device_entry& entry, const model_options& options) {
  backend& device = *entry.device;
  if (options.stream && entry.id.device_type == FT_DEVICE_CPU)
    fail(FT_ERROR_INVALID_ARGUMENT, "a stream is given, but the model is to compute on the CPU, which has none");
  if (!options.allocator.allocate != !options.allocator.deallocate)
    fail(FT_ERROR_INVALID_ARGUMENT, "of an allocator's two functions one is given; give both, or none");
  placement where = placement::on(device);
  if (options.stream) where.stream = {std::shared_ptr<void>(), options.stream};  // the caller's to destroy
  if (options.allocator.allocate)
    where.from = std::make_shared<external_allocator>(device, entry.id.device_id, options.allocator);
  return where;
}

// Whether the weights, in the dtype that they are computed in, fit a GPU: said at once, not after minutes of loading.
// Memory that a caller lends is the caller's affair, and the CPU's is more than what is free.
void require_room(const arch::weight_match& match, dtype compute, const executor& where) {
  backend& device = where.device();
  if (device_of(device).id.device_type == FT_DEVICE_CPU || where.device_memory().get() != &device.device_memory())
    return;
  size_t needed = 0;
  for (const arch::weight_match::entry& entry : match.entries) {
    if (!entry) continue;
    const arch::weight_view view = arch::view_of(entry);
    size_t bytes = bytes_of(compute, view.rows * view.columns);
    if (!is_quantised(view.type)) bytes = std::min(bytes, bytes_of(view.type, view.rows * view.columns));
    needed += bytes;
  }
  const size_t free = device.free_memory();
  if (needed > free)
    fail(FT_ERROR_OUT_OF_MEMORY, "the weights take ", needed >> 20, " MiB in ", name(compute), "; ", device.name(),
         " has ", free >> 20, " MiB free");
}

}  // namespace

std::unique_ptr<worker> load_worker(const io::checkpoint& source, placement where, int num_threads, const loading& how,
                                    const peers& others) {
  const arch::model_config config = arch::config_of(source);
  auto on = std::make_unique<executor>(std::move(where), num_threads);
  on->set_activation_type(on->device().activation_type(how.compute));
  on->set_peers(others);
  const arch::weight_table table = arch::weights_of(config, source);
  const arch::weight_match match = arch::match(table, source);
  arch::require_complete(match, source);
  require_room(match, how.compute, *on);
  std::unique_ptr<arch::network> network = arch::family_named(config.family)
                                               .build(config, match,
                                                      {.device = on->device(),
                                                       .compute = how.compute,
                                                       .keep_quantised = how.keep_quantised,
                                                       .pool = &on->pool(),
                                                       .on_progress = how.on_progress,
                                                       .from = on->device_memory().get(),
                                                       .share = source.share()});
  const kv_layout pages{
      .num_kv_heads = network->num_kv_heads(), .head_dim = config.attention.head_dim, .type = kv_dtype_of(how, config)};
  return std::make_unique<worker>(config, std::move(network), std::move(on), pages);
}

std::shared_ptr<model> model::open(const std::string& source, const model_options& options) {
  require_one_rank("tensor_parallel", options.tensor_parallel);
  require_one_rank("pipeline_parallel", options.pipeline_parallel);
  if (options.num_threads < 0 || options.num_threads > 4096)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_threads is ", options.num_threads, "; it must be 0 (one a core) to 4096");
  placement where = place(device_named(options.device), options);
  auto opened = io::checkpoint::open(source);
  const loading how{.compute = compute_dtype_for(options.dtype, arch::config_of(*opened)),
                    .keep_quantised = options.dtype == "auto",
                    .on_progress = options.on_progress};
  auto first = load_worker(*opened, std::move(where), options.num_threads, how);
  return of_ranks(std::move(opened), how, std::move(first), {});
}

std::shared_ptr<model> model::of_ranks(std::shared_ptr<const io::checkpoint> source, const loading& how,
                                       std::unique_ptr<worker> first, std::vector<std::unique_ptr<rank>> others) {
  return std::shared_ptr<model>(new model(std::move(source), how, std::move(first), std::move(others)));
}

model::model(std::shared_ptr<const io::checkpoint> source, const loading& how, std::unique_ptr<worker> first,
             std::vector<std::unique_ptr<rank>> others)
    : checkpoint_(std::move(source)),
      config_(arch::config_of(*checkpoint_)),
      how_(how),
      first_(std::move(first)),
      ranks_(std::make_unique<rank_group>(*first_, std::move(others))) {
  how_.on_progress = {};  // the caller's, while it loads
}

dtype kv_dtype_of(const loading& how, const arch::model_config& config) {
  switch (how.compute) {
    case dtype::bf16:
      return dtype::bf16;
    case dtype::f16:
      return dtype::f16;
    default:
      break;
  }
  const std::optional<dtype> stored = dtype_from_name(config.checkpoint_dtype);
  return how.keep_quantised && stored && is_quantised(*stored) ? dtype::f16 : dtype::f32;
}

std::string model::dtype_name() const {
  const std::optional<dtype> stored = dtype_from_name(config_.checkpoint_dtype);
  if (how_.keep_quantised && stored && is_quantised(*stored)) return config_.checkpoint_dtype;
  return std::string(name(how_.compute));
}

}  // namespace ft::runtime
