"""Lists of files of patterns, read as one file that holds all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from spoilt import PIXELS, good, refused
from test_cxi import DETECTOR, PLACED, counts_of, simple, write

from spilegate.formats import lists, reader, sources
from spilegate.formats.dragonfly_writer import detector_path, write_binary
from spilegate.formats.outgoing import outgoing
from spilegate.formats.reading import Options
from spilegate.kernels.workers import Threads

PARTS = (slice(0, 30), slice(30, 31), slice(31, 90))
WAVELENGTH = 1.5


def part(which: slice, **more: Any) -> dict[str, Any]:
    """Some of the patterns of a sound CXI file."""
    content = simple()
    return content | {f"{DETECTOR}/data": content[f"{DETECTOR}/data"][which]} | more


def listed(folder: Path, lines: list[str], name: str = "list.txt") -> Path:
    (folder / name).write_text("\n".join(lines))
    return folder / name


@pytest.fixture
def cxi(tmp_path: Path) -> list[str]:
    """Three files of patterns in a folder, as a list beside it names them."""
    (tmp_path / "data of a run").mkdir()
    names = [f"data of a run/{number}.cxi" for number in range(3)]
    for name, which in zip(names, PARTS, strict=True):
        write(tmp_path / name, part(which))
    return names


def photons(folder: Path, parts: tuple[slice, ...]) -> list[str]:
    """Write Dragonfly's photons, a file for each part, and the detector of all."""
    whole = write(folder / "whole.cxi", simple())
    for number, which in enumerate(parts):
        indices = np.arange(90)[which]
        with outgoing(whole, Options(), choose=lambda _, chosen=indices: chosen, crop=None) as patterns:
            write_binary(folder / f"{number}.emc", patterns, force=True)
    return [f"{number}.emc" for number in range(len(parts))]


def test_a_list_is_read_as_one_file(tmp_path: Path, cxi: list[str]) -> None:
    expected = reader.read(write(tmp_path / "whole.cxi", simple()))
    path = listed(tmp_path, ["# a comment", cxi[0], "", f"  {cxi[1]} ", cxi[2]])
    for workers in (Threads(1), Threads(3)):
        found = reader.read(path, workers=workers)
        np.testing.assert_array_equal(counts_of(found), counts_of(expected))
        np.testing.assert_array_equal(found.q, expected.q)
        assert found.digest == expected.digest
    assert reader.describe(path)["format"] == "3 files of CXI"
    # In the order of the list.
    turned = reader.read(listed(tmp_path, cxi[::-1]))
    np.testing.assert_array_equal(counts_of(turned)[:59], counts_of(expected)[31:])


def test_no_more_files_are_open_than_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MOST_OPEN", 2)
    names = [write(tmp_path / f"{number}.cxi", part(slice(9 * number, 9 * number + 9))).name for number in range(10)]
    expected = reader.read(write(tmp_path / "whole.cxi", simple()))
    found = reader.read(listed(tmp_path, names), workers=Threads(3))
    np.testing.assert_array_equal(counts_of(found), counts_of(expected))
    with sources.opened(listed(tmp_path, names), Options()) as layout:
        images = simple()[f"{DETECTOR}/data"]
        for first, last in ((0, 0), (0, 9), (5, 12), (8, 30), (89, 90), (0, 90), (90, 90)):
            np.testing.assert_array_equal(layout.stack.block(slice(first, last))[:, 0], images[first:last])


def test_names_of_datasets_may_follow(tmp_path: Path) -> None:
    images = good(0.5)["intensities"][:, 0]
    for number, which in enumerate(PARTS):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["run/one"], file[f"run/{number}"] = images[which] + 1, images[which]
    lines = [f"{number}.h5 run/{number}" for number in range(3)]
    found = reader.read(listed(tmp_path, lines), **PLACED)
    np.testing.assert_array_equal(counts_of(found), images.reshape(90, -1))
    lines[0] = "0.h5"
    assert "0.h5: several datasets" in refused(lambda: reader.read(listed(tmp_path, lines), **PLACED))


def test_photons_of_dragonfly_share_a_detector(tmp_path: Path) -> None:
    names = photons(tmp_path, PARTS)
    expected = reader.read(tmp_path / "whole.cxi")
    how: dict[str, Any] = {"detector": str(detector_path(tmp_path / names[0])), "wavelength_angstrom": WAVELENGTH}
    found = reader.read(listed(tmp_path, names), **how)
    np.testing.assert_array_equal(counts_of(found), counts_of(expected))
    assert "add --detector FILE" in refused(lambda: reader.read(listed(tmp_path, names)))
    # Dense photons in HDF5 have their name beside the file's.
    images = simple()[f"{DETECTOR}/data"]
    with h5py.File(tmp_path / "dense.h5", "w") as file:
        file["photonConverter/back/photonCount"] = images
    dense = reader.read(listed(tmp_path, ["dense.h5 photonConverter/back/photonCount"], "dense.txt"), **how)
    np.testing.assert_array_equal(counts_of(dense), counts_of(expected))
    np.testing.assert_array_equal(dense.q, found.q)
    both = listed(tmp_path, [names[0], "dense.h5 photonConverter/back/photonCount"])
    assert "dense.h5: type of values: uint32; expected int32" in refused(lambda: reader.read(both, **how))


def test_masks_of_all_files_are_those_of_any(tmp_path: Path) -> None:
    for number in range(2):
        mask = np.zeros((PIXELS, PIXELS), np.uint32)
        mask[0, number] = 1
        write(tmp_path / f"{number}.cxi", part(slice(40 * number, 40 * number + 40), **{f"{DETECTOR}/mask": mask}))
    found = reader.read(listed(tmp_path, ["0.cxi", "1.cxi"]))
    assert np.flatnonzero(found.mask).tolist() == [0, 1]
    assert any(line.startswith("masks differ") for line in found.remarks)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            {f"{DETECTOR}/data": np.ones((9, 12, 11), np.uint32)},
            "patterns (panels, y, x): (1, 12, 11); expected (1, 12",
        ),
        ({f"{DETECTOR}/data": np.ones((9, 12, 12), np.uint16)}, "type of values: uint16; expected uint32"),
        ({f"{DETECTOR}/distance": 0.0505}, "positions of pixels"),
        ({"entry_1/instrument_1/source_1/energy": 1.34e-15}, "wavelength [angstrom]: 1.48242; expected 1.5"),
        ({f"{DETECTOR}/response": np.full((12, 12), 0.5)}, "response of pixels"),
        ({f"{DETECTOR}/background": np.ones((12, 12))}, "background"),
    ],
)
def test_files_that_differ_are_named(tmp_path: Path, cxi: list[str], more: dict[str, Any], text: str) -> None:
    write(tmp_path / "other.cxi", part(slice(0, 9), **more))
    said = refused(lambda: reader.read(listed(tmp_path, [*cxi, "other.cxi"])))
    assert said.startswith(str(tmp_path / "other.cxi"))
    assert text in said


def test_files_that_are_not_there_or_damaged_are_named(tmp_path: Path, cxi: list[str]) -> None:
    path = listed(tmp_path, [cxi[0], "gone.cxi"])
    assert "line 2: 'gone.cxi': not found in" in refused(lambda: reader.read(path))
    with h5py.File(tmp_path / "any.h5", "w") as file:
        file["a"] = good(0.5)["intensities"]
    assert "any.h5: HDF5, patterns in 'a': does not say" in refused(lambda: reader.read(listed(tmp_path, ["any.h5"])))
    mixed = listed(tmp_path, ["any.h5", cxi[0]])
    assert "0.cxi: format: CXI; expected HDF5" in refused(lambda: reader.read(mixed, **PLACED))
    listed(tmp_path, [cxi[0], "list.txt"])
    assert "not an HDF5 file" in refused(lambda: reader.read(path))
    assert "not an HDF5 file" in refused(lambda: reader.read(listed(tmp_path, ["gone.cxi", "x" * 5000])))
    whole = (tmp_path / cxi[1]).read_bytes()
    (tmp_path / cxi[1]).write_bytes(whole[: len(whole) // 2])
    assert "1.cxi: truncated or damaged" in refused(lambda: reader.read(listed(tmp_path, cxi)))


def test_patterns_that_cannot_be_read_name_their_file(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"{number}.cxi"
        content = simple()
        images = content.pop(f"{DETECTOR}/data")
        write(path, content)
        with h5py.File(path, "r+") as file:
            file.create_dataset(f"{DETECTOR}/data", data=images, chunks=(1, 12, 12), compression="gzip")
            offset = file[f"{DETECTOR}/data"].id.get_chunk_info(50).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 20)
    assert f"{path}: " in refused(lambda: reader.read(listed(tmp_path, ["0.cxi", "1.cxi"])))
