// Beam search's operations: the GPU against the reference, to the bit.
#include "gpu/compare.h"
#include "ops/beams_problem.h"

namespace ft::test {
namespace {

template <class T>
std::vector<T> downloaded(place& on, const tensor& t) {
  std::vector<T> v(static_cast<size_t>(t.size()));
  on.ex.download(v.data(), t.data, v.size() * sizeof(T));
  return v;
}

// The same arguments in the place's memory.
void move_to(place& on, std::initializer_list<tensor*> tensors) {
  for (tensor* t : tensors) t->data = on.copy(t->data, bytes_of(t->type, t->size()));
}

}  // namespace

TEST(choose_beams) {
  for (int i = 0; i < 100; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const beams_problem p(d);
    const auto of = [&](exec& ex, bool is_reference) {
      place on(ex, is_reference);
      std::vector<beam_choice> poison(p.row.size(), {-7, -7, 7});
      choose_beams_args a = p.choose(poison.data());
      move_to(on, {&a.next, &a.value, &a.index, &a.log_sum, &a.score, &a.row, &a.offsets, &a.stops});
      ops::choose_beams(on.ex, a);
      return downloaded<int32_t>(on, a.next);
    };
    CHECK_MSG(of(gpu(), false) == of(reference().ex, true), "draw ", i);
  }
}

TEST(reorder_beams) {
  for (int i = 0; i < 100; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    std::vector<int32_t> chosen{-1}, place_of, first, positions, fresh, table;
    const int64_t width = d.one_of<int64_t>({1, 3, 16, 300}), page_tokens = 16;
    for (int64_t groups = d.integer(1, 5); groups > 0; --groups) {
      const auto begin = static_cast<int32_t>(place_of.size());
      const int64_t beams = d.one_of<int64_t>({1, 2, 4, 33, 128});
      const bool follows = d.integer(0, 3) > 0;
      const auto position = static_cast<int32_t>(d.integer(0, width * page_tokens - 1));
      for (int64_t beam = 0; beam < beams; ++beam) {
        place_of.push_back(follows ? static_cast<int32_t>(chosen.size()) : -1);
        first.push_back(begin);
        positions.push_back(d.coin() ? position : position / 16 * 16);
        fresh.push_back(static_cast<int32_t>(10000 + place_of.size()));
        const float score = d.normal();
        chosen.insert(chosen.end(), {static_cast<int32_t>(d.integer(0, 99)),
                                     static_cast<int32_t>(d.integer(0, beams - 1)), std::bit_cast<int32_t>(score)});
        for (int64_t page = 0; page < width; ++page) table.push_back(static_cast<int32_t>(d.integer(0, 9999)));
      }
    }
    const auto of = [&](exec& ex, bool is_reference) {
      place on(ex, is_reference);
      reordered f(place_of.size(), static_cast<size_t>(width));
      reorder_beams_args a = f.args(chosen, place_of, first, positions, fresh, table, page_tokens);
      move_to(on, {&a.new_table, &a.slots, &a.from, &a.to, &a.tokens, &a.score, &a.chosen, &a.place, &a.first,
                   &a.positions, &a.fresh, &a.page_table});
      ops::reorder_beams(on.ex, a);
      std::vector<int32_t> all;
      for (const tensor* t : {&a.new_table, &a.slots, &a.from, &a.to, &a.tokens, &a.score})
        for (int32_t x : downloaded<int32_t>(on, *t)) all.push_back(x);
      return all;
    };
    CHECK_MSG(of(gpu(), false) == of(reference().ex, true), "draw ", i);
  }
}

}  // namespace ft::test
