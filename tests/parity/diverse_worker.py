"""Diverse beam search by the last transformers that has it, for version 5 dropped it: test_diverse_beams.py runs this
with that release on the path. Reads {"folder": ..., "searches": [{"prompt": ids, "settings": {...}}]} and writes, for
each search, [[token ids, score], ...]."""

import json
import sys

import torch
import transformers


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    model = transformers.AutoModelForCausalLM.from_pretrained(asked["folder"], torch_dtype=torch.float32).eval()
    found = []
    for search in asked["searches"]:
        prompt = torch.tensor([search["prompt"]])
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **search["settings"],
        )
        lengths = (out.beam_indices >= 0).sum(1).tolist()
        rows = [
            (ids[prompt.shape[1] :][:n].tolist(), score)
            for ids, n, score in zip(out.sequences, lengths, out.sequences_scores.tolist(), strict=True)
        ]
        found.append(rows)
    json.dump({"version": transformers.__version__, "found": found}, sys.stdout)


if __name__ == "__main__":
    main()
