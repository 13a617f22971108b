"""Files as detectors and facilities write them: what is read is what they mean, or one line says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command_line import run

from spilegate.errors import InputError
from spilegate.formats import patterns, spinifel
from spilegate.kernels import host_memory
from spilegate.kernels.events import dense
from spilegate.kernels.exact import Output
from spilegate.kernels.workers import Threads
from spilegate.records import Dataset
from spilegate.simulation.experiment import detector_q

COUNT, PIXELS = 90, 12
SHAPE = (1, PIXELS, PIXELS)
Content = dict[str, Any]
GAP = np.zeros(SHAPE, np.bool_)
GAP[0, 5:7, :4] = True


def good(photons: float = 3.0) -> Content:
    """Photons that fall off outwards, as unsigned integers."""
    q = detector_q(PIXELS, 5.0, 1.5)
    mean = 4 * photons * np.exp(-20 * np.linalg.norm(q, axis=-1)) + photons / 10
    images = np.random.default_rng(0).poisson(mean, (COUNT, *SHAPE)).astype(np.uint32)
    return {"intensities": images, "pixel_position_reciprocal": q * 1e10}


def write(path: Path, content: Content, **options: Any) -> Path:
    """Write datasets as they are; options : of the patterns."""
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file.create_dataset(name, data=values, **(options if name == "intensities" else {}))
    return path


def read(folder: Path, content: Content, **options: Any) -> Dataset:
    """Write and read a file."""
    return spinifel.read(write(folder / "data.h5", content), **options)


def assert_same(found: Dataset, expected: Dataset, *besides: str) -> None:
    """Fail unless two data sets are the same but for some fields."""
    for field in fields(Dataset):
        if field.name not in {"digest", *besides}:
            np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name), field.name)


def refused(call: Callable[[], object]) -> str:
    """Return the one line that a call is refused with."""
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Photons or intensities, and in which unit -----------------------------------------------------------------------


@pytest.mark.parametrize("photons", [3.0, 0.1])
@pytest.mark.parametrize("dtype", ["i2", "u8", "f2", "f4", "f8"])
def test_whole_numbers_are_photons_whatever_their_type(tmp_path: Path, dtype: str, photons: float) -> None:
    content = good(photons)
    expected = read(tmp_path, content)
    assert expected.counts
    assert expected.taken_for == "photons"
    assert (expected.images.dtype == np.int32) == (photons < 1)
    assert_same(read(tmp_path, content | {"intensities": content["intensities"].astype(dtype)}), expected)


@pytest.mark.parametrize(
    ("unit", "dtype"), [(7, "u4"), (12, "i8"), (3, "f4"), (0.5, "f4"), (12.3, "f4"), (0.0173, "f8")]
)
def test_the_least_step_between_values_is_a_photon(tmp_path: Path, unit: float, dtype: str) -> None:
    content = good() | {"background": np.full(SHAPE, 0.25)}
    expected = read(tmp_path, content)
    values = (content["intensities"] * unit).astype(dtype)
    spoilt = content | {"intensities": values, "background": content["background"] * unit}
    found = read(tmp_path, spoilt)
    assert found.taken_for == f"photons; one photon is {unit:g} units of the file"
    np.testing.assert_allclose(found.background, expected.background)
    assert_same(found, expected, "taken_for", "background")
    given = read(tmp_path, spoilt, photon_unit=unit)
    assert_same(given, found, "background")


def test_photons_above_a_pedestal_have_their_unit(tmp_path: Path) -> None:
    content = good()
    images = content["intensities"] + 40
    found = read(tmp_path, content | {"intensities": (images * 12.3).astype(np.float32)})
    np.testing.assert_array_equal(found.images, images.reshape(COUNT, -1))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_intensities_without_noise_have_no_unit(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(1)
    for values in (
        rng.gamma(1, 1, (COUNT, *SHAPE)),
        np.exp(-20 * rng.random((COUNT, *SHAPE))),
        1e8 * (1 + rng.random((COUNT, *SHAPE))).astype(np.float32),
        good()["intensities"] + 0.25,
    ):
        found = read(tmp_path, good() | {"intensities": values.astype(dtype)})
        assert not found.counts
        assert found.taken_for.startswith("intensities")
        np.testing.assert_array_equal(found.images, values.reshape(COUNT, -1).astype(np.float32))


def test_few_values_have_no_unit_by_accident(tmp_path: Path) -> None:
    for images in (2 * good(0.02)["intensities"][:20], np.full((COUNT, *SHAPE), 8), 6 * np.ones((COUNT, *SHAPE), int)):
        found = read(tmp_path, good() | {"intensities": images + (images.sum((1, 2, 3), keepdims=True) == 0) * 2})
        assert found.taken_for == "photons"


def test_a_unit_that_does_not_hold_for_all_patterns_is_none(tmp_path: Path) -> None:
    content = good()
    outside = np.setdiff1d(np.arange(COUNT), np.random.default_rng(0).choice(COUNT, patterns.SAMPLE, replace=False))
    images = content["intensities"] * 7
    images[outside[3], 0, 2, 2] += 1
    found = read(tmp_path, content | {"intensities": images})
    assert found.taken_for == "photons"
    np.testing.assert_array_equal(found.images, images.reshape(COUNT, -1))
    halves = images.astype(np.float32) / 2
    found = read(tmp_path, content | {"intensities": halves * 2.46})
    assert not found.counts
    np.testing.assert_allclose(found.images, halves.reshape(COUNT, -1) * 2.46, rtol=1e-6)


def test_a_unit_that_is_given_divides_values_with_readout_noise(tmp_path: Path) -> None:
    content = good()
    images = content["intensities"] * 7.0 + np.random.default_rng(2).normal(0, 1, (COUNT, *SHAPE))
    found = read(tmp_path, content | {"intensities": images}, photon_unit=7.0)
    assert not found.counts
    assert "of 7 units" in found.taken_for
    np.testing.assert_allclose(found.images, images.reshape(COUNT, -1) / 7, rtol=1e-6)


# --- Pixels without values -------------------------------------------------------------------------------------------


def with_gap(value: float, dtype: str, which: Any = slice(None)) -> Content:
    """Patterns with a value that stands for none in the gap."""
    content = good()
    images = content["intensities"].astype(dtype)
    images[which, GAP] = value
    return content | {"intensities": images}


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.nan, "f4"),
        (-np.inf, "f8"),
        (1e300, "f8"),
        (-1, "i2"),
        (-1, "f4"),
        (-9999, "i4"),
        (2**16 - 1, "u2"),
        (2**32 - 1, "u4"),
        (2**16 - 1, "i4"),
        (2**32 - 1, "f4"),
        (0, "u4"),
    ],
)
@pytest.mark.parametrize("binning", [1, 2])
def test_pixels_without_values_are_masked(tmp_path: Path, value: float, dtype: str, binning: int) -> None:
    expected = read(tmp_path, with_gap(0, "u4") | {"mask": GAP * 2}, binning=binning)
    found = read(tmp_path, with_gap(value, dtype), binning=binning)
    assert_same(found, expected, "remarks")
    assert expected.remarks == ()
    (remark,) = found.remarks
    assert remark.startswith("8 pixels (5.6 %)")
    assert remark.endswith("never used")


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "f4"), (-1, "i2"), (2**16 - 1, "u2")])
def test_pixels_that_lack_values_in_some_patterns_are_refused_with_a_remedy(
    tmp_path: Path, value: float, dtype: str
) -> None:
    content = with_gap(value, dtype, slice(10, 30))
    text = refused(lambda: read(tmp_path, content))
    assert "20 of the patterns (the first: number 10, from 0)" in text
    assert "on 8 (5.6 %) pixels" in text
    assert "--set prepare.broken_pixels=ever" in text
    found = read(tmp_path, content, broken_pixels="ever")
    assert_same(found, read(tmp_path, with_gap(0, "u4") | {"mask": GAP * 2}), "remarks")


def test_a_background_may_lack_values_where_patterns_do(tmp_path: Path) -> None:
    background = np.where(GAP, np.nan, 0.5)
    found = read(tmp_path, with_gap(np.nan, "f4") | {"background": background})
    assert found.background is not None
    np.testing.assert_array_equal(found.background, np.where(GAP, 0, 0.5).ravel())


def test_dark_pixels_of_few_photons_are_not_dead(tmp_path: Path) -> None:
    content = good(0.02)
    content["intensities"][:, 0, 5, 5] += content["intensities"].sum((1, 2, 3)) == 0
    found = read(tmp_path, content)
    assert (dense(found.images, found.mask.size).sum(0) == 0).any()
    assert found.remarks == ()
    assert not found.mask.any()


# --- Negative values -------------------------------------------------------------------------------------------------


def test_readout_noise_about_zero_is_taken_as_it_is(tmp_path: Path) -> None:
    content = good()
    images = (content["intensities"] + np.random.default_rng(3).normal(0, 0.3, (COUNT, *SHAPE))).astype(np.float32)
    found = read(tmp_path, content | {"intensities": images})
    assert not found.counts
    np.testing.assert_array_equal(found.images, images.reshape(COUNT, -1))
    assert "are negative: taken for readout noise about zero, as they are" in found.remarks[0]
    whole = np.rint(images * 20).astype(np.int16)
    assert not read(tmp_path, content | {"intensities": whole}).counts


def test_one_negative_value_does_not_make_photons_intensities(tmp_path: Path) -> None:
    content = good()
    images = content["intensities"].astype(np.float32)
    images[4, 0, 3, 3] = 0
    expected = read(tmp_path, content | {"intensities": images})
    images[4, 0, 3, 3] = -0.01
    found = read(tmp_path, content | {"intensities": images})
    assert_same(found, expected, "remarks")
    assert found.remarks == ("1 values (0.0077 %) are negative: taken for 0",)


# --- Masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "bool", "f4"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_mask_the_other_way_round_is_named_and_can_be_turned(tmp_path: Path, dtype: str, value: int) -> None:
    content = with_gap(value, "i4") | {"mask": (~GAP).astype(dtype)}
    text = refused(lambda: read(tmp_path, content))
    assert "--set prepare.mask=good" in text
    if not value:
        assert "the pixels of level 0 hold nothing, those of level 1 do: the other way round?" in text
    found = read(tmp_path, content, mask="good")
    assert_same(found, read(tmp_path, content | {"mask": GAP * 2}))
    right = with_gap(0, "i4") | {"mask": GAP.astype(dtype)}
    assert "--set prepare.mask=levels" in refused(lambda: read(tmp_path, right, mask="good"))
    assert_same(read(tmp_path, right), found, "remarks")


def test_a_mask_of_truth_values_masks_what_is_true(tmp_path: Path) -> None:
    content = with_gap(99, "u4")
    assert_same(read(tmp_path, content | {"mask": GAP}), read(tmp_path, content | {"mask": GAP * 2}))


def test_other_levels_than_good_and_bad_are_refused(tmp_path: Path) -> None:
    text = refused(lambda: read(tmp_path, good() | {"mask": GAP * 2}, mask="good"))
    assert "8 pixels of other levels, such as 2" in text


# --- Files of which a part is not there ------------------------------------------------------------------------------


def virtual(folder: Path, content: Content, name: str = "intensities") -> list[Path]:
    """Write a file whose dataset is made of two others, the upper and the lower half of the pixels."""
    values = content[name]
    sources, middle = [folder / "upper.h5", folder / "lower.h5"], PIXELS // 2
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    for path, part in zip(sources, (slice(0, middle), slice(middle, None)), strict=True):
        cut = values[..., part, :]
        with h5py.File(path, "w") as file:
            file["values"] = cut
        layout[..., part, :] = h5py.VirtualSource(path.name, "values", cut.shape)
    with h5py.File(folder / "data.h5", "w") as file:
        for other in content.keys() - {name}:
            file[other] = content[other]
        file.create_virtual_dataset(name, layout)
    return sources


@pytest.mark.parametrize("name", ["intensities", "pixel_position_reciprocal", "mask", "background"])
def test_virtual_datasets_are_read_if_all_of_them_is_there(tmp_path: Path, name: str) -> None:
    content = good() | {"mask": GAP * 2, "background": np.full(SHAPE, 0.5)}
    content["pixel_position_reciprocal"] = np.moveaxis(content["pixel_position_reciprocal"], -1, 0)
    expected = read(tmp_path, content)
    upper, lower = virtual(tmp_path, content, name)
    path = tmp_path / "data.h5"
    assert_same(spinifel.read(path), expected)
    lower.rename(tmp_path / "elsewhere.h5")
    text = refused(lambda: spinifel.read(path))
    assert f"{path}: dataset {name!r}: a part of it is in the file lower.h5, which is not there" in text
    (tmp_path / "elsewhere.h5").rename(lower)
    with h5py.File(upper, "r+") as file:
        del file["values"]
    assert "'values' in the file upper.h5: no such dataset" in refused(lambda: spinifel.read(path))
    with h5py.File(upper, "r+") as file:
        file.create_dataset("values", (PIXELS,), "f4", chunks=(2,))
    assert "6 of its 6 chunks were never written" in refused(lambda: spinifel.read(path))


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
    assert f"{images.size // 2} of its {images.size} values are in no file" in refused(lambda: spinifel.read(path))


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
        assert f"dataset {name!r}: {text}" in refused(lambda: spinifel.read(path))


@pytest.mark.parametrize("options", [{}, {"chunks": (4, *SHAPE)}, {"chunks": (1, 1, 6, 6), "compression": "gzip"}])
def test_datasets_that_were_never_written_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    content = good()
    images = content.pop("intensities")
    path = write(tmp_path / "data.h5", content)
    with h5py.File(path, "r+") as file:
        file.create_dataset("intensities", images.shape, images.dtype, **options)
    assert "never written" in refused(lambda: spinifel.read(path))
    if options:
        with h5py.File(path, "r+") as file:
            file["intensities"][:-4] = images[:-4]
        assert "chunks were never written" in refused(lambda: spinifel.read(path))
    with h5py.File(path, "r+") as file:
        file["intensities"][...] = images
    assert spinifel.read(path).counts


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
    expected = spinifel.read(path)
    command = [sys.executable, "-c", WRITER, str(path), version, swmr, ends]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        if ends == "killed":
            writer.wait()
        if not text:
            found = spinifel.read(path)
            assert_same(found, expected, "remarks")
            assert ends == "killed" or swmr == "swmr" or "open for writing" in found.remarks[0]
        elif ends == "alive":
            assert text in refused(lambda: spinifel.read(path))
        else:
            assert "never closed by the program that wrote it" in (message := refused(lambda: spinifel.read(path)))
            assert f"h5clear -s {path}" in message


def test_a_source_that_another_program_writes_is_named(tmp_path: Path) -> None:
    upper, _ = virtual(tmp_path, good())
    command = [sys.executable, "-c", WRITER, str(upper), "earliest", "plain", "alive"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        text = refused(lambda: spinifel.read(tmp_path / "data.h5"))
        assert "in the file upper.h5: cannot be read" in text
        assert "wait until no program writes it" in text
    assert spinifel.read(tmp_path / "data.h5").counts


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
    assert spinifel.describe(tmp_path / "data.h5")["usable"] == "yes"


def test_patterns_larger_than_memory_are_refused_with_what_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "data.h5", good())
    whole = 2.0 * 4 * COUNT * PIXELS**2
    monkeypatch.setattr(host_memory, "available_bytes", lambda: whole / 5)
    text = refused(lambda: spinifel.read(path))
    assert f"{path}: 90 patterns of 144 pixels: they take" in text
    assert "--set prepare.binning=3 (which fits)" in text
    assert spinifel.read(path, binning=3).images.shape == (COUNT, 16)
    monkeypatch.undo()
    assert 1e6 < host_memory.available_bytes() < 1e15


class Failing(Threads):
    """Workers whose library fails."""

    def run(self, body: Any, count: int, outputs: Sequence[Output], **options: Any) -> list[Any]:  # noqa: ARG002
        """Fail."""
        raise RuntimeError("CUDA error: out of memory")


def test_what_fails_in_a_computation_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "data.h5", good())
    with pytest.raises(RuntimeError, match="out of memory"):
        spinifel.read(path, workers=Failing(1))


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
    spinifel.read(path)
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


# --- inspect and reconstruct agree -----------------------------------------------------------------------------------

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
    facts = spinifel.describe(path)
    dataset = spinifel.read(path)
    assert facts["taken_for"] == dataset.taken_for == "photons; one photon is 12.3 units of the file"
    assert facts["remarks"] == "; ".join(dataset.remarks)
