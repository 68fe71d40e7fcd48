"""Values of inputs from an `.npz` file: hostile until checked."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from deploykit.errors import InputError
from deploykit.runtime import values


def test_arrays_come_back_by_name(tmp_path):
    np.savez(tmp_path / "v.npz", x=np.ones((2, 3), np.float32), n=np.int64(7))
    found = values.of_inputs(tmp_path / "v.npz")
    assert found["x"].shape == (2, 3)
    assert found["n"].shape == ()
    assert values.of_inputs(str(tmp_path / "v.npz"))["n"] == 7
    assert values.of_inputs(None) is None
    assert values.of_inputs({"x": [1.0, 2.0]})["x"].dtype == np.float64


def test_what_is_no_archive_of_arrays_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npy", np.ones(3))
    with zipfile.ZipFile(tmp_path / "broken.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00 nothing that follows")
    with zipfile.ZipFile(tmp_path / "none.npz", "w"):
        pass
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "texts.npz", x=np.array(["a"]))
    for name in ("absent.npz", "text.npz", "empty.npz", "single.npy", "broken.npz", "none.npz", "objects.npz", "texts.npz"):
        with pytest.raises(InputError) as caught:
            values.of_inputs(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(values, "MOST_BYTES", 1000)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(1 << 20, np.uint8))
    with pytest.raises(InputError, match="1 arrays of"):
        values.of_inputs(tmp_path / "bomb.npz")
