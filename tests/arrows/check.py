"""Holds the arrows of docs/architecture.md: which folders of libft/ may include which (arrows.txt beside this), no
circle among files that include each other, and none among pyft's modules. check.py [ROOT] looks at another tree.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

Graph = Mapping[str, Iterable[str]]


@dataclass
class Arrows:
    """The table: what a folder may include, what it may not even reach, and the files that are excepted."""

    allowed: dict[str, set[str]] = field(default_factory=dict)
    unreachable: dict[str, set[str]] = field(default_factory=dict)
    excepted: set[tuple[str, str]] = field(default_factory=set)
    private: dict[str, list[str]] = field(default_factory=dict)  # headers of the system that one folder alone includes

    def folder_of(self, path: str) -> str | None:
        """The nearest folder above the file that has a row."""
        return next((str(above) for above in Path(path).parents if str(above) in self.allowed), None)


def read_arrows(text: str) -> Arrows:
    arrows = Arrows()
    text = re.sub(r"\s*#.*", "", text)
    for line in re.sub(r"\n[ \t]+", " ", text).splitlines():
        if not line.strip():
            continue
        name, _, entries = line.partition(":")
        if name.startswith("except "):
            arrows.excepted |= {(name.removeprefix("except ").strip(), header) for header in entries.split()}
            continue
        if name.startswith("only "):
            arrows.private[name.removeprefix("only ").strip()] = entries.split()
            continue
        arrows.unreachable[name] = set(re.findall(r"\bnot (\S+)", entries))
        arrows.allowed[name] = set(re.sub(r"\bnot \S+", "", entries).split())
    return arrows


def sources(libft: Path) -> dict[str, str]:
    """Each file of libft/ and its text."""
    paths = sorted(path for path in libft.rglob("*") if path.suffix in {".h", ".cc", ".cu"})
    return {str(path.relative_to(libft)): path.read_text("utf-8") for path in paths}


def includes(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Each file and the others that it includes."""
    found = {name: re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.M) for name, text in texts.items()}
    return {name: [header for header in headers if header in texts] for name, headers in found.items()}


def wrong_systems(texts: Mapping[str, str], arrows: Arrows) -> Iterator[str]:
    for folder, patterns in arrows.private.items():
        for name, text in texts.items():
            if name.startswith(folder + "/"):
                continue
            for header in re.findall(r"^\s*#\s*include\s*<([^>]+)>", text, re.M):
                if any(fnmatch(header, pattern) for pattern in patterns):
                    yield f"libft/{name} includes <{header}>, which belongs to {folder}/ alone"


def reachable(graph: Graph, start: str) -> dict[str, str]:
    """What start leads to, each with the node through which it was found first."""
    found, waiting = {start: start}, [start]
    for node in waiting:
        for target in graph[node]:
            if target not in found:
                found[target] = node
                waiting.append(target)
    return found


def chain(found: Mapping[str, str], end: str) -> str:
    nodes = [end]
    while found[nodes[-1]] != nodes[-1]:
        nodes.append(found[nodes[-1]])
    return " -> ".join(reversed(nodes))


def circles(graph: Graph) -> Iterator[str]:
    """One circle for each group of nodes that all lead to one another."""
    told: set[str] = set()
    for node in sorted(graph):
        if node in told:
            continue
        back = {target: reachable(graph, target) for target in graph[node]}
        closing = [target for target in sorted(back) if node in back[target]]
        if not closing:
            continue
        yield f"{node} -> {chain(back[closing[0]], node)}"
        told |= {n for n in reachable(graph, node) if node in reachable(graph, n)}


def wrong_arrows(graph: Graph, arrows: Arrows) -> Iterator[str]:
    used: set[tuple[str, str]] = set()
    for name in sorted(graph):
        folder = arrows.folder_of(name)
        if folder is None:
            yield f"libft/{name}: its folder has no row in the table"
            continue
        for header in graph[name]:
            to = arrows.folder_of(header)
            if to == folder or to in arrows.allowed[folder] or header in arrows.allowed[folder]:
                continue
            if (name, header) in arrows.excepted:
                used.add((name, header))
            else:
                yield f"libft/{name} includes {header}: {folder}/ may include {sorted(arrows.allowed[folder])} alone"
        found = reachable(graph, name)
        for header in sorted(arrows.unreachable[folder] & found.keys()):
            yield f"libft/{name} reaches {header}, which {folder}/ must not: {chain(found, header)}"
    for name, header in sorted(arrows.excepted - used):
        yield f"the table excepts {name} for {header}, which it does not include: delete the exception"


def imports(pyft: Path) -> dict[str, set[str]]:
    """Each module of the package (x.py, or x.pyx with x.pxd and x.pyi) and those it imports, for types alone too."""
    paths = [path for path in sorted(pyft.rglob("*")) if path.suffix in {".py", ".pyx", ".pxd", ".pyi"}]

    def name_of(path: Path) -> str:
        parts = [pyft.name, *path.relative_to(pyft).with_suffix("").parts]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    graph: dict[str, set[str]] = {name_of(path): set() for path in paths}
    for path in paths:
        text, name = path.read_text("utf-8"), name_of(path)
        for module, names in _imported(text, path.suffix in {".py", ".pyi"}):
            asked = {f"{module}.{each}" for each in names}
            graph[name] |= {each for each in asked if each in graph}
            if module in graph and (not names or asked - graph.keys()):
                graph[name].add(module)
        graph[name].discard(name)
    return graph


def _imported(text: str, is_python: bool) -> Iterator[tuple[str, list[str]]]:
    """(module, names from it) of each import: by Python's own parser, or by the form of Cython's lines."""
    if is_python:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from ((alias.name, []) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module, [alias.name for alias in node.names]
        return
    for module, names in re.findall(r"^\s*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^#\n]*)", text, re.M):
        yield module, [part.split()[0] for part in names.strip("() \n").split(",") if part.split()]
    for module in re.findall(r"^\s*c?import\s+([\w.]+)", text, re.M):
        yield module, []


def faults(root: Path) -> list[str]:
    texts = sources(root / "libft")
    files = includes(texts)
    arrows = read_arrows((root / "tests/arrows/arrows.txt").read_text("utf-8"))
    return [
        *wrong_arrows(files, arrows),
        *wrong_systems(texts, arrows),
        *(f"files of libft/ include each other in a circle: {c}" for c in circles(files)),
        *(f"modules of pyft import each other in a circle: {c}" for c in circles(imports(root / "pyft"))),
    ]


def main() -> int:
    found = faults(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2])
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
