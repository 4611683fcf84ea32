"""Prints what pyproject.toml requires, for installing it without building the package: extra.py [EXTRA ...]

The package's own requirements come first, then those of the extras named.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
print(*project["dependencies"], sep="\n")
for extra in sys.argv[1:]:
    print(*project["optional-dependencies"][extra], sep="\n")
