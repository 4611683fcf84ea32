"""Writes gguf_fixture.h: drawn GGUF blocks and their elements as the `gguf` package's NumPy code decodes them.

Run `python tests/ops/make_gguf_fixture.py` with `gguf` installed to write it anew; the seed is fixed.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

# Where the float16 fields lie in a block of each type.
HALVES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}


def draw(rng: np.random.Generator, name: str, count: int) -> np.ndarray:
    """Blocks of random bits, with float16 fields that are finite: [count, block_bytes] uint8."""
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in HALVES[name]:
        values = rng.normal(0, 0.1, (count, 1)).astype(np.float16)
        blocks[:, offset : offset + 2] = values.view(np.uint8)
    return blocks


def lines(items: list[str], width: int) -> str:
    return ",\n".join("    " + ", ".join(items[i : i + width]) for i in range(0, len(items), width))


def main() -> None:
    rng = np.random.default_rng(20240607)
    parts = [
        "// Blocks of every GGUF type and the bits of their elements as float32, from the `gguf` package.",
        "// Written by make_gguf_fixture.py; do not edit.",
        "#pragma once",
        "",
        "#include <cstdint>",
        "",
        "// clang-format off",
        "namespace gguf_fixture {",
    ]
    for name in HALVES:
        kind = GGMLQuantizationType[name]
        blocks = draw(rng, name, 1 if name.endswith("K") else 3)
        values = quants.dequantize(blocks, kind).astype(np.float32).reshape(-1)
        lower = name.lower()
        parts.append(f"inline constexpr uint8_t {lower}_blocks[] = {{")
        parts.append(lines([str(b) for b in blocks.reshape(-1)], 28) + "};")
        parts.append(f"inline constexpr uint32_t {lower}_values[] = {{")
        parts.append(lines([f"0x{v:08x}" for v in values.view(np.uint32)], 9) + "};")
    parts += ["}  // namespace gguf_fixture", "// clang-format on", ""]
    (Path(__file__).parent / "gguf_fixture.h").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
