"""One process of benchmarks/cpu_peers.py: one engine at one precision on one task.

Run by cpu_peers.py as `python peer_workers.py '<job as JSON>'`; prints one JSON line. A worker prepares its model (and
keeps what it converted in the job's cache folder), computes the task once so that the result can be checked, then
times it. Each engine is driven the way its own documentation says is fast.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Job = dict[str, Any]


def best_time(action: Callable[[], Any], seconds: float) -> float:
    """The shortest run of `action`, in seconds: once to warm up, then as often as fits, at least three times."""
    action()
    best = float("inf")
    runs = 0
    end = time.perf_counter() + seconds
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best


class Engine:
    """What an engine can do; `encode` gives hidden states [rows, seq, hidden], `generate` greedy new tokens."""

    def __init__(self, job: Job):
        self.job = job
        self.threads: int = job["threads"]
        self.precision: str = job["precision"]
        self.cache = Path(job["cache"])

    def encode(self, ids: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not encode")

    def generate(self, prompt: list[int], count: int) -> list[int]:
        raise NotImplementedError(f"{type(self).__name__} does not generate")


class Pyft(Engine):
    """This library. A GGUF job loads the quantised file itself."""

    def __init__(self, job: Job):
        super().__init__(job)
        import pyft

        dtype = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}.get(self.precision, "auto")
        # Runs are repeated, and each is to compute its prompt.
        self.model = pyft.load(job["model"], device="cpu", dtype=dtype, threads=self.threads, prefix_cache=False)

    def encode(self, ids: np.ndarray) -> np.ndarray:
        return self.model.forward(ids).last_hidden_state.numpy()

    def generate(self, prompt: list[int], count: int) -> list[int]:
        (out,) = self.model.generate([prompt], max_new_tokens=count, stop_token_ids=[])
        return [int(t) for t in out.token_ids]


class HuggingFace(Engine):
    """transformers on PyTorch, eager mode with scaled-dot-product attention and a dynamic cache."""

    def __init__(self, job: Job):
        super().__init__(job)
        import torch
        import transformers

        torch.set_num_threads(self.threads)
        torch.set_grad_enabled(False)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[self.precision]
        kind = transformers.AutoModel if job["task"] == "encode" else transformers.AutoModelForCausalLM
        self.torch = torch
        self.model = kind.from_pretrained(job["model"], dtype=dtype).eval()

    def encode(self, ids: np.ndarray) -> np.ndarray:
        return self.model(self.torch.from_numpy(ids)).last_hidden_state.float().numpy()

    def generate(self, prompt: list[int], count: int) -> list[int]:
        cache = None
        step = self.torch.tensor([prompt])
        tokens: list[int] = []
        for _ in range(count):
            out = self.model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            step = out.logits[:, -1].argmax(-1, keepdim=True)
            tokens.append(int(step))
        return tokens


class OnnxRuntime(Engine):
    """ONNX Runtime on torch's export with its own transformer fusions (attention, layer norms, GELU); int8 by its
    dynamic quantisation. Torch's older exporter, because the fusions recognise attention only in its graphs."""

    def __init__(self, job: Job):
        super().__init__(job)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(self._graph()), options, providers=["CPUExecutionProvider"])

    def _graph(self) -> Path:
        fused = self.cache / "onnx-fp32.onnx"
        if not fused.exists():
            from onnxruntime.transformers import optimizer

            plain = self.cache / "onnx-plain.onnx"
            self._export(plain)
            sizes = {"num_heads": self.job["num_heads"], "hidden_size": self.job["hidden_size"]}
            optimizer.optimize_model(str(plain), model_type="bert", opt_level=0, **sizes).save_model_to_file(str(fused))
        if self.precision == "fp32":
            return fused
        small = self.cache / "onnx-int8.onnx"
        if not small.exists():
            import onnx
            from onnxruntime.quantization import QuantType, quantize_dynamic

            # The fused operators have no shape inference: without the default type, it stops at them.
            options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
            quantize_dynamic(fused, small, weight_type=QuantType.QInt8, per_channel=True, extra_options=options)
        return small

    def _export(self, path: Path) -> None:
        import torch
        import transformers

        class Hidden(torch.nn.Module):
            def __init__(self, model: torch.nn.Module):
                super().__init__()
                self.model = model

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
                return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

        model = transformers.AutoModel.from_pretrained(self.job["model"], attn_implementation="eager").eval()
        ids = torch.from_numpy(np.asarray(self.job["ids"], dtype=np.int64))
        names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["hidden"]}
        torch.onnx.export(
            Hidden(model), (ids, torch.ones_like(ids)), str(path), dynamo=False, opset_version=17, **names
        )

    def encode(self, ids: np.ndarray) -> np.ndarray:
        ids = ids.astype(np.int64)
        return self.session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]


class CTranslate2(Engine):
    """CTranslate2 on its own converter's output."""

    def __init__(self, job: Job):
        super().__init__(job)
        import ctranslate2

        folder = self.cache / "ctranslate2"
        if not (folder / "model.bin").exists():
            ctranslate2.converters.TransformersConverter(job["model"]).convert(str(folder), force=True)
        kind = ctranslate2.Encoder if job["task"] == "encode" else ctranslate2.Generator
        compute = {"fp32": "float32", "int8": "int8"}[self.precision]
        self.model = kind(str(folder), device="cpu", compute_type=compute, intra_threads=self.threads, inter_threads=1)
        self.vocabulary = json.loads((folder / "vocabulary.json").read_text())

    def encode(self, ids: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.forward_batch(ids.tolist()).last_hidden_state)

    def generate(self, prompt: list[int], count: int) -> list[int]:
        (out,) = self.model.generate_batch(
            [[self.vocabulary[t] for t in prompt]],
            max_length=count,
            min_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return out.sequences_ids[0]


class LlamaCpp(Engine):
    """llama.cpp through llama-cpp-python, on the GGUF file."""

    def __init__(self, job: Job):
        super().__init__(job)
        import llama_cpp

        self.model = llama_cpp.Llama(
            job["model"], n_ctx=1024, n_threads=self.threads, n_threads_batch=self.threads, verbose=False
        )

    def generate(self, prompt: list[int], count: int) -> list[int]:
        self.model.reset()
        self.model.eval(prompt)
        tokens = []
        for _ in range(count):
            token = self.model.sample(temp=0.0, repeat_penalty=1.0)
            tokens.append(int(token))
            if len(tokens) < count:
                self.model.eval([token])
        return tokens


ENGINES = {
    "pyft": Pyft,
    "hf": HuggingFace,
    "onnxruntime": OnnxRuntime,
    "ctranslate2": CTranslate2,
    "llama.cpp": LlamaCpp,
}


def run(job: Job) -> dict[str, Any]:
    """Does the job: {"result": file of the checked output, and the figures}."""
    engine = ENGINES[job["engine"]](job)
    seconds = job["seconds"]
    if job["task"] == "encode":
        ids = np.asarray(job["ids"], dtype=np.int64)
        np.save(job["result"], engine.encode(ids))
        return {"sequences_per_second": len(ids) / best_time(lambda: engine.encode(ids), seconds)}
    prompt, new = job["ids"], job["new_tokens"]
    np.save(job["result"], np.asarray(engine.generate(prompt, job["checked_tokens"]), dtype=np.int64))
    # The first token costs the prompt; the others one step each.
    first = best_time(lambda: engine.generate(prompt, 1), seconds)
    whole = best_time(lambda: engine.generate(prompt, 1 + new), seconds)
    return {"prompt_tokens_per_second": len(prompt) / first, "decode_tokens_per_second": new / (whole - first)}


if __name__ == "__main__":
    print("\n" + json.dumps(run(json.loads(sys.argv[1]))))
