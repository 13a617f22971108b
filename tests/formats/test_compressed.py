"""Patterns compressed as facilities do, and by a filter that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from spoilt import refused
from test_cxi import COUNT, DETECTOR, PIXELS, counts_of, images, simple, write

from spilegate.formats import reader

FILTERS: dict[str, Any] = {
    "bitshuffle": hdf5plugin.Bitshuffle(cname="none"),
    "bitshuffle_lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bitshuffle_zstd": hdf5plugin.Bitshuffle(cname="zstd"),
    "lz4": hdf5plugin.LZ4(),
    "zstd": hdf5plugin.Zstd(),
    "blosc": hdf5plugin.Blosc(),
    "blosc2": hdf5plugin.Blosc2(),
    "bzip2": hdf5plugin.BZip2(),
    "lzf": {"compression": "lzf"},
    "deflate": {"compression": "gzip", "shuffle": True},
}
# Of no filter that anybody has registered.
UNKNOWN = 32767


def compressed(path: Path, **how: Any) -> Path:
    content = simple()
    values = content.pop(f"{DETECTOR}/data")
    write(path, content)
    with h5py.File(path, "r+") as file:
        file.create_dataset(f"{DETECTOR}/data", data=values, chunks=(5, PIXELS, PIXELS), **how)
    return path


def unknown(path: Path, place: str = f"{DETECTOR}/data", without: int = 0) -> Path:
    """Write three chunks that say that they went through a filter nobody has, but for the first `without`."""
    content = simple()
    if place in content:
        del content[place]
    write(path, content)
    with h5py.File(path, "r+") as file:
        shape = (COUNT, PIXELS, PIXELS)
        found = file.create_dataset(
            place, shape, "u4", chunks=(30, PIXELS, PIXELS), compression=UNKNOWN, allow_unknown_filter=True
        )
        for first in range(0, COUNT, 30):
            values = images()[first : first + 30].astype("u4").tobytes()
            found.id.write_direct_chunk((first, 0, 0), values, filter_mask=int(first < 30 * without))
    return path


@pytest.mark.parametrize("name", FILTERS)
def test_compressed_patterns_are_the_same(tmp_path: Path, name: str) -> None:
    path = compressed(tmp_path / "a.cxi", **FILTERS[name])
    with h5py.File(path) as file:
        assert file[f"{DETECTOR}/data"].id.get_create_plist().get_nfilters()
    np.testing.assert_array_equal(counts_of(reader.read(path)), images().reshape(COUNT, -1))


@pytest.mark.parametrize("place", [f"{DETECTOR}/data", f"{DETECTOR}/mask"])
def test_a_filter_that_is_not_there_is_named(tmp_path: Path, place: str) -> None:
    text = refused(lambda: reader.read(unknown(tmp_path / "a.cxi", place)))
    assert f"compressed by filter {UNKNOWN}, which HDF5 does not have here; pip install hdf5plugin" in text


def test_it_is_named_in_the_file_that_a_virtual_one_refers_to(tmp_path: Path) -> None:
    unknown(tmp_path / "a.cxi")
    layout = h5py.VirtualLayout((COUNT, PIXELS, PIXELS), "u4")
    layout[:] = h5py.VirtualSource("a.cxi", f"{DETECTOR}/data", layout.shape)
    content = simple()
    del content[f"{DETECTOR}/data"]
    with h5py.File(write(tmp_path / "b.cxi", content), "r+") as file:
        file.create_virtual_dataset(f"{DETECTOR}/data", layout)
    text = refused(lambda: reader.read(tmp_path / "b.cxi"))
    assert f"in the file a.cxi: compressed by filter {UNKNOWN}" in text


def test_chunks_that_went_through_no_filter_need_none(tmp_path: Path) -> None:
    found = reader.read(unknown(tmp_path / "a.cxi", without=3))
    np.testing.assert_array_equal(counts_of(found), images().reshape(COUNT, -1))


def test_later_chunks_of_a_filter_that_is_not_there_say_so_too(tmp_path: Path) -> None:
    text = refused(lambda: reader.read(unknown(tmp_path / "a.cxi", without=2)))
    assert "compressed by a filter that is not there" in text
    assert "pip install hdf5plugin" in text
