"""``python -m pyft``: the same as the ``pyft`` command."""

import sys

from pyft.cli import main

sys.exit(main())
