"""`inspect` and `reconstruct` agree about what can be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import run
from spoilt import COUNT, GAP, SHAPE, Content, good, with_gap, write

from spilegate.formats import reader

SPOILT: dict[str, Callable[[], Content]] = {
    "nothing": good,
    "floats": lambda: good() | {"intensities": good()["intensities"] * np.float32(12.3)},
    "gap": lambda: with_gap(-1, "i4"),
    "nan in some": lambda: with_gap(np.nan, "f4", slice(3)),
    "empty": lambda: good() | {"intensities": good()["intensities"] * (np.arange(COUNT) > 3)[:, None, None, None]},
    "mask exchanged": lambda: with_gap(0, "i4") | {"mask": ~GAP},
    "all masked": lambda: good() | {"mask": np.full(SHAPE, 2)},
    "all merge only": lambda: good() | {"mask": np.full(SHAPE, 1)},
    "background nan": lambda: good() | {"background": np.full(SHAPE, np.nan)},
    "few": lambda: good() | {"intensities": good()["intensities"][:5]},
    "position nan": lambda: good() | {"pixel_position_reciprocal": np.full((*SHAPE, 3), np.nan)},
    "mask shape": lambda: good() | {"mask": np.zeros((3, 3))},
}


def damage_chunk(path: Path) -> None:
    """Overwrite a part of the compressed patterns."""
    write(path, good(), chunks=(COUNT, *SHAPE), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        chunk = file["intensities"].id.get_chunk_info(0)
    raw, middle = bytearray(path.read_bytes()), chunk.byte_offset + chunk.size // 2
    raw[middle : middle + 8] = bytes(8)
    path.write_bytes(raw)


def lose_mask(path: Path) -> None:
    """Link to a mask in a file that is not there."""
    with h5py.File(path, "r+") as file:
        file["mask"] = h5py.ExternalLink("gone.h5", "/mask")


def lose_patterns(path: Path) -> None:
    """Leave a part of the patterns unwritten."""
    write(path, good(), chunks=(1, *SHAPE), maxshape=(None, *SHAPE))
    with h5py.File(path, "r+") as file:
        file["intensities"].resize(COUNT + 10, 0)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "damaged chunk": damage_chunk,
    "mask gone": lose_mask,
    "patterns unwritten": lose_patterns,
}


@pytest.mark.parametrize("name", [*SPOILT, *DAMAGES])
@pytest.mark.parametrize(
    "options", [[], ["--set", "prepare.mask=good"], ["--set", "prepare.broken_pixels=ever"]], ids=str
)
def test_inspect_and_reconstruct_agree(tmp_path: Path, name: str, options: list[str]) -> None:
    path = write(tmp_path / "data.h5", SPOILT.get(name, good)())
    DAMAGES.get(name, lambda _: None)(path)
    inspected = run("inspect", path, *options)
    # A folder that is in use: whatever can be read ends there, before the work begins.
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    tried = run("reconstruct", path, "--output", tmp_path / "out", *options, "--diameter-angstrom", 25)
    assert tried.exit_code == 2
    lines = dict(line.split(None, 1) for line in inspected.stdout.splitlines())
    if inspected.exit_code:
        assert inspected.exit_code == 2
        assert inspected.stderr == tried.stderr
    elif lines["usable"] == "yes":
        assert f"{path}: dataset" not in tried.stderr
        assert "exists" in tried.stderr or "not empty" in tried.stderr
    else:
        assert lines["usable"].strip() in tried.stderr


def test_both_say_what_was_taken_for_what(tmp_path: Path) -> None:
    content = with_gap(-1, "f4")
    content["intensities"] = np.where(GAP, -1, content["intensities"] * np.float32(12.3))
    path = write(tmp_path / "data.h5", content)
    facts = reader.describe(path)
    dataset = reader.read(path)
    assert facts["taken_for"] == dataset.taken_for == "photons; one photon is 12.3 units of the file"
    assert facts["remarks"] == "; ".join(dataset.remarks)
