p='libft/backends/cuda/attention/decode.cu'; s=open(p).read()
def rep(a,b):
    global s
    assert s.count(a)>=1, a
    s=s.replace(a,b)
rep('constexpr int shortest_split = 64, most_splits = 128, widest_group = 8;','''constexpr int most_splits = 128, widest_group = 8;

// The keys of a block, where the context is not so long that there would be too many splits: 16 KiB of keys in 16 bits.
constexpr int shortest_split(int head_dim) { return head_dim > 128 ? 32 : 64; }''')
rep('to.keys_a_split = shortest_split;','to.keys_a_split = shortest_split(p.head_dim);')
rep('constexpr int groups = threads / Lanes, U = sizeof(T) == 2 ? 4 : 2;','''// U keys a lane at once: as many loads in flight as registers allow beside the G queries.
  constexpr int groups = threads / Lanes, U = sizeof(T) == 4 ? 2 : G == 1 ? 8 : 4;''')
open(p,'w').write(s)
p='tests/gpu/attention_test.cc'; s=open(p).read()
rep('''TEST(copied_pages_hold''','''// Many long rows are cut into larger tiles than one row alone, which changes no result.
TEST(prompts_do_not_depend_on_their_neighbours) {
  draw d(run_seed());
  for (dtype type : {dtype::f32, dtype::f16, dtype::bf16})
    for (int64_t head_dim : {32, 64, 80, 96, 128, 256}) {
      const shape s{16, 4, head_dim};
      std::vector<int32_t> lengths;
      for (int i = 0; i < 24; ++i) lengths.push_back(static_cast<int32_t>(d.integer(100, 300)));
      const sequences all(d, s, lengths, type);
      const drawn_options options = some_options(d, s);
      const bool causal = d.coin();
      place on(gpu(), false);
      const std::vector<float> together = run_whole(on, all, causal, options.on(on));
      for (size_t r : {size_t{0}, size_t{7}, lengths.size() - 1}) {
        sequences alone = all;
        alone.lengths = {lengths[r]};
        alone.offsets = {0, lengths[r]};
        const std::vector<part> row{{static_cast<int32_t>(r), 0, lengths[r]}};
        alone.query = rows_of(all.query, all, row, 0);
        alone.key = rows_of(all.key, all, row, 8);
        alone.value = rows_of(all.value, all, row, 0);
        expect_same_bits(
            run_whole(on, alone, causal, options.on(on)),
            {together.begin() + all.offsets[r] * all.width(), together.begin() + all.offsets[r + 1] * all.width()},
            cat("row ", r, " of heads of ", head_dim, " in ", name(type)));
      }
    }
}

TEST(copied_pages_hold''')
open(p,'w').write(s)
