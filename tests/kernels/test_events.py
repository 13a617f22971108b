"""Patterns as lists of photons: the same patterns, and the same run, as from counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_same_state
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from photons import blind, measured, settings

from spilegate.backend import to_host
from spilegate.formats import reader, spinifel
from spilegate.formats.patterns import SPARE
from spilegate.kernels.events import LONGEST, dense, entries, events
from spilegate.mtip import reconstruct
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset
from spilegate.simulation.experiment import Simulation

Patterns = st.tuples(st.integers(1, 5), st.integers(1, 12)).flatmap(
    lambda shape: arrays.arrays(np.int64, shape, elements=st.integers(0, 4) | st.integers(0, 2**24))
)


@pytest.fixture(scope="module")
def dim() -> Simulation:
    """Few photons behind a gap, some on pixels that are not to be used."""
    return measured(images=200, photons=250.0, mask=("cross",), seed=3)


@pytest.fixture(scope="module")
def sparse(dim: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """What the reader makes of their file."""
    path = tmp_path_factory.mktemp("dim") / "dim.h5"
    spinifel.write(path, dim)
    return reader.read(path)


@given(Patterns, st.integers(0, 3))
def test_patterns_survive_being_lists(counts: np.ndarray, spare: int) -> None:
    needed = np.frexp(counts)[1].sum(1)
    lists = events(counts, int(needed.max()) + spare)
    assert lists.dtype == np.int32
    assert (((lists & LONGEST) < counts.shape[1]).sum(1) <= needed).all()
    few = 2 * (counts > 0).sum(1) <= counts.shape[1]
    np.testing.assert_array_equal(entries(counts)[few], needed[few])
    found = dense(lists, counts.shape[1])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, counts)


@given(Patterns, st.integers(0, 2**24))
def test_patterns_with_smaller_counts_need_no_more_room(counts: np.ndarray, most: int) -> None:
    smaller = np.minimum(counts, most)
    lists = events(smaller, int(np.frexp(counts)[1].sum(1).max()))
    np.testing.assert_array_equal(dense(lists, counts.shape[1]), smaller)


def test_a_hot_pixel_takes_few_entries() -> None:
    counts = np.zeros((1, 50))
    counts[0, 7] = 3_000_001
    assert entries(counts) <= 22
    np.testing.assert_array_equal(dense(events(counts, 22), 50), counts)
    assert np.isinf(entries(counts * 1e6))


def test_counts_are_no_lists() -> None:
    counts = np.zeros((3, 7), np.float32)
    assert dense(counts, 7) is counts


def test_lists_of_other_modules_stay_there(bring: Callable[[np.ndarray], Any]) -> None:
    counts = np.random.default_rng(0).poisson(0.3, (6, 40))
    found = dense(bring(events(counts, 40)), 40)
    assert type(found) is type(bring(counts))
    np.testing.assert_array_equal(to_host(found), counts)


def test_patterns_of_few_photons_are_read_as_lists(sparse: Dataset, dim: Simulation) -> None:
    counts = dim.intensities.reshape(len(dim.intensities), -1)
    assert sparse.counts
    assert sparse.images.dtype == np.int32
    assert len(sparse.images) == len(counts)
    assert sparse.images.shape[1] <= SPARE * counts.sum(1).max() + 1
    np.testing.assert_array_equal(dense(sparse.images, counts.shape[1]), counts)


def test_lists_leave_out_pixels_that_are_never_used(dim: Simulation, tmp_path: Path) -> None:
    assert dim.mask is not None
    hot = dim.intensities.copy()
    hot[:, dim.mask > 0] = 60_000
    spinifel.write(tmp_path / "hot.h5", replace(dim, intensities=hot))
    read = reader.read(tmp_path / "hot.h5")
    np.testing.assert_array_equal(
        dense(read.images, read.mask.size), dim.intensities.reshape(len(hot), -1), strict=True
    )


def test_binned_lists_hold_the_sums_of_pixels(dim: Simulation, tmp_path: Path) -> None:
    assert dim.mask is not None
    bare = replace(dim, mask=None, intensities=np.where(dim.mask > 0, 1, dim.intensities))
    spinifel.write(tmp_path / "bare.h5", bare)
    read = reader.read(tmp_path / "bare.h5", binning=2)
    assert read.images.dtype.kind in "if"
    count, _, y, x = dim.intensities.shape
    sums = bare.intensities.reshape(count, y // 2, 2, x // 2, 2).sum((2, 4)).reshape(count, -1)
    np.testing.assert_array_equal(dense(read.images, sums.shape[1]), sums)


def test_bright_patterns_are_read_as_counts(tmp_path: Path) -> None:
    spinifel.write(tmp_path / "bright.h5", measured(images=30, photons=3000.0))
    read = reader.read(tmp_path / "bright.h5")
    assert read.counts
    assert read.images.dtype == np.float32
    assert read.images.shape == (30, read.mask.size)


def test_intensities_that_are_no_counts_are_never_lists(tmp_path: Path) -> None:
    spinifel.write(tmp_path / "exact.h5", measured(images=30, photons=None))
    read = reader.read(tmp_path / "exact.h5")
    assert not read.counts
    assert read.images.dtype == np.float32


@pytest.mark.parametrize("statistics", ["poisson", "gaussian"])
def test_a_run_on_lists_is_the_run_on_counts(sparse: Dataset, statistics: str) -> None:
    """In every bit, from the calibration to the density."""
    options = settings(
        matching={"statistics": statistics},
        prepare={"diameter_angstrom": 62.0, "q_max": 0.05},
        start={"count": 1, "iterations": 5},
        convergence={"most_generations": 2},
    )
    sparse = replace(sparse, images=sparse.images[:96])
    counts = replace(sparse, images=dense(sparse.images, sparse.mask.size))
    found, expected = (reconstruct(dataset, options) for dataset in (sparse, counts))
    assert expected.state.density.any()
    assert_same_state(found.state, expected.state)


def test_lists_and_counts_have_the_same_diameter(sparse: Dataset) -> None:
    counts = replace(sparse, images=dense(sparse.images, sparse.mask.size))
    found, expected = (prepare(dataset, settings()).diameter_angstrom for dataset in (sparse, counts))
    assert found == expected


def test_photon_statistics_are_chosen_for_few_photons(sparse: Dataset, dim: Simulation) -> None:
    options = settings(prepare={"diameter_angstrom": 62.0})
    assert prepare(sparse, options).statistics == "poisson"
    assert prepare(blind(dim), options).statistics == "poisson"
    assert prepare(blind(dim, counts=False), options).statistics == "gaussian"
    bright = measured(images=60, photons=50_000.0)
    assert prepare(blind(bright), options).statistics == "gaussian"
