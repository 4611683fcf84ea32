"""What ``pyft inspect`` tells of a checkpoint, without loading it."""

from collections import Counter
from typing import Any

from pyft._checkpoint import Checkpoint


def inspect(source: str) -> dict[str, Any]:
    """format, config, tensors, and totals by dtype; the tensors that are missing, unused or unsupported."""
    checkpoint = Checkpoint(source)
    tensors = checkpoint.tensors()
    present = [tensor for tensor in tensors if tensor["usage"] != "missing"]
    counts = Counter(tensor["dtype"] for tensor in present)
    sizes: Counter[str] = Counter()
    for tensor in present:
        sizes[tensor["dtype"]] += tensor["size_bytes"]
    return {
        "source": source,
        "format": checkpoint.format,
        "config": checkpoint.config(),
        "size_bytes": sum(sizes.values()),
        "dtypes": {dtype: {"tensors": counts[dtype], "size_bytes": sizes[dtype]} for dtype in counts},
        "missing": [tensor["name"] for tensor in tensors if tensor["usage"] == "missing"],
        "unused": [tensor["name"] for tensor in tensors if tensor["usage"] == "unused"],
        "unsupported": [tensor["name"] for tensor in tensors if tensor["usage"] == "unsupported"],
        "tensors": tensors,
    }


def size_text(size: int) -> str:
    """1536 -> "1.5 KiB"."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def report(found: dict[str, Any]) -> str:
    """The same as text for a terminal."""
    lines = [f"{found['source']}: {found['format']}, {len(found['tensors'])} tensors, {size_text(found['size_bytes'])}"]
    lines += ["", "config"]
    for key, value in found["config"].items():
        text = str(value)
        lines.append(f"  {key:<24} {text if len(text) <= 90 else text[:87] + '...'}")
    lines += ["", "tensors"]
    width = max((len(tensor["name"]) for tensor in found["tensors"]), default=0)
    for tensor in found["tensors"]:
        shape = "x".join(map(str, tensor["shape"]))
        note = "" if tensor["usage"] == "used" else f"  {tensor['usage'].upper()}"
        if len(tensor["weights"]) > 1:
            note += f"  ({', '.join(tensor['weights'])})"
        size = size_text(tensor["size_bytes"])
        lines.append(f"  {tensor['name']:<{width}}  {tensor['dtype']:<9} {shape:<16} {size:>10}{note}")
    lines += ["", "dtypes"]
    for dtype, total in found["dtypes"].items():
        lines.append(f"  {dtype:<9} {total['tensors']:>5} tensors  {size_text(total['size_bytes']):>10}")
    for kind in ("missing", "unused", "unsupported"):
        names = found[kind]
        if kind == "unsupported" and not names:
            continue
        lines.append(
            f"{kind}: {len(names)}" + (f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else "")
        )
    return "\n".join(lines)
