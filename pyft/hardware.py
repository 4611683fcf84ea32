"""What this process can compute on."""

from dataclasses import dataclass

from pyft import _status


@dataclass(frozen=True, slots=True)
class Device:
    """One device: ``name`` is what :func:`pyft.load` takes."""

    name: str
    description: str
    capabilities: tuple[str, ...]
    """Instruction sets or the like; the one in use comes first."""
    memory_bytes: int
    num_threads: int
    """Threads a model uses by default; 0 for a GPU."""


def gpu_problem() -> str | None:
    """Why :func:`devices` lists no GPU; None where it does."""
    return _status.gpu_problem()


def devices() -> list[Device]:
    """The CPU, followed by the usable GPUs."""
    return [Device(**found) for found in _status.devices()]
