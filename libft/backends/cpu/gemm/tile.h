// The matrix kernel: a tile of `rows` rows of x times `panels` panels of weights, its sums in registers, and what
// happens to the sums afterwards (scales, bias, activation, residual) while they are still there or in the L1 cache.
#pragma once

#include <utility>

#include "backends/cpu/gemm/dots.h"
#include "backends/cpu/isa/activate.h"

namespace ft::cpu::FT_ISA {

// What is done to the sums of one call of `linear`.
struct epilogue {
  float* out;
  int64_t out_stride;
  const float* bias;      // null: none
  const float* residual;  // null: none
  int64_t residual_stride;
  activation_kind activation;
  const float* column_scales;  // int8: of the weight's output features
  const int32_t* corrections;  // int8: the sums' initial value, for the activations' offset
};

// One tile over one stretch of k.
struct tile_job {
  const epilogue* end;
  const char* x;         // chunks: [chunk][rows][64 bytes]
  const char* panel;     // the first panel, at this stretch's first step
  int64_t panel_stride;  // bytes from panel to panel
  int64_t units;         // steps
  float* sums;           // [rows][panels * panel_width], 64-byte aligned: the sums between stretches, and room for them
  bool first, last;      // stretches
  const float* row_scales;  // int8: of the tile's rows
  int64_t row, column;      // of out, where the tile begins
  int columns;              // of out that it covers: fewer than its width at the right edge
};

// body(constant<0>) .. body(constant<n - 1>), so that arrays of vectors stay in registers.
template <int i>
struct constant {
  static constexpr int value = i;
  constexpr operator int() const { return i; }
};
template <class Body, int... i>
FT_INLINE void unrolled(Body&& body, std::integer_sequence<int, i...>) {
  (body(constant<i>{}), ...);
}
template <int n, class Body>
FT_INLINE void unrolled(Body&& body) {
  unrolled(body, std::make_integer_sequence<int, n>{});
}

#define FT_LAMBDA_INLINE __attribute__((always_inline))

// out = activation(sums + bias) + residual for a tile whose sums lie in memory.
void finish_tile(const tile_job& job, int rows, int width);

template <class D, int rows, int panels>
struct tile {
  static constexpr int vectors = panels * panel_vectors;
  static constexpr int width = panels * panel_width;
  using layout = layout_of<D>;
  using sum = typename D::sum;
  using sums = sum[rows][vectors];

  // How far ahead of its use a panel is asked for, in bytes. With one or two rows the loads themselves run further
  // ahead than that; more rows keep the processor's queues so full of arithmetic that they do not.
  static constexpr int ahead = rows <= 2 ? 0 : rows < 8 ? 4096 : 8192;

  static FT_INLINE void step(sums& s, const char* x, const char* panel, int64_t panel_stride) {
    unrolled<D::parts>([&](auto part) FT_LAMBDA_INLINE {
      sum w[vectors];
      if constexpr (part == 0 && ahead > 0)
        for (int p = 0; p < panels; ++p)
          for (int i = 0; i < layout::step_bytes; i += 64) __builtin_prefetch(panel + p * panel_stride + ahead + i);
      unrolled<vectors>([&](auto v) FT_LAMBDA_INLINE {
        w[v] =
            D::weights(panel + (v / panel_vectors) * panel_stride + (v % panel_vectors) * layout::vector_bytes, part);
      });
      unrolled<rows>([&](auto r) FT_LAMBDA_INLINE {
        const sum a = D::activations(x + r * 64, part);
        unrolled<vectors>([&](auto v) FT_LAMBDA_INLINE { s[r][v] = D::multiply_add(s[r][v], a, w[v]); });
      });
    });
  }

  static FT_INLINE void begin(sums& s, const tile_job& job) {
    if (job.last) expect_stores(job);
    unrolled<rows>([&](auto r) FT_LAMBDA_INLINE {
      unrolled<vectors>([&](auto v) FT_LAMBDA_INLINE {
        s[r][v] = sum{};
        if constexpr (D::integer)
          if (job.first && D::offset) s[r][v] = load_bits<ivec>(job.end->corrections + job.column + v * lanes);
        if (!job.first) s[r][v] = load_bits<sum>(job.sums + r * width + v * lanes);
      });
    });
  }

  // Asks for the lines of `out` that the tile will write, so that they have come when its sums are ready.
  static FT_INLINE void expect_stores(const tile_job& job) {
    const epilogue& e = *job.end;
    unrolled<rows>([&](auto r) FT_LAMBDA_INLINE {
      const char* out = reinterpret_cast<const char*>(e.out + (job.row + r) * e.out_stride + job.column);
      const int bytes = job.columns * static_cast<int>(sizeof(float));
      for (int i = 0; i < bytes; i += 64) __builtin_prefetch(out + i, 1);
    });
  }

  static FT_INLINE vec to_float(sum s, const tile_job& job, int r, int v) {
    if constexpr (D::integer) {
      const vec scale = load(job.end->column_scales + job.column + v * lanes) * job.row_scales[r];
      return __builtin_convertvector(s, vec) * scale;
    } else {
      return s;
    }
  }

  static FT_INLINE void end(sums& s, const tile_job& job) {
    const epilogue& e = *job.end;
    if (!job.last || job.columns < width || e.activation != activation_kind::none) {
      unrolled<rows>([&](auto r) FT_LAMBDA_INLINE {
        unrolled<vectors>([&](auto v) FT_LAMBDA_INLINE {
          float* at = job.sums + r * width + v * lanes;
          if (job.last)
            store(at, to_float(s[r][v], job, r, v));
          else
            std::memcpy(at, &s[r][v], sizeof(sum));
        });
      });
      if (job.last) finish_tile(job, rows, width);
      return;
    }
    unrolled<rows>([&](auto r) FT_LAMBDA_INLINE {
      float* out = e.out + (job.row + r) * e.out_stride + job.column;
      unrolled<vectors>([&](auto v) FT_LAMBDA_INLINE {
        vec y = to_float(s[r][v], job, r, v);
        if (e.bias) y += load(e.bias + job.column + v * lanes);
        if (e.residual) y += load(e.residual + (job.row + r) * e.residual_stride + job.column + v * lanes);
        store(out + v * lanes, y);
      });
    });
  }

  static void multiply(const tile_job& job) {
    sums s;
    begin(s, job);
    const char* x = job.x;
    const char* panel = job.panel;
    const int64_t panel_stride = job.panel_stride;
    int64_t units = job.units;
    for (; units >= layout::chunk_units; units -= layout::chunk_units, x += rows * 64) {
      constexpr int unroll = rows * vectors * D::parts >= 12 ? 2 : 4;
      for (int u = 0; u < layout::chunk_units; u += unroll) {
        unrolled<unroll>([&](auto i) FT_LAMBDA_INLINE {
          step(s, x + (u + i) * layout::unit_bytes, panel + i * layout::step_bytes, panel_stride);
        });
        panel += unroll * layout::step_bytes;
      }
    }
    for (int u = 0; u < units; ++u, panel += layout::step_bytes)
      step(s, x + u * layout::unit_bytes, panel, panel_stride);
    end(s, job);
  }
};

using tile_function = void (*)(const tile_job&);

// The kernel for each number of rows, [1 .. tile_rows], with one panel.
template <class D>
struct tiles {
  tile_function of[tile_rows + 1];
  constexpr tiles() : of{} { fill(std::make_integer_sequence<int, tile_rows>{}); }

 private:
  template <int... i>
  constexpr void fill(std::integer_sequence<int, i...>) {
    ((of[i + 1] = tile<D, i + 1, 1>::multiply), ...);
  }
};

}  // namespace ft::cpu::FT_ISA
