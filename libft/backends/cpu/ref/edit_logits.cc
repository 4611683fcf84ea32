// edit_logits, every level's: there are few edits beside the elements of a row.
#include <algorithm>

#include "backends/cpu/ref/ref_ops.h"
#include "core/logit_edit.h"

namespace ft::cpu::ref {

void edit_logits(exec&, const edit_logits_args& a) {
  const auto* penalties = a.penalties.as<logit_penalties>();
  const std::span edits(a.edits.as<logit_edit>(), static_cast<size_t>(a.edits.shape[0]));
  const auto* late = a.late.as<late_edit>();
  const auto late_token = [&](int64_t row) {
    return late && late[row].place >= 0 ? a.chosen.as<int32_t>()[late[row].place] : -1;
  };
  const auto edit = [&](int64_t row, int32_t token, int32_t change) {
    float& x = a.x.as<float>()[row * a.x.stride[0] + token];
    x = edited(x, change, penalties[row]);
  };
  for (const logit_edit& e : edits)
    if (e.row >= 0)
      edit(e.row, e.token, late_token(e.row) == e.token ? joined(e.change, late[e.row].change) : e.change);
  for (int64_t row = 0; late && row < a.x.shape[0]; ++row) {
    const int32_t token = late_token(row);
    const auto is_it = [&](const logit_edit& e) { return e.row == row && e.token == token; };
    if (token >= 0 && std::ranges::none_of(edits, is_it)) edit(row, token, late[row].change);
  }
}

}  // namespace ft::cpu::ref
