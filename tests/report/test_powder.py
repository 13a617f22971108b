"""The picture of a file of patterns: which pixels it marks, and which rings it draws."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from spilegate.formats import reader
from spilegate.formats.looking import Looked
from spilegate.report.powder import hottest, powder_figure, resolutions


def looked_at(path: Path, **options: object) -> Looked:
    looked = reader.look(path, **options).looked
    assert looked is not None
    return looked


def test_hot_pixels_are_marked_and_others_are_not(data: Path, tmp_path: Path) -> None:
    assert hottest(looked_at(data)) == []
    path = Path(shutil.copy(data, tmp_path / "hot.h5"))
    with h5py.File(path, "r+") as file:
        images = file["intensities"]
        brightest = float(images[()].mean((0, 1)).max())
        for row, column in ((3, 7), (30, 12)):
            images[:, 0, row, column] = brightest
    assert sorted(hottest(looked_at(path))) == [3 * 40 + 7, 30 * 40 + 12]


def test_the_mean_is_that_of_the_patterns(data: Path) -> None:
    looked = looked_at(data)
    with h5py.File(data) as file:
        mean = file["intensities"][()].mean(0, dtype=np.float64).ravel()
    np.testing.assert_allclose(looked.mean, mean, rtol=1e-6)
    binned = looked_at(data, binning=2)
    np.testing.assert_allclose(binned.mean, mean.reshape(20, 2, 20, 2).sum((1, 3)).ravel(), rtol=1e-6)
    assert looked.whole
    assert not replace(looked, patterns=1000).whole


@pytest.mark.parametrize("q_max", [0.02, 0.125, 0.3, 1.1])
def test_rings_are_round_and_on_the_detector(q_max: float) -> None:
    found = resolutions(q_max)
    assert 3 <= len(found) <= 5
    assert found == sorted(set(found))
    assert all(1 / q_max <= angstrom <= 10 / q_max for angstrom in found)


def test_everything_is_in_the_figure(data: Path) -> None:
    looked = looked_at(data)
    figure = powder_figure(looked, "a title")
    axes = figure.axes
    assert "row [pixels]" in axes[0].get_ylabel()
    labels = [text.get_text() for text in axes[0].texts]
    assert labels == [f"{angstrom:g} Å" for angstrom in resolutions(float(np.linalg.norm(looked.q, axis=-1).max()))]
    # A ring of d angstrom is 1 / d from the beam: pixels of that |q| lie on it.
    ring, angstrom = axes[0].patches[-1], float(labels[-1].split()[0])
    row, column = looked.index_map.T
    on = np.abs(np.hypot(row - ring.center[1], column - ring.center[0]) - ring.radius) < 0.3
    np.testing.assert_allclose(np.linalg.norm(looked.q[on], axis=-1), 1 / angstrom, rtol=0.1)
    assert sum(bar.get_height() for bar in axes[2].patches) == len(looked.totals)
