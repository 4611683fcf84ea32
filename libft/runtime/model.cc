#include "runtime/model.h"

#include "backends/devices.h"
#include "core/status.h"

namespace ft::runtime {
namespace {

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

// Memory that a caller lends is the caller's affair, and the CPU's is more than what is free.
bool is_bounded(const executor& where) {
  return device_of(where.device()).id.device_type != FT_DEVICE_CPU &&
         where.device_memory().get() == &where.device().device_memory();
}

}  // namespace

std::shared_ptr<model> model::open(const std::string& source, const model_options& options) {
  require_one_rank("tensor_parallel", options.tensor_parallel);
  require_one_rank("pipeline_parallel", options.pipeline_parallel);
  if (options.num_threads < 0 || options.num_threads > 4096)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_threads is ", options.num_threads, "; it must be 0 (one a core) to 4096");
  placement where = place(device_named(options.device), options);
  return std::shared_ptr<model>(new model(io::checkpoint::open(source), std::move(where), options));
}

model::model(std::shared_ptr<const io::checkpoint> source, placement where, const model_options& options)
    : checkpoint_(std::move(source)), executor_(std::move(where), options.num_threads) {
  backend& device = executor_.device();
  config_ = arch::config_of(*checkpoint_);
  compute_ = arch::choose_compute(options.dtype, config_, *checkpoint_, device);
  executor_.set_activation_type(device.activation_type(compute_.compute));
  const arch::weight_table table = arch::weights_of(config_, *checkpoint_);
  const arch::weight_match match = arch::match(table, *checkpoint_);
  arch::require_complete(match, *checkpoint_);
  const arch::build_options build{device,
                                  compute_.compute,
                                  compute_.keep_quantised,
                                  &executor_.pool(),
                                  options.on_progress,
                                  executor_.device_memory().get()};
  if (is_bounded(executor_)) arch::require_room(config_, match, build);
  network_ = arch::family_named(config_.family).build(config_, match, build);
}

}  // namespace ft::runtime
