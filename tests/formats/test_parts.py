"""Files of which a part is not there or still being written, one panel, memory, errors of the computation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from spoilt import COUNT, GAP, PIXELS, SHAPE, assert_same, good, read, refused, virtual, write

from spilegate.formats import patterns, reader
from spilegate.kernels import host_memory
from spilegate.kernels.events import dense
from spilegate.kernels.exact import Output
from spilegate.kernels.workers import Threads


@pytest.mark.parametrize("name", ["intensities", "pixel_position_reciprocal", "mask", "background"])
def test_virtual_datasets_are_read_if_all_of_them_is_there(tmp_path: Path, name: str) -> None:
    content = good() | {"mask": GAP * 2, "background": np.full(SHAPE, 0.5)}
    content["pixel_position_reciprocal"] = np.moveaxis(content["pixel_position_reciprocal"], -1, 0)
    expected = read(tmp_path, content)
    upper, lower = virtual(tmp_path, content, name)
    path = tmp_path / "data.h5"
    assert_same(reader.read(path), expected)
    lower.rename(tmp_path / "elsewhere.h5")
    text = refused(lambda: reader.read(path))
    assert f"{path}: dataset {name!r}: a part of it is in the file lower.h5, which is not there" in text
    (tmp_path / "elsewhere.h5").rename(lower)
    with h5py.File(upper, "r+") as file:
        del file["values"]
    assert "'values' in the file upper.h5: no such dataset" in refused(lambda: reader.read(path))
    with h5py.File(upper, "r+") as file:
        file.create_dataset("values", (PIXELS,), "f4", chunks=(2,))
    assert "6 of its 6 chunks were never written" in refused(lambda: reader.read(path))


def test_what_no_file_of_a_virtual_dataset_holds_is_named(tmp_path: Path) -> None:
    content = good()
    images = content.pop("intensities")
    path = write(tmp_path / "data.h5", content)
    layout = h5py.VirtualLayout(images.shape, images.dtype)
    layout[: COUNT // 2] = h5py.VirtualSource("half.h5", "values", images[: COUNT // 2].shape)
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file["values"] = images[: COUNT // 2]
    with h5py.File(path, "r+") as file:
        file.create_virtual_dataset("intensities", layout)
    assert f"{images.size // 2} of its {images.size} values are in no file" in refused(lambda: reader.read(path))


@pytest.mark.parametrize("name", ["intensities", "mask", "background", "pixel_index_map"])
def test_links_that_lead_nowhere_are_named(tmp_path: Path, name: str) -> None:
    content = good()
    content.pop(name, None)
    path = write(tmp_path / "data.h5", content)
    for link, text in (
        (h5py.ExternalLink("gone.h5", "/there"), "a link to '/there' in the file gone.h5, which is not there"),
        (h5py.ExternalLink("data.h5", "/there"), "a link to '/there' in the file data.h5, where there is no"),
        (h5py.SoftLink("/there"), "a link to '/there', which is not in the file"),
    ):
        with h5py.File(path, "r+") as file:
            file.pop(name, None)
            if name in file.keys():  # noqa: SIM118 - `in` passes over links that lead nowhere
                del file[name]
            file[name] = link
        assert f"dataset {name!r}: {text}" in refused(lambda: reader.read(path))


@pytest.mark.parametrize("options", [{}, {"chunks": (4, *SHAPE)}, {"chunks": (1, 1, 6, 6), "compression": "gzip"}])
def test_datasets_that_were_never_written_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    content = good()
    images = content.pop("intensities")
    path = write(tmp_path / "data.h5", content)
    with h5py.File(path, "r+") as file:
        file.create_dataset("intensities", images.shape, images.dtype, **options)
    assert "never written" in refused(lambda: reader.read(path))
    if options:
        with h5py.File(path, "r+") as file:
            file["intensities"][:-4] = images[:-4]
        assert "chunks were never written" in refused(lambda: reader.read(path))
    with h5py.File(path, "r+") as file:
        file["intensities"][...] = images
    assert reader.read(path).counts


WRITER = """
import os, sys, h5py, numpy as np
path, version, swmr, ends = sys.argv[1:]
with h5py.File(path) as file:
    content = {name: file[name][()] for name in file}
file = h5py.File(path, "w", libver=version)
for name, values in content.items():
    file.create_dataset(name, data=values, chunks=values.shape)
file.flush()
if swmr == "swmr":
    file.swmr_mode = True
print("written", flush=True)
if ends == "killed":
    os._exit(9)
sys.stdin.read()
file.close()
"""


@pytest.mark.parametrize(
    ("version", "swmr", "text"),
    [
        ("earliest", "plain", ""),
        ("latest", "swmr", ""),
        ("latest", "plain", "being written by another program"),
    ],
)
@pytest.mark.parametrize("ends", ["alive", "killed"])
def test_a_file_that_another_program_writes(tmp_path: Path, version: str, swmr: str, text: str, ends: str) -> None:
    path = write(tmp_path / "data.h5", good())
    expected = reader.read(path)
    command = [sys.executable, "-c", WRITER, str(path), version, swmr, ends]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        if ends == "killed":
            writer.wait()
        if not text:
            found = reader.read(path)
            assert_same(found, expected, "remarks")
            assert ends == "killed" or swmr == "swmr" or "open for writing" in found.remarks[0]
        elif ends == "alive":
            assert text in refused(lambda: reader.read(path))
        else:
            assert "never closed by the program that wrote it" in (message := refused(lambda: reader.read(path)))
            assert f"h5clear -s {path}" in message


def test_a_source_that_another_program_writes_is_named(tmp_path: Path) -> None:
    upper, _ = virtual(tmp_path, good())
    command = [sys.executable, "-c", WRITER, str(upper), "earliest", "plain", "alive"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        text = refused(lambda: reader.read(tmp_path / "data.h5"))
        assert "in the file upper.h5: cannot be read" in text
        assert "wait until no program writes it" in text
    assert reader.read(tmp_path / "data.h5").counts


# --- One panel, memory, errors of the computation --------------------------------------------------------------------


def test_a_single_panel_needs_no_axis(tmp_path: Path) -> None:
    index_map = np.stack(np.indices(SHAPE)[1:], axis=-1)
    content = good() | {"mask": GAP * 2, "background": np.full(SHAPE, 0.5), "pixel_index_map": index_map}
    expected = read(tmp_path, content)
    flat = {name: values[:, 0] if name == "intensities" else values[0] for name, values in content.items()}
    assert_same(read(tmp_path, flat), expected)
    first = {name: np.moveaxis(flat[name], -1, 0) for name in ("pixel_position_reciprocal", "pixel_index_map")}
    assert_same(read(tmp_path, flat | first), expected)
    assert_same(read(tmp_path, content | {"intensities": flat["intensities"]}), expected)
    assert reader.describe(tmp_path / "data.h5")["usable"] == "yes"


def test_patterns_larger_than_memory_are_refused_with_what_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "data.h5", good())
    whole = 2.0 * 4 * COUNT * PIXELS**2
    monkeypatch.setattr(host_memory, "available_bytes", lambda: whole / 5)
    text = refused(lambda: reader.read(path))
    assert f"{path}: 90 patterns of 144 pixels: they take" in text
    assert "--set prepare.binning=3 (which fits)" in text
    assert reader.read(path, binning=3).images.shape == (COUNT, 16)
    monkeypatch.undo()
    assert 1e6 < host_memory.available_bytes() < 1e15


class Failing(Threads):
    """Workers whose library fails."""

    def run(self, body: Any, count: int, outputs: Sequence[Output], **options: Any) -> list[Any]:  # noqa: ARG002 - as a worker is asked
        """Fail."""
        raise RuntimeError("CUDA error: out of memory")


def test_what_fails_in_a_computation_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "data.h5", good())
    with pytest.raises(RuntimeError, match="out of memory"):
        reader.read(path, workers=Failing(1))


@pytest.mark.parametrize("chunk", [1, 30])
def test_patterns_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    rows: list[int] = []
    block = patterns.Stack.block

    def counted(self: patterns.Stack, part: slice) -> Any:
        values = block(self, part)
        rows.append(len(values))
        return values

    monkeypatch.setattr(patterns.Stack, "block", counted)
    path = write(tmp_path / "data.h5", good(0.1), chunks=(chunk, *SHAPE), compression="gzip")
    reader.read(path)
    assert len(rows) <= patterns.SAMPLE // chunk + 2
    assert COUNT < sum(rows) <= COUNT + patterns.SAMPLE + 3


def test_hot_pixels_do_not_make_lists_long(tmp_path: Path) -> None:
    content = good(0.05)
    content["intensities"][:, 0, 5, 5] += content["intensities"].sum((1, 2, 3)) == 0
    plain = read(tmp_path, content)
    images, rng = content["intensities"].copy(), np.random.default_rng(4)
    images[np.arange(COUNT), 0, *rng.integers(0, PIXELS, (2, COUNT))] += rng.integers(1, 30_000, COUNT).astype(
        np.uint32
    )
    hot = read(tmp_path, content | {"intensities": images})
    np.testing.assert_array_equal(dense(hot.images, hot.mask.size), images.reshape(COUNT, -1))
    assert hot.images.dtype == np.int32
    assert hot.images.shape[1] <= plain.images.shape[1] + patterns.SPARE * 20
