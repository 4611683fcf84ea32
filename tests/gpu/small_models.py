"""Every family, small, through what a GPU does for it: for NVIDIA's compute-sanitizer, which makes kernels slow.

    compute-sanitizer --tool memcheck --error-exitcode 1 python tests/gpu/small_models.py [FAMILY ...] [--dtypes D,D]
    (likewise racecheck, initcheck, synccheck)

Prompts go through the tiles of prompt attention and cuBLASLt; single tokens through the kernels of few rows, alone and
as recorded steps; beams copy pages. Weights are random, results are only checked for being numbers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

import pyft
from pyft.presets import PRESETS, Preset, write_checkpoint

SMALL = {  # what is changed in a preset
    "llama": (
        "llama-1b",
        {
            "hidden_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 512,
            "max_position_embeddings": 512,
        },
    ),
    "gptj": ("gptj-6b", {"n_embd": 256, "n_layer": 2, "n_head": 2, "rotary_dim": 64, "n_positions": 512}),
    "gpt2": ("gpt2", {"n_embd": 256, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "gpt_neox": (
        "gpt-neox-20b",
        {
            "hidden_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "max_position_embeddings": 512,
        },
    ),
    "opt": (
        "opt-125m",
        {
            "hidden_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 512,
            "max_position_embeddings": 512,
            "word_embed_proj_dim": 256,
        },
    ),
    "bloom": ("bloom-560m", {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "t5": (
        "t5-3b",
        {"d_model": 256, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "d_kv": 64, "d_ff": 512},
    ),
    "bert": (
        "bert-base",
        {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512},
    ),
}
VOCAB = 512


def folder_of(family: str, folder: Path) -> Path:
    name, changes = SMALL[family]
    write_checkpoint(Preset({**PRESETS[name].config, **changes, "vocab_size": VOCAB}, "float32"), folder)
    return folder


def run(folder: Path, dtype: str, rng: np.random.Generator, quick: bool) -> int:
    """Returns how many tokens and rows came out."""
    with pyft.load(folder, device="cuda", dtype=dtype, kv_cache_bytes=16 << 20) as model:
        rows = [rng.integers(3, VOCAB, n).tolist() for n in ((1, 40) if quick else (1, 17, 70, 130))]
        decoder = {"decoder_input_ids": [row[:9] for row in rows]} if model.config.get("is_encoder_decoder") else {}
        for out in (model.forward(rows, **decoder), model.forward(rows, **decoder)):  # the second is recorded
            assert np.isfinite(out.last_hidden_state.numpy()).all()
        if not model.generates:
            return len(rows)
        total = 0
        kinds = (
            {},
            {"num_beams": 3},
            {"do_sample": True, "seed": 1, "num_return_sequences": 2},
            {"do_sample": True, "seed": 2, "top_p": 0.8, "repetition_penalty": 1.3},
        )
        for settings in kinds[:2] if quick else kinds:
            # One row, few, and more than the kernels of few rows take.
            for prompts in (rows,) if quick else (rows[:1], rows, rows * 9):
                made = model.generate(prompts, max_new_tokens=4, stop_token_ids=[], **settings)
                total += sum(len(g.token_ids) for item in made for g in (item if isinstance(item, list) else [item]))
        return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(SMALL))
    parser.add_argument("--dtypes", default="float32,float16,bfloat16")
    parser.add_argument("--quick", action="store_true", help="less of each: racecheck is very slow")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    for family in args.families or SMALL:
        with tempfile.TemporaryDirectory() as folder:
            folder_of(family, Path(folder))
            for dtype in args.dtypes.split(","):
                print(f"{family} {dtype}: {run(Path(folder), dtype, rng, args.quick)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
