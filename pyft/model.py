"""pyft.load and pyft.Model: the front door."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
import numpy.typing as npt

from pyft import chat as chat_templates
from pyft import forward as forward_pass
from pyft import generation
from pyft._model import ModelHandle
from pyft.embedding import Embedder
from pyft.errors import UnsupportedError
from pyft.generation import TextStream
from pyft.loaded_model import LoadedModel
from pyft.options import GenerateOptions, integer


class Allocator(Protocol):
    """Memory on a device. Any thread calls it, perhaps several at once."""

    def allocate(self, size: int, device: int, /) -> int:
        """The address of ``size`` bytes, aligned to 256, on the GPU of this number (0 for the CPU); 0, or any
        exception, where there are none: the call that wanted them raises OutOfMemoryError."""

    def deallocate(self, address: int, size: int, device: int, /) -> None:
        """Takes them back, when no work of the device uses them any more."""


def load(
    source: str | os.PathLike[str],
    device: str | Sequence[str] = "auto",
    dtype: str = "auto",
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    comm: Any = None,
    threads: int | None = None,
    *,
    progress: Callable[[int, int], Any] | None = None,
    max_batch_size: int | None = None,
    max_tokens_per_step: int | None = None,
    kv_cache_bytes: int | None = None,
    prefix_cache: bool = True,
    prefix_cache_bytes: int | None = None,
    stream: Any = None,
    allocator: Allocator | None = None,
) -> "Model":
    """Loads a checkpoint: a Hugging Face folder (config.json and \\*.safetensors) or a .gguf file.

    device: "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N" (:func:`pyft.devices` lists what there is);
    a list of them has one rank of the model on each. tensor_parallel ranks split each layer, pipeline_parallel stages
    share out the layers; n devices without a split mean tensor_parallel=n. Ranks are threads of this process, and lie
    on the CPU today; :attr:`Model.ranks` shows them.
    dtype: "auto" (the checkpoint's), "float32", "bfloat16", "float16", or, on a CPU, "int8".
    threads: of the CPU, all cores by default. progress(done_bytes, total_bytes) is called as weights are placed; a
    true return cancels with CancelledError. max_batch_size, max_tokens_per_step and kv_cache_bytes bound the
    generation session: sequences and tokens of one step, and memory for keys and values (default: half of what is
    free on the device, within a container's limit). prefix_cache keeps full pages of computed tokens while there is
    room: a prompt that begins as an earlier prompt or answer did computes only what is new, with the same result.
    prefix_cache_bytes bounds the memory of such pages while no request uses them (default: kv_cache_bytes where that
    is given, else 1 GiB).

    stream: a CUDA stream of the device (a torch.cuda.Stream, a cupy.cuda.Stream, or its address), which must live as
    long as the model: the model's work is queued there, after what the caller has queued. By default the model has one
    of its own. allocator: gives the memory on the device that weights, keys and values, activations and outputs lie
    in; by default the library takes it itself.

    CheckpointError names the file, the tensor and the fault; UnsupportedError what this build cannot do.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a path, not {type(source).__name__}")
    if not isinstance(dtype, str):
        raise TypeError(f"dtype must be a name such as 'float32', not {dtype!r}")
    if comm is not None:
        raise UnsupportedError("comm: ranks over MPI are not there yet; leave it out to run in this process")
    sizes = [
        integer(name, 0 if value is None else value, 0, limit)
        for name, value, limit in (
            ("max_batch_size", max_batch_size, 2**31 - 1),
            ("max_tokens_per_step", max_tokens_per_step, 2**31 - 1),
            ("kv_cache_bytes", kv_cache_bytes, 2**63 - 1),
            ("prefix_cache_bytes", prefix_cache_bytes, 2**63 - 1),
        )
    ]
    handle = ModelHandle(
        source,
        _device_names(device),
        dtype,
        integer("tensor_parallel", tensor_parallel, 1),
        integer("pipeline_parallel", pipeline_parallel, 1),
        0 if threads is None else integer("threads", threads, 1, 4096),
        progress,
        _stream_address(stream),
        allocator,
    )
    if problem := handle.tuning()[1]:
        warnings.warn(f"tuned algorithms are ignored: {problem}", RuntimeWarning, stacklevel=2)
    return Model(handle, Path(source), (sizes[0], sizes[1], sizes[2], bool(prefix_cache), sizes[3]))


def _stream_address(stream: Any) -> int:
    """Of torch's stream, cupy's, one with cuda.core's protocol, or an address; 0 for None."""
    if stream is None:
        return 0
    if hasattr(stream, "__cuda_stream__"):
        stream = stream.__cuda_stream__()[1]
    address = getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
    if not isinstance(address, int):
        raise TypeError(f"stream must be a CUDA stream or its address, not {type(stream).__name__}")
    if address <= 0:
        raise ValueError(
            "stream is CUDA's default stream, which its number 0 does not tell from none; give 1 to mean it"
        )
    return address


def _device_names(device: str | Sequence[str]) -> str:
    """As ft_model_options has them: with commas between them."""
    names = [device] if isinstance(device, str) else list(device)
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"device must be a name such as 'cpu' or a list of them, not {device!r}")
    if any("\0" in name for name in names):
        raise ValueError(f"device {device!r} has a zero byte in it")
    return ",".join(names)


@dataclass(frozen=True, slots=True)
class Rank:
    """One rank of a model: its device, its share of each layer (tensor_rank) and of the layers (pipeline_stage,
    first_layer, num_layers), its key and value heads in each, the bytes of its weights, and what carries what it says
    to other ranks; an empty transport where there are none."""

    device: str
    tensor_rank: int
    pipeline_stage: int
    first_layer: int
    num_layers: int
    num_kv_heads: int
    weight_bytes: int
    transport: str


@dataclass(frozen=True, slots=True)
class TunedProduct:
    """A matrix product whose algorithm was chosen by timing: its shape, and the microseconds it took before and takes
    now."""

    name: str
    before: float
    after: float


class Model(LoadedModel):
    """A loaded model; made by :func:`pyft.load`. Any number of threads may use it at once."""

    def __init__(self, handle: ModelHandle, source: Path, session_settings: tuple[int, int, int, bool, int]) -> None:
        super().__init__(handle, source, session_settings)
        self._embedder: Embedder | None = None

    def close(self) -> None:
        """Cancels what runs and gives the memory back once the last call has returned. Tensors made stay valid."""
        super().close()
        with self._lock:
            self._embedder = None

    def tune(self, token_counts: Iterable[int] = (64, 128, 256, 512, 1024, 2048, 4096, 8192)) -> list[TunedProduct]:
        """Times the GPU's algorithms for the matrix products of passes of these numbers of tokens, and keeps the
        fastest, for this process and, in the file :attr:`tuning_file`, for later ones. One kept for a number of tokens
        serves all up to the next power of two. Takes seconds a number; other work on the GPU spoils it."""
        counts = [integer("token_counts", count, 1, 1 << 20) for count in token_counts]
        return [TunedProduct(*found) for found in self._handle.tune(counts)]

    @property
    def ranks(self) -> list[Rank]:
        """Who computes the model: one rank, or as many as were asked for."""
        return [Rank(*found) for found in self._handle.ranks()]

    @property
    def tuning_file(self) -> Path | None:
        """Where tuned algorithms are kept; None on a CPU."""
        path = self._handle.tuning()[0]
        return Path(path) if path else None

    # Generation.

    def generate(self, prompts: Any = None, attention_mask: Any = None, **options: Unpack[GenerateOptions]) -> Any:
        """Continues one prompt or many: :class:`Generation` for one, a list of them for a list.

        prompts: a text, a list of texts, token ids as a list or a 1-D array (one prompt), a list of them, or a
        [batch, seq] integer array with attention_mask where it is padded. With num_return_sequences above 1 each
        prompt gives a list, drawn with seed, seed + 1, ...

        Options mean what they mean in transformers. Sampling (temperature, top_k=50, top_p, min_p, typical_p) acts
        under do_sample=True; seed=None draws one. top_p_decay, top_p_min and top_p_reset_id are FasterTransformer's:
        top_p is multiplied by the decay at each new token, down to the minimum, and begins anew after the reset
        token. stop_token_ids=None are the checkpoint's own end tokens, [] are none. stop_strings stay in the text, as
        in transformers. logits_processor(token_ids, logits) is called for each new token, with the prompt and new
        tokens and their float32 logits; it changes them in place or returns others. They are the library's own memory:
        an Error for one that keeps them. prefix_allowed_tokens_fn(prompt_index, token_ids) returns the ids that may
        come next; forced tokens overrule it, as in transformers. What either raises ends the call.
        prompt_logprobs=True keeps the prompt tokens' log-probabilities too.
        inputs_embeds are embeddings in place of prompts: [seq, hidden_size], [batch, seq, hidden_size] or a list; or,
        beside prompts, {position: [n, hidden_size]} in place of those tokens, for all prompts or a list of one each.
        An encoder-decoder's are its encoder's.
        past_key_values are keys and values [num_layers, 2, num_kv_heads, length, head_dim] of positions before every
        prompt (prefix tuning), as attention takes them.
        Requests of several threads share one running batch, and a prompt's tokens do not depend on what runs beside it.
        """
        return generation.generate(self, prompts, attention_mask, options)

    def stream(self, prompt: Any = None, **options: Unpack[GenerateOptions]) -> TextStream:
        """Iterates over text pieces as they come; leaving the loop cancels. ``.generation`` is the whole at the end."""
        return TextStream(self, prompt, options)

    def chat(
        self,
        messages: Sequence[chat_templates.Message],
        *,
        template: str | None = None,
        tools: Sequence[Any] | None = None,
        template_variables: Mapping[str, Any] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Any:
        """The assistant's answer to messages, [{"role": "user", "content": "..."}, ...]; options as in generate.

        template: the name of one of the checkpoint's templates, or a Jinja template. template_variables are passed to
        it, e.g. {"enable_thinking": False}.
        """
        ids = self.apply_chat_template(
            messages, template=template, tools=tools, template_variables=template_variables, tokenize=True
        )
        return generation.generate(self, ids, None, options)

    def apply_chat_template(
        self,
        messages: Sequence[chat_templates.Message],
        *,
        add_generation_prompt: bool = True,
        template: str | None = None,
        tools: Sequence[Any] | None = None,
        template_variables: Mapping[str, Any] | None = None,
        tokenize: bool = False,
    ) -> Any:
        """The prompt that chat makes of messages: text, or its token ids under tokenize=True."""
        chat_templates.check_messages(messages)
        known = self.chat_templates if self.chat_templates or template is None else {"default": template}
        text = chat_templates.render(
            chat_templates.pick(known, template, tools),
            messages,
            self.special_tokens,
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            variables=template_variables,
        )
        # The template writes the special tokens itself.
        return self.encode(text, add_special_tokens=False) if tokenize else text

    # Whole sequences.

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        pixel_values: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        inputs_embeds: Any = None,
        decoder_inputs_embeds: Any = None,
        *,
        outputs: str | Sequence[str] | None = None,
        output_device: str | None = None,
    ) -> forward_pass.Outputs:
        """One pass over whole sequences.

        input_ids: integers of any width, [batch, seq] (numpy, torch or any DLPack array, not copied), padded on
        either side where attention_mask is 0; or a list of rows of several lengths, whose outputs are laid out as
        [batch, longest, ...]. Encoder-decoders read input_ids with the encoder and decoder_input_ids, as many rows by
        the same rules, with the decoder. inputs_embeds and decoder_inputs_embeds are embeddings in place of the ids,
        [batch, seq, hidden_size] floats or a list of [seq, hidden_size], used as they are (no scale is applied).
        outputs limits the work to some of "last_hidden_state", "pooler_output", "logits",
        "encoder_last_hidden_state".
        Arrays may lie on the model's GPU. Embeddings are read where they are; ids are copied, since batches are
        composed on the host. output_device says where outputs lie: "cpu", or the model's own device; by default the
        latter when an input is there. Outputs on a GPU may still be computed when the call returns: torch.from_dlpack
        and every other consumer of DLPack waits for them there, and t.cpu() is a copy in host memory.
        """
        if pixel_values is not None:
            raise UnsupportedError("pixel_values belong to models that are not there yet")
        return forward_pass.forward(
            self,
            forward_pass.Rows(input_ids, attention_mask, inputs_embeds),
            token_type_ids,
            forward_pass.Rows(decoder_input_ids, decoder_attention_mask, decoder_inputs_embeds, "decoder_"),
            outputs,
            output_device,
        )

    def embed(
        self,
        texts: str | Sequence[str],
        pooling: str = "auto",
        normalize: bool = True,
        *,
        progress: Callable[[int], Any] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Sentence embeddings, float32 [n, hidden_size]; one text gives [1, hidden_size].

        pooling: "auto" (what the checkpoint's sentence-transformers modules say, else the mean), "mean", "cls",
        "last" or "max". normalize scales each to Euclidean length 1. Texts longer than the model's
        max_seq_length (sentence_bert_config.json, else its positions) are cut, as sentence-transformers cuts them.
        progress(n) is told of each batch.
        """
        items = [texts] if isinstance(texts, str) else list(texts)
        for index, text in enumerate(items):
            if not isinstance(text, str):
                raise TypeError(f"text {index} must be a string, not {type(text).__name__}")
        self._handle  # noqa: B018 - a closed model says so first
        with self._lock:
            if self._embedder is None:
                self._embedder = Embedder(self)
            embedder = self._embedder
        return embedder(self, items, pooling, normalize, progress)
