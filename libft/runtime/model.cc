#include "runtime/model.h"

#include <algorithm>
#include <atomic>

#include "backends/devices.h"
#include "core/status.h"
#include "runtime/ranks/thread_groups.h"
#include "runtime/ranks/thread_rank.h"

namespace ft::runtime {
namespace {

constexpr int most_ranks = 64;  // threads of one process

// The ranks of a model: how it is split, and each rank's device. Rank r has stage r / tensor_parallel.
struct rank_plan {
  int tensor_parallel = 1, pipeline_parallel = 1;
  std::vector<const device_entry*> devices;  // of each rank

  int size() const { return tensor_parallel * pipeline_parallel; }
  io::rank_share share_of(int rank) const {
    return {rank % tensor_parallel, tensor_parallel, rank / tensor_parallel, pipeline_parallel};
  }
};

rank_plan plan_ranks(const model_options& options) {
  for (const auto& [option, ranks] :
       {std::pair("tensor_parallel", options.tensor_parallel), {"pipeline_parallel", options.pipeline_parallel}})
    if (ranks < 0 || ranks > most_ranks)
      fail(FT_ERROR_INVALID_ARGUMENT, option, " is ", ranks, "; it must be from 1 to ", most_ranks);
  std::vector<const device_entry*> named;
  for (size_t begin = 0; begin <= options.device.size();) {
    const size_t end = std::min(options.device.find(',', begin), options.device.size());
    named.push_back(&device_named(options.device.substr(begin, end - begin)));
    begin = end + 1;
  }
  const auto count = static_cast<int>(named.size());
  rank_plan plan{std::max(1, options.tensor_parallel), std::max(1, options.pipeline_parallel), {}};
  if (plan.size() == 1) plan.tensor_parallel = count;
  if (int64_t{plan.tensor_parallel} * plan.pipeline_parallel > most_ranks)
    fail(FT_ERROR_INVALID_ARGUMENT, "tensor_parallel ", plan.tensor_parallel, " times pipeline_parallel ",
         plan.pipeline_parallel, " are ", plan.size(), " ranks; ", most_ranks, " are the most");
  if (count != 1 && count != plan.size())
    fail(FT_ERROR_INVALID_ARGUMENT, "device names ", count, " devices, but tensor_parallel ", plan.tensor_parallel,
         " times pipeline_parallel ", plan.pipeline_parallel, " are ", plan.size(), " ranks; name one device for each");
  for (int r = 0; r < plan.size(); ++r) plan.devices.push_back(named[count == 1 ? 0 : static_cast<size_t>(r)]);
  if (plan.size() == 1) return plan;
  for (const device_entry* d : plan.devices)
    if (d->id.device_type != FT_DEVICE_CPU)
      fail(FT_ERROR_UNSUPPORTED, "tensor_parallel ", plan.tensor_parallel, " times pipeline_parallel ",
           plan.pipeline_parallel, ": this build joins ranks on the CPU alone, not on ", d->device->name(),
           "; use device='cpu', or one rank");
  if (options.stream || options.allocator.allocate)
    fail(FT_ERROR_UNSUPPORTED, "a stream or an allocator serves a model on one rank; ", plan.size(), " are asked for");
  return plan;
}

// Of the host's threads, those of one rank.
int threads_of(int rank, const rank_plan& plan, int num_threads) {
  if (plan.size() == 1) return num_threads;
  const int all = num_threads > 0 ? num_threads : usable_cores();
  return std::max(1, all * (rank + 1) / plan.size() - all * rank / plan.size());
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
  if (options.num_threads < 0 || options.num_threads > 4096)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_threads is ", options.num_threads, "; it must be 0 (one a core) to 4096");
  const rank_plan plan = plan_ranks(options);
  placement where = place(*plan.devices.front(), options);
  auto opened = io::checkpoint::open(source, plan.share_of(0));
  const arch::compute_choice choice =
      arch::choose_compute(options.dtype, arch::config_of(*opened), *opened, where.device);

  const auto given_up = std::make_shared<std::atomic<bool>>(false);  // on the whole model, by rank 0
  const auto stop_then = [given_up](uint64_t, uint64_t) {
    if (*given_up) fail(FT_ERROR_CANCELLED, "another rank could not be loaded");
  };
  std::shared_ptr<thread_groups> speech;
  if (plan.size() > 1) speech = std::make_shared<thread_groups>(plan.tensor_parallel, plan.pipeline_parallel);
  std::vector<std::unique_ptr<rank>> others;
  for (int r = 1; r < plan.size(); ++r)
    others.push_back(
        std::make_unique<thread_rank>([=, &source, &plan, threads = threads_of(r, plan, options.num_threads)] {
          const io::rank_share share = plan.share_of(r);
          const auto own = io::checkpoint::open(source, share);
          return load_worker(*own, placement::on(*plan.devices[static_cast<size_t>(r)]->device), threads, choice,
                             stop_then, speech->of(share));
        }));
  std::unique_ptr<worker> first;
  try {
    first = load_worker(*opened, std::move(where), threads_of(0, plan, options.num_threads), choice,
                        options.on_progress, speech ? speech->of(plan.share_of(0)) : peers{});
  } catch (...) {
    *given_up = true;
    throw;
  }
  for (auto& other : others) other->finish();
  auto loaded = of_ranks(std::move(opened), choice, std::move(first), std::move(others));
  loaded->speech_ = std::move(speech);
  return loaded;
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

uint64_t model::weight_bytes() const {
  uint64_t bytes = 0;
  for (const rank_info& info : ranks_->infos()) bytes += info.weight_bytes;
  return bytes;
}

}  // namespace ft::runtime
