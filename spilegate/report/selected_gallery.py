"""The gallery of a selection: its classes, and some patterns of each as they were measured."""

from __future__ import annotations

import numpy as np

from spilegate.backend import to_host
from spilegate.kernels.events import dense
from spilegate.records import NEVER, Dataset, Float32, Float64, Int64
from spilegate.report.assembling import assembled
from spilegate.report.gallery import Gallery, of_selection
from spilegate.report.page import raster
from spilegate.selection.record import Selection

# Patterns shown of each class, and pixels along the edge of their pictures.
EXAMPLES, SIDE = 6, 64


def gallery(selection: Selection, dataset: Dataset) -> Gallery:
    """Return the gallery of a selection of a data set."""
    numbers = example_numbers(selection.label, selection.single)
    return of_selection(selection, dataset.source, _pictures(dataset, numbers, selection.class_extent), numbers)


def example_numbers(label: Int64, single: Float64) -> Int64:
    """Return the numbers (n,) of some patterns of every class, evenly from the most to the least probable single one.

    label : (N_IMG,) classes, -1 for none; single : (N_IMG,) probabilities
    """
    chosen: list[Int64] = []
    for number in range(int(label.max(initial=-1)) + 1):
        members = np.flatnonzero(label == number)
        members = members[np.argsort(-single[members], kind="stable")]
        places = np.linspace(0, max(len(members) - 1, 0), min(EXAMPLES, len(members))).round().astype(np.int64)
        chosen.append(members[places])
    return np.concatenate([*chosen, np.zeros(0, np.int64)]).astype(np.int64)


def _pictures(dataset: Dataset, numbers: Int64, extent: float) -> Float32:
    """Return patterns (n, rows, columns) near the beam as the detector has them, of SIDE pixels at most along an edge.

    extent : how far out classes look [1/angstrom]
    """
    length = np.linalg.norm(dataset.q, axis=1)
    used = dataset.mask < NEVER
    near = length <= max(extent, float(length[used].min()))
    index_map, mask = dataset.pixel_index_map[near], dataset.mask[near]
    pictures = []
    for number in numbers.tolist():
        pattern = dense(to_host(dataset.images[number : number + 1]), len(length))[0]
        pictures.append(raster.reduced(assembled(index_map, mask, pattern[near]), SIDE))
    return np.stack(pictures).astype(np.float32) if pictures else np.zeros((0, 1, 1), np.float32)
