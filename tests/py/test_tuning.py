"""The choice of a GPU's matrix algorithms by timing them, and the file it is kept in."""

from pathlib import Path

import numpy as np
import pytest
from tiny import write_llama

import pyft


def test_a_cpu_has_nothing_to_tune(llama_folder: Path) -> None:
    with pyft.load(llama_folder) as model:
        assert model.tuning_file is None
        with pytest.raises(pyft.UnsupportedError, match="nothing to tune"):
            model.tune([8])
        with pytest.raises(ValueError, match="token_counts"):
            model.tune([0])


@pytest.mark.gpu
def test_tuning_is_kept_and_changes_no_result(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model", hidden_size=256, intermediate_size=512)
    ids = np.arange(3, 203)[None]  # more tokens than our own kernels take of such small products
    with pyft.load(folder, device="cuda", dtype="float16") as model:
        before = model.forward(ids).last_hidden_state.numpy().copy()
        found = model.tune([200])
        after = model.forward(ids).last_hidden_state.numpy().copy()
        path = model.tuning_file
    assert found and all(0 < product.after <= product.before for product in found)
    assert path is not None and path.exists()
    np.testing.assert_allclose(after, before, atol=0.02 * np.abs(before).max())
    assert path.read_text().count(" = ") == len({product.name for product in found})
