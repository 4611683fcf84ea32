"""Where the installed package keeps what C and C++ programs build against."""

from pathlib import Path

from pyft.errors import Error

_PACKAGE = Path(__file__).absolute().parent


def _existing(folder: Path, wanted: str) -> str:
    if not (folder / wanted).exists():
        raise Error(f"{folder / wanted} is not there: this pyft was not installed from its wheel; pip install it again")
    return str(folder)


def get_include() -> str:
    """The folder to give a compiler as ``-I``; it holds ``ft/ft.h``."""
    return _existing(_PACKAGE / "include", "ft/ft.h")


def get_library_dir() -> str:
    """The folder that holds ``libft.so`` (and ``pkgconfig/ft.pc``)."""
    return _existing(_PACKAGE / "lib", "libft.so")


def cmake_prefix_path() -> str:
    """What to add to ``CMAKE_PREFIX_PATH`` so that ``find_package(ft CONFIG)`` finds ``ft::ft``."""
    return _existing(_PACKAGE, "lib/cmake/ft/ftConfig.cmake")
