"""check.py finds what it is there for: each fault, planted in a copy of the tree, is told, and nothing without one."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run(root: Path) -> tuple[int, str]:
    made = subprocess.run([sys.executable, HERE / "check.py", root], capture_output=True, text=True)
    return made.returncode, made.stderr


class Planted(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("libft", "pyft", "tests/arrows"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))

    def plant(self, name: str, line: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text("utf-8") if path.exists() else ""
        path.write_text(text + line + "\n", "utf-8")

    def expect(self, *parts: str) -> None:
        status, told = run(self.root)
        self.assertEqual(status, 1)
        for part in parts:
            self.assertIn(part, told)
        self.assertEqual(len(told.splitlines()), 1, told)

    def test_nothing(self) -> None:
        self.assertEqual(run(self.root), (0, ""))

    def test_an_arrow_upwards(self) -> None:
        self.plant("libft/nn/linear.cc", '#include "arch/family.h"')
        self.expect("libft/nn/linear.cc includes arch/family.h", "nn/ may include")

    def test_a_kernel_above_ops(self) -> None:
        self.plant("libft/runtime/session.cc", '#  include "backends/cuda/kernel/vector.h"')
        self.expect("libft/runtime/session.cc includes backends/cuda/kernel/vector.h")

    def test_a_device_s_header(self) -> None:
        self.plant("libft/runtime/session.cc", "#include <cuda_runtime_api.h>")
        self.expect("libft/runtime/session.cc includes <cuda_runtime_api.h>")

    def test_the_scheduler_sees_no_tensor(self) -> None:
        self.plant("libft/runtime/scheduler/planted.h", '#include "core/planted.h"')
        self.plant("libft/core/planted.h", '#include "core/tensor.h"')
        self.expect("runtime/scheduler/planted.h -> core/planted.h -> core/tensor.h")

    def test_a_folder_that_nobody_knows(self) -> None:
        self.plant("libft/planted/file.h", "")
        self.expect("libft/planted/file.h: its folder has no row")

    def test_a_circle_of_headers(self) -> None:
        self.plant("libft/core/one.h", '#include "core/two.h"')
        self.plant("libft/core/two.h", '#include "core/one.h"')
        self.expect("core/one.h -> core/two.h -> core/one.h")

    def test_a_circle_of_modules(self) -> None:
        self.plant("pyft/errors.py", "if TYPE_CHECKING:\n    from pyft.paths import get_include")
        self.expect("pyft.errors -> pyft.paths -> pyft.errors")

    def test_a_circle_through_cython(self) -> None:
        self.plant("pyft/_one.pyx", "from pyft._two cimport (check,\n    make_error)")
        self.plant("pyft/_two.pxd", "from pyft cimport _one")
        self.expect("pyft._one -> pyft._two -> pyft._one")

    def test_an_exception(self) -> None:
        self.plant("libft/nn/linear.cc", '#include "arch/family.h"')
        self.plant("tests/arrows/arrows.txt", "except nn/linear.cc: arch/family.h  # it is planted")
        self.assertEqual(run(self.root), (0, ""))

    def test_an_exception_that_nothing_needs(self) -> None:
        self.plant("tests/arrows/arrows.txt", "except nn/linear.cc: arch/family.h")
        self.expect("the table excepts nn/linear.cc", "delete the exception")


if __name__ == "__main__":
    unittest.main()
