"""What the installed package holds: the stable ABI, types, headers, library and CMake package."""

import ctypes
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import pyft

PACKAGE = Path(pyft.__file__).absolute().parent


def test_extension_modules_use_the_stable_abi() -> None:
    names = sorted(path.name for path in PACKAGE.glob("_*.so"))
    modules = ("_checkpoint", "_convert", "_model", "_session", "_status", "_tensor")
    assert names == [f"{module}.abi3.so" for module in modules]


def test_every_extension_module_has_a_stub() -> None:
    assert (PACKAGE / "py.typed").exists()
    for path in PACKAGE.glob("_*.abi3.so"):
        assert (PACKAGE / f"{path.name.split('.')[0]}.pyi").exists()


def test_where_c_programs_look() -> None:
    assert (Path(pyft.get_include()) / "ft" / "ft.h").is_file()
    library = Path(pyft.get_library_dir()) / "libft.so"
    assert library.exists()
    assert (Path(pyft.cmake_prefix_path()) / "lib" / "cmake" / "ft" / "ftConfig.cmake").is_file()
    handle = ctypes.CDLL(str(library))
    handle.ft_version.restype = ctypes.c_char_p
    assert handle.ft_version().decode() == pyft.__version__


def test_version_of_the_distribution() -> None:
    try:
        found = importlib.metadata.version("pyft")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pyft is not installed as a distribution")
    assert found == pyft.__version__


def test_no_framework_is_imported(tmp_path: Path) -> None:
    code = "import sys, pyft; print([m for m in ('torch', 'transformers', 'jax', 'tensorflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "[]\n"


def test_everything_public_is_there_and_documented() -> None:
    for name in pyft.__all__:
        thing = getattr(pyft, name)
        if name != "__version__":
            assert thing.__doc__, name
