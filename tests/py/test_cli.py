"""The pyft command: outputs, JSON, errors in one line, exit statuses."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

import pyft
from pyft.cli import main
from pyft.presets import PRESETS, Preset, write_checkpoint


def run(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyft", *arguments], input=stdin, capture_output=True, text=True, timeout=120, cwd=cwd
    )


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_generate(capsys: pytest.CaptureFixture[str], llama: pyft.Model, llama_folder: Path) -> None:
    expected = llama.generate("A dam", max_new_tokens=8).text
    status, out, err = call(capsys, "generate", llama_folder, "--prompt", "A dam", "--max-new-tokens", 8)
    assert (status, out, err) == (0, expected + "\n", "")
    status, out, err = call(capsys, "generate", llama_folder, "--prompt", "A dam", "--max-new-tokens", 8, "--stream")
    assert (status, out, err) == (0, expected + "\n", "")


def test_generate_json(capsys: pytest.CaptureFixture[str], llama: pyft.Model, llama_folder: Path) -> None:
    arguments = ["--prompt", "A dam", "--prompt", "She", "--max-new-tokens", 4, "--seed", 3, "--temperature", 0.7]
    arguments += ["--num-return-sequences", 2, "--json", "--logprobs"]
    status, out, _ = call(capsys, "generate", llama_folder, *arguments)
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [line["prompt"] for line in lines] == ["A dam", "A dam", "She", "She"]
    made = llama.generate(
        "A dam", max_new_tokens=4, seed=3, do_sample=True, temperature=0.7, num_return_sequences=2, logprobs=True
    )
    assert [line["token_ids"] for line in lines[:2]] == [one.token_ids.tolist() for one in made]
    assert lines[0]["text"] == made[0].text
    assert lines[0]["finish_reason"] == made[0].finish_reason
    assert len(lines[0]["logprobs"]) == len(made[0].token_ids)


def test_temperature_zero_is_greedy(capsys: pytest.CaptureFixture[str], llama: pyft.Model, llama_folder: Path) -> None:
    status, out, _ = call(
        capsys, "generate", llama_folder, "--prompt", "A dam", "--temperature", 0, "--max-new-tokens", 5
    )
    assert (status, out) == (0, llama.generate("A dam", max_new_tokens=5).text + "\n")


def safetensors_file(path: Path, dtype: str, **tensors: np.ndarray) -> Path:
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        data = values.tobytes()
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_soft_prompt(capsys: pytest.CaptureFixture[str], llama: pyft.Model, llama_folder: Path, tmp_path: Path) -> None:
    """Rows in front of every prompt, from files of each kind."""
    rows = np.round(np.random.default_rng().normal(size=(5, 64)) * 8).astype(np.float32) / 8
    made = [
        llama.generate([0] * 5 + llama.encode(text).tolist(), inputs_embeds={0: rows}, max_new_tokens=8)
        for text in ("A dam", "She")
    ]
    assert made[0].text != llama.generate("A dam", max_new_tokens=8).text
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "half.npy", rows.astype(np.float16))
    brain = (rows.view(np.uint32) >> 16).astype(np.uint16)
    files = [
        tmp_path / "rows.npy",
        tmp_path / "half.npy",
        safetensors_file(tmp_path / "one.safetensors", "F32", anything=rows),
        safetensors_file(tmp_path / "peft.safetensors", "BF16", base=brain[:2], prompt_embeddings=brain),
    ]
    common = ["--prompt", "A dam", "--prompt", "She", "--max-new-tokens", 8]
    for file in files:
        for more in ([], ["--stream"]):
            out = call(capsys, "generate", llama_folder, "--soft-prompt", file, *common, *more)
            assert out == (0, f"{made[0].text}\n{made[1].text}\n", "")
    arguments = ["--soft-prompt", files[0], "--json", "--prompt-logprobs", *common]
    lines = [json.loads(line) for line in call(capsys, "generate", llama_folder, *arguments)[1].splitlines()]
    assert [line["prompt"] for line in lines] == ["A dam", "She"]
    assert [value is None for value in lines[0]["prompt_logprobs"][:6]] == [True] * 5 + [False]

    (tmp_path / "rows.txt").write_text("1 2 3")
    (tmp_path / "torn.npy").write_bytes(files[0].read_bytes()[:200])
    (tmp_path / "empty.npy").touch()
    (tmp_path / "torn.safetensors").write_bytes(files[2].read_bytes()[:-4])
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 40)
    np.save(tmp_path / "narrow.npy", rows[:, :-1])
    np.save(tmp_path / "flat.npy", rows[0])
    wrong = {
        "rows.txt": "is read from",
        "torn.npy": "no soft prompt can be read",
        "empty.npy": "no soft prompt can be read",
        "torn.safetensors": "no soft prompt can be read",
        "noise.safetensors": "no soft prompt can be read",
        "absent.npy": "No such file",
        "narrow.npy": "[n, 64] is meant",
        "flat.npy": "[n, n] is meant",
        safetensors_file(tmp_path / "two.safetensors", "F32", a=rows, b=rows).name: "none of which is called",
        safetensors_file(tmp_path / "ids.safetensors", "I32", a=rows.astype(np.int32)).name: "floats are meant",
    }
    for name, message in wrong.items():
        status, out, error = call(capsys, "generate", llama_folder, "--soft-prompt", tmp_path / name, *common)
        assert (status, out) == (1, "")
        assert message in error, error
        assert error.count("\n") == 1


def test_generate_from_standard_input(llama: pyft.Model, llama_folder: Path, tmp_path: Path) -> None:
    done = run("generate", str(llama_folder), "--max-new-tokens", "5", stdin="A dam", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == llama.generate("A dam", max_new_tokens=5).text + "\n"
    assert done.stderr == ""  # no progress bar where there is no terminal


def test_embed(capsys: pytest.CaptureFixture[str], bert: pyft.Model, bert_folder: Path) -> None:
    status, out, _ = call(capsys, "embed", bert_folder, "--text", "a dam", "--text", "the river", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    np.testing.assert_allclose([line["embedding"] for line in lines], bert.embed(["a dam", "the river"]), rtol=1e-6)
    status, out, _ = call(capsys, "embed", bert_folder, "--text", "a dam", "--pooling", "cls", "--no-normalize")
    expected = bert.embed("a dam", pooling="cls", normalize=False)[0]
    np.testing.assert_allclose([float(value) for value in out.split()], expected, rtol=1e-4)


def test_inspect(capsys: pytest.CaptureFixture[str], llama_folder: Path) -> None:
    status, out, _ = call(capsys, "inspect", llama_folder)
    assert status == 0
    assert "model.layers.1.mlp.down_proj.weight" in out
    assert "missing: 0" in out
    status, out, _ = call(capsys, "inspect", llama_folder, "--json")
    found = json.loads(out)
    assert found["config"]["hidden_size"] == 64
    assert found["dtypes"]["float32"]["size_bytes"] == found["size_bytes"]
    assert len(found["tensors"]) == found["dtypes"]["float32"]["tensors"]


def test_inspect_tells_what_is_missing_and_unused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tiny import write_llama

    folder = write_llama(tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"model.norm.weight", b"model.gone.weight"))
    status, out, _ = call(capsys, "inspect", folder, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["missing"] == ["model.norm.weight"]
    assert found["unused"] == ["model.gone.weight"]
    assert "MISSING" in call(capsys, "inspect", folder)[1]


def test_inspect_tells_what_a_fused_tensor_holds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    preset = PRESETS["gpt2"]
    write_checkpoint(Preset({**preset.config, "n_embd": 24, "n_layer": 1, "vocab_size": 50}, preset.dtype), tmp_path)
    found = json.loads(call(capsys, "inspect", tmp_path, "--json")[1])
    held = {tensor["name"]: tensor["weights"] for tensor in found["tensors"]}
    parts = [f"layers.0.attention.{part}.weight" for part in ("query", "key", "value")]
    assert held["transformer.h.0.attn.c_attn.weight"] == parts
    assert held["transformer.wte.weight"] == ["embedding.weight"]
    assert f"({', '.join(parts)})" in call(capsys, "inspect", tmp_path)[1]


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "devices")
    assert status == 0
    assert out.startswith("cpu: ")
    found = json.loads(call(capsys, "devices", "--json")[1])
    assert found[0]["name"] == "cpu"


def test_bench(capsys: pytest.CaptureFixture[str], llama_folder: Path, bert_folder: Path) -> None:
    sizes = ["--prompt", 8, "--new", 4, "--batch", 2, "--repeat", 1]
    status, out, _ = call(capsys, "bench", llama_folder, *sizes, "--json")
    found = json.loads(out)
    assert status == 0
    assert (found["batch"], found["prompt"], found["new"], found["dtype"]) == (2, 8, 4, "float32")
    assert found["prompt_tokens_per_second"] == pytest.approx(16 / found["prompt_seconds"])
    assert found["decode_tokens_per_second"] == pytest.approx(6 / found["decode_seconds"])
    status, out, _ = call(capsys, "bench", bert_folder, *sizes)
    assert status == 0
    assert "prompt" in out
    assert "decode" not in out


def test_bench_of_a_shape(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    status, out, err = call(capsys, "bench", "minilm-l6", "--prompt", 16, "--repeat", 1, "--json")
    assert status == 0, err
    assert json.loads(out)["prompt_tokens_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "nowhere", "--prompt", "x"], "nowhere"),
        (["inspect", "nowhere"], "nowhere"),
        (["generate", "LLAMA", "--prompt", "x", "--num-beams", "129"], "num_beams"),
        (["generate", "LLAMA", "--prompt", "x", "--top-p", "7"], "top_p"),
        (["generate", "LLAMA", "--prompt", "x", "--max-new-tokens", "0"], "max_new_tokens is 0; it must be at least 1"),
        (["generate", "LLAMA", "--prompt", "x", "--early-stopping", "maybe"], "early_stopping='maybe'"),
        (["generate", "LLAMA", "--prompt", "x", "--device", "abacus"], "abacus"),
        (["generate", "LLAMA", "--prompt", "x", "--stream", "--json"], "--stream"),
        (["generate", "BERT", "--prompt", "x"], "generat"),
        (["bench", "LLAMA", "--beams", "300"], "num_beams"),
        (["chat", "BERT"], "template"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], said: str, llama_folder: Path, bert_folder: Path, tmp_path: Path
) -> None:
    folders = {"LLAMA": str(llama_folder), "BERT": str(bert_folder)}
    done = run(*[folders.get(argument, argument) for argument in arguments], stdin="hello\n", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("pyft: error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert done.stderr.rstrip().endswith(")")  # a hint


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["generate"],
        ["generate", "x", "--max-new-tokens", "none"],
        ["embed", "x", "--pooling", "median"],
        ["bench", "x", "--batch", "-1"],
    ],
)
def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["generate", "--help"], ["bench", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    with pytest.raises(SystemExit):
        main(["--version"])
    assert pyft.__version__ in capsys.readouterr().out


def test_a_reader_that_leaves(llama_folder: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "pyft", "inspect", str(llama_folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    child.stdout.close()
    err = child.stderr.read()
    child.wait(60)
    assert b"Traceback" not in err


def test_chat_from_a_pipe(llama: pyft.Model, llama_folder: Path, tmp_path: Path) -> None:
    settings = ["--max-new-tokens", "6", "--system", "Be brief."]
    done = run("chat", str(llama_folder), *settings, stdin="Hello\n\nAgain\n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    first = llama.chat(history, max_new_tokens=6).text
    history += [{"role": "assistant", "content": first}, {"role": "user", "content": "Again"}]
    second = llama.chat(history, max_new_tokens=6).text
    assert done.stdout == f"{first}\n{second}\n\n"


class Terminal:
    """A child on a pseudo-terminal."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 100))
        self.child = subprocess.Popen(
            [sys.executable, "-m", "pyft", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(slave)
        self.seen = b""

    def until(self, wanted: bytes, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while wanted not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {wanted!r} in {self.seen!r}"
            try:
                self.seen += os.read(self.master, 4096)
            except OSError:
                break
        before, found, self.seen = self.seen.partition(wanted)
        assert found, f"no {wanted!r} in {before!r}"

    def settle(self, ending: bytes) -> None:
        """Until a second goes by without output, and the last of it is `ending`: the text itself may hold that too."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            ready, _, _ = select.select([self.master], [], [], 1.0)
            if ready:
                try:
                    self.seen += os.read(self.master, 4096)
                except OSError as failure:
                    raise AssertionError(f"the program ended: {self.seen!r}") from failure
            elif self.seen.endswith(ending):
                self.seen = b""
                return
        raise AssertionError(f"no {ending!r} at the end of {self.seen!r}")

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def end(self) -> int:
        status = self.child.wait(30)
        os.close(self.master)
        return status


def test_chat_on_a_terminal(llama_folder: Path, tmp_path: Path) -> None:
    """Ctrl-C stops an answer and keeps the talk going, Ctrl-D leaves."""
    terminal = Terminal("chat", str(llama_folder), "--max-new-tokens", "200", "--stop-token-id", "511", cwd=tmp_path)
    terminal.settle(b"> ")
    terminal.type(b"Hello\n")
    terminal.until(b"Hello\r\n")
    time.sleep(0.1)
    terminal.child.send_signal(signal.SIGINT)
    terminal.settle(b"> ")
    terminal.type(b"Again\n")
    terminal.until(b"Again\r\n")
    terminal.settle(b"> ")
    terminal.type(b"long " * 500 + b"\n")  # more than the model has positions for: said so, and the talk goes on
    terminal.until(b"positions")
    terminal.settle(b"> ")
    terminal.type(b"\x04")
    assert terminal.end() == 0


def test_progress_bars_on_a_terminal_only(llama_folder: Path, tmp_path: Path) -> None:
    terminal = Terminal("generate", str(llama_folder), "--prompt", "x", "--max-new-tokens", "1", cwd=tmp_path)
    terminal.until(b"loading")
    while True:
        try:
            if not os.read(terminal.master, 4096):
                break
        except OSError:
            break
    assert terminal.end() == 0
