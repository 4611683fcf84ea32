"""Prints what pyproject.toml requires, for installing it without building the package: extra.py [EXTRA ...]

The package's own requirements come first, then those of the extras named.
"""

import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def requirement(extra: str, package: str) -> str:
    """What an extra requires of one package, version and all."""
    return next(line for line in PROJECT["optional-dependencies"][extra] if line.startswith(package))


if __name__ == "__main__":
    print(*PROJECT["dependencies"], sep="\n")
    for name in sys.argv[1:]:
        print(*PROJECT["optional-dependencies"][name], sep="\n")
