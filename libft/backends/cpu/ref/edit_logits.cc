// edit_logits, every level's: there are few edits beside the elements of a row.
#include "backends/cpu/ref/ref_ops.h"
#include "core/logit_edit.h"

namespace ft::cpu::ref {

void edit_logits(exec&, const edit_logits_args& a) {
  const auto* penalties = a.penalties.as<logit_penalties>();
  const std::span edits(a.edits.as<logit_edit>(), static_cast<size_t>(a.edits.shape[0]));
  for (const logit_edit& e : edits) {
    if (e.row < 0) continue;
    float& x = a.x.as<float>()[e.row * a.x.stride[0] + e.token];
    x = edited(x, e.change, penalties[e.row]);
  }
}

}  // namespace ft::cpu::ref
