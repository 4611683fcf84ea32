// ft/forward.h.
#include "runtime/forward/forward.h"

#include <cstring>
#include <string_view>
#include <vector>

#include "api/guard.h"
#include "api/handles.h"
#include "backends/devices.h"

using namespace ft;
using namespace ft::api;

namespace {

std::optional<pool_kind> to_pooling(const ft_pooling& given) {
  int pooling;  // a C program may have put any number there
  std::memcpy(&pooling, &given, sizeof pooling);
  switch (pooling) {
    case FT_POOLING_AUTO:
      return std::nullopt;
    case FT_POOLING_MEAN:
      return pool_kind::mean;
    case FT_POOLING_CLS:
      return pool_kind::first;
    case FT_POOLING_LAST:
      return pool_kind::last;
    case FT_POOLING_MAX:
      return pool_kind::max;
  }
  fail(FT_ERROR_INVALID_ARGUMENT, "options.pooling is ", pooling, ", which is no ft_pooling");
}

runtime::forward_request to_request(const ft_forward_options& options, const runtime::model& model) {
  constexpr uint32_t known = FT_OUTPUT_LAST_HIDDEN_STATE | FT_OUTPUT_POOLER | FT_OUTPUT_LOGITS | FT_OUTPUT_EMBEDDING |
                             FT_OUTPUT_ENCODER_LAST_HIDDEN_STATE;
  if (options.outputs & ~known) fail(FT_ERROR_INVALID_ARGUMENT, "options.outputs sets unknown flags");
  runtime::forward_request wanted = runtime::default_outputs(model);
  if (options.outputs) {
    wanted.last_hidden_state = options.outputs & FT_OUTPUT_LAST_HIDDEN_STATE;
    wanted.pooler_output = options.outputs & FT_OUTPUT_POOLER;
    wanted.logits = options.outputs & FT_OUTPUT_LOGITS;
    wanted.embedding = options.outputs & FT_OUTPUT_EMBEDDING;
    wanted.encoder_last_hidden_state = options.outputs & FT_OUTPUT_ENCODER_LAST_HIDDEN_STATE;
  }
  wanted.pooling = to_pooling(options.pooling);
  wanted.normalize = options.normalize != 0;
  return wanted;
}

// Owns the handles until all of them are made.
struct output_handles {
  ft_device device;
  std::shared_ptr<stream_point> ready;
  ft_tensor* made[5] = {};
  ~output_handles() {
    for (ft_tensor* t : made) ft_tensor_release(t);
  }
  void make(int index, runtime::owned_tensor& t) {
    if (t.view) made[index] = make_tensor(std::move(t), device, ready);
  }
};

// The inputs as the runtime takes them: integers on the host, where the batch is composed.
class inputs_on_host {
 public:
  explicit inputs_on_host(const ft_device& device) : device_(device) {}

  tensor integers(const ft_tensor* t, const char* name) {
    return !t || on_host(*t) ? to_tensor(t, name) : to_tensor(copies_.emplace_back(copy_to_host(*t)).get(), name);
  }

  // These stay where they are.
  tensor floats(const ft_tensor* t, const char* name, bool& on_device, std::shared_ptr<stream_point>& ready) const {
    on_device = t && !on_host(*t);
    if (!on_device) return to_tensor(t, name);
    ready = t->ready;
    return to_tensor(t, name, device_);
  }

  runtime::forward_inputs read(const ft_forward_inputs& given) {
    runtime::forward_inputs in{
        .input_ids = integers(given.input_ids, "input_ids"),
        .attention_mask = integers(given.attention_mask, "attention_mask"),
        .token_type_ids = integers(given.token_type_ids, "token_type_ids"),
        .row_offsets = integers(given.row_offsets, "row_offsets"),
        .decoder_input_ids = integers(given.decoder_input_ids, "decoder_input_ids"),
        .decoder_attention_mask = integers(given.decoder_attention_mask, "decoder_attention_mask"),
        .decoder_row_offsets = integers(given.decoder_row_offsets, "decoder_row_offsets")};
    in.inputs_embeds = floats(given.inputs_embeds, "inputs_embeds", in.embeds_on_device, in.embeds_ready);
    in.decoder_inputs_embeds = floats(given.decoder_inputs_embeds, "decoder_inputs_embeds", in.decoder_embeds_on_device,
                                      in.decoder_embeds_ready);
    return in;
  }

 private:
  ft_device device_;
  std::vector<tensor_handle> copies_;
};

// Whether outputs stay on the model's device, which is not the CPU.
bool stays_on_device(const char* wanted, const device_entry& own) {
  if (!wanted) return false;
  if (std::string_view(wanted) == "auto") fail(FT_ERROR_INVALID_ARGUMENT, "output_device is 'auto'; name the device");
  const device_entry& found = [&]() -> const device_entry& {
    try {
      return device_named(wanted);
    } catch (const error& e) {
      fail(e.code(), "output_device: ", e.what());
    }
  }();
  if (found.id.device_type == FT_DEVICE_CPU) return false;
  if (found.device != own.device)
    fail(FT_ERROR_INVALID_ARGUMENT, "output_device is '", wanted, "', but the model computes on ", own.name,
         "; outputs lie there or on the CPU");
  return true;
}

}  // namespace

ft_status ft_forward(ft_forward_outputs* out, ft_model* model, const ft_forward_inputs* inputs,
                     const ft_forward_options* options) {
  return guard([&] {
    ft_forward_outputs results = FT_FORWARD_OUTPUTS_INIT;
    write_struct(out, results, "out");
    require(model, "model").require_own_process();
    const ft_forward_inputs no_inputs = FT_FORWARD_INPUTS_INIT;
    const ft_forward_options defaults = FT_FORWARD_OPTIONS_INIT;
    const ft_forward_inputs given = read_options(&require(inputs, "inputs"), no_inputs, "inputs");
    const ft_forward_options wanted = read_options(options, defaults, "options");

    const device_entry& own = device_of(model->impl->compute().device());
    runtime::forward_request request = to_request(wanted, *model->impl);
    request.on_device = stays_on_device(wanted.output_device, own);
    inputs_on_host inputs_read(own.id);
    runtime::forward_outputs computed = runtime::forward(*model->impl, inputs_read.read(given), request);
    output_handles handles{request.on_device ? own.id : ft_device{FT_DEVICE_CPU, 0}, computed.ready};
    handles.make(0, computed.last_hidden_state);
    handles.make(1, computed.pooler_output);
    handles.make(2, computed.logits);
    handles.make(3, computed.embedding);
    handles.make(4, computed.encoder_last_hidden_state);
    results = {sizeof results, handles.made[0], handles.made[1], handles.made[2], handles.made[3], handles.made[4]};
    write_struct(out, results, "out");
    for (ft_tensor*& t : handles.made)
      if (&t != &handles.made[4] || out->struct_size >= sizeof results) t = nullptr;  // an older struct lacks the last
  });
}
