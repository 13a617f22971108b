"""Files with bytes changed, cut or repeated: read, or refused in one line, whatever they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from facility import PLACED
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_cxi import simple, write
from test_lists import photons
from test_singles import PARAMETERS, image, patterns

from spilegate.errors import InputError
from spilegate.formats import reader
from spilegate.formats.dragonfly_writer import detector_path

Made = tuple[Path, Path, dict[str, Any]]
FEW = hypothesis_settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
KINDS = st.sampled_from(["set", "set", "cut", "twice"])
# What a file says of itself is mostly where it begins.
PLACES = st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.1))
EDITS = st.lists(st.tuples(KINDS, PLACES, st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)


def mutate(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, place, new in edits:
        at = int(place * len(content))
        if kind == "set":
            content = content[:at] + new + content[at + len(new) :]
        else:
            content = content[:at] if kind == "cut" else content[:at] + content[at : at + len(new)] + content[at:]
    return content


def virtual(folder: Path) -> Made:
    """A virtual CXI as of European XFEL; the file itself is mutated."""
    source = folder / "source.h5"
    values = np.random.default_rng(0).poisson(0.5, (24, 2, 8, 8)).astype(np.float32)
    with h5py.File(source, "w") as file:
        file["a"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    for module in range(2):
        layout[:23, module] = h5py.VirtualSource("source.h5", "a", values.shape)[:23, module]
    path = folder / "a.cxi"
    with h5py.File(path, "w") as file:
        file["entry_1/trainId"] = np.arange(24)
        file["entry_1/pulseId"] = np.arange(24)
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector.create_virtual_dataset("data", layout, fillvalue=np.nan)
        detector["module_identifier"] = [0, 3]
        file["entry_1/data_1"] = h5py.SoftLink("/entry_1/instrument_1/detector_1")
    geometry = folder / "a.geom"
    lines = [f"p{number}/{line}" for number in range(4) for line in (
        f"dim1 = {number}", "min_fs = 0", "max_fs = 7", "min_ss = 0", "max_ss = 7", "fs = x", "ss = y",
        f"corner_x = {10 * number}", "corner_y = 0", "res = 1000",
    )]  # fmt: skip
    geometry.write_text("\n".join(["dim0 = %", "dim2 = ss", "dim3 = fs", *lines]))
    return path, path, {"geometry": str(geometry), **PLACED}


def list_of_photons(folder: Path) -> Made:
    names = photons(folder, (slice(0, 50), slice(50, 90)))
    path = folder / "a.txt"
    path.write_text("\n".join(names))
    return path, path, {"detector": str(detector_path(folder / names[0])), "wavelength_angstrom": 1.5}


def photons_of_a_list(folder: Path) -> Made:
    path, _, options = list_of_photons(folder)
    return path, folder / "1.emc", options


def simex(folder: Path) -> Made:
    path = write(folder / "a.h5", PARAMETERS | patterns(range(20)))
    return path, path, {}


def images_of_a_list(folder: Path) -> Made:
    for number in range(20):
        write(folder / f"{number}.h5", image(number))
    path = folder / "a.txt"
    path.write_text("\n".join(f"{number}.h5" for number in range(20)))
    return path, folder / "7.h5", {}


def cxi_of_a_list(folder: Path) -> Made:
    write(folder / "a.cxi", simple())
    write(folder / "b.cxi", simple())
    path = folder / "a.txt"
    path.write_text("a.cxi\nb.cxi")
    return path, folder / "b.cxi", {}


@pytest.mark.parametrize("make", [virtual, list_of_photons, photons_of_a_list, simex, images_of_a_list, cxi_of_a_list])
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path: Path, make: Callable[[Path], Made]) -> None:
    path, victim, options = make(tmp_path)
    content = victim.read_bytes()
    assert len(reader.read(path, **options).images) >= 19

    @FEW
    @given(EDITS)
    def check(edits: list[tuple[str, float, bytes]]) -> None:
        victim.write_bytes(mutate(content, edits))
        said = ""
        try:
            reader.read(path, **options)
        except InputError as error:
            said = str(error)
        assert "\n" not in said

    check()
