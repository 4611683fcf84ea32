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
  return &where.device() != &cpu_backend() && where.device_memory().get() == &where.device().device_memory();
}

}  // namespace

std::unique_ptr<worker> load_worker(const io::checkpoint& source, placement where, int num_threads,
                                    const arch::compute_choice& choice, arch::progress on_progress,
                                    const peers& others) {
  const arch::model_config config = arch::config_of(source);
  auto on = std::make_unique<executor>(std::move(where), num_threads);
  on->set_activation_type(on->device().activation_type(choice.compute));
  on->set_peers(others);
  const arch::weight_table table = arch::weights_of(config, source);
  const arch::weight_match match = arch::match(table, source);
  arch::require_complete(match, source);
  const arch::build_options build{.device = on->device(),
                                  .compute = choice.compute,
                                  .keep_quantised = choice.keep_quantised,
                                  .pool = &on->pool(),
                                  .on_progress = std::move(on_progress),
                                  .from = on->device_memory().get(),
                                  .share = source.share()};
  if (is_bounded(*on)) arch::require_room(config, match, build);
  std::unique_ptr<arch::network> network = arch::family_named(config.family).build(config, match, build);
  const kv_layout pages{
      .num_kv_heads = network->num_kv_heads(), .head_dim = config.attention.head_dim, .type = choice.key_values};
  return std::make_unique<worker>(config, std::move(network), std::move(on), pages);
}

std::shared_ptr<model> model::open(const std::string& source, const model_options& options) {
  require_one_rank("tensor_parallel", options.tensor_parallel);
  require_one_rank("pipeline_parallel", options.pipeline_parallel);
  if (options.num_threads < 0 || options.num_threads > 4096)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_threads is ", options.num_threads, "; it must be 0 (one a core) to 4096");
  placement where = place(device_named(options.device), options);
  auto opened = io::checkpoint::open(source);
  const arch::compute_choice choice =
      arch::choose_compute(options.dtype, arch::config_of(*opened), *opened, where.device);
  auto first = load_worker(*opened, std::move(where), options.num_threads, choice, options.on_progress);
  return of_ranks(std::move(opened), choice, std::move(first), {});
}

std::shared_ptr<model> model::of_ranks(std::shared_ptr<const io::checkpoint> source, const arch::compute_choice& choice,
                                       std::unique_ptr<worker> first, std::vector<std::unique_ptr<rank>> others) {
  return std::shared_ptr<model>(new model(std::move(source), choice, std::move(first), std::move(others)));
}

model::model(std::shared_ptr<const io::checkpoint> source, const arch::compute_choice& choice,
             std::unique_ptr<worker> first, std::vector<std::unique_ptr<rank>> others)
    : checkpoint_(std::move(source)),
      config_(arch::config_of(*checkpoint_)),
      choice_(choice),
      first_(std::move(first)),
      ranks_(std::make_unique<rank_group>(*first_, std::move(others))) {}

}  // namespace ft::runtime
