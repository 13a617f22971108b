"""Masks and backgrounds: what their levels mean for a data set, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from spilegate.errors import InputError
from spilegate.formats import reader
from spilegate.simulation.scattering import detector_q

COUNT, PIXELS = 24, 6
SHAPE = (1, PIXELS, PIXELS)
Content = dict[str, np.ndarray]


def good() -> Content:
    """A file whose pixels have all three levels; one of level 2 is broken in every pattern."""
    rng = np.random.default_rng(0)
    images = rng.poisson(3, (COUNT, *SHAPE)) + 1.0
    mask = np.zeros(SHAPE, np.int32)
    mask[0, 0, :4] = 1
    mask[0, 2, 3] = mask[0, 5, 1] = 2
    images[:, 0, 2, 3] = np.nan
    images[3, 0, 5, 1] = -7
    background = rng.random(SHAPE)
    background[0, 2, 3] = -np.inf
    return {
        "intensities": images,
        "pixel_position_reciprocal": detector_q(PIXELS, 5.0, 1.5) * 1e10,
        "mask": mask,
        "background": background,
    }


def write(folder: Path, content: Content) -> Path:
    """Write datasets as they are."""
    path = folder / "data.h5"
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values
    return path


@pytest.mark.parametrize("dtype", ["i4", "u1", "f8"])
def test_what_is_masked_may_hold_anything_and_is_set_to_zero(tmp_path: Path, dtype: str) -> None:
    content = good()
    dataset = reader.read(write(tmp_path, content | {"mask": content["mask"].astype(dtype)}))
    never = content["mask"].ravel() == 2
    assert dataset.mask.dtype == np.uint8
    assert np.array_equal(dataset.mask, content["mask"].ravel())
    assert np.array_equal(dataset.images, np.where(never, 0, content["intensities"].reshape(COUNT, -1)))
    assert dataset.background is not None
    assert dataset.background.dtype == np.float64
    assert np.array_equal(dataset.background, np.where(never, 0, content["background"].ravel()))


def test_patterns_of_float32_are_read_the_same(tmp_path: Path) -> None:
    content = good()
    before = reader.read(write(tmp_path, content))
    after = reader.read(write(tmp_path, content | {"intensities": content["intensities"].astype(np.float32)}))
    assert np.array_equal(before.images, after.images)


def test_a_block_is_as_bad_as_its_worst_pixel(tmp_path: Path) -> None:
    content = good()
    dataset = reader.read(write(tmp_path, content), binning=2)
    assert dataset.mask.reshape(3, 3).tolist() == [[1, 1, 0], [0, 2, 0], [2, 0, 0]]
    images = dataset.images.reshape(COUNT, 3, 3)
    assert (images[:, [1, 2], [1, 0]] == 0).all()
    assert np.array_equal(images[:, 0, 0], content["intensities"][:, 0, :2, :2].sum((1, 2)))
    assert dataset.background is not None
    background = dataset.background.reshape(3, 3)
    assert background[1, 1] == 0
    assert background[2, 2] == pytest.approx(content["background"][0, 4:, 4:].sum())


def test_limits_of_q_and_the_mask_add_up(tmp_path: Path) -> None:
    content = good()
    path = write(tmp_path, content)
    q = np.linalg.norm(reader.read(path).q, axis=1)
    q_max = float(np.sort(q)[20])
    dataset = reader.read(path, q_max=q_max)
    assert np.array_equal(dataset.mask, np.where(q <= q_max, content["mask"].ravel(), 2))
    assert dataset.background is not None
    assert (dataset.background[dataset.mask == 2] == 0).all()
    assert (dataset.images[:, dataset.mask == 2] == 0).all()


def test_faults_count_outside_level_two_only(tmp_path: Path) -> None:
    def message(change: Callable[[np.ndarray], None]) -> str:
        content = good()
        change(content["intensities"])
        with pytest.raises(InputError) as caught:
            reader.read(write(tmp_path, content))
        return str(caught.value)

    def empty(images: np.ndarray) -> None:
        images[:] = np.where(content["mask"] == 2, 5, 0)

    def merge_only(images: np.ndarray) -> None:
        images[6, 0, 0, 0] = np.inf

    content = good()
    assert "the other way round" in message(empty)
    assert "number 6" in message(merge_only)


def test_the_digest_tells_masks_and_backgrounds_apart(tmp_path: Path) -> None:
    content = good()
    content["intensities"] = np.nan_to_num(content["intensities"], nan=1).clip(1)
    content["background"] = content["background"].clip(0)
    plain = {name: values for name, values in content.items() if name not in ("mask", "background")}
    variants = [
        plain,
        plain | {"mask": content["mask"]},
        plain | {"mask": content["mask"] % 2},
        plain | {"background": content["background"]},
        plain | {"background": content["background"] * 2},
        content,
    ]
    digests = [reader.read(write(tmp_path, variant)).digest for variant in variants]
    assert len(set(digests)) == len(digests)
    assert reader.read(write(tmp_path, content), binning=2, q_max=0.17).digest == digests[-1]
    other_type = content | {"mask": content["mask"].astype(np.uint8)}
    assert reader.read(write(tmp_path, other_type)).digest == digests[-1]


def put(name: str, index: object, value: float) -> Callable[[Content], None]:
    """Set one value of a dataset."""

    def damage(content: Content) -> None:
        content[name][index] = value

    return damage


def change(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Content], None]:
    """Replace a dataset by a function of itself."""
    return lambda content: content.update({name: function(content[name])})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("mask", lambda mask: mask[0, 0]), "'mask': shape (6,)"),
        (change("mask", lambda mask: mask[:, :5]), "'mask': shape (1, 5, 6)"),
        (put("mask", (0, 1, 1), 3), "1 pixels of other levels, such as 3"),
        (put("mask", (0, 1, slice(2)), -1), "2 pixels of other levels, such as -1"),
        (change("mask", lambda mask: mask + 0.5), "36 pixels of other levels"),
        (change("mask", lambda mask: mask.clip(1)), "'mask': no pixel of level 0"),
        (change("mask", lambda mask: mask * 0 + 2), "'mask': no pixel of level 0"),
        (change("background", lambda values: values[..., None]), "'background': shape (1, 6, 6, 1)"),
        (put("background", (0, 1, 1), -0.1), "1 pixels with values that are negative or not finite"),
        (put("background", (0, 1, slice(3)), np.nan), "3 pixels with values that are negative or not finite"),
        (change("background", lambda values: values + 1j), "'background': type complex128"),
    ],
)
def test_masks_and_backgrounds_that_cannot_be_used_are_refused(
    tmp_path: Path, damage: Callable[[Content], None], message: str
) -> None:
    content = good()
    damage(content)
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        reader.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mask_that_leaves_nothing_after_binning_is_refused(tmp_path: Path) -> None:
    content = good()
    content["mask"][0, ::2, ::2] = 2
    path = write(tmp_path, content)
    assert (reader.read(path).mask == 0).any()
    with pytest.raises(InputError, match="after binning"):
        reader.read(path, binning=2)


def test_inspect_says_what_is_masked_and_what_is_background(tmp_path: Path) -> None:
    content = good()
    facts = reader.describe(write(tmp_path, content))
    assert facts["mask"] == f"{100 * 2 / 36:.1f} % never used, {100 * 4 / 36:.1f} % merge only"
    used = np.where(content["mask"] == 2, 0, content["background"])
    assert facts["background_per_pattern"] == pytest.approx(used.sum())
    # Photons are those of the pixels used, and what masked ones hold is no fault.
    totals = np.where(content["mask"] == 2, 0, content["intensities"]).sum((1, 2, 3))
    assert facts["photons_per_pattern_mean"] == pytest.approx(totals.mean())
    assert facts["usable"] == "yes"
    without = {name: values for name, values in content.items() if name in ("intensities", "pixel_position_reciprocal")}
    facts = reader.describe(write(tmp_path, without))
    assert (facts["mask"], facts["background_per_pattern"], facts["truth"]) == ("none", "none", "none")
    assert facts["remarks"].startswith("1 pixels (2.8 %) without values")
    content["mask"][content["mask"] == 0] = 1
    assert "no pixel of level 0" in reader.describe(write(tmp_path, content))["usable"]
