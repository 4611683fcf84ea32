"""The ``pyft`` command. Errors are one line with a hint and exit status 1; wrong usage exits with 2."""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from pyft import bench, chat, inspection, presets, soft_prompts
from pyft._status import version
from pyft.convert import convert
from pyft.errors import CheckpointError, Error, OutOfMemoryError, UnsupportedError
from pyft.hardware import devices, gpu_problem
from pyft.inspection import size_text
from pyft.model import Model, load
from pyft.options import SAMPLING, TABLE

_SOURCE = "a folder of Hugging Face, FasterTransformer or Megatron-LM, one that pyft convert wrote, or a .gguf file"

_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (OutOfMemoryError, "try fewer or shorter prompts, a smaller --kv-cache-bytes, or a smaller model"),
    (CheckpointError, "the checkpoint must be mended or fetched again"),
    (UnsupportedError, "the README lists the models and features that work"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.run(options)
            sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print("pyft: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone: nothing left to say, and the interpreter must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Error, OSError, ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        print(f"pyft: error: {message} ({_hint(error, options)})", file=sys.stderr)
        return 1


def _hint(error: BaseException, options: argparse.Namespace) -> str:
    if isinstance(error, CheckpointError) and not Path(options.source).exists():
        return "check the path"
    return next((hint for kind, hint in _HINTS if isinstance(error, kind)), "pyft COMMAND --help shows the options")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"pyft: warning: {message}", file=sys.stderr)


# Arguments.


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="pyft", description="Run transformer checkpoints with libft.")
    top.add_argument("--version", action="version", version=f"pyft {version()}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    generate = _command(commands, "generate", run_generate, "continue prompts")
    _add_source(generate)
    generate.add_argument("--prompt", action="append", metavar="TEXT", help="may be repeated; default: standard input")
    generate.add_argument(
        "--soft-prompt", metavar="FILE", help=".npy or .safetensors with embeddings to put in front of every prompt"
    )
    _add_generation(generate)
    generate.add_argument("--stream", action="store_true", help="print the text as it comes")
    generate.add_argument("--json", action="store_true", help="print one JSON object a sequence")

    talk = _command(commands, "chat", run_chat, "talk with a model; Ctrl-C stops an answer, Ctrl-D leaves")
    _add_source(talk)
    talk.add_argument("--system", metavar="TEXT", help="a system message to begin with")
    _add_generation(talk, new_tokens=1024)

    embed = _command(commands, "embed", run_embed, "turn texts into vectors")
    _add_source(embed)
    embed.add_argument(
        "--text", action="append", metavar="TEXT", help="may be repeated; default: lines of standard input"
    )
    embed.add_argument("--pooling", default="auto", choices=("auto", "mean", "cls", "last", "max"))
    embed.add_argument("--no-normalize", action="store_true", help="leave the vectors' lengths as they are")
    embed.add_argument("--json", action="store_true", help="print one JSON object a text")

    inspect = _command(commands, "inspect", run_inspect, "show config, tensors, sizes, what is missing or unused")
    inspect.add_argument("source", metavar="SOURCE", help=_SOURCE)
    inspect.add_argument("--json", action="store_true")

    conversion = _command(
        commands, "convert", run_convert, "write a checkpoint as a folder of safetensors and a manifest"
    )
    conversion.add_argument("source", metavar="SOURCE", help=_SOURCE)
    conversion.add_argument("destination", metavar="DEST", help="the folder to write")
    conversion.add_argument(
        "--dtype", default="auto", help="float32, bfloat16 or float16; default: as the source has it"
    )
    conversion.add_argument("--tensor-parallel", type=_positive, default=1, metavar="N", help="split for N ranks")
    conversion.add_argument("--pipeline-parallel", type=_positive, default=1, metavar="N", help="split for N stages")
    conversion.add_argument("--force", action="store_true", help="replace DEST where it is a converted folder")

    bench_command = _command(commands, "bench", run_bench, "measure tokens per second")
    _add_source(bench_command, f"a checkpoint, or a shape with random weights: {', '.join(presets.PRESETS)}")
    bench_command.add_argument("--batch", type=_positive, default=1, metavar="N", help="sequences side by side")
    bench_command.add_argument("--beams", type=_positive, default=1, metavar="N")
    bench_command.add_argument("--prompt", type=_positive, default=128, metavar="N", help="tokens of a prompt")
    bench_command.add_argument("--new", type=_positive, default=64, metavar="N", help="new tokens of a sequence")
    bench_command.add_argument("--repeat", type=_positive, default=3, metavar="N", help="the best of N runs counts")
    bench_command.add_argument("--json", action="store_true")

    tune = _command(commands, "tune", run_tune, "choose the GPU's matrix algorithms by timing them")
    _add_source(tune, f"a checkpoint, or a shape with random weights: {', '.join(presets.PRESETS)}")
    tune.add_argument("--tokens", type=_positive, nargs="+", metavar="N", help="tokens of the passes to tune for")
    tune.add_argument("--json", action="store_true")

    found = _command(commands, "devices", run_devices, "show what there is to compute on")
    found.add_argument("--json", action="store_true")
    return top


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    made.set_defaults(run=run)
    return made


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def _add_source(command: argparse.ArgumentParser, text: str = _SOURCE) -> None:
    command.add_argument("source", metavar="SOURCE", help=text)
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, or one a rank: cpu,cpu")
    command.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 or int8")
    command.add_argument("--threads", type=_positive, metavar="N", help="default: one a core")
    command.add_argument("--kv-cache-bytes", type=_positive, metavar="N", help="default: half of what is free")
    command.add_argument("--tensor-parallel", type=_positive, default=1, metavar="N", help="ranks to split layers over")
    command.add_argument("--pipeline-parallel", type=_positive, default=1, metavar="N", help="stages of layers")


def _add_generation(command: argparse.ArgumentParser, new_tokens: int = 64) -> None:
    """The options of pyft's generate under their own names. Sampling is on when one of its settings is given."""
    group = command.add_argument_group("generation")
    for name, option in TABLE.items():
        flag = option.flag or "--" + name.replace("_", "-")
        group.add_argument(flag, dest=name, **option.argument())
    command.set_defaults(**dict.fromkeys(TABLE) | {"max_new_tokens": new_tokens})


def generation_options(options: argparse.Namespace) -> dict[str, Any]:
    """What was given, as generate's keyword arguments. --temperature 0 means greedy, as people write it."""
    values = vars(options)
    given = {name: values[name] for name in TABLE if values.get(name) is not None}
    if given.get("temperature") != 0 and any(name in given for name in SAMPLING):
        given["do_sample"] = True
    return given


@contextlib.contextmanager
def _bytes_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes, as a progress callback."""
    with _progress_bar(text, unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


@contextlib.contextmanager
def _progress_bar(text: str, **settings: Any) -> Iterator[Any]:
    """A bar on standard error when that is a terminal, gone when done; nothing when it is not."""
    with tqdm(desc=text, leave=False, disable=not sys.stderr.isatty(), file=sys.stderr, **settings) as bar:
        yield bar


def open_model(options: argparse.Namespace, source: str | None = None, **settings: Any) -> Model:
    with _bytes_bar("loading") as progress:
        return load(
            source or options.source,
            device=options.device,
            dtype=options.dtype,
            threads=options.threads,
            kv_cache_bytes=options.kv_cache_bytes,
            tensor_parallel=options.tensor_parallel,
            pipeline_parallel=options.pipeline_parallel,
            progress=progress,
            **settings,
        )


# Commands.


def run_generate(options: argparse.Namespace) -> None:
    prompts = options.prompt or [_standard_input("--prompt TEXT")]
    if options.stream and options.json:
        raise ValueError("--stream and --json exclude each other")
    settings = generation_options(options)
    rows = soft_prompts.read(options.soft_prompt) if options.soft_prompt else None
    model = open_model(options)
    given: Any = prompts
    if rows is not None:
        given, settings["inputs_embeds"] = soft_prompts.before(rows, [model.encode(prompt) for prompt in prompts])
    if options.stream:
        for prompt in given:
            for piece in model.stream(prompt, **settings):
                print(piece, end="", flush=True)
            print()
        return
    answers = model.generate(given, **settings)
    for prompt, answer in zip(prompts, answers, strict=True):
        for made in answer if isinstance(answer, list) else [answer]:
            print(json.dumps(_as_json(prompt, made), ensure_ascii=False) if options.json else made.text)


def _as_json(prompt: str, made: Any) -> dict[str, Any]:
    found = {
        "prompt": prompt,
        "text": made.text,
        "token_ids": made.token_ids.tolist(),
        "finish_reason": made.finish_reason,
        "score": made.score,
    }
    if made.logprobs is not None:
        found["logprobs"] = [round(float(value), 6) for value in made.logprobs]
    if made.prompt_logprobs is not None:
        found["prompt_logprobs"] = [  # none of the first token, nor of embeddings
            None if np.isnan(value) else round(float(value), 6) for value in made.prompt_logprobs
        ]
    return found


def _standard_input(option: str) -> str:
    if sys.stdin.isatty():
        raise ValueError(f"give {option}, or text on standard input")
    return sys.stdin.read()


def run_chat(options: argparse.Namespace) -> None:
    settings = generation_options(options)
    model = open_model(options)
    chat.pick(model.chat_templates, None, None)  # says so now when there is none
    history: list[dict[str, str]] = []
    if options.system:
        history.append({"role": "system", "content": options.system})
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() line editing and history
        print("Ctrl-C stops an answer, Ctrl-D leaves.", file=sys.stderr)
    while True:
        try:
            said = input("> " if terminal else "")
            if said.strip():
                _answer(model, history, said, settings)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
        except ValueError as failure:  # what was said is too long by itself, say: the talk goes on
            print(f"pyft: {failure}", file=sys.stderr)


def _answer(model: Model, history: list[dict[str, str]], said: str, settings: dict[str, Any]) -> None:
    """Streams one answer; an interrupted one stays in the history as far as it came.

    A talk that has outgrown the model's positions forgets its oldest turns, but not what the system was told.
    """
    asked = [*history, {"role": "user", "content": said}]
    prompt = model.apply_chat_template(asked, tokenize=True)
    while len(prompt) >= model.config.max_positions and len(asked) > 2:
        del asked[asked[0]["role"] == "system" : 2 + (asked[0]["role"] == "system")]
        print("[the oldest turn is forgotten: the talk has outgrown the model's positions]", file=sys.stderr)
        prompt = model.apply_chat_template(asked, tokenize=True)
    stream = model.stream(prompt, **settings)
    pieces = []
    try:
        for piece in stream:
            pieces.append(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(" [interrupted]", end="")
    finally:
        stream.close()
    print(flush=True)
    history[:] = [*asked, {"role": "assistant", "content": "".join(pieces)}]


def run_embed(options: argparse.Namespace) -> None:
    texts = options.text or [line for line in _standard_input("--text TEXT").splitlines() if line.strip()]
    model = open_model(options)
    with _progress_bar("embedding", total=len(texts), unit="text") as bar:
        vectors = model.embed(texts, options.pooling, not options.no_normalize, progress=bar.update)
    for text, vector in zip(texts, vectors, strict=True):
        if options.json:
            print(json.dumps({"text": text, "embedding": vector.tolist()}, ensure_ascii=False))
        else:
            print(" ".join(f"{value:.6g}" for value in vector))


def run_inspect(options: argparse.Namespace) -> None:
    found = inspection.inspect(options.source)
    print(json.dumps(found, indent=2) if options.json else inspection.report(found))


def run_convert(options: argparse.Namespace) -> None:
    with _bytes_bar("converting") as progress:
        convert(
            options.source,
            options.destination,
            options.dtype,
            options.tensor_parallel,
            options.pipeline_parallel,
            overwrite=options.force,
            progress=progress,
        )


@contextlib.contextmanager
def _checkpoint_or_shape(source: str) -> Iterator[str]:
    """The checkpoint, or one of random weights in the shape of this name, which is there for the time being."""
    if source not in presets.PRESETS or Path(source).exists():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix=f"pyft-{source}-") as folder:
        _write_preset(source, Path(folder))
        yield folder


def run_tune(options: argparse.Namespace) -> None:
    with _checkpoint_or_shape(options.source) as source, open_model(options, source) as model:
        found = model.tune(options.tokens) if options.tokens else model.tune()
        path = model.tuning_file
    if options.json:
        print(json.dumps({"file": str(path), "products": [asdict(product) for product in found]}))
        return
    for product in found:
        print(f"{product.before:10.1f} -> {product.after:8.1f} us  {product.name}")
    print(f"kept in {path}")


def run_bench(options: argparse.Namespace) -> None:
    with _checkpoint_or_shape(options.source) as source:
        start = time.perf_counter()
        model = open_model(options, source, prefix_cache=False)  # runs are repeated, and each is to compute its prompt
        loaded = time.perf_counter() - start
        result = bench.measure(
            model,
            name=options.source,
            load_seconds=loaded,
            batch=options.batch,
            prompt=options.prompt,
            new=options.new,
            beams=options.beams,
            repeat=options.repeat,
        )
        model.close()
    if options.json:
        print(json.dumps(result.as_dict()))
        return
    print(
        f"{result.source}: {result.architecture} on {result.device}, {result.dtype}, {size_text(result.weight_bytes)}"
    )
    print(f"  load     {result.load_seconds:10.3f} s")
    print(f"  prompt   {result.prompt_tokens_per_second:10.1f} tokens/s  ({result.batch} x {result.prompt})")
    if result.decode_tokens_per_second is not None:
        print(f"  decode   {result.decode_tokens_per_second:10.1f} tokens/s  ({result.batch} x {result.new})")


def _write_preset(name: str, folder: Path) -> None:
    preset = presets.PRESETS[name]
    width = 2 if preset.dtype == "bfloat16" else 4
    need = sum(width * _elements(shape) for _, shape in preset.tensors())
    free = shutil.disk_usage(folder).free
    if need > free:
        raise ValueError(
            f"{name} takes {size_text(need)} in {folder.parent}, where {size_text(free)} are free; set TMPDIR elsewhere"
        )
    presets.write_checkpoint(preset, folder)


def _elements(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


def run_devices(options: argparse.Namespace) -> None:
    found = devices()
    if options.json:
        keys = ("name", "description", "capabilities", "memory_bytes", "num_threads")
        print(json.dumps([{key: getattr(device, key) for key in keys} for device in found], indent=2))
        return
    for device in found:
        threads = f", {device.num_threads} threads" if device.num_threads else ""
        print(f"{device.name}: {device.description}, {size_text(device.memory_bytes)}{threads}")
        print(f"  in use: {device.capabilities[0]}  found: {' '.join(device.capabilities)}")
    if problem := gpu_problem():
        print(f"no GPU: {problem}")
