"""Files as detectors and facilities write them, from sound ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spilegate.errors import InputError
from spilegate.formats import reader
from spilegate.records import Dataset
from spilegate.simulation.scattering import detector_q

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
    return reader.read(write(folder / "data.h5", content), **options)


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


def with_gap(value: float, dtype: str, which: Any = slice(None)) -> Content:
    """Patterns with a value that stands for none in the gap."""
    content = good()
    images = content["intensities"].astype(dtype)
    images[which, GAP] = value
    return content | {"intensities": images}


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
