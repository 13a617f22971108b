"""The gallery of a selection: its classes, and some patterns of each as they were measured."""

from __future__ import annotations

import numpy as np

from spilegate.backend import to_host
from spilegate.kernels.events import dense
from spilegate.records import NEVER, Dataset, Float32, Float64, Int64
from spilegate.report.assembling import assembled
from spilegate.report.gallery import Gallery
from spilegate.report.page import raster
from spilegate.selection.record import REASONS, Selection

# Patterns shown of each class, and pixels along the edge of their pictures.
EXAMPLES, SIDE = 6, 64
# Decades of brightness that class means are shown over, which have their own range from 0 to 1.
DECADES = 3.0


def gallery(selection: Selection, dataset: Dataset) -> Gallery:
    """Return the gallery of a selection of a data set."""
    label, shown, kept = selection.label, selection.shown, selection.kept
    examples = example_numbers(label, selection.single)
    return Gallery(
        source=dataset.source,
        means=_means(selection.class_means),
        kinds=[_kind(selection, number) for number in range(len(selection.class_means))],
        member=label,
        kept=kept,
        reasons=["" if own else why for own, why in zip(kept, selection.words(), strict=True)],
        single=selection.single,
        diameter_angstrom=np.where(shown, selection.diameter_angstrom, np.nan),
        photons=selection.photons,
        examples=_pictures(dataset, examples, selection.class_extent),
        example_of=examples,
    )


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


def _means(means: Float32) -> Float32:
    """Return class means (K, P, P) as brightness, without what is beyond their last ring."""
    middle = (means.shape[-1] - 1) / 2
    row, column = np.mgrid[: means.shape[-1], : means.shape[-1]] - middle
    bright = np.where(np.hypot(row, column) <= middle, 10.0 ** (DECADES * (means.astype(np.float64) - 1)), np.nan)
    return bright.astype(np.float32)


def _kind(selection: Selection, number: int) -> str:
    """Return what most patterns of a class were found to be."""
    members = selection.reason[selection.label == number]
    return REASONS[int(np.bincount(members).argmax())] if len(members) else "nothing"


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
