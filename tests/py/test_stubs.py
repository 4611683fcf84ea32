"""The stubs say what the extension modules have: no more, no less."""

import ast
import importlib
from pathlib import Path

import pytest

import pyft

PACKAGE = Path(pyft.__file__).absolute().parent
MODULES = ["_checkpoint", "_model", "_session", "_status", "_tensor"]
# typing's way to say "has the buffer protocol"; C types show it to Python from 3.12 on.
BUFFER = "__buffer__"


def stub_names(module: str) -> dict[str, set[str]]:
    """Class name (or "" for functions of the module) -> public names."""
    names: dict[str, set[str]] = {"": set()}
    for node in ast.parse((PACKAGE / f"{module}.pyi").read_text()).body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            names[""].add(node.name)
    return names


@pytest.mark.parametrize("module", MODULES)
def test_stubs_match(module: str) -> None:
    loaded = importlib.import_module(f"pyft.{module}")
    stubs = stub_names(module)
    assert all(callable(getattr(loaded, name)) for name in stubs.pop(""))
    for name, members in stubs.items():
        kind = getattr(loaded, name)
        assert all(hasattr(kind, member) for member in members - {BUFFER})
        public = {member for member in vars(kind) if not member.startswith("_")}
        assert public == {member for member in members if not member.startswith("_")}
